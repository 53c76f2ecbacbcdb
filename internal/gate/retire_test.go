package gate

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestRetire: a retired gate admits no call, and tells of each slot that is given back.
func TestRetire(t *testing.T) {
	t.Parallel()
	g := New(3)
	for range 3 {
		g.TryAcquire()
	}
	w := &counter{}
	g.Wait(w)
	released := 0
	if taken := g.Retire(func() { released++ }); taken != 3 {
		t.Errorf("%d slots are taken, want 3", taken)
	}
	for n := range 3 {
		g.Release(nil)
		if g.TryAcquire() || g.Wait(w) || w.granted > 0 {
			t.Error("a retired gate has granted a slot")
		}
		if released != n+1 || g.Load() != 2-n {
			t.Errorf("%d slots were released, and %d are taken", released, g.Load())
		}
	}
}

type counter struct{ granted int }

func (w *counter) Granted(*call.Batch) { w.granted++ }

// TestRetireWhileCallsRun: a gate that is retired at any moment tells of each slot that was taken, and of no other.
func TestRetireWhileCallsRun(t *testing.T) {
	t.Parallel()
	for range 200 {
		g := New(4)
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				for g.TryAcquire() {
					g.Release(nil)
				}
			})
		}
		var released atomic.Int64
		taken := g.Retire(func() { released.Add(1) })
		running.Wait()
		if g.Load() != 0 || int(released.Load()) != taken {
			t.Fatalf("%d slots were taken, %d were released, and %d are left", taken, released.Load(), g.Load())
		}
	}
}
