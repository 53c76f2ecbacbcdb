package routing_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// movers are the loads of a deployment whose models move. A load after the first of its model waits until it is let go.
type movers struct {
	mu    sync.Mutex
	loads map[string]int
	fails bool          // all loads after the first of a model
	begun chan string   // gets the id of each load after the first of its model
	let   fixture.Latch // lets those loads go
}

func newMovers() *movers {
	return &movers{loads: map[string]int{}, begun: make(chan string, 100), let: make(fixture.Latch)}
}

func (m *movers) load(ctx context.Context, id string) (*animal, error) {
	m.mu.Lock()
	m.loads[id]++
	again, fails := m.loads[id] > 1, m.fails
	m.mu.Unlock()
	if again {
		m.begun <- id
		if fails {
			return nil, errors.New("there is no more " + id)
		}
		if err := m.let.Wait(ctx); err != nil {
			return nil, err
		}
	}
	return &animal{id: id, closed: new(atomic.Int64)}, nil
}

// number is how often a model was loaded.
func (m *movers) number(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loads[id]
}

// moving is a deployment whose models move.
type moving struct {
	t     *testing.T
	sys   *helve.System
	log   *fixture.Log
	where helve.Method[helve.None, string]
}

func buildMoving(m *movers, o helve.Options, most int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("zoo")
		h := helve.Deploy(app, "Zoo", func(ctx context.Context) (*Zoo, error) {
			ms, err := helve.NewModels(ctx, m.load, helve.ModelsOptions[*animal]{Max: most})
			return &Zoo{models: ms}, err
		}, o)
		app.Ingress(helve.MethodOf(h, (*Zoo).Where))
		return app, nil
	}
}

func startMoving(t *testing.T, r helvetest.Runner, build helve.Build) *moving {
	t.Helper()
	d := &moving{t: t, log: fixture.NewLog()}
	r.Config.Logger = slog.New(d.log)
	d.sys = helvetest.Start(t, r.Config, build)
	h, err := helve.HandleOf[*Zoo](d.sys, "zoo", "Zoo")
	if err != nil {
		t.Fatal(err)
	}
	d.where = helve.MethodOf(h, (*Zoo).Where)
	return d
}

// at calls a model, and gives the replica that answered.
func (d *moving) at(id string) string {
	d.t.Helper()
	got, err := d.where.With(helve.ModelID(id)).Call(d.t.Context(), helve.None{})
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

// scale sets the number of replicas, and waits until nothing moves.
func (d *moving) scale(n int) {
	d.t.Helper()
	if err := d.sys.Scale(d.t.Context(), "zoo", "Zoo", n); err != nil {
		d.t.Fatal(err)
	}
	synctest.Wait()
}

// TestModelsMove: a replica that stops answers the calls for a model that only it has, until another replica has loaded the model: no call waits for the load.
func TestModelsMove(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		m := newMovers()
		d := startMoving(t, r, buildMoving(m, helve.Options{NumReplicas: new(2)}, 3))
		at := map[string]string{}
		for _, id := range []string{"cat", "dog"} {
			at[id] = d.at(id)
		}
		if at["cat"] == at["dog"] {
			t.Fatal(at)
		}
		d.scale(1)
		if len(m.begun) != 1 {
			t.Fatalf("%d loads without a call, want 1", len(m.begun))
		}
		moves := <-m.begun
		stays := "cat"
		if moves == stays {
			stays = "dog"
		}
		for range 20 {
			if got := d.at(moves); got != at[moves] {
				t.Fatalf("the model moves, and a call for it went to %s, not to %s", got, at[moves])
			}
			if got := d.at(stays); got != at[stays] {
				t.Fatal(got)
			}
		}
		if got := d.at("new"); got != at[stays] {
			t.Errorf("a replica that stops got a call for a model that it does not have: %s", got)
		}
		close(m.let)
		synctest.Wait()
		for range 20 {
			if got := d.at(moves); got != at[stays] {
				t.Fatal(got)
			}
		}
		if m.number(moves) != 2 || m.number(stays) != 1 {
			t.Errorf("%d loads of the model that moved, %d of the other", m.number(moves), m.number(stays))
		}
		if got := d.log.Await(t, "a model has moved, because its replica stops"); got["model"] != moves || got["from"] != at[moves] || got["to"] != at[stays] {
			t.Error(got)
		}
		if n := len(d.sys.Status().Applications["zoo"].Deployments["Zoo"].Replicas); n != 1 {
			t.Errorf("%d replicas are left", n)
		}
	})
}

// TestModelsMoveInRollouts: the models of a revision move to replicas of the next one.
func TestModelsMoveInRollouts(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		m := newMovers()
		close(m.let)
		d := startMoving(t, r, buildMoving(m, helve.Options{NumReplicas: new(2), Version: "1"}, 3))
		at := map[string]string{"cat": d.at("cat"), "dog": d.at("dog")}
		if err := d.sys.Deploy(t.Context(), buildMoving(m, helve.Options{NumReplicas: new(2), Version: "2"}, 3)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := m.number("cat") + m.number("dog")
		for _, id := range []string{"cat", "dog"} {
			if got := d.at(id); got == at["cat"] || got == at["dog"] {
				t.Error(id, got)
			}
		}
		if n := m.number("cat") + m.number("dog"); n != before {
			t.Errorf("%d loads for calls after the rollout", n-before)
		}
	})
}

