package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/stat"
)

// Echo returns its argument.
type Echo struct{}

func (*Echo) Echo(_ context.Context, s string) (string, error) { return s, nil }

func buildEcho() (*helve.App, error) {
	app := helve.NewApp("echo")
	h := helve.Deploy(app, "Echo", func(context.Context) (*Echo, error) { return &Echo{}, nil },
		helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000)})
	app.Ingress(helve.MethodOf(h, (*Echo).Echo))
	return app, nil
}

// Timer calls Echo from the worker in which both live.
type Timer struct{ echo helve.Method[string, string] }

// Time calls for a while and gives the nanoseconds of one call.
func (t *Timer) Time(ctx context.Context, length time.Duration) (float64, error) {
	n := 0
	start := time.Now()
	for time.Since(start) < length {
		for range 1000 {
			if _, err := t.echo.Call(ctx, payload); err != nil {
				return 0, err
			}
		}
		n += 1000
	}
	return float64(time.Since(start)) / float64(n), nil
}

func buildInside() (*helve.App, error) {
	app := helve.NewApp("inside")
	h := helve.Deploy(app, "Echo", func(context.Context) (*Echo, error) { return &Echo{}, nil },
		helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000), Isolation: helve.Process})
	echo := helve.MethodOf(h, (*Echo).Echo)
	t := helve.Deploy(app, "Timer", func(context.Context) (*Timer, error) { return &Timer{echo}, nil },
		helve.Options{Uses: []helve.Target{h}, Isolation: helve.Process})
	app.Ingress(helve.MethodOf(t, (*Timer).Time))
	return app, nil
}

// startEcho starts the echo, and calls it once to see that it is one.
func startEcho(ctx context.Context, isolation helve.Isolation) (*helve.System, helve.Method[string, string], error) {
	return startEchoWith(ctx, helve.Config{Isolation: isolation})
}

func startEchoWith(ctx context.Context, c helve.Config) (*helve.System, helve.Method[string, string], error) {
	var echo helve.Method[string, string]
	s, err := c.Run(ctx, buildEcho)
	if err != nil {
		return nil, echo, err
	}
	h, err := helve.HandleOf[*Echo](s, "echo", "Echo")
	if err == nil {
		echo = helve.MethodOf(h, (*Echo).Echo)
		var got string
		if got, err = echo.Call(ctx, payload); err == nil && got != payload {
			err = fmt.Errorf("the echo of %q is %q", payload, got)
		}
	}
	if err != nil {
		s.Close(ctx)
		return nil, echo, err
	}
	return s, echo, nil
}

// echo starts the echo, until the group ends.
func (b *bench) echo(isolation helve.Isolation) (helve.Method[string, string], error) {
	s, echo, err := startEcho(b.ctx, isolation)
	if err == nil {
		b.onEnd(func() { s.Close(context.WithoutCancel(b.ctx)) })
	}
	return echo, err
}

// pair has the measurements of inprocRole: nanoseconds, or allocations, of both sides.
type pair struct{ Ours, Reference float64 }

