package routing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Ask is the input that the policies of these tests read.
type Ask struct {
	Key  string `json:"key"`
	Rest []int  `json:"rest"`
}

// Desk is a replica that says who it is.
type Desk struct {
	models *helve.Models[string]
	asked  atomic.Int64
}

func newDesk(ctx context.Context) (*Desk, error) {
	models, err := helve.NewModels(ctx, func(_ context.Context, id string) (string, error) { return id, nil }, helve.ModelsOptions[string]{})
	return &Desk{models: models}, err
}

func (d *Desk) Who(ctx context.Context, _ Ask) (string, error) { return helve.ReplicaFrom(ctx).ID, nil }

func (d *Desk) Load(ctx context.Context, _ helve.None) (string, error) {
	_, release, err := d.models.Get(ctx)
	defer release()
	return helve.ReplicaFrom(ctx).ID, err
}

func (d *Desk) Whos(ctx context.Context, _ Ask) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield(helve.ReplicaFrom(ctx).ID, nil) }
}

// RoutingStats returns the number of its calls, and a number that differs between replicas.
func (d *Desk) RoutingStats(ctx context.Context) (map[string]any, error) {
	return map[string]any{"asked": d.asked.Add(1), "share": 0.5, "free": []string{"a"}}, nil
}

// Clerk calls desks from a replica.
type Clerk struct {
	who  helve.Method[Ask, string]
	whos helve.Stream[Ask, string]
}

func (c *Clerk) Ask(ctx context.Context, a Ask) (string, error) { return c.who.Call(ctx, a) }

func (c *Clerk) AskByStream(ctx context.Context, a Ask) (string, error) {
	for v, err := range c.whos.Remote(ctx, a).All() {
		return v, err
	}
	return "", nil
}

var _ = fixture.Register(buildDesks(nil))

// buildDesks makes an application with a policy. Its workers build it without.
func buildDesks(policy helve.RoutingPolicy) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("desks")
		desk := helve.Deploy(app, "Desk", newDesk, helve.Options{
			NumReplicas: new(3), MaxOngoingRequests: new(100), RoutingStatsPeriod: new(20 * time.Millisecond),
			Routing: helve.CustomRouting(func() helve.RoutingPolicy { return policy }),
		})
		c := Clerk{who: helve.MethodOf(desk, (*Desk).Who), whos: helve.StreamOf(desk, (*Desk).Whos)}
		clerk := helve.Deploy(app, "Clerk", func(context.Context) (*Clerk, error) { return &c, nil }, helve.Options{Uses: []helve.Target{desk}})
		helve.MethodOf(clerk, (*Clerk).Ask)
		app.Ingress(c.who)
		return app, nil
	}
}

// byKey sends calls with the same first letter of their key to the same replica.
type byKey struct{ missed atomic.Int64 }

func (p *byKey) Rank(c helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	ask, ok := helve.InputOf[Ask](c)
	if !ok || ask.Key == "" {
		p.missed.Add(1)
		return ranks, false
	}
	if _, ok := helve.InputOf[int](c); ok {
		p.missed.Add(1)
	}
	return append(ranks, int(ask.Key[0])%len(replicas)), true
}

