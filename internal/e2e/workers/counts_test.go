package workers_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestCounts: calls are counted wherever they run, and stay counted when their replica is gone.
func TestCounts(t *testing.T) {
	t.Parallel()
	for app, build := range map[string]helve.Build{"go": fixture.BuildGo, "python": fixture.BuildPython} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			runners := []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Process}
			if app == "python" {
				runners = runners[:1]
			}
			helvetest.Run(t, build, func(t *testing.T, s *helve.System) {
				h, err := helve.HandleOf[fixture.Service](s, app, "Subject")
				if err != nil {
					t.Fatal(err)
				}
				for range 7 {
					if _, err := helve.MethodOf(h, fixture.Service.Echo).Call(t.Context(), "x"); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					if _, err := helve.ActionOf(h, fixture.Service.Fail).Remote(t.Context(), "x").Result(t.Context()); err == nil {
						t.Fatal("no error")
					}
				}
				want := helvetype.Calls{Total: 10, Errors: 3}
				check := func(when string) {
					t.Helper()
					for { // the slot of a call that has answered may be about to be given back
						got := s.Status().Applications[app].Deployments["Subject"].Calls
						if got.Running > 0 && t.Context().Err() == nil {
							continue
						}
						if got != want {
							t.Errorf("%s: %+v, want %+v", when, got, want)
						}
						return
					}
				}
				check("after the calls")
				if err := s.Deploy(t.Context(), build); err != nil {
					t.Fatal(err)
				}
				check("after another deploy")
			}, runners...)
		})
	}
}

// Counted ends its worker when it is asked to.
type Counted struct{}

func (Counted) Do(_ context.Context, what string) (string, error) {
	if what == "die" {
		os.Exit(7)
	}
	return what, nil
}

func (Counted) Flow(_ context.Context, what string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if yield(what, nil) && what == "die" {
			os.Exit(7)
		}
	}
}

// Repeater calls from the same worker, under slots that are lent to it.
type Repeater struct{ do helve.Method[string, string] }

func (c *Repeater) Repeat(ctx context.Context, times int) (int, error) {
	for range times {
		if _, err := c.do.Call(ctx, "x"); err != nil {
			return 0, err
		}
	}
	return times, nil
}

// RepeatAndDie is Repeat, and then a call that ends the worker.
func (c *Repeater) RepeatAndDie(ctx context.Context, times int) (string, error) {
	if _, err := c.Repeat(ctx, times); err != nil {
		return "", err
	}
	return c.do.Call(ctx, "die")
}

var buildCounted = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("counted")
	h := helve.Deploy(app, "Counted", func(context.Context) (Counted, error) { return Counted{}, nil }, helve.Options{NumReplicas: new(2)})
	do := helve.MethodOf(h, Counted.Do)
	caller := helve.Deploy(app, "Repeater", func(context.Context) (*Repeater, error) { return &Repeater{do}, nil }, helve.Options{Uses: []helve.Target{h}})
	app.Ingress(helve.MethodOf(caller, (*Repeater).Repeat))
	return app, nil
})

// awaitCalls waits until the counts of a deployment are as wanted: the slot of a call that has answered may be about to be given back.
func awaitCalls(t *testing.T, s *helve.System, app, deployment, when string, want helvetype.Calls) {
	t.Helper()
	fixture.Eventually(t, func() string {
		if got := s.Status().Applications[app].Deployments[deployment].Calls; got != want {
			return fmt.Sprintf("%s: %+v, want %+v", when, got, want)
		}
		return ""
	})
}

// TestNoCallUnderALentSlotIsLost: a worker dies right after calls between its replicas, and before the node has had a reason to ask for
// anything. Every call is counted, and the call that died with the worker has failed.
func TestNoCallUnderALentSlotIsLost(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildCounted, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*Repeater](s, "counted", "Repeater")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := helve.MethodOf(h, (*Repeater).RepeatAndDie).Call(t.Context(), 5000); err == nil {
			t.Fatal("no error")
		}
		awaitCalls(t, s, "counted", "Counted", "at once", helvetype.Calls{Total: 5001, Errors: 1})
		awaitCalls(t, s, "counted", "Repeater", "the caller", helvetype.Calls{Total: 1, Errors: 1})
	}, helvetest.Process)
}

