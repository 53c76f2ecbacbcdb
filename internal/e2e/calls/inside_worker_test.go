package calls_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Shelf says whether a call was a function call, and how many ran at once.
type Shelf struct{ now, most atomic.Int64 }

func (s *Shelf) Near(_ context.Context, b fixture.Box) (bool, error) { return b.Inside != nil, nil }

func (s *Shelf) Work(_ context.Context, n int) (int64, error) {
	now := s.now.Add(1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	for range n {
		s.now.Load()
	}
	s.now.Add(-1)
	return s.most.Load(), nil
}

func (s *Shelf) NearItems(_ context.Context, b fixture.Box) iter.Seq2[bool, error] {
	return func(yield func(bool, error) bool) { yield(b.Inside != nil, nil) }
}

// Keeper calls Shelf from the same process.
type Keeper struct {
	near  helve.Method[fixture.Box, bool]
	work  helve.Method[int, int64]
	items helve.Stream[fixture.Box, bool]
}

// Near calls until a call was a function call, at most n times, and says of each kind of call whether it was.
func (k *Keeper) Near(ctx context.Context, n int) (string, error) {
	for range n {
		if near, err := k.near.Call(ctx, fixture.Box{Inside: new(int)}); err != nil {
			return "", err
		} else if near {
			remote, err := k.near.Remote(ctx, fixture.Box{Inside: new(int)}).Result(ctx)
			if err != nil {
				return "", err
			}
			item := false
			for v, err := range k.items.Call(ctx, fixture.Box{Inside: new(int)}) {
				if err != nil {
					return "", err
				}
				item = v
			}
			for v, err := range k.items.Remote(ctx, fixture.Box{Inside: new(int)}).All() {
				if err != nil {
					return "", err
				}
				item = item && v
			}
			return fmt.Sprint(near, remote, item), nil
		}
	}
	return "never", nil
}

// Work calls n times, and gives the most calls that ran at once at a replica.
func (k *Keeper) Work(ctx context.Context, n int) (most int64, err error) {
	for range n {
		m, err := k.work.Call(ctx, 200)
		if err != nil {
			return most, err
		}
		most = max(most, m)
	}
	return most, nil
}

const shelfMax = 3

var buildShelf = fixture.Register(func() (*helve.App, error) {
	a := helve.NewApp("shelf")
	shelf := helve.Deploy(a, "Shelf", func(context.Context) (*Shelf, error) { return &Shelf{}, nil },
		helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(shelfMax)})
	k := &Keeper{helve.MethodOf(shelf, (*Shelf).Near), helve.MethodOf(shelf, (*Shelf).Work), helve.StreamOf(shelf, (*Shelf).NearItems)}
	keeper := helve.Deploy(a, "Keeper", func(context.Context) (*Keeper, error) { return k, nil },
		helve.Options{Uses: []helve.Target{k.near}, MaxOngoingRequests: new(100)})
	a.Ingress(helve.MethodOf(keeper, (*Keeper).Near))
	return a, nil
})

// TestCallsInsideAWorker: calls between replicas of one worker become function calls, as in the node.
func TestCallsInsideAWorker(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildShelf, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*Keeper](s, "shelf", "Keeper")
		if err != nil {
			t.Fatal(err)
		}
		near := helve.MethodOf(h, (*Keeper).Near)
		for range 5 { // a slot may be on its way back
			got, err := near.Call(t.Context(), 20_000)
			if err != nil {
				t.Fatal(err)
			}
			if got == "true true true" {
				return
			}
			t.Log(got)
		}
		t.Error("calls inside of a worker went through the node")
	}, helvetest.Local, helvetest.Process)
}

// TestStrictnessInsideAndOutside: callers in the worker and in the node together never exceed max_ongoing_requests, and
// neither starves.
func TestStrictnessInsideAndOutside(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildShelf, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		keeper, err := helve.HandleOf[*Keeper](s, "shelf", "Keeper")
		if err != nil {
			t.Fatal(err)
		}
		shelf, err := helve.HandleOf[*Shelf](s, "shelf", "Shelf")
		if err != nil {
			t.Fatal(err)
		}
		inside, outside := helve.MethodOf(keeper, (*Keeper).Work), helve.MethodOf(shelf, (*Shelf).Work)
		var most atomic.Int64
		note := func(m int64, err error) {
			if err != nil {
				t.Error(err)
			}
			for old := most.Load(); m > old && !most.CompareAndSwap(old, m); old = most.Load() {
			}
		}
		for range 4 { // times of both kinds alternate with times of one
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { note(inside.Call(ctx, 200)) })
				wg.Go(func() {
					for range 100 {
						note(outside.Remote(ctx, 200).Result(ctx))
					}
				})
			}
			wg.Wait()
			note(inside.Call(ctx, 200))
		}
		if m := most.Load(); m > shelfMax {
			t.Errorf("%d calls ran at once at a replica, at most %d may", m, shelfMax)
		}
		// All slots can be acquired from outside, although the worker had been lent some.
		sel := make([]*helve.Selection, 2*shelfMax)
		for i := range sel {
			if sel[i], err = outside.Choose(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range sel {
			s.Release()
		}
	}, helvetest.Local, helvetest.Process)
}
