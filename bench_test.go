package helve_test

import (
	"context"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

func benchEcho(b *testing.B, c helve.Config) helve.Method[string, string] {
	s := helvetest.Start(b, c, func() (*helve.App, error) {
		app := helve.NewApp("go")
		h := helve.Deploy(app, "Subject", newSubject, helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000)})
		withFront(app, h, helve.MethodOf(h, (*Subject).Echo), helve.MethodOf(h, (*Subject).RequestID))
		return app, nil
	})
	h, err := helve.HandleOf[*Subject](s, "go", "Subject")
	if err != nil {
		b.Fatal(err)
	}
	return helve.MethodOf(h, (*Subject).Echo)
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

// TestCallAllocates holds the promise of at most two allocations for a call in process.
func TestCallAllocates(t *testing.T) {
	s := helvetest.Start(t, helve.Config{Isolation: helve.InNode}, buildGo)
	h, err := helve.HandleOf[*Subject](s, "go", "Subject")
	if err != nil {
		t.Fatal(err)
	}
	echo, ctx := helve.MethodOf(h, (*Subject).Echo), context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := echo.Call(ctx, "x"); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%.1f allocations a call, at most 2 are promised", n)
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
