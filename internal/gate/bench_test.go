package gate

import (
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestNoAllocations: a slot that is taken, released or granted costs no allocation. The test is not parallel, because
// allocations are counted over the whole process.
func TestNoAllocations(t *testing.T) { //nolint:paralleltest // see above
	g := New(1)
	if n := testing.AllocsPerRun(100, func() {
		if !g.TryAcquire() {
			t.Error("full")
		}
		g.Release(nil)
	}); n != 0 {
		t.Errorf("acquire and release allocate %v times", n)
	}
	w := &keeper{}
	g.Wait(w)
	if n := testing.AllocsPerRun(100, func() {
		g.Wait(w)
		g.Release(nil)
	}); n != 0 {
		t.Errorf("wait and grant allocate %v times", n)
	}
}

// keeper is a waiter that keeps its slot until the next Release. The struct is not empty, so that two keepers differ.
type keeper struct{ _ byte }

func (*keeper) Granted(*call.Batch) {}

func BenchmarkAcquireRelease(b *testing.B) {
	b.Run("uncontended", func(b *testing.B) {
		g := New(1)
		b.ReportAllocs()
		for b.Loop() {
			g.TryAcquire()
			g.Release(nil)
		}
	})
	b.Run("one-gate", func(b *testing.B) {
		g := New(1 << 20)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.TryAcquire()
				g.Release(nil)
			}
		})
	})
	b.Run("gate-each", func(b *testing.B) {
		gates := make([]*Gate, 256)
		for i := range gates {
			gates[i] = New(1)
		}
		var next atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			g := gates[next.Add(1)%int64(len(gates))]
			for pb.Next() {
				g.TryAcquire()
				g.Release(nil)
			}
		})
	})
	b.Run("granted", func(b *testing.B) {
		g := full(1)
		w := &keeper{}
		b.ReportAllocs()
		for b.Loop() {
			g.Wait(w)
			g.Release(nil)
		}
	})
}