// TestModelsThatDoNotMove: the replica that stops gets no call for a model that cannot move, and its end waits for none.
func TestModelsThatDoNotMove(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		most   int
		before func(m *movers, d *moving) // the scale-down
		said   string
		begun  int // loads that begin without a call
	}{
		"no room": {1, func(*movers, *moving) { time.Sleep(time.Second) }, "no room for", 0},
		"a load that fails": {3, func(m *movers, _ *moving) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fails = true
		}, "there is no more", 1},
		"a load that takes too long": {3, func(*movers, *moving) {}, "the time to move models is over", 1},
		"not used lately":            {3, func(*movers, *moving) { time.Sleep(time.Hour) }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
				m := newMovers()
				d := startMoving(t, r, buildMoving(m, helve.Options{NumReplicas: new(2), GracefulShutdownTimeout: new(20 * time.Second)}, c.most))
				for _, id := range []string{"cat", "dog", "cat", "dog"} { // each is used at the same time
					d.at(id)
				}
				c.before(m, d)
				d.scale(1)
				time.Sleep(20 * time.Second) // all of the grace
				synctest.Wait()
				if n := len(d.sys.Status().Applications["zoo"].Deployments["Zoo"].Replicas); n != 1 {
					t.Errorf("%d replicas are left", n)
				}
				if len(m.begun) != c.begun {
					t.Errorf("%d loads without a call, want %d", len(m.begun), c.begun)
				}
				said := d.log.Find("models have not moved, and their replica stops")
				if c.said == "" && len(said) != 0 || c.said != "" && (len(said) != 1 || !strings.Contains(said[0]["reason"], c.said)) {
					t.Errorf("%v, want %q", said, c.said)
				}
				m.mu.Lock()
				m.fails = false
				m.mu.Unlock()
				close(m.let)
				for _, id := range []string{"cat", "dog"} {
					d.at(id)
				}
			})
		})
	}
}

// TestModelsOfTheLastReplica: where no replica stays, none moves.
func TestModelsOfTheLastReplica(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, d *moving){
		"scaled to zero": func(_ *testing.T, d *moving) { d.scale(0) },
		"deleted": func(t *testing.T, d *moving) {
			if err := d.sys.Delete(t.Context(), "zoo"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
				m := newMovers()
				d := startMoving(t, r, buildMoving(m, helve.Options{NumReplicas: new(3)}, 3))
				for _, id := range []string{"cat", "dog", "owl"} {
					d.at(id)
				}
				begun := time.Now()
				end(t, d)
				if len(m.begun) != 0 || time.Since(begun) != 0 {
					t.Errorf("%d loads, and an end after %v", len(m.begun), time.Since(begun))
				}
				if said := d.log.Find("models have not moved, and their replica stops"); len(said) != 0 {
					t.Error(said)
				}
			})
		})
	}
}

// TestSessionsMove: the next call of a session after the decision goes to another replica, although its replica still executes a call of the session, and the session stays there.
func TestSessionsMove(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		var mu sync.Mutex
		var last string // the replica of the last call
		lab := fixture.StartLab(t, r, helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(50)}, &fixture.Lab{
			OnDo: func(ctx context.Context, n int) (int, error) {
				mu.Lock()
				last = helve.ReplicaFrom(ctx).ID
				mu.Unlock()
				if n == 1 {
					return n, hold.Wait(ctx)
				}
				return n, nil
			},
		})
		at := func(session string) string {
			if _, err := lab.Do.With(helve.SessionID(session)).Call(ctx, 0); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			return last
		}
		sessions, goes, other := map[string][]string{}, "", "" // by replica
		for i := range 20 {
			id := fmt.Sprint("session", i)
			other = at(id)
			sessions[other] = append(sessions[other], id)
		}
		for id := range sessions {
			if id != other {
				goes = id
			}
		}
		if goes == "" {
			t.Fatal(sessions)
		}
		// The replica with fewer calls stops.
		var held []*helve.Response[int]
		for _, id := range []string{sessions[goes][0], sessions[other][0], sessions[other][0]} {
			held = append(held, lab.Do.With(helve.SessionID(id)).Remote(ctx, 1))
			synctest.Wait()
		}
		if err := lab.System.Scale(ctx, "labs", "Lab", 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 3 {
			for _, id := range append(sessions[goes], sessions[other]...) {
				if got := at(id); got != other {
					t.Fatalf("%s went to %s, which stops", id, got)
				}
			}
		}
		close(hold)
		for _, h := range held {
			if _, err := h.Result(ctx); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		for _, id := range sessions[goes] {
			if got := at(id); got != other {
				t.Error(id, got)
			}
		}
	})
}