func TestPolicySeesTheInput(t *testing.T) {
	t.Parallel()
	for _, r := range helvetest.All() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			p := &byKey{}
			s := helvetest.Start(t, r.Config, buildDesks(p))
			ctx := t.Context()
			url, _, err := s.Serve("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			desk, err := helve.HandleOf[*Desk](s, "desks", "Desk")
			if err != nil {
				t.Fatal(err)
			}
			clerk, err := helve.HandleOf[*Clerk](s, "desks", "Clerk")
			if err != nil {
				t.Fatal(err)
			}
			who, whos := helve.MethodOf(desk, (*Desk).Who), helve.StreamOf(desk, (*Desk).Whos)
			first := func(seq iter.Seq2[string, error]) (string, error) {
				for v, err := range seq {
					return v, err
				}
				return "", errors.New("no item")
			}
			seen := map[string]bool{}
			for _, key := range []string{"apple", "bread", "cheese"} {
				in := Ask{Key: key, Rest: []int{1, 2}}
				want, err := who.Call(ctx, in)
				if err != nil {
					t.Fatal(err)
				}
				seen[want] = true
				for name, f := range map[string]func() (string, error){
					"Remote":         func() (string, error) { return who.Remote(ctx, in).Result(ctx) },
					"With":           func() (string, error) { return who.With(helve.SessionID("x")).Call(ctx, in) },
					"by name":        func() (string, error) { return helve.MethodNamed[Ask, string](desk, "who").Call(ctx, in) },
					"stream, inline": func() (string, error) { return first(whos.Call(ctx, in)) },
					"stream, eager":  func() (string, error) { return first(whos.Remote(ctx, in).All()) },
					"a replica's call": func() (string, error) {
						return helve.MethodOf(clerk, (*Clerk).Ask).Call(ctx, Ask{Key: key})
					},
					"a replica's large call": func() (string, error) { // too large for the frame of the call
						return helve.MethodOf(clerk, (*Clerk).Ask).Call(ctx, Ask{Key: key, Rest: make([]int, 300_000)})
					},
					"a replica's stream": func() (string, error) {
						return helve.MethodOf(clerk, (*Clerk).AskByStream).Call(ctx, Ask{Key: key})
					},
					"HTTP": func() (string, error) {
						r, err := http.Post(url, "application/json", strings.NewReader(`{"key":"`+key+`"}`))
						if err != nil {
							return "", err
						}
						defer r.Body.Close()
						b, err := io.ReadAll(r.Body)
						return string(b), err
					},
				} {
					if got, err := f(); got != want || err != nil {
						t.Errorf("%s, %s: %s, %v, want %s", name, key, got, err, want)
					}
				}
			}
			if len(seen) != 3 || p.missed.Load() != 0 {
				t.Errorf("the keys went to %v, of %d calls the input was not to be had", seen, p.missed.Load())
			}
		})
	}
}

// byModel sends a call to a replica that has its model, and says what it saw.
type byModel struct {
	saw atomic.Pointer[[]string]
}

func (p *byModel) Rank(c helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	var saw []string
	for i, r := range replicas {
		if slices.Contains(r.Models(), c.Model) {
			ranks = append(ranks, i)
		}
		if m := r.Models(); len(m) > 0 {
			saw = append(saw, r.ID()+":"+strings.Join(m, ","))
		}
	}
	p.saw.Store(&saw)
	return ranks, true
}

func TestPolicySeesModels(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Process} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			p := &byModel{}
			s := helvetest.Start(t, r.Config, buildDesks(p))
			h, err := helve.HandleOf[*Desk](s, "desks", "Desk")
			if err != nil {
				t.Fatal(err)
			}
			load := helve.MethodOf(h, (*Desk).Load)
			holder, err := load.With(helve.ModelID("atlas")).Call(t.Context(), helve.None{})
			if err != nil {
				t.Fatal(err)
			}
			for want := holder + ":atlas"; ; { // a worker's word is under way
				if _, err := load.With(helve.ModelID("other")).Call(t.Context(), helve.None{}); err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(*p.saw.Load(), func(s string) bool {
					return s == want || strings.HasPrefix(s, want+",") || strings.HasSuffix(s, ",atlas")
				}) {
					break
				}
			}
			for range 20 {
				if got, err := load.With(helve.ModelID("atlas")).Call(t.Context(), helve.None{}); got != holder || err != nil {
					t.Fatalf("at %s, %v; %s has the model", got, err, holder)
				}
			}
		})
	}
}

// byStats waits until all replicas have said something.
type byStats struct{ saw chan map[string]any }

func (p *byStats) Rank(_ helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	for _, r := range replicas {
		stats, at := r.Stats()
		if (stats == nil) != at.IsZero() {
			panic("stats without a time")
		}
		if n, _ := stats["asked"].(int64); n < 2 {
			return ranks, false
		}
	}
	stats, _ := replicas[0].Stats()
	select {
	case p.saw <- stats:
	default:
	}
	return ranks, false
}

