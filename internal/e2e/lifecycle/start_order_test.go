package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestOrderOfStarts: a constructor runs when a replica of each deployment that its own uses is ready.
func TestOrderOfStarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := make(chan string, 10)
		ready := map[string]fixture.Latch{"A": make(fixture.Latch), "B": make(fixture.Latch), "C": make(fixture.Latch), "Other": make(fixture.Latch)}
		build := func() (*helve.App, error) {
			app := helve.NewApp("order")
			deploy := func(name string, replicas int, uses ...helve.Target) helve.Handle[*fixture.Lab] {
				return helve.Deploy(app, name, func(ctx context.Context) (*fixture.Lab, error) {
					started <- name
					return &fixture.Lab{OnDo: fixture.Double}, ready[name].Wait(ctx)
				}, helve.Options{Uses: uses, NumReplicas: new(replicas)})
			}
			c := deploy("C", 2)
			a := deploy("A", 1, deploy("B", 1, c))
			deploy("Other", 1)
			app.Ingress(helve.MethodOf(a, (*fixture.Lab).Do))
			return app, nil
		}
		done := make(chan *helve.System, 1)
		go func() { done <- helvetest.Start(t, helve.Config{}, build) }()
		expect := func(names ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(started) > 0 {
				got = append(got, <-started)
			}
			if slices.Sort(got); !slices.Equal(got, names) {
				t.Errorf("constructors began: %v, want %v", got, names)
			}
		}
		expect("C", "C", "Other")
		close(ready["C"])
		expect("B")
		close(ready["B"])
		expect("A")
		close(ready["A"])
		close(ready["Other"])
		s := <-done
		if err := s.Deploy(t.Context(), build); err != nil { // the same order, and no start waits for the old replicas
			t.Error(err)
		}
		expect("A", "B", "C", "C", "Other")
	})
}

// TestStartThatOthersWaitFor: the failure of a deployment that others wait for is the application's, and the others do not
// start.
func TestStartThatOthersWaitFor(t *testing.T) {
	t.Parallel()
	_, err := helve.Run(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp("broken")
		base := helve.Deploy(app, "Base", func(context.Context) (*fixture.Lab, error) { return nil, errors.New("no base") }, helve.Options{})
		top := helve.Deploy(app, "Top", func(context.Context) (*fixture.Lab, error) {
			t.Error("Top was started")
			return &fixture.Lab{}, nil
		}, helve.Options{Uses: []helve.Target{base}})
		app.Ingress(helve.MethodOf(top, (*fixture.Lab).Do))
		return app, nil
	})
	if err == nil || helve.ReasonOf(err) != helve.User {
		t.Errorf("%v", err)
	}
}

// Referee compares two numbers of points.
type Referee struct{}

// Points are the numbers of points of two sides.
type Points struct{ A, B int }

// Better says which side has more points.
func (*Referee) Better(_ context.Context, p Points) (string, error) {
	if p.A > p.B {
		return "the first", nil
	}
	return "the second", nil
}

// Lookup uses deployments that the graph does not say.
type Lookup struct {
	captured helve.Handle[*Referee]
	greeting string
}

func (l *Lookup) Bind(ctx context.Context, s Points) (string, error) {
	return helve.MethodOf(l.captured, (*Referee).Better).Call(ctx, s)
}

func (l *Lookup) Named(ctx context.Context, s Points) (string, error) {
	return helve.MethodNamed[Points, string](l.captured, "better").Remote(ctx, s).Result(ctx)
}

func (l *Lookup) Found(ctx context.Context, s Points) (string, error) {
	return l.greeting, nil
}

var buildLookup = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("lookup")
	judge := func(name string) helve.Handle[*Referee] {
		return helve.Deploy(app, name, func(context.Context) (*Referee, error) { return &Referee{}, nil }, helve.Options{})
	}
	captured, known := judge("Captured"), judge("Known")
	judge("Asked")
	lookup := helve.Deploy(app, "Lookup", func(ctx context.Context) (*Lookup, error) {
		h, err := helve.HandleFrom[*Referee](ctx, "Asked")
		if err != nil {
			return nil, err
		}
		if _, err := helve.HandleFrom[*Referee](ctx, "Nobody"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
			return nil, errors.Join(errors.New("a handle to nobody"), err)
		}
		said, err := helve.MethodOf(h, (*Referee).Better).Call(ctx, Points{2, 1}) // waits for its replica
		if err != nil {
			return nil, err
		}
		late := helve.MethodOf(known, (*Referee).Better)
		if _, err := late.Call(ctx, Points{}); err != nil {
			return nil, err
		}
		return &Lookup{captured: captured, greeting: said}, nil
	}, helve.Options{Uses: []helve.Target{known}})
	helve.MethodOf(lookup, (*Lookup).Bind)
	app.Ingress(helve.MethodOf(lookup, (*Lookup).Found))
	return app, nil
})

// TestDynamicUses: the status has the deployments that a replica calls without an edge in the graph: by handles that it
// asked for, in a constructor too, and by methods that were bound after the graph was complete.
func TestDynamicUses(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildLookup, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*Lookup](s, "lookup", "Lookup")
		if err != nil {
			t.Fatal(err)
		}
		uses := func(want ...string) {
			t.Helper()
			for { // a worker says so when it can
				got := s.Status().Applications["lookup"].Deployments["Lookup"]
				slices.Sort(got.DynamicUses)
				if slices.Equal(got.DynamicUses, want) && slices.Equal(got.Uses, []string{"Known"}) {
					return
				}
				if t.Context().Err() != nil || len(got.DynamicUses) > len(want) {
					t.Fatalf("uses %v and %v, want %v", got.Uses, got.DynamicUses, want)
				}
			}
		}
		if got, err := helve.MethodOf(h, (*Lookup).Found).Call(t.Context(), Points{}); got != "the first" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		uses("Asked")
		for range 2 {
			for _, m := range []helve.Method[Points, string]{helve.MethodOf(h, (*Lookup).Bind), helve.MethodOf(h, (*Lookup).Named)} {
				if got, err := m.Call(t.Context(), Points{1, 2}); got != "the second" || err != nil {
					t.Errorf("%s, %v", got, err)
				}
			}
		}
		uses("Asked", "Captured")
		// A call from outside is no edge.
		j, err := helve.HandleOf[*Referee](s, "lookup", "Known")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := helve.MethodOf(j, (*Referee).Better).Call(t.Context(), Points{}); err != nil {
			t.Error(err)
		}
		if got := s.Status().Applications["lookup"].Deployments["Known"].DynamicUses; len(got) > 0 {
			t.Errorf("%v", got)
		}
	})
}