// inprocRole measures at GOMAXPROCS=1: calls and their floors are then the same kind of work on one core.
func inprocRole() error {
	ctx := context.Background()
	rounds, err := strconv.Atoi(os.Getenv(roundsEnv))
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(os.Getenv(timeEnv))
	if err != nil {
		return err
	}
	s, echo, err := startEcho(ctx, helve.InNode)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	perCall := func(f func()) func() (sample, error) {
		return func() (sample, error) {
			const batch = 1000
			n := 0
			start := time.Now()
			for time.Since(start) < length {
				for range batch {
					f()
				}
				n += batch
			}
			return sample{v: float64(time.Since(start)) / float64(n)}, nil
		}
	}
	var ours, reference func() (sample, error)
	switch which := os.Getenv(pairEnv); which {
	case "call", "inside":
		ping, pong := make(chan string), make(chan string)
		defer close(ping)
		go func() {
			for v := range ping {
				pong <- v
			}
		}()
		ours = perCall(func() { echo.Call(ctx, payload) })
		reference = perCall(func() { ping <- payload; <-pong })
		if which == "inside" { // the worker has this process's GOMAXPROCS
			inside, err := helve.Run(ctx, buildInside)
			if err != nil {
				return err
			}
			defer inside.Close(ctx)
			h, err := helve.HandleOf[*Timer](inside, "inside", "Timer")
			if err != nil {
				return err
			}
			measure := helve.MethodOf(h, (*Timer).Time)
			ours = func() (sample, error) {
				v, err := measure.Call(ctx, length)
				return sample{v: v}, err
			}
		}
	case "traced":
		traced, sampled, err := startEchoWith(ctx, helve.Config{Tracing: helve.Tracing{Ratio: 0.01}})
		if err != nil {
			return err
		}
		defer traced.Close(ctx)
		ours = perCall(func() { sampled.Call(ctx, payload) })
		reference = perCall(func() { echo.Call(ctx, payload) })
	case "remote":
		ours = perCall(func() { echo.Remote(ctx, payload).Result(ctx) })
		reference = perCall(func() {
			c := make(chan string, 1)
			go func() { c <- payload }()
			<-c
		})
	case "allocs":
		ours = func() (sample, error) {
			return sample{v: testing.AllocsPerRun(1000, func() { echo.Call(ctx, payload) })}, nil
		}
		reference = func() (sample, error) { return sample{v: 1}, nil }
	default:
		return fmt.Errorf("no pair %q", which)
	}
	o, r, err := settings{rounds: rounds}.both(ours, reference)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(pair{o.v, r.v})
}

func inprocRows(b *bench) []measurement {
	measure := func(which string, text func(sample) string) func() (result, error) {
		return func() (result, error) {
			// More and shorter rounds than elsewhere: no process has to warm up, and a disturbance meets fewer of
			// them.
			out, err := b.output("inproc", "GOMAXPROCS=1", pairEnv+"="+which,
				roundsEnv+"="+strconv.Itoa(2*b.rounds-1), timeEnv+"="+(b.length*3/10).String())
			if err != nil {
				return result{}, err
			}
			var p pair
			if err := json.Unmarshal(out, &p); err != nil {
				return result{}, err
			}
			return result{text(sample{v: p.Ours}), text(sample{v: p.Reference}), p.Ours / p.Reference}, nil
		}
	}
	count := func(s sample) string { return fmt.Sprintf("%.0f", s.v) }
	return []measurement{
		{name: "Call in process / channel ping-pong", bar: 1, measure: measure("call", nanoseconds)},
		{name: "Call in process, allocations / promised", bar: 1, exact: true, measure: measure("allocs", count)},
		{name: "Call in process, with / without 1 % traces", bar: 1.1, measure: measure("traced", nanoseconds)},
		{name: "Call inside a Go worker / channel ping-pong", bar: 2, measure: measure("inside", nanoseconds)},
		{name: "Remote + Result in process / goroutine + channel", bar: 2.5, measure: measure("remote", nanoseconds)},
	}
}

// scalingRows compares how calls of two goroutines to different replicas scale with how a pure-CPU loop does.
func scalingRows(b *bench) []measurement {
	measure := func() (result, error) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
		echo, err := b.echo(helve.InNode)
		if err != nil {
			return result{}, err
		}
		// A process that serves has a heap; one of 2 MB collects hundreds of times a second, on the core that is measured.
		heap := make([]byte, 64<<20)
		defer runtime.KeepAlive(heap)
		rate := func(n int) float64 {
			var wg sync.WaitGroup
			var total atomic.Int64
			start := time.Now()
			end := start.Add(b.length / 2)
			for range n {
				wg.Go(func() {
					k := 0
					for time.Now().Before(end) {
						for range 200 {
							echo.Call(b.ctx, payload)
						}
						k += 200
					}
					total.Add(int64(k))
				})
			}
			wg.Wait()
			return float64(total.Load()) / time.Since(start).Seconds()
		}
		return b.row(times,
			func() (sample, error) { one := rate(1); return sample{v: rate(2) / one}, b.ctx.Err() },
			func() (sample, error) { return sample{v: stat.Scaling(b.spin)}, nil })
	}
	return []measurement{{name: "Call, two callers / CPU loop on two cores", bar: 0.85, atLeast: true, measure: measure}}
}
