// Command bench measures Helve against floors and peers in one run on one machine, and prints a row for each comparison.
// README.md says what each row does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/scaling"
	"github.com/helve-serve/helve/bench/stat"
)

// limit bounds a whole run, also one that hangs. A run takes a good half of it.
const limit = 25 * time.Minute

func main() {
	helve.WorkerMain(buildEcho, buildInside, buildFar, buildBlobs, buildPython, buildPage(helve.Process), buildSleepers, scaling.BuildWaker) // first: a worker of a role has that role in its environment
	if role := os.Getenv(roleEnv); role != "" {
		if err := playRole(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("run", ".", "regular expression of the rows to run, matched against group/name; "+
		"groups: inproc, core, scaling, worker, wire, stream, large, python, http, web, connections, start, durable, operate, autoscale, observe")
	quick := flag.Bool("quick", false, "one short round: to see that it runs, not to compare")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	err := apart(func() error { return run(ctx, *only, *quick) })
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// apart gives the nodes of the benchmarks a directory of their own. In the common one a Python program beside the benchmarks would find a durable node of
// theirs, and deploy there.
func apart(run func() error) error {
	dir, err := os.MkdirTemp("", "hb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	os.Setenv("HELVE_RUNTIME_DIR", dir)
	return run()
}

func run(ctx context.Context, only string, quick bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	s := settings{rounds: 3, length: time.Second, spin: 100 * time.Millisecond}
	if quick {
		s = settings{rounds: 1, length: 100 * time.Millisecond, spin: 10 * time.Millisecond}
	}
	t := newTable(os.Stdout, func() float64 { return stat.Scaling(s.spin) })
	for _, g := range []struct {
		name string
		plan func(*bench) []measurement
	}{
		{"inproc", inprocRows}, {"core", coreRows}, {"scaling", scalingRows}, {"worker", workerRows}, {"wire", wireRows},
		{"stream", streamRows}, {"large", largeRows}, {"python", pythonRows}, {"http", httpRows}, {"handler", handlerRows}, {"web", webRows}, {"connections", connectionRows}, {"start", startRows}, {"durable", durableRows}, {"operate", operateRows}, {"autoscale", autoscaleRows}, {"observe", observeRows},
	} {
		if err := runGroup(ctx, s, t, g.name, match, g.plan); err != nil {
			return err
		}
	}
	return nil
}

// runGroup measures the rows of a group that match, and then ends their processes.
func runGroup(ctx context.Context, s settings, t *table, name string, match *regexp.Regexp, plan func(*bench) []measurement) error {
	b := &bench{ctx: ctx, settings: s}
	defer b.end()
	for _, m := range plan(b) {
		if !match.MatchString(name + "/" + m.name) {
			continue
		}
		if err := t.measure(m); err != nil {
			return fmt.Errorf("%s/%s: %w", name, m.name, err)
		}
	}
	return nil
}

// measurement is a row that can be measured. Its function starts the processes that it needs (once per group) and
// measures both sides.
type measurement struct {
	name    string
	bar     float64 // 0 for a row without a bar
	atLeast bool    // the ratio must be at least the bar; otherwise at most
	exact   bool    // a count or a size, which a busy machine does not excuse
	measure func() (result, error)
}

// result is the content of a row: both sides as text, and ours over the reference.
type result struct {
	ours, reference string
	ratio           float64
}

// missingError names a package of a peer that is not installed. A row whose peer is missing is not measured, and does not fail the run.
type missingError string

func (e missingError) Error() string { return "missing: " + string(e) }

// table prints rows as they are taken.
type table struct {
	out     io.Writer
	scaling func() float64 // the throughput of two goroutines of pure CPU over that of one
	last    float64        // scaling after the row before
}

func newTable(out io.Writer, scaling func() float64) *table {
	t := &table{out: out, scaling: scaling, last: scaling()}
	fmt.Fprintf(out, "a pure-CPU loop on two cores scales %.2fx\n", t.last)
	fmt.Fprintf(out, lineFormat, "name", "ours", "reference", "ratio", "bar", "verdict")
	return t
}

const lineFormat = "%-50s %17s %17s %7s %7s %s\n"

func (t *table) measure(m measurement) error {
	before := t.last
	r, err := m.measure()
	if peer, ok := errors.AsType[missingError](err); ok {
		fmt.Fprintf(t.out, lineFormat, m.name, "", "", "", m.bound(), peer.Error())
		return nil
	}
	if err != nil {
		return err
	}
	t.last = t.scaling()
	fmt.Fprintf(t.out, lineFormat, m.name, r.ours, r.reference, fmt.Sprintf("%.2f", r.ratio), m.bound(),
		m.bound().Verdict(r.ratio, stat.Busy(min(before, t.last))))
	return nil
}

func (m measurement) bound() stat.Bar {
	return stat.Bar{Value: m.bar, AtLeast: m.atLeast, Exact: m.exact}
}