func TestPolicySeesStats(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Process} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			p := &byStats{make(chan map[string]any, 1)}
			s := helvetest.Start(t, r.Config, buildDesks(p))
			h, err := helve.HandleOf[*Desk](s, "desks", "Desk")
			if err != nil {
				t.Fatal(err)
			}
			for len(p.saw) == 0 {
				if _, err := helve.MethodOf(h, (*Desk).Who).Call(t.Context(), Ask{}); err != nil {
					t.Fatal(err)
				}
			}
			stats := <-p.saw
			free, _ := stats["free"].([]any)
			if stats["share"] != 0.5 || len(free) != 1 || free[0] != "a" {
				t.Errorf("%#v", stats)
			}
		})
	}
}

// Silent has stats that it cannot give.
type Silent struct{ asked atomic.Int64 }

func (s *Silent) Who(context.Context, helve.None) (string, error) { return "it", nil }
func (s *Silent) RoutingStats(ctx context.Context) (map[string]any, error) {
	switch s.asked.Add(1) {
	case 1:
		return map[string]any{"n": 1}, nil
	case 2:
		return nil, errors.New("not now")
	case 3:
		panic("never")
	case 4:
		<-ctx.Done()
		return nil, ctx.Err()
	case 5:
		return map[string]any{"n": func() {}}, nil
	}
	return map[string]any{"n": 2}, nil
}

// TestStatsThatFail keeps the last ones, and is said once.
func TestStatsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var last atomic.Value
		silent := &Silent{}
		s := helvetest.Start(t, helve.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func() (*helve.App, error) {
			app := helve.NewApp("silent")
			h := helve.Deploy(app, "Silent", func(context.Context) (*Silent, error) { return silent, nil }, helve.Options{
				RoutingStatsTimeout: new(time.Second),
				Routing: helve.CustomRouting(func() helve.RoutingPolicy {
					return policyFunc(func(rs []helve.ReplicaView) {
						stats, at := rs[0].Stats()
						last.Store([]any{stats["n"], time.Since(at).Round(time.Second)})
					})
				}),
			})
			app.Ingress(helve.MethodOf(h, (*Silent).Who))
			return app, nil
		})
		h, err := helve.HandleOf[*Silent](s, "silent", "Silent")
		if err != nil {
			t.Fatal(err)
		}
		read := func() []any {
			synctest.Wait()
			if _, err := helve.MethodOf(h, (*Silent).Who).Call(t.Context(), helve.None{}); err != nil {
				t.Fatal(err)
			}
			return last.Load().([]any)
		}
		if got := read(); got[0] != int64(1) || got[1] != time.Duration(0) {
			t.Errorf("at first %v", got)
		}
		time.Sleep(45 * time.Second) // in fake time
		if got := read(); got[0] != int64(1) || got[1] != 45*time.Second {
			t.Errorf("while it fails %v", got)
		}
		time.Sleep(40 * time.Second)
		if got := read(); got[0] != int64(2) {
			t.Errorf("later %v", got)
		}
		if n := strings.Count(log.String(), "stats for routing"); n != 1 || !strings.Contains(log.String(), "not now") {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
	})
}

type policyFunc func([]helve.ReplicaView)

func (f policyFunc) Rank(_ helve.RoutedCall, rs []helve.ReplicaView, ranks []int) ([]int, bool) {
	f(rs)
	return ranks, false
}

// A method learns the session that its caller chose, wherever it runs; with the default policy too when it is named.
func TestSessionOfACall(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{Routing: helve.PowerOfTwoChoices{}}, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			if got, want := helve.SessionIDFrom(ctx), strings.Repeat("s", n); got != want {
				return 0, fmt.Errorf("session %q, want %q", got, want)
			}
			return n, nil
		}})
		if _, err := l.Do.Call(t.Context(), 0); err != nil {
			t.Error(err)
		}
		with := l.Do.With(helve.SessionID("sss"))
		if _, err := with.Call(t.Context(), 3); err != nil {
			t.Error(err)
		}
		if _, err := with.Remote(t.Context(), 3).Result(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
