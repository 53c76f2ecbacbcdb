package composition_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

const waitsForItself = "a call has waited 1 s for slots that its own callers hold"

// TestCyclesAreLogged: a cycle that only the deadline ends is named after a second, and no sooner.
func TestCyclesAreLogged(t *testing.T) {
	t.Parallel()
	for _, queued := range []bool{false, true} { // Call to a slot, and through the queue
		synctest.Test(t, func(t *testing.T) {
			log := fixture.NewLog()
			var labs map[string]fixture.RunningLab
			r := helvetest.Local
			r.Config.Logger = slog.New(log)
			labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": fixture.OneSlot(), "B": fixture.OneSlot()}, func(name string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
					switch {
					case name == "A":
						return labs["B"].Do.Remote(ctx, n).Result(ctx)
					case queued:
						return labs["A"].Do.Call(ctx, n)
					}
					return labs["A"].Do.Remote(ctx, n).Result(ctx)
				}}
			})
			if found := log.Find("deployments use each other in a cycle"); len(found) > 0 {
				t.Errorf("a cycle that nobody declared: %v", found)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			resp := labs["A"].Do.Remote(ctx, 1)
			time.Sleep(time.Second - time.Millisecond) // in fake time
			synctest.Wait()
			if found := log.Find(waitsForItself); len(found) > 0 {
				t.Errorf("too soon: %v", found)
			}
			time.Sleep(2 * time.Millisecond) // in fake time: now it is a second
			synctest.Wait()
			if found := log.Find(waitsForItself); len(found) != 1 || found[0]["level"] != "WARN" || found[0]["deployment"] != "A" ||
				!strings.Contains(found[0]["cycle"], "A.Do -> B.Do -> A.Do") || found[0]["request"] != resp.RequestID() {
				t.Errorf("%v", found)
			}
			_, err := resp.Result(t.Context())
			fixture.WantReason(t, err, helve.Deadline)
		})
	}
}

// Loop calls the other one back.
type Loop struct{ next *helve.Method[Trip, string] }

// Trip says how to go on.
type Trip struct {
	Loose bool `json:"loose"` // by Remote
	Turns int  `json:"turns"` // calls that are left
	Warm  int  `json:"warm"`  // so often before, there and not on
}

func (l *Loop) Visit(ctx context.Context, trip Trip) (string, error) {
	for range trip.Warm {
		if _, err := l.next.Call(ctx, Trip{}); err != nil {
			return "", err
		}
	}
	if trip.Turns == 0 {
		return "home", nil
	}
	on := Trip{Loose: trip.Loose, Turns: trip.Turns - 1}
	if trip.Loose {
		return l.next.Remote(ctx, on).Result(ctx)
	}
	return l.next.Call(ctx, on)
}

// buildLoop has A and B call each other; where says where each is, and slots how many calls B takes.
func buildLoop(name string, a, b helve.Isolation, slots int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		toA, toB := &helve.Method[Trip, string]{}, &helve.Method[Trip, string]{}
		construct := func(next *helve.Method[Trip, string]) func(context.Context) (*Loop, error) {
			return func(context.Context) (*Loop, error) { return &Loop{next}, nil }
		}
		ha := helve.Deploy(app, "A", construct(toB), helve.Options{MaxOngoingRequests: new(1), Isolation: a})
		hb := helve.Deploy(app, "B", construct(toA), helve.Options{MaxOngoingRequests: new(slots), Isolation: b, Uses: []helve.Target{ha}})
		*toA, *toB = helve.MethodOf(ha, (*Loop).Visit), helve.MethodOf(hb, (*Loop).Visit)
		app.Ingress(*toA)
		return app, nil
	}
}

var loops = []helve.Build{
	fixture.Register(buildLoop("node-worker", helve.InNode, helve.Process, 1)), fixture.Register(buildLoop("worker-node", helve.Process, helve.InNode, 1)),
	fixture.Register(buildLoop("worker", helve.Process, helve.Process, 1)), fixture.Register(buildLoop("lent", helve.Process, helve.Process, 16)),
}

