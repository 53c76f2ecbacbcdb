package gate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/helve-serve/helve/internal/call"
)

// waiterFunc is a waiter that calls a function. Waiters are compared, so it is used by pointer.
type waiterFunc struct{ granted func(b *call.Batch) }

func (w *waiterFunc) Granted(b *call.Batch) { w.granted(b) }

func counting(n *int) *waiterFunc { return &waiterFunc{func(*call.Batch) { *n++ }} }

func full(slots int) *Gate {
	g := New(slots)
	for range slots {
		g.TryAcquire()
	}
	return g
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func TestSlots(t *testing.T) {
	t.Parallel()
	g := New(2)
	if g.Max() != 2 || g.Load() != 0 {
		t.Fatalf("a new gate has max %d, load %d", g.Max(), g.Load())
	}
	for i, want := range []bool{true, true, false} {
		if got := g.TryAcquire(); got != want {
			t.Errorf("acquire %d: %v", i, got)
		}
	}
	if g.Load() != 2 {
		t.Errorf("load %d of a full gate", g.Load())
	}
	g.Release(nil)
	if g.Load() != 1 || !g.TryAcquire() {
		t.Error("a released slot was not free")
	}
	g.Release(nil)
	g.Release(nil)
	mustPanic(t, "releasing an empty gate", func() { g.Release(nil) })
	mustPanic(t, "a gate without slots", func() { New(0) })
}

func TestWaitTakesFreeSlot(t *testing.T) {
	t.Parallel()
	g, n := New(1), 0
	if !g.Wait(counting(&n)) || g.Load() != 1 || n != 0 {
		t.Errorf("load %d, %d grants", g.Load(), n)
	}
}

func TestGrantsInTurn(t *testing.T) {
	t.Parallel()
	g := full(1)
	var got []string
	waiters := map[string]*waiterFunc{}
	batch := new(call.Batch)
	for _, name := range []string{"a", "b", "c"} {
		waiters[name] = &waiterFunc{func(b *call.Batch) {
			if b != batch {
				t.Error("the batch was not passed on")
			}
			got = append(got, name)
			if len(got) <= 3 {
				g.Wait(waiters[name]) // last in turn again
			}
		}}
		if g.Wait(waiters[name]) {
			t.Fatal("a full gate gave a slot")
		}
	}
	for range 6 {
		g.Release(batch)
		if g.Load() != 1 {
			t.Fatalf("load %d after a grant", g.Load())
		}
	}
	if want := []string{"a", "b", "c", "a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("granted %v, want %v", got, want)
	}
	g.Release(nil)
	if g.Load() != 0 || !g.TryAcquire() {
		t.Error("the gate is not free after the last waiter has gone")
	}
}

func TestNobodyPassesAWaiter(t *testing.T) {
	t.Parallel()
	g, first, second := full(2), 0, 0
	a, b := counting(&first), counting(&second)
	g.Wait(a)
	if g.TryAcquire() || g.Wait(b) {
		t.Fatal("passed a waiter")
	}
	g.Release(nil)
	if first != 1 || second != 0 || g.TryAcquire() {
		t.Errorf("%d and %d grants", first, second)
	}
}

func TestWaitTwiceKeepsPlace(t *testing.T) {
	t.Parallel()
	g, first, second := full(1), 0, 0
	a, b := counting(&first), counting(&second)
	g.Wait(a)
	g.Wait(b)
	if g.Wait(a) {
		t.Error("a waiter got a slot of a full gate")
	}
	g.Release(nil)
	g.Release(nil)
	if first != 1 || second != 1 {
		t.Errorf("%d and %d grants", first, second)
	}
	g.Release(nil) // nobody is left
	if g.Load() != 0 || first != 1 {
		t.Errorf("load %d, %d grants", g.Load(), first)
	}
}

func TestUnwait(t *testing.T) {
	t.Parallel()
	g, first, second := full(1), 0, 0
	a, b := counting(&first), counting(&second)
	g.Wait(a)
	g.Wait(b)
	if !g.Unwait(a) || g.Unwait(a) {
		t.Error("Unwait did not tell whether a was registered")
	}
	g.Release(nil)
	if first != 0 || second != 1 {
		t.Errorf("%d and %d grants", first, second)
	}
	g.Wait(a)
	g.Unwait(a)
	g.Release(nil)
	if !g.TryAcquire() {
		t.Error("a gate that nobody waits at any more does not admit")
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	g, n := full(2), 0
	a := counting(&n)
	g.Wait(a)
	g.Close()
	g.Close()
	if g.TryAcquire() || g.Wait(a) || g.Unwait(a) {
		t.Error("a closed gate admits or has waiters")
	}
	if g.Load() != 2 {
		t.Errorf("load %d", g.Load())
	}
	g.Release(nil)
	g.Release(nil)
	if g.Load() != 0 || n != 0 || g.TryAcquire() || g.Wait(a) {
		t.Errorf("load %d, %d grants", g.Load(), n)
	}
	mustPanic(t, "releasing an empty closed gate", func() { g.Release(nil) })
}

func TestGrantedMayUseTheGate(t *testing.T) {
	t.Parallel()
	g, n := full(1), 0
	var w *waiterFunc
	w = &waiterFunc{func(b *call.Batch) {
		n++
		if n < 3 && (g.TryAcquire() || g.Wait(w)) {
			t.Error("two slots of one")
		}
		g.Release(b)
	}}
	g.Wait(w)
	g.Release(nil)
	if n != 3 || g.Load() != 0 {
		t.Errorf("%d grants, load %d", n, g.Load())
	}
}

func TestGatesDoNotShareCacheLines(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(Gate{}); size <= 112 { // smaller ones are allocated less than 128 bytes apart
		t.Errorf("a gate has %d bytes", size)
	}
}

// TestModel compares the gate with a simple model, three numbers and a list, over random operations: slots are taken, lent
// to a worker and released, routers wait and leave, the maximum changes, and the gate is closed.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			slots := 1 + rng.IntN(4)
			g := New(slots)
			taken, lent, number, closed := 0, 0, uint64(0), false
			var queue, granted, want []int
			local := NewLocalSlots(func(_ *call.Batch, n int) {
				for range n {
					g.Release(nil)
				}
			})
			waiters := make([]*waiterFunc, 5)
			for i := range waiters {
				waiters[i] = &waiterFunc{func(*call.Batch) { granted = append(granted, i) }}
			}
			for range 400 {
				i := rng.IntN(len(waiters))
				queued := slices.Contains(queue, i)
				free := !closed && taken < slots && len(queue) == 0
				release := func() { // one slot, in the model
					if len(queue) > 0 && taken <= slots {
						want, queue = append(want, queue[0]), queue[1:]
					} else {
						taken--
					}
				}
				switch op := rng.IntN(120); {
				case op < 25:
					if g.TryAcquire() != free {
						t.Fatalf("TryAcquire: %v", !free)
					}
					if free {
						taken++
					}
				case op < 55:
					if g.Wait(waiters[i]) != free {
						t.Fatalf("Wait: %v", !free)
					}
					switch {
					case free:
						taken++
					case !queued && !closed:
						queue = append(queue, i)
					}
				case op < 85:
					if taken == lent {
						continue
					}
					release()
					g.Release(nil)
				case op < 99:
					if g.Unwait(waiters[i]) != queued {
						t.Fatalf("Unwait: %v", !queued)
					}
					queue = slices.DeleteFunc(slices.Clone(queue), func(q int) bool { return q == i })
				case op < 106:
					slots = 1 + rng.IntN(6)
					for !closed && taken < slots && len(queue) > 0 {
						want, queue, taken = append(want, queue[0]), queue[1:], taken+1
					}
					g.SetMax(slots)
				case op < 112:
					if g.TryAcquire() != free {
						t.Fatalf("TryAcquire of a slot to lend: %v", !free)
					}
					if free {
						taken, lent, number = taken+1, lent+1, number+1
						local.Grant(nil, number, 1)
					}
				case op < 119:
					number++
					for range lent {
						release()
					}
					for range local.Recall(number) {
						g.Release(nil)
					}
					lent = 0
				case rng.IntN(10) == 0:
					g.Close()
					closed, queue = true, nil
				}
				if g.Load() != taken || g.Max() != slots {
					t.Fatalf("load %d of %d, want %d of %d", g.Load(), g.Max(), taken, slots)
				}
				if !slices.Equal(granted, want) {
					t.Fatalf("granted %v, want %v", granted, want)
				}
			}
		})
	}
}

