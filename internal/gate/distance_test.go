package gate

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// rival waits at a gate in this process, holds the slot for a while, and if it is keen waits again.
type rival struct {
	gate *Gate
	hold time.Duration
	keen atomic.Bool
	got  atomic.Int32
}

func (r *rival) Granted(*call.Batch) {
	r.got.Add(1)
	time.AfterFunc(r.hold, func() {
		again := r.keen.Load() && r.gate.Wait(r)
		r.gate.Release(nil)
		if again {
			r.Granted(nil)
		}
	})
}

// taught is a router that is at the gate as far as that knows, and then 20 ms away.
func taught(g *Gate) *farRouter {
	f := &farRouter{service: func() time.Duration { return time.Millisecond }, backlog: 1, burst: 1}
	f.remote = g.Remote(f)
	f.want(1)
	time.Sleep(time.Second)
	f.mu.Lock()
	f.latency = 20 * time.Millisecond // the lease is 5 ms
	f.done, f.backlog = 0, 1
	f.mu.Unlock()
	return f
}

// end checks that nothing is left behind.
func (f *farRouter) end(t *testing.T) {
	t.Helper()
	f.stop()
	f.remote.Lost(nil)
	time.Sleep(time.Minute)
	if n := f.remote.Load(); n != 0 {
		t.Errorf("%d slots are lost", n)
	}
}

// TestLateArrivalWaitsAgain: the call of a lease that ended is not lost, and the slot is not either.
func TestLateArrivalWaitsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		f := taught(g)
		r := &rival{gate: g, hold: 100 * time.Millisecond}
		f.want(1)
		g.Wait(r) // behind the lease
		time.Sleep(time.Second)
		f.mu.Lock()
		late, done := f.late, f.done
		f.mu.Unlock()
		if r.got.Load() != 1 || late != 1 || done < 1 || g.Load() > 1 {
			t.Errorf("the rival got %d; %d late, %d done, %d slots taken", r.got.Load(), late, done, g.Load())
		}
		f.end(t)
	})
}

// TestLateArrivalAtAFreeSlot needs no lease.
func TestLateArrivalAtAFreeSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := taught(New(1))
		f.want(1)
		time.Sleep(45 * time.Millisecond)
		f.mu.Lock()
		if f.late != 0 || f.done != 1 {
			t.Errorf("%d late, %d done", f.late, f.done)
		}
		f.mu.Unlock()
		f.end(t)
	})
}

// TestLeasesFollowTheDistance: a router that is farther away than its leases last gets longer ones, although none of its arrivals
// was in time to be measured, and somebody else always wants the slot.
func TestLeasesFollowTheDistance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		f := taught(g)
		r := &rival{gate: g, hold: time.Millisecond}
		r.keen.Store(true)
		f.mu.Lock()
		f.backlog = 1000
		f.mu.Unlock()
		f.want(1000)
		g.Wait(r)
		time.Sleep(10 * time.Second)
		f.mu.Lock()
		late, done := f.late, f.done
		f.mu.Unlock()
		if late > 10 || done < 200 { // 42 ms a call
			t.Errorf("%d late, %d done", late, done)
		}
		r.keen.Store(false)
		f.end(t)
	})
}

// TestSilentRouter: one that answers nothing holds slots for the time of one lease, whatever it has asked for.
func TestSilentRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(4)
		l := &ledger{}
		l.remote = g.Remote(l)
		l.remote.Want(nil, math.MaxUint64)
		if g.Load() != 4 {
			t.Errorf("%d slots are kept", g.Load())
		}
		time.Sleep(leaseMax + 1)
		if g.Load() != 0 || len(l.grants) != 4 || !g.TryAcquire() {
			t.Errorf("%d slots of %d grants are kept", g.Load(), len(l.grants))
		}
		g.Release(nil)
		if id, _ := l.pop(rand.New(rand.NewPCG(1, 1))); !l.remote.Arrive(id) {
			t.Error("there was a free slot")
		}
		l.remote.Want(nil, 5)
		if len(l.grants) != 4 { // three that are over, and another
			t.Errorf("%d grants", len(l.grants))
		}
		l.remote.Done(nil)
		l.remote.Lost(nil)
	})
}

// TestManyLeases: what one router can have on the way is bounded, and goes on when some have arrived.
func TestManyLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(5 * maxLeases)
		l := &ledger{}
		l.remote = g.Remote(l)
		l.remote.Want(nil, math.MaxUint64)
		if len(l.grants) != maxLeases {
			t.Errorf("%d grants", len(l.grants))
		}
		for _, id := range l.grants[:10] {
			l.remote.Return(nil, id)
		}
		l.remote.Want(nil, math.MaxUint64)
		if len(l.grants) != maxLeases+10 || g.Load() != maxLeases {
			t.Errorf("%d grants, %d slots", len(l.grants), g.Load())
		}
		l.remote.Lost(nil)
		if g.Load() != 0 {
			t.Errorf("%d slots are lost", g.Load())
		}
	})
}

// TestWhenFull: whoever looks at the load on every change knows whether the gate is full.
func TestWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(2)
		var full, told int
		g.WhenFull(func() { full, told = g.Load()/2, told+1 })
		check := func(wantFull, wantTold int) {
			t.Helper()
			if full != wantFull || told != wantTold {
				t.Errorf("full %d, told %d times, not %d and %d", full, told, wantFull, wantTold)
			}
		}
		g.TryAcquire()
		check(0, 0)
		g.TryAcquire()
		check(1, 1)
		w := &rival{gate: g, hold: time.Hour}
		g.Wait(w)
		g.Release(nil) // to the rival
		check(1, 1)
		g.Release(nil)
		check(0, 2)
		if !g.Wait(&rival{}) {
			t.Error("a slot is free")
		}
		check(1, 3)
		g.Close()
		check(1, 3)
		g.Release(nil)
		time.Sleep(2 * time.Hour)
	})
}
