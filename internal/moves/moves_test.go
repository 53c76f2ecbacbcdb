package moves

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
)

// replica is a replica here, with one loader.
type replica struct {
	id    string
	gate  *gate.Gate
	scope *instance.Scope

	mu     sync.Mutex
	unused map[string]time.Duration
	loads  []string
	load   func(ctx context.Context, id string) error
}

func (r *replica) ID() string             { return r.id }
func (r *replica) Node() string           { return "local" }
func (r *replica) Gate() router.Gate      { return r.gate }
func (r *replica) Scope() *instance.Scope { return r.scope }

func (r *replica) Unused() map[string]time.Duration { return r.unused }
func (r *replica) LoadAhead(ctx context.Context, id string, unused time.Duration) error {
	r.mu.Lock()
	r.loads = append(r.loads, fmt.Sprint(id, " ", unused))
	r.mu.Unlock()
	return r.load(ctx, id)
}

// at is a deployment of replicas of which the first leaves.
type at struct {
	router *router.Router
	all    []*replica
	here   []string // the replicas that stay
	l      *Leaving
	said   []string
	mu     sync.Mutex
}

func (a *at) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, fmt.Sprintf(format, args...))
}

func newAt(load func(ctx context.Context, id string) error, unused map[string]time.Duration) *at {
	a := &at{router: router.New("local")}
	var set []router.Replica
	for i := range 3 {
		r := &replica{id: fmt.Sprint("R", i), gate: gate.New(10), scope: new(instance.Scope), load: load}
		r.scope.AddLoader("model").Has(r)
		a.all, set = append(a.all, r), append(set, r)
	}
	a.here, a.all[0].unused = []string{"R1", "R2"}, unused
	a.router.Update(nil, set)
	var ids []string
	for id := range unused {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	a.router.SetModels(a.all[0], ids)
	kept := a.router.Leave(a.all[0], ids, func(r router.Replica) bool { return r != a.all[0] })
	a.router.Update(nil, set[1:])
	a.l = &Leaving{
		Replica: a.all[0], Models: kept, Router: a.router,
		Stays: func(s Stay) bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return slices.Contains(a.here, s.ID)
		},
		Moved: func(model string, to Stay, took time.Duration) { a.note("%s to %s after %v", model, to.ID, took) },
		Left:  func(model, why string) { a.note("%s stays: %s", model, why) },
	}
	a.l.Stay = func() (stay []Stay) {
		for _, r := range a.all[1:] {
			if s := (Stay{Candidate{ID: r.id}, r}); a.l.Stays(s) {
				stay = append(stay, s)
			}
		}
		return stay
	}
	return a
}

// goes is the replica to which a call for a model goes.
func (a *at) goes(id string) string {
	r := a.router.TryAcquire(&call.Info{Affinity: &call.Affinity{Model: id}})
	if r == nil {
		return "none"
	}
	r.Gate().Release(nil)
	return r.ID()
}

// TestRun: the models that were used lately move, and until then their calls go to the replica that leaves.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAt(func(context.Context, string) error { time.Sleep(time.Second); return nil }, map[string]time.Duration{"a": 0, "b": time.Minute, "c": time.Hour})
		if len(a.l.Models) != 3 || a.goes("a")+a.goes("b")+a.goes("c") != "R0R0R0" {
			t.Fatal(a.l.Models)
		}
		done := make(chan struct{})
		go func() { a.l.Run(t.Context()); close(done) }()
		synctest.Wait()
		a.router.SetModels(a.all[1], []string{"a"}) // as a replica does that begins a load
		if a.goes("a") != "R0" || a.goes("b") != "R0" || a.goes("c") == "R0" {
			t.Error(a.goes("a"), a.goes("b"), a.goes("c"))
		}
		<-done
		if a.goes("a") != "R1" || a.goes("b") != "R2" {
			t.Error(a.goes("a"), a.goes("b"))
		}
		slices.Sort(a.said)
		if got := strings.Join(a.said, "; "); got != "a to R1 after 1s; b to R2 after 1s" {
			t.Error(got)
		}
		if fmt.Sprint(a.all[1].loads, a.all[2].loads) != "[a 0s] [b 1m0s]" {
			t.Error(a.all[1].loads, a.all[2].loads)
		}
	})
}

// TestRunEnds: however the loads end, the replica that leaves gets no call after Run, and the reason is told.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		load func(a *at) func(ctx context.Context, id string) error
		want string
		asks int // replicas
	}{
		"fails": {func(*at) func(context.Context, string) error {
			return func(context.Context, string) error { return errors.New("no disk") }
		}, "a stays: replica R1 has failed to load it: no disk", 1},
		"forever": {func(*at) func(context.Context, string) error {
			return func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		}, "a stays: the time to move models is over: context deadline exceeded", 1},
		"the other leaves too": {func(a *at) func(context.Context, string) error {
			return func(context.Context, string) error {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.here = slices.DeleteFunc(a.here, func(id string) bool { return id == "R1" })
				return nil
			}
		}, "a to R2 after 0s", 2},
		"all leave": {func(a *at) func(context.Context, string) error {
			return func(context.Context, string) error {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.here = nil
				return nil
			}
		}, "a stays: no replica stays that could load it", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAt(nil, map[string]time.Duration{"a": 0})
				for _, r := range a.all {
					r.load = c.load(a)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				a.l.Run(ctx)
				if got := strings.Join(a.said, "; "); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if n := len(a.all[1].loads) + len(a.all[2].loads); n != c.asks {
					t.Errorf("%d replicas were asked", n)
				}
				if got := a.goes("a"); got == "R0" || got == "none" {
					t.Error(got)
				}
			})
		})
	}
}
