package routing_test

import (
	"context"
	"slices"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// The function who makes n calls and returns the replica of each.
func who(t *testing.T, m helve.Method[int, string], n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		id, err := m.Call(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// Named says which replica it is.
type Named struct {
	hold fixture.Latch
	busy chan string
}

func (n *Named) ID(ctx context.Context, _ int) (string, error) { return helve.ReplicaFrom(ctx).ID, nil }
func (n *Named) Hold(ctx context.Context, _ int) (string, error) {
	id := helve.ReplicaFrom(ctx).ID
	n.busy <- id
	return id, n.hold.Wait(ctx)
}

func startNamed(t *testing.T, r helvetest.Runner, o helve.Options) (id, hold helve.Method[int, string], n *Named) {
	t.Helper()
	n = &Named{hold: make(fixture.Latch), busy: make(chan string, 100)}
	sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
		app := helve.NewApp("named")
		h := helve.Deploy(app, "Named", func(context.Context) (*Named, error) { return &Named{n.hold, n.busy}, nil }, o)
		app.Ingress(helve.MethodOf(h, (*Named).ID))
		return app, nil
	})
	h, err := helve.HandleOf[*Named](sys, "named", "Named")
	if err != nil {
		t.Fatal(err)
	}
	return helve.MethodOf(h, (*Named).ID), helve.MethodOf(h, (*Named).Hold), n
}

func TestRouting(t *testing.T) {
	t.Parallel()
	four := func(r helve.Routing) helve.Options {
		return helve.Options{NumReplicas: new(4), MaxOngoingRequests: new(1), Routing: r}
	}
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		t.Run("round robin", func(t *testing.T) {
			t.Parallel()
			id, hold, n := startNamed(t, r, four(helve.RoundRobin{}))
			ids := who(t, id, 12)
			if !slices.Equal(ids[:4], ids[4:8]) || !slices.Equal(ids[:4], ids[8:]) {
				t.Errorf("%v", ids)
			}
			held := hold.Remote(t.Context(), 0)
			full := <-n.busy
			if ids := who(t, id, 12); slices.Contains(ids, full) {
				t.Errorf("%v has %s, which is full", ids, full)
			}
			close(n.hold)
			held.Result(t.Context())
		})
		t.Run("consistent hash", func(t *testing.T) {
			t.Parallel()
			id, hold, n := startNamed(t, r, four(helve.ConsistentHash{Fallbacks: new(1)}))
			s := helve.SessionID("me")
			owner := who(t, id.With(s), 1)[0]
			for _, got := range who(t, id.With(s), 20) {
				if got != owner {
					t.Fatalf("one session at %s and %s", owner, got)
				}
			}
			if seen := who(t, id, 100); len(unique(seen)) != 4 {
				t.Errorf("calls without a session went to %v", unique(seen))
			}
			var held []*helve.Response[string]
			for range 2 {
				held = append(held, hold.With(s).Remote(t.Context(), 0))
				<-n.busy
			}
			third := hold.With(s).Remote(t.Context(), 0) // owner and fallback are full, others are free: it waits
			if seen := unique(who(t, id, 50)); len(seen) != 2 || slices.Contains(seen, owner) {
				t.Errorf("others: %v", seen)
			}
			select {
			case at := <-n.busy:
				t.Errorf("a session spilled over to %s", at)
			default:
			}
			close(n.hold)
			ids, err := helve.All(t.Context(), append(held, third)...)
			if err != nil || ids[0] != owner || ids[1] == owner || !slices.Contains(ids[:2], ids[2]) {
				t.Errorf("%v, %v", ids, err)
			}
		})
		t.Run("session under power of two choices", func(t *testing.T) {
			t.Parallel()
			id, hold, n := startNamed(t, r, four(nil))
			s := helve.SessionID("me")
			owner := who(t, id.With(s), 1)[0]
			if seen := unique(who(t, id.With(s), 50)); len(seen) != 1 {
				t.Errorf("one session at %v", seen)
			}
			held := hold.With(s).Remote(t.Context(), 0)
			<-n.busy
			if seen := unique(who(t, id.With(s), 50)); slices.Contains(seen, owner) {
				t.Errorf("spilled over to the full owner: %v", seen)
			}
			close(n.hold)
			held.Result(t.Context())
		})
		t.Run("custom", func(t *testing.T) {
			t.Parallel()
			id, _, _ := startNamed(t, r, four(helve.CustomRouting(func() helve.RoutingPolicy { return last{} })))
			if seen := unique(who(t, id.With(helve.SessionID("last")), 30)); len(seen) != 1 {
				t.Errorf("%v", seen)
			}
			if seen := unique(who(t, id.With(helve.SessionID("panic")), 100)); len(seen) != 4 {
				t.Errorf("after panics: %v", seen)
			}
		})
	})
}

// last sends calls with a session to the replica with the highest id, and panics for another session.
type last struct{}

func (last) Rank(c helve.RoutedCall, rs []helve.ReplicaView, ranks []int) ([]int, bool) {
	if c.Session == "panic" {
		panic(c.Method)
	}
	best := 0
	for i, r := range rs {
		if r.ID() > rs[best].ID() && r.Max() == 1 && r.Ongoing() <= 1 && r.Node() != "" {
			best = i
		}
	}
	return append(ranks, best, 99), true
}

func unique(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