// TestCyclesAcrossProcesses: the node finds a call that waits for its own callers wherever these run.
func TestCyclesAcrossProcesses(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"node-worker", "worker-node", "worker", "lent"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := fixture.NewLog()
			s := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, loops[i])
			h, err := helve.HandleOf[*Loop](s, name, "A")
			if err != nil {
				t.Fatal(err)
			}
			visit := helve.MethodOf(h, (*Loop).Visit)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			warm := 0
			if name == "lent" {
				warm = 100 // B's slots are lent: then it runs without a frame
			}
			if got, err := visit.Call(ctx, Trip{Turns: 1, Warm: warm}); got != "home" || err != nil {
				t.Fatalf("one turn: %s, %v", got, err)
			}
			_, err = visit.Call(ctx, Trip{Turns: 2})
			fixture.WantReason(t, err, helve.Cycle)
			if err == nil || !strings.Contains(err.Error(), "A.Visit -> B.Visit -> A.Visit") {
				t.Errorf("%v", err)
			}
			if got, err := visit.Call(ctx, Trip{Turns: 1}); got != "home" || err != nil {
				t.Errorf("afterwards: %s, %v", got, err)
			}
			loose := visit.Remote(ctx, Trip{Turns: 2, Loose: true})
			if said := log.Await(t, waitsForItself); !strings.Contains(said["cycle"], "A.Visit -> B.Visit -> A.Visit") || said["request"] != loose.RequestID() {
				t.Errorf("%v", said)
			}
			loose.Cancel()
			if got, err := visit.Call(ctx, Trip{Turns: 1}); got != "home" || err != nil {
				t.Errorf("after a loose cycle: %s, %v", got, err)
			}
		})
	}
}

// Caller is A of a cycle with Python.
type Caller struct{ next *helve.Method[string, string] }

func (c *Caller) Visit(ctx context.Context, trip string) (string, error) {
	return c.next.Call(ctx, trip)
}

type pyRing interface {
	Visit(ctx context.Context, trip string) (string, error)
}

func TestCyclesThroughPython(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	s := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, func() (*helve.App, error) {
		app := helve.NewApp("ring")
		next := &helve.Method[string, string]{}
		a := helve.Deploy(app, "A", func(context.Context) (*Caller, error) { return &Caller{next}, nil }, fixture.OneSlot())
		b := helve.Python[pyRing](app, "B", "testdata.ring:Ring", helve.Args{Positional: []any{a}}, helve.Options{Uses: []helve.Target{a}})
		*next = helve.MethodOf(b, pyRing.Visit)
		app.Ingress(helve.MethodOf(a, (*Caller).Visit))
		return app, nil
	})
	h, err := helve.HandleOf[*Caller](s, "ring", "A")
	if err != nil {
		t.Fatal(err)
	}
	visit := helve.MethodOf(h, (*Caller).Visit).Remote(t.Context(), "round")
	if said := log.Await(t, waitsForItself); !strings.Contains(strings.ToLower(said["cycle"]), "a.visit -> b.visit -> a.visit") {
		t.Errorf("%v", said)
	}
	visit.Cancel()
}

// TestDeclaredCycleIsLogged: cycles are legal, and Run says that there are some.
func TestDeclaredCycleIsLogged(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	helvetest.Start(t, helve.Config{Logger: slog.New(log)}, func() (*helve.App, error) {
		app := helve.NewApp("cyclic")
		uses := []helve.Target{nil}
		a := helve.Deploy(app, "A", func(context.Context) (*Caller, error) { return &Caller{}, nil }, helve.Options{Uses: uses})
		b := helve.Deploy(app, "B", func(context.Context) (*Caller, error) { return &Caller{}, nil }, helve.Options{Uses: []helve.Target{a}})
		uses[0] = b // handles are values: the graph can only be closed like this
		app.Ingress(helve.MethodOf(a, (*Caller).Visit))
		return app, nil
	})
	found := log.Find("deployments use each other in a cycle")
	if len(found) != 1 || found[0]["level"] != "WARN" || found[0]["app"] != "cyclic" || found[0]["cycle"] != "A -> B -> A" {
		t.Errorf("%v", found)
	}
}

// TestCycles is not about workers: the node does not know which call in a worker made another.
func TestCycles(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var labs map[string]fixture.RunningLab
				forgotten := make(chan *helve.Response[int], 1)
				labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": fixture.OneSlot(), "B": fixture.OneSlot()}, func(name string) *fixture.Lab {
					return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
						switch {
						case name == "A" && n == 9:
							return 9, nil
						case name == "A":
							return labs["B"].Do.Call(ctx, n)
						case n == 0: // back to the full ancestor, waiting
							return labs["A"].Do.Call(ctx, 9)
						case n == 1: // the same over Remote: only the deadline ends it
							return labs["A"].Do.Remote(ctx, 9).Result(ctx)
						}
						forgotten <- labs["A"].Do.Remote(ctx, 9)
						return n, nil
					}}
				})
				up := labs["A"].Do
				_, err := up.Call(t.Context(), 0)
				fixture.WantReason(t, err, "cycle")
				if !strings.Contains(err.Error(), "A.Do -> B.Do -> A.Do") {
					t.Errorf("%v", err)
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err = up.Remote(ctx, 1).Result(t.Context())
				fixture.WantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != time.Minute {
					t.Errorf("a cycle over Remote ended after %v", took)
				}
				if v, err := up.Call(t.Context(), 2); v != 2 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
				if v, err := (<-forgotten).Result(t.Context()); v != 9 || err != nil {
					t.Errorf("a fire-and-forget call back to a full ancestor: %d, %v", v, err)
				}
			})
		})
	}
}