// TestConcurrent: many goroutines take few slots; they try, wait and give up. If a waiter is not told of its slot, all
// goroutines sleep, and the synctest bubble reports a deadlock.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		const slots, takers, rounds = 3, 16, 400
		g := New(slots)
		var inside, passed atomic.Int64
		use := func() {
			if n := inside.Add(1); n > slots {
				t.Errorf("%d calls in %d slots", n, slots)
			}
			if n := g.Load(); n < 1 || n > slots {
				t.Errorf("load %d", n)
			}
			passed.Add(1)
			inside.Add(-1)
			g.Release(nil)
		}
		var wg sync.WaitGroup
		for k := range takers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(k), 2))
				got := make(chan struct{}, 1)
				w := &waiterFunc{func(*call.Batch) { got <- struct{}{} }}
				for range rounds {
					if rng.IntN(2) == 0 && g.TryAcquire() {
						use()
						continue
					}
					if !g.Wait(w) {
						if rng.IntN(3) == 0 && g.Unwait(w) {
							continue // gave up; false: the grant is on its way
						}
						<-got
					}
					use()
				}
			})
		}
		wg.Wait()
		if g.Load() != 0 || passed.Load() == 0 {
			t.Errorf("load %d after %d passes", g.Load(), passed.Load())
		}
	})
}

// TestHandOver: goroutines are one more than slots. If a slot were released unnoticed, between the moment in which the
// gate is seen full and the registration of the waiter, no other release would come, and the test would not end.
func TestHandOver(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 2} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(*testing.T) {
				g := New(slots)
				var wg sync.WaitGroup
				for range slots + 1 {
					wg.Go(func() {
						got := make(chan struct{}, 1)
						w := &waiterFunc{func(*call.Batch) { got <- struct{}{} }}
						for range 20_000 {
							if !g.Wait(w) {
								<-got
							}
							g.Release(nil)
						}
					})
				}
				wg.Wait()
				if g.Load() != 0 {
					t.Errorf("load %d", g.Load())
				}
			})
		})
	}
}
