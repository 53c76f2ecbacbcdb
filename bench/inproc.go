package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
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

func startEcho(isolation helve.Isolation) (*helve.System, helve.Method[string, string], error) {
	s, err := helve.Config{Isolation: isolation}.Run(context.Background(), buildEcho)
	if err != nil {
		return nil, helve.Method[string, string]{}, err
	}
	h, err := helve.HandleOf[*Echo](s, "echo", "Echo")
	return s, helve.MethodOf(h, (*Echo).Echo), err
}

type inproc struct{ Call, Ping, Remote, Goroutine, Allocs float64 }

// inprocRole measures at GOMAXPROCS=1: calls and their floors are then the same kind of work on one core.
func inprocRole() error {
	s, echo, err := startEcho(helve.InNode)
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer s.Close(ctx)
	ping, pong := make(chan string), make(chan string)
	go func() {
		for v := range ping {
			pong <- v
		}
	}()
	perOp := func(f func()) float64 {
		const batch = 1000
		n := 0
		start := time.Now()
		for time.Since(start) < 300*time.Millisecond {
			for range batch {
				f()
			}
			n += batch
		}
		return float64(time.Since(start)) / float64(n)
	}
	var all [4][]float64
	for range 5 {
		for i, f := range []func(){
			func() { echo.Call(ctx, payload) },
			func() { ping <- payload; <-pong },
			func() { echo.Remote(ctx, payload).Result(ctx) },
			func() {
				c := make(chan string, 1)
				go func() { c <- payload }()
				<-c
			},
		} {
			all[i] = append(all[i], perOp(f))
		}
	}
	r := inproc{median(all[0]), median(all[1]), median(all[2]), median(all[3]), 0}
	r.Allocs = testing.AllocsPerRun(1000, func() { echo.Call(ctx, payload) })
	return json.NewEncoder(os.Stdout).Encode(r)
}

func inprocRows(*bench) ([]row, error) {
	out, err := child("inproc", "GOMAXPROCS=1").Output()
	if err != nil {
		return nil, err
	}
	var r inproc
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, err
	}
	ns := func(v float64) string { return fmt.Sprintf("%.0f ns", v) }
	return []row{
		{"Call in process / channel ping-pong", ns(r.Call), ns(r.Ping), r.Call / r.Ping, 1, false},
		{"Call in process, allocations / promised", fmt.Sprintf("%.0f", r.Allocs), "2", r.Allocs / 2, 1, false},
		{"Remote + Result in process / goroutine + channel", ns(r.Remote), ns(r.Goroutine), r.Remote / r.Goroutine, 0, false},
	}, nil
}

// scalingRows compares how calls of two goroutines to different replicas scale with how a pure-CPU loop does.
func scalingRows(b *bench) ([]row, error) {
	if runtime.NumCPU() < 2 {
		return nil, nil
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	s, echo, err := startEcho(helve.InNode)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	defer s.Close(ctx)
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
						echo.Call(ctx, payload)
					}
					k += 200
				}
				total.Add(int64(k))
			})
		}
		wg.Wait()
		return float64(total.Load()) / time.Since(start).Seconds()
	}
	ours, cpu, err := b.both(
		func() (float64, error) { one := rate(1); return rate(2) / one, nil },
		func() (float64, error) { return cpuScaling(), nil })
	if err != nil {
		return nil, err
	}
	x := func(v float64) string { return fmt.Sprintf("%.2fx", v) }
	return []row{{"Call, two callers / CPU loop on two cores", x(ours), x(cpu), ours / cpu, 0.85, true}}, nil
}
