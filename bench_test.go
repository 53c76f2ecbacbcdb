package helve_test

import (
	"context"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func benchEcho(b *testing.B, c helve.Config) helve.Method[string, string] {
	s := helvetest.Start(b, c, func() (*helve.App, error) {
		app := helve.NewApp("go")
		h := helve.Deploy(app, "Subject", fixture.NewSubject, helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000)})
		fixture.WithFront(app, h, helve.MethodOf(h, (*fixture.Subject).Echo), helve.MethodOf(h, (*fixture.Subject).RequestID))
		return app, nil
	})
	h, err := helve.HandleOf[*fixture.Subject](s, "go", "Subject")
	if err != nil {
		b.Fatal(err)
	}
	return helve.MethodOf(h, (*fixture.Subject).Echo)
}

func BenchmarkCall(b *testing.B) {
	echo := benchEcho(b, helve.Config{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := echo.Call(context.Background(), "x"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRemote(b *testing.B) {
	echo := benchEcho(b, helve.Config{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := echo.Remote(context.Background(), "x").Result(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWorker(b *testing.B) {
	echo := benchEcho(b, helve.Config{Isolation: helve.Process})
	for _, parallel := range []int{1, 64} {
		b.Run(map[int]string{1: "1", 64: "128"}[parallel], func(b *testing.B) {
			b.ReportAllocs()
			if parallel == 1 {
				for b.Loop() {
					if _, err := echo.Call(context.Background(), "x"); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := echo.Call(context.Background(), "x"); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// TestCallAllocates holds the promised allocations of calls in process: the method's context for Call; the call and the
// channel at which its caller waits for Remote, and room for one more.
func TestCallAllocates(t *testing.T) {
	s := helvetest.Start(t, helve.Config{Isolation: helve.InNode}, fixture.BuildGo)
	h, err := helve.HandleOf[*fixture.Subject](s, "go", "Subject")
	if err != nil {
		t.Fatal(err)
	}
	echo, ctx := helve.MethodOf(h, (*fixture.Subject).Echo), context.Background()
	for _, c := range []struct {
		name string
		most float64
		call func() (string, error)
	}{
		{"Call", 2, func() (string, error) { return echo.Call(ctx, "x") }},
		{"Remote and Result", 3, func() (string, error) { return echo.Remote(ctx, "x").Result(ctx) }},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := c.call(); err != nil {
				t.Fatal(err)
			}
		}); n > c.most {
			t.Errorf("%s: %.1f allocations, at most %.0f are promised", c.name, n, c.most)
		}
	}
	counting := helve.StreamFunc(fixture.CountUp)
	if n := testing.AllocsPerRun(100, func() {
		for range counting.Call(ctx, 1000) {
		}
	}); n > 20 {
		t.Errorf("a stream of 1,000 items: %.1f allocations; items need none", n)
	}
}

func BenchmarkCallParallel(b *testing.B) {
	echo := benchEcho(b, helve.Config{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := echo.Call(context.Background(), "x"); err != nil {
				b.Error(err)
			}
		}
	})
}
