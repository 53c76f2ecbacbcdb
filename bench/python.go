package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/peer"
	"github.com/helve-serve/helve/bench/proc"
)

// pythonPath is the interpreter that has the helve package.
func pythonPath() string {
	for _, p := range []string{os.Getenv("HELVE_BENCH_PYTHON"), os.Getenv("HELVE_PYTHON")} {
		if p != "" {
			return p
		}
	}
	p, _ := filepath.Abs("../.venv/bin/python")
	return p
}

type pyCaller interface {
	Run(context.Context, runIn) (timings, error)
}

type pyEcho interface {
	Echo(context.Context, string) (string, error)
	EchoSync(context.Context, string) (string, error)
}

// runIn has the settings of the measuring loop: a closed loop, or, with a rate, calls at random moments (Poisson).
type runIn struct {
	Seconds   float64 `json:"seconds"`
	InFlight  int     `json:"in_flight"`
	PerSecond float64 `json:"per_second"`
	Sync      bool    `json:"sync"` // the method called is a def, not an async def
	Size      int     `json:"size"` // of the value, in bytes; 0: 100
}

type timings struct {
	Rate  float64 `json:"rate"`
	P50   float64 `json:"p50"` // seconds
	P99   float64 `json:"p99"`
	Calls float64 `json:"calls"` // calls that were not timed included
}

// buildPython is one Python deployment that calls another; the measuring loop is in the calling replica.
func buildPython() (*helve.App, error) {
	app := helve.NewApp("python")
	opts := helve.Options{MaxOngoingRequests: new(1000)}
	echo := helve.Python[pyEcho](app, "Echo", "pybench.app:Echo", helve.Args{}, opts)
	opts.Uses = []helve.Target{echo}
	c := helve.Python[pyCaller](app, "Caller", "pybench.app:Caller", helve.Args{Positional: []any{echo}}, opts)
	app.Ingress(helve.MethodOf(c, pyCaller.Run))
	return app, nil
}

// relayRole is the minimal relay: two connections, frames of a header and a body, ids mapped, one write per read.
func relayRole() error {
	l, err := net.Listen("unix", os.Getenv(socketEnv))
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- peer.Relay(l) }()
	go func() { done <- ready("ready") }() // also ends a relay without connections
	return <-done
}

// run measures one side.
type runFunc func(context.Context, runIn) (timings, error)

// minimal starts the two Python processes of the relay, until the group ends.
func (b *bench) minimal() (runFunc, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(dir, "relay")
	if _, err := b.serve("relay", socketEnv+"="+sock); err != nil {
		return nil, err
	}
	var p *served
	for _, role := range []string{"callee", "caller"} { // in the order in which the relay accepts them
		if p, err = start(command(b.ctx, pythonPath(), "pybench/minimal.py", role, sock)); err != nil {
			return nil, fmt.Errorf("minimal %s: %w", role, err)
		}
		b.onEnd(p.stop)
	}
	return func(_ context.Context, in runIn) (t timings, err error) {
		if err = json.NewEncoder(p.in).Encode(in); err != nil {
			return t, err
		}
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			return t, err
		}
		return t, json.Unmarshal(line, &t)
	}, nil
}

// python starts the two deployments, until the group ends.
func (b *bench) python() (runFunc, error) {
	// The node finds the interpreter of its workers there.
	if err := os.Setenv("HELVE_PYTHON", pythonPath()); err != nil {
		return nil, err
	}
	s, err := helve.Run(b.ctx, buildPython)
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { s.Close(context.WithoutCancel(b.ctx)) })
	h, err := helve.HandleOf[pyCaller](s, "python", "Caller")
	return helve.MethodOf(h, pyCaller.Run).Call, err
}

func pythonRows(b *bench) []measurement {
	minimal, ours := sync.OnceValues(b.minimal), sync.OnceValues(b.python)
	row := func(text func(sample) string, in runIn, measure func(runFunc, runIn) (sample, error)) func() (result, error) {
		return func() (result, error) {
			m, err := minimal()
			if err != nil {
				return result{}, err
			}
			o, err := ours()
			if err != nil {
				return result{}, err
			}
			in.Seconds = b.length.Seconds()
			return b.row(text,
				func() (sample, error) { return measure(o, in) },
				func() (sample, error) { return measure(m, in) })
		}
	}
	rate := func(run runFunc, in runIn) (sample, error) {
		t, err := run(b.ctx, in)
		return sample{v: t.Rate}, err
	}
	latency := func(run runFunc, in runIn) (sample, error) {
		t, err := run(b.ctx, in)
		return sample{v: t.P50 * 1e9, p99: t.P99 * 1e9}, err
	}
	// This process and its descendants do the work of the calls: the node, the relay, the interpreters. The side that
	// is not measured is idle meanwhile.
	cpu := func(run runFunc, in runIn) (sample, error) {
		before, err := proc.TreeCPU(os.Getpid())
		if err != nil {
			return sample{}, err
		}
		t, err := run(b.ctx, in)
		if err != nil {
			return sample{}, err
		}
		after, err := proc.TreeCPU(os.Getpid())
		return sample{v: float64(after-before) / t.Calls}, err
	}
	return []measurement{
		{name: "Python to Python, 64 in flight / minimal relay", bar: 0.5, atLeast: true, measure: row(perSecond, runIn{InFlight: 64}, rate)},
		{name: "Python to Python, p50 at 1 / minimal relay", bar: 1.5, measure: row(latencyText, runIn{InFlight: 1}, latency)},
		{name: "Python to Python, 8 in flight / minimal relay", measure: row(perSecond, runIn{InFlight: 8}, rate)},
		{name: "Python to Python, CPU per call at 64 / relay", measure: row(microseconds, runIn{InFlight: 64}, cpu)},
		{name: "Python to Python, CPU per call at 1 / relay", measure: row(microseconds, runIn{InFlight: 1}, cpu)},
		{name: "Python to Python, CPU, Poisson 1k/s / relay", measure: row(microseconds, runIn{PerSecond: 1000}, cpu)},
		{name: "Python to Python, def, 64 in flight / relay", measure: row(perSecond, runIn{InFlight: 64, Sync: true}, rate)},
		{name: "Python to Python, def, p50 at 1 / relay", measure: row(latencyText, runIn{InFlight: 1, Sync: true}, latency)},
	}
}
