// Command bench measures Helve against floors and peers in one run on one machine, and prints a row for each comparison.
// README.md says what each row does.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve"
)

// row is one line of the table.
type row struct {
	name            string
	ours, reference string
	ratio           float64
	bar             float64 // 0: none, the row informs
	atLeast         bool    // the ratio must be at least the bar; otherwise at most
}

// group measures rows that belong together.
type group struct {
	name string
	run  func(*bench) ([]row, error)
}

type bench struct {
	rounds int
	length time.Duration // of one measurement
}

var groups = []group{
	{"inproc", inprocRows}, {"scaling", scalingRows}, {"worker", workerRows}, {"python", pythonRows}, {"http", httpRows}, {"start", startRows},
}

func main() {
	if role := os.Getenv("BENCH_ROLE"); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	helve.WorkerMain(buildEcho, buildPython)
	only := flag.String("run", ".", "regular expression of the groups to run: inproc, scaling, worker, python, http, start")
	quick := flag.Bool("quick", false, "one short round: to see that it runs, not to compare")
	flag.Parse()
	if err := run(*only, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(only string, quick bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	b := &bench{rounds: 3, length: time.Second}
	if quick {
		b.rounds, b.length = 1, 200*time.Millisecond
	}
	fmt.Printf("%d cores, %s; a pure-CPU loop on all of them scales %.2fx\n", runtime.NumCPU(), runtime.Version(), cpuScaling())
	fmt.Printf("%-46s %14s %14s %7s %8s %s\n", "name", "ours", "reference", "ratio", "bar", "verdict")
	for _, g := range groups {
		if !match.MatchString(g.name) {
			continue
		}
		before := cpuScaling()
		rows, err := g.run(b)
		busy := min(before, cpuScaling()) < 1.6
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for _, r := range rows {
			fmt.Printf("%-46s %14s %14s %7.2f %8s %s\n", r.name, r.ours, r.reference, r.ratio, r.barText(), r.verdict(busy))
		}
	}
	return nil
}

func (r row) barText() string {
	if r.bar == 0 {
		return "-"
	}
	if r.atLeast {
		return fmt.Sprintf(">=%.2g", r.bar)
	}
	return fmt.Sprintf("<=%.2g", r.bar)
}

func (r row) verdict(busy bool) string {
	switch {
	case r.bar == 0:
		return "info"
	case r.atLeast == (r.ratio >= r.bar) || r.ratio == r.bar:
		return "ok"
	case busy:
		return "busy"
	}
	return "short"
}

// cpuScaling is how much more a pure-CPU loop gets done on all cores than on one: what the machine gives right now.
func cpuScaling() float64 {
	one := spin(1)
	return spin(runtime.NumCPU()) / one
}

func spin(n int) float64 {
	var wg sync.WaitGroup
	counts := make([]uint64, n*16)
	end := time.Now().Add(100 * time.Millisecond)
	for i := range n {
		wg.Go(func() {
			x, k := uint64(i+1), uint64(0)
			for time.Now().Before(end) {
				for range 1000 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				k++
			}
			counts[i*16] = k + x&1
		})
	}
	wg.Wait()
	total := uint64(0)
	for _, c := range counts {
		total += c
	}
	return float64(total)
}

// both measures two things in turns, so that what the machine does meanwhile meets both, and gives the medians.
func (b *bench) both(ours, reference func() (float64, error)) (o, r float64, err error) {
	var os, rs []float64
	for range b.rounds {
		for _, m := range []struct {
			f   func() (float64, error)
			out *[]float64
		}{{ours, &os}, {reference, &rs}} {
			v, err := m.f()
			if err != nil {
				return 0, 0, err
			}
			*m.out = append(*m.out, v)
		}
	}
	return median(os), median(rs), nil
}

func median[T cmp.Ordered](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// child starts this executable in a role.
func child(role string, env ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), append(env, "BENCH_ROLE="+role)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// roles are what this executable does as a child.
var roles map[string]func() error

func init() { // a literal would refer to itself through main
	roles = map[string]func() error{
		"inproc": inprocRole, "grpc": grpcRole, "raw": rawRole, "wire": wireRole, "relay": relayRole,
		"http-bare": httpBareRole, "http-helve": httpHelveRole, "load": loadRole,
	}
}

func us(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d)/1e3) }

func perSecond(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%.2fM/s", v/1e6)
	}
	return fmt.Sprintf("%.1fk/s", v/1e3)
}

// closedLoop runs n callers for a while and gives calls per second.
func closedLoop(n int, length time.Duration, f func() error) (float64, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	total := 0
	start := time.Now()
	end := start.Add(length)
	for range n {
		wg.Go(func() {
			k := 0
			for time.Now().Before(end) {
				if err := f(); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					return
				}
				k++
			}
			mu.Lock()
			total += k
			mu.Unlock()
		})
	}
	wg.Wait()
	return float64(total) / time.Since(start).Seconds(), first
}

// p50 is the median latency of calls one after the other, in nanoseconds.
func p50(length time.Duration, f func() error) (float64, error) {
	var all []time.Duration
	for end := time.Now().Add(length); time.Now().Before(end); {
		t := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(t))
	}
	return float64(median(all)), nil
}

var payload = strings.Repeat("x", 100)