// TestCountsSurviveTheDeathOfAWorker: the counts of a worker stay when it dies, and its unfinished calls, broadcasts and
// streams count as errors.
func TestCountsSurviveTheDeathOfAWorker(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildCounted, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		h, err := helve.HandleOf[Counted](s, "counted", "Counted")
		if err != nil {
			t.Fatal(err)
		}
		do, flow := helve.MethodOf(h, Counted.Do), helve.StreamOf(h, Counted.Flow)
		// Each way returns the number of calls that replicas began. Of a broadcast that kills the worker it may be one: both
		// replicas live in that worker, and the call to the second one is not sent if the first one is faster.
		call := func(what string) (uint64, error) { _, err := do.Call(ctx, what); return 1, err }
		broadcast := func(what string) (uint64, error) {
			r := do.Broadcast(ctx, what)
			results, err := r.Results(ctx)
			return uint64(len(results) - len(r.Missed(ctx))), err
		}
		stream := func(what string) (uint64, error) {
			_, err := fixture.Collect(flow.Remote(ctx, what).All())
			return 1, err
		}
		want := helvetype.Calls{}
		for _, ways := range []struct {
			name string
			do   func(string) (uint64, error)
			each uint64
		}{{"calls", call, 1}, {"broadcasts", broadcast, 2}, {"streams", stream, 1}} {
			for range 5 {
				if n, err := ways.do("x"); err != nil || n != ways.each {
					t.Fatalf("%s: %d calls, %v, want %d", ways.name, n, err, ways.each)
				}
			}
			want.Total += 5 * ways.each
			awaitCalls(t, s, "counted", "Counted", ways.name, want)
			lost, err := ways.do("die")
			if err == nil || lost < 1 || lost > ways.each {
				t.Fatalf("%s that kill the worker: %d calls, %v, want an error and 1 to %d calls", ways.name, lost, err, ways.each)
			}
			want.Total, want.Errors = want.Total+lost, want.Errors+lost
			awaitCalls(t, s, "counted", "Counted", ways.name+" that died", want)
			if _, err := call("x"); err != nil { // another worker serves
				t.Fatal(err)
			}
			want.Total++
			for reached := uint64(0); reached < 2; { // the next broadcast is for both replicas
				if reached, err = broadcast("x"); err != nil {
					t.Fatal(err)
				}
				want.Total += reached
			}
		}
		in, err := s.Ingress("counted")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := helve.MethodNamed[int, int](in, "").Call(ctx, 100); err != nil {
			t.Fatal(err)
		}
		want.Total += 100
		awaitCalls(t, s, "counted", "Counted", "calls in the worker", want)
		call("die") //nolint:errcheck // it does
		want.Total, want.Errors = want.Total+1, want.Errors+1
		awaitCalls(t, s, "counted", "Counted", "calls in the worker that died", want)
	}, helvetest.Process)
}

// TestCountsOfPythonSurviveTheDeathOfAWorker likewise.
func TestCountsOfPythonSurviveTheDeathOfAWorker(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("countedpy")
		h := helve.Python[watched](app, "Watched", "testdata.watched:Watched", helve.Args{}, helve.Options{})
		app.Ingress(helve.MethodOf(h, watched.Dir))
		return app, nil
	})
	h, err := helve.HandleOf[watched](s, "countedpy", "Watched")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for i, end := range []func() error{
		func() error { _, err := helve.ActionOf(h, watched.End).Call(ctx, "exit"); return err },
		func() error { _, err := helve.ActionOf(h, watched.End).Broadcast(ctx, "exit").Results(ctx); return err },
	} {
		if _, err := helve.MethodOf(h, watched.Dir).Call(ctx, helve.None{}); err != nil {
			t.Fatal(err)
		}
		if err := end(); err == nil {
			t.Fatal("no error")
		}
		awaitCalls(t, s, "countedpy", "Watched", "after a death", helvetype.Calls{Total: uint64(2*i + 2), Errors: uint64(i + 1)})
	}
}
