package gate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
)

// TestSetMaxGrowth: slots that are new go to the waiters, in their order and at once; the rest is free.
func TestSetMaxGrowth(t *testing.T) {
	t.Parallel()
	g := full(1)
	var got []string
	for _, name := range []string{"a", "b", "c"} {
		g.Wait(&waiterFunc{func(*call.Batch) {
			got = append(got, name)
			g.mu.Lock() // Granted is called without the lock
			defer g.mu.Unlock()
		}})
	}
	g.SetMax(3)
	if !slices.Equal(got, []string{"a", "b"}) || g.Load() != 3 || g.Max() != 3 {
		t.Fatalf("with three slots: %v were granted, load %d of %d", got, g.Load(), g.Max())
	}
	if g.TryAcquire() {
		t.Fatal("a call passed the third waiter")
	}
	g.SetMax(5)
	if !slices.Equal(got, []string{"a", "b", "c"}) || g.Load() != 4 {
		t.Fatalf("with five slots: %v were granted, load %d", got, g.Load())
	}
	if !g.TryAcquire() || g.TryAcquire() {
		t.Error("not one slot is free")
	}
}

// TestSetMaxReduction: slots that are taken stay taken; the first releases free nothing for the waiter, and the release
// that leaves as many calls as slots hands over its own.
func TestSetMaxReduction(t *testing.T) {
	t.Parallel()
	g, n := full(4), 0
	g.SetMax(2)
	if g.Load() != 4 || g.Max() != 2 {
		t.Fatalf("load %d of %d", g.Load(), g.Max())
	}
	if g.TryAcquire() || g.Wait(counting(&n)) {
		t.Fatal("a gate over its maximum gave a slot")
	}
	g.Release(nil)
	g.Release(nil)
	if n != 0 || g.Load() != 2 {
		t.Fatalf("%d grants at load %d of 2", n, g.Load())
	}
	g.Release(nil)
	if n != 1 || g.Load() != 2 {
		t.Fatalf("%d grants at load %d of 2", n, g.Load())
	}
	g.Release(nil)
	g.Release(nil)
	if g.Load() != 0 {
		t.Errorf("load %d of an idle gate", g.Load())
	}
	mustPanic(t, "releasing an empty gate", func() { g.Release(nil) })
}

// TestSetMaxReductionWithoutWaiters: the calls that are too many end, and no slot is free before.
func TestSetMaxReductionWithoutWaiters(t *testing.T) {
	t.Parallel()
	g := full(3)
	g.SetMax(1)
	for range 2 {
		g.Release(nil)
		if g.TryAcquire() {
			t.Fatal("a slot above the maximum")
		}
	}
	g.Release(nil)
	if !g.TryAcquire() || g.TryAcquire() {
		t.Error("not one slot is free")
	}
}

func TestSetMaxBounds(t *testing.T) {
	t.Parallel()
	g := New(MostSlots)
	if g.Max() != MostSlots || !g.TryAcquire() || g.Load() != 1 {
		t.Errorf("load %d of %d", g.Load(), g.Max())
	}
	mustPanic(t, "a maximum of 0", func() { g.SetMax(0) })
	mustPanic(t, "a maximum that does not fit", func() { g.SetMax(MostSlots + 1) })
	g.Close()
	g.SetMax(7)
	if g.Max() != 7 || g.TryAcquire() || g.Load() != 1 {
		t.Errorf("a closed gate: load %d of %d", g.Load(), g.Max())
	}
}

// bound is the number of slots that a test may see in use, with a number that tells two equal bounds apart.
type bound struct{ v atomic.Uint64 }

func (b *bound) set(n int) { b.v.Store((b.v.Load()>>32+1)<<32 | uint64(n)) }

// TestSetMaxConcurrent: goroutines take slots, wait for them, give up, and use lent ones, while the maximum grows and
// shrinks. Once the load is not above a new maximum, no more calls than that run until the next change. A waiter that is
// not told of its slot is a deadlock, which the synctest bubble reports.
func TestSetMaxConcurrent(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { changeMaxUnderLoad(t, seed) })
		})
	}
}

func changeMaxUnderLoad(t *testing.T, seed uint64) {
	const takers, rounds, most = 12, 300, 8
	g := New(most)
	var limit bound
	limit.set(most)
	var inside, passed atomic.Int64
	released := make(chan struct{}, 1) // a slot was released since the last receive
	use := func(release func()) {
		before := limit.v.Load()
		n := inside.Add(1)
		if after := limit.v.Load(); after == before && n > int64(uint32(after)) {
			t.Errorf("%d calls run, the maximum is %d", n, uint32(after))
		}
		passed.Add(1)
		inside.Add(-1)
		release()
		select {
		case released <- struct{}{}:
		default:
		}
	}
	giveBack := func(_ *call.Batch, n int) {
		for range n {
			g.Release(nil)
		}
	}
	local := NewLocalSlots(giveBack)
	var lending sync.Mutex // a grant and its number are one step, as they are for the node
	number := uint64(0)
	lend := func() {
		lending.Lock()
		defer lending.Unlock()
		if g.TryAcquire() {
			number++
			local.Grant(nil, number, 1)
		}
	}
	recall := func() {
		lending.Lock()
		defer lending.Unlock()
		number++
		giveBack(nil, local.Recall(number))
	}
	g.OnWaiting(recall)

	var takersDone, changer sync.WaitGroup
	for k := range takers {
		takersDone.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(k)))
			got := make(chan struct{}, 1)
			w := &waiterFunc{func(*call.Batch) { got <- struct{}{} }}
			for range rounds {
				switch rng.IntN(4) {
				case 0:
					if g.TryAcquire() {
						use(func() { g.Release(nil) })
					}
					continue
				case 1:
					if !local.TryAcquire() {
						lend()
						continue
					}
					use(func() { local.Release(nil) })
					continue
				}
				if !g.Wait(w) {
					if rng.IntN(3) == 0 && g.Unwait(w) {
						continue // gave up; false: the grant is on its way
					}
					<-got
				}
				use(func() { g.Release(nil) })
			}
		})
	}
	stop := make(chan struct{})
	changer.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 100))
		max := most
		for {
			select {
			case <-stop:
				return
			default:
			}
			next := 1 + rng.IntN(most)
			if next > max {
				limit.set(next)
				g.SetMax(next)
			} else {
				g.SetMax(next)
				recall()
				for g.Load() > next {
					select {
					case <-released:
					case <-stop:
						return
					}
				}
				limit.set(next)
			}
			max = next
		}
	})
	takersDone.Wait()
	close(stop)
	changer.Wait()
	recall()
	if g.Load() != 0 || passed.Load() == 0 {
		t.Errorf("load %d after %d calls", g.Load(), passed.Load())
	}
}
