package gate

import (
	"math/rand/v2"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestLocalSlotsAgainstModel: every slot that was granted is idle, used or returned, in exactly one of these states, in every
// order of grants, recalls, returns, acquisitions and releases.
func TestLocalSlotsAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		granted, back, used, number := 0, 0, 0, uint64(0)
		k := NewLocalSlots(func(_ *call.Batch, n int) { back += n })
		for range 300 {
			switch rnd.IntN(6) {
			case 0:
				n := 1 + rnd.IntN(4)
				number++
				granted += n
				if rnd.IntN(4) == 0 { // overtaken by a recall
					back += k.Recall(number + 1)
					before := back
					k.Grant(nil, number, n)
					if number++; back != before+n {
						t.Fatalf("seed %d: a grant that was recalled stayed", seed)
					}
				} else {
					k.Grant(nil, number, n)
				}
			case 1:
				number++
				back += k.Recall(number)
			case 2:
				k.ReturnIdle()
			case 3, 4:
				if free := granted - back - used; k.TryAcquire() {
					used++
				} else if free != 0 {
					t.Fatalf("seed %d: %d slots are idle and none can be had", seed, free)
				}
			case 5:
				if used > 0 {
					used--
					k.Release(nil)
				}
			}
			if k.Load() != used || back+used > granted {
				t.Fatalf("seed %d: %d granted, %d back, %d used, load %d", seed, granted, back, used, k.Load())
			}
		}
		for ; used > 0; used-- {
			k.Release(nil)
		}
		back += k.Recall(number + 1)
		if back != granted {
			t.Fatalf("seed %d: %d of %d slots came back", seed, back, granted)
		}
	}
}

func TestReturnIdle(t *testing.T) {
	t.Parallel()
	back := 0
	k := NewLocalSlots(func(_ *call.Batch, n int) { back += n })
	k.Grant(nil, 1, 3)
	if !k.TryAcquire() || k.ReturnIdle() || back != 0 {
		t.Errorf("%d back although the block was used", back)
	}
	if k.ReturnIdle() || back != 2 {
		t.Errorf("%d back, want the 2 that are idle", back)
	}
	k.Release(nil)
	if !k.ReturnIdle() || back != 3 {
		t.Errorf("%d back, want all", back)
	}
	defer func() {
		if recover() == nil {
			t.Error("a slot was released that nobody had")
		}
	}()
	k.Release(nil)
}

// TestOnWaiting: the function is called for the first waiter, and again only after the queue was empty.
func TestOnWaiting(t *testing.T) {
	t.Parallel()
	g := New(1)
	told := 0
	g.OnWaiting(func() {
		told++
		g.mu.Lock() // it is called without the lock
		defer g.mu.Unlock()
	})
	a, b := &silent{}, &silent{}
	g.TryAcquire()
	g.Wait(a)
	g.Wait(a)
	g.Wait(b)
	if told != 1 {
		t.Errorf("told %d times, want 1", told)
	}
	g.Release(nil)
	g.Release(nil)
	g.Wait(a)
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
}

type silent struct{ n int }

func (s *silent) Granted(*call.Batch) { s.n++ }
