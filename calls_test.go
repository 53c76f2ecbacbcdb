package helve_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
)

func TestBroadcast(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		var made atomic.Int64
		hold := make(latch)
		labs := startLabs(t, r, map[string]helve.Options{"Lab": {NumReplicas: new(3), MaxOngoingRequests: new(1)}}, func(string) *Lab {
			me, state := int(made.Add(1)), 0
			return &Lab{seq: count, do: func(ctx context.Context, n int) (int, error) {
				switch n {
				case -1: // occupies the slot
					return 0, hold.wait(ctx)
				case -2:
					if me == 2 {
						return 0, &Quota{"second"}
					}
				default:
					state = n
				}
				return me*1000 + state, nil
			}}
		})
		l, ctx := labs["Lab"], t.Context()
		// Every replica is full, and a broadcast reaches all.
		var busy []*helve.Response[int]
		for range 3 {
			busy = append(busy, l.do.Remote(ctx, -1))
		}
		entries, err := l.do.Broadcast(ctx, 7).Results(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ids, values := map[string]bool{}, map[int]bool{}
		for _, e := range entries {
			ids[e.Replica], values[e.Value] = true, true
			if e.Err != nil || e.Node == "" {
				t.Errorf("%+v", e)
			}
		}
		if len(ids) != 3 || !values[1007] || !values[2007] || !values[3007] {
			t.Errorf("%+v", entries)
		}
		close(hold)
		if _, err := helve.All(ctx, busy...); err != nil {
			t.Error(err)
		}
		resp := l.do.Broadcast(ctx, -2)
		for range 2 { // repeatable
			entries, err = resp.Results(ctx)
			failed := 0
			for _, e := range entries {
				if e.Err != nil {
					failed++
					wantReason(t, e.Err, helve.User)
				} else if e.Value%1000 != 7 {
					t.Errorf("the state did not last: %+v", e)
				}
			}
			if failed != 1 || err == nil || len(entries) != 3 || len(resp.Missed(ctx)) != 0 {
				t.Errorf("%+v, %v", entries, err)
			}
		}
		_, err = helve.MethodNamed[int, int](l.h, "seq").Broadcast(ctx, 1).Results(ctx)
		if err == nil {
			t.Error("a broadcast to a method that streams")
		}
		_, err = (helve.Method[int, int]{}).Broadcast(ctx, 1).Results(ctx)
		wantReason(t, err, helve.BadInput)
	})
}

func TestBroadcastGivesWhatThereIsInTime(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		var made atomic.Int64
		ended := make(chan error, 4)
		ran := make(chan int, 4)
		labs := startLabs(t, r, map[string]helve.Options{"Lab": {NumReplicas: new(2)}}, func(string) *Lab {
			me := made.Add(1)
			return &Lab{do: func(ctx context.Context, n int) (int, error) {
				ran <- n
				if me == 1 {
					<-ctx.Done()
					ended <- ctx.Err()
				}
				return n, ctx.Err()
			}}
		})
		l := labs["Lab"]
		resp := l.do.Broadcast(t.Context(), 1)
		<-ran
		<-ran
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		entries, err := resp.Results(short)
		good := 0
		for _, e := range entries {
			if e.Err == nil && e.Value == 1 {
				good++
			} else {
				wantReason(t, e.Err, helve.Deadline)
			}
		}
		if good != 1 || len(entries) != 2 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v, %v", entries, err)
		}
		second := l.do.Broadcast(t.Context(), 2) // waits in the lane of the first replica
		<-ran
		second.Cancel()
		resp.Cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the method saw %v", err)
		}
		_, err = resp.Results(t.Context())
		wantReason(t, errors.Unwrap(joined(err)[0]), "")
		if helve.ReasonOf(joined(err)[0]) != helve.Cancelled {
			t.Errorf("%v", err)
		}
		select {
		case n := <-ran:
			t.Errorf("a call cancelled in the lane ran: %d", n)
		default:
		}
	})
}

func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what Results documents
		return j.Unwrap()
	}
	return []error{err}
}

func TestChooseAndDispatch(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				labs := startLabs(t, r, map[string]helve.Options{
					"A": {NumReplicas: new(2), MaxOngoingRequests: new(1)}, "B": {},
				}, func(string) *Lab { return &Lab{do: double} })
				a, ctx := labs["A"].do, t.Context()
				replica := helve.MethodNamed[int, int](labs["A"].h, "Do") // another method of the deployment may be dispatched
				one, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				two, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if one.Replica() == two.Replica() || one.Node() == "" {
					t.Errorf("%s, %s", one.Replica(), two.Replica())
				}
				third := a.Remote(ctx, 3) // both slots are reserved
				synctest.Wait()
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if _, err := third.Result(short); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a reserved slot was given away: %v", err)
				}
				if v, err := replica.Dispatch(ctx, one, 21).Result(ctx); v != 42 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
				if v, err := third.Result(ctx); v != 6 || err != nil {
					t.Errorf("the slot of a dispatched call: %d, %v", v, err)
				}
				for sel, reason := range map[*helve.Selection]helvetype.Reason{one: helve.BadInput, nil: helve.BadInput} {
					_, err := a.Dispatch(ctx, sel, 1).Result(ctx)
					wantReason(t, err, reason)
				}
				_, err = labs["B"].do.Dispatch(ctx, two, 1).Result(ctx)
				wantReason(t, err, helve.BadInput)
				two.Release()
				two.Release()
				_, err = a.Dispatch(ctx, two, 1).Result(ctx)
				wantReason(t, err, helve.ReplicaUnavailable)

				// Nobody comes for these: they return by themselves.
				held, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				chosen, stop := context.WithCancel(ctx)
				if _, err := a.Choose(chosen); err != nil {
					t.Fatal(err)
				}
				stop()
				synctest.Wait()
				start := time.Now()
				if vs, err := helve.All(ctx, a.Remote(ctx, 1), a.Remote(ctx, 2)); err != nil || !slices.Equal(vs, []int{2, 4}) || time.Since(start) != 0 {
					t.Errorf("%v, %v after %v", vs, err, time.Since(start))
				}
				if _, err = a.Choose(ctx); err != nil {
					t.Fatal(err)
				}
				if v, err := a.Remote(ctx, 1).Result(ctx); v != 2 || err != nil || time.Since(start) != helve.SelectionTime {
					t.Errorf("%d, %v after %v", v, err, time.Since(start))
				}
				synctest.Wait()
				_, err = a.Dispatch(ctx, held, 1).Result(ctx)
				wantReason(t, err, helve.ReplicaUnavailable)
			})
		})
	}
}

// who gives the replica that each of n calls ran on.
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
	hold latch
	busy chan string
}

func (n *Named) ID(ctx context.Context, _ int) (string, error) { return helve.ReplicaFrom(ctx).ID, nil }
func (n *Named) Hold(ctx context.Context, _ int) (string, error) {
	id := helve.ReplicaFrom(ctx).ID
	n.busy <- id
	return id, n.hold.wait(ctx)
}

func startNamed(t *testing.T, r helvetest.Runner, o helve.Options) (id, hold helve.Method[int, string], n *Named) {
	t.Helper()
	n = &Named{hold: make(latch), busy: make(chan string, 100)}
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
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
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

func TestLifecycle(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { lifecycle(t, r) })
		})
	}
}

// Cared is an instance with every hook.
type Cared struct {
	mu     *sync.Mutex
	log    *[]string
	sick   *atomic.Bool // of the first one
	first  bool
	config CaredConfig
}

type CaredConfig struct{ Word string }

func (c *Cared) note(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.log = append(*c.log, s)
}

func (c *Cared) Reconfigure(_ context.Context, k CaredConfig) error {
	if k.Word == "bad" {
		return errors.New("a bad word")
	}
	c.config = k
	c.note("reconfigure " + k.Word)
	return nil
}

func (c *Cared) CheckHealth(context.Context) error {
	c.note("check")
	if c.first && c.sick.Load() {
		return errors.New("sick")
	}
	return nil
}

func (c *Cared) Close(context.Context) error { c.note("close"); return nil }

func (c *Cared) Word(ctx context.Context, wait time.Duration) (string, error) {
	time.Sleep(wait) // fake time
	return c.config.Word, nil
}

func lifecycle(t *testing.T, r helvetest.Runner) {
	var mu sync.Mutex
	var log []string
	var sick atomic.Bool
	made := 0
	take := func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		l := log
		log = nil
		return l
	}
	sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
		app := helve.NewApp("cared")
		h := helve.Deploy(app, "Cared", func(context.Context) (*Cared, error) {
			made++
			return &Cared{mu: &mu, log: &log, sick: &sick, first: made == 1}, nil
		}, helve.Options{UserConfig: CaredConfig{"first"}, GracefulShutdownTimeout: new(5 * time.Second)})
		app.Ingress(helve.MethodOf(h, (*Cared).Word))
		return app, nil
	})
	h, err := helve.HandleOf[*Cared](sys, "cared", "Cared")
	if err != nil {
		t.Fatal(err)
	}
	word, ctx := helve.MethodOf(h, (*Cared).Word), t.Context()
	if got := take(); !slices.Equal(got, []string{"reconfigure first", "check"}) {
		t.Errorf("%v", got)
	}
	if err := sys.Reconfigure(ctx, "cared", "Cared", CaredConfig{"second"}); err != nil {
		t.Error(err)
	}
	if w, err := word.Call(ctx, 0); w != "second" || err != nil {
		t.Errorf("%s, %v", w, err)
	}
	for _, bad := range []any{CaredConfig{"bad"}, map[string]int{"wrd": 1}, make(chan int)} {
		if err := sys.Reconfigure(ctx, "cared", "Cared", bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if err := sys.Reconfigure(ctx, "cared", "Cared", CaredConfig{"second"}); err != nil {
		t.Error(err)
	}
	take()
	time.Sleep(95 * time.Second) // in fake time, nine or ten periods of 10 s
	if n := len(take()); n < 8 || n > 11 {
		t.Errorf("%d checks in 95 s", n)
	}
	before := sys.Status().Applications["cared"].Deployments["Cared"].Replicas[0].ID
	sick.Store(true)
	slow := word.Remote(ctx, 34*time.Second) // it runs while its replica is replaced
	time.Sleep(34 * time.Second)             // in fake time, three periods fail
	sick.Store(false)
	synctest.Wait()
	time.Sleep(time.Second) // in fake time: the next replica starts
	after := sys.Status().Applications["cared"].Deployments["Cared"]
	if len(after.Replicas) != 1 || after.Replicas[0].ID == before || after.Status != "HEALTHY" {
		t.Errorf("%s was followed by %+v", before, after)
	}
	if w, err := slow.Result(ctx); w != "second" || err != nil {
		t.Errorf("the call under way: %s, %v", w, err)
	}
	got := take()
	if !slices.Contains(got, "close") || !slices.Contains(got, "reconfigure second") {
		t.Errorf("%v", got)
	}
	// Drain: what runs may finish, within the graceful shutdown timeout.
	inTime, late := word.Remote(ctx, 3*time.Second), word.Remote(ctx, time.Minute)
	synctest.Wait()
	start := time.Now()
	if err := sys.Delete(ctx, "cared"); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 5*time.Second || took > 11*time.Second {
		t.Errorf("the drain took %v", took)
	}
	if w, err := inTime.Result(ctx); w != "second" || err != nil {
		t.Errorf("%s, %v", w, err)
	}
	if got := take(); !slices.Contains(got, "close") {
		t.Errorf("%v", got)
	}
	late.Cancel()
	time.Sleep(time.Minute) // in fake time: its method, which ignores its context, ends within the bubble
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		begin := time.Now()
		build := func(good int) helve.Build {
			return func() (*helve.App, error) {
				app := helve.NewApp(fmt.Sprint("good", good))
				app.RoutePrefix("/" + fmt.Sprint(good))
				h := helve.Deploy(app, "Lab", func(context.Context) (*Lab, error) {
					starts = append(starts, time.Since(begin))
					if len(starts) < good {
						return nil, fmt.Errorf("attempt %d", len(starts))
					}
					return &Lab{do: double}, nil
				}, helve.Options{MaxConstructorRetries: new(9), NumReplicas: new(1)})
				app.Ingress(helve.MethodOf(h, (*Lab).Do))
				return app, nil
			}
		}
		// The first application is not retried.
		if _, err := helve.Run(t.Context(), build(2)); err == nil || len(starts) != 1 {
			t.Fatalf("%v after %d starts", err, len(starts))
		}
		starts = nil
		sys := helvetest.Start(t, helve.Config{}, build(1))
		starts, begin = nil, time.Now()
		if err := sys.Deploy(t.Context(), build(3)); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, 0, time.Second}; !slices.Equal(starts, want) {
			t.Errorf("started after %v, want %v", starts, want)
		}
		starts = nil
		err := sys.Deploy(t.Context(), build(99)) // three per replica are allowed
		var e *helve.Error
		if !errors.As(err, &e) || e.Method() != "constructor" || e.Message() != "attempt 3" || len(starts) != 3 {
			t.Errorf("%v after %d starts", err, len(starts))
		}
		if _, there := sys.Status().Applications["good99"]; there {
			t.Error("something stayed behind")
		}
	})
}

// TestReplicasThatFailTogether: what fails in all replicas at once is one failure for the back-off. Counted each by itself,
// three of ten would already keep the next start back for longer than most things are down.
func TestReplicasThatFailTogether(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sys := helvetest.Start(t, helve.Config{}, buildLabs("x", map[string]helve.Options{"Lab": {}}, func(string) *Lab { return &Lab{do: double} }))
				var mu sync.Mutex
				starts, begin := map[time.Duration]int{}, time.Now()
				if err := sys.Deploy(t.Context(), func() (*helve.App, error) {
					app := helve.NewApp("many")
					app.RoutePrefix("")
					h := helve.Deploy(app, "Lab", func(context.Context) (*Lab, error) {
						mu.Lock()
						at := time.Since(begin)
						starts[at]++
						mu.Unlock()
						time.Sleep(100 * time.Millisecond) // in fake time, what a start takes
						if at < 500*time.Millisecond {
							return nil, errors.New("the database is not up")
						}
						return &Lab{do: double}, nil
					}, helve.Options{NumReplicas: new(n), MaxConstructorRetries: new(100)})
					app.Ingress(helve.MethodOf(h, (*Lab).Do))
					return app, nil
				}); err != nil {
					t.Fatal(err)
				}
				if want := map[time.Duration]int{0: n, 100 * time.Millisecond: n, 1200 * time.Millisecond: n}; !maps.Equal(starts, want) {
					t.Errorf("started at %v, want %v", starts, want)
				}
			})
		})
	}
}

func TestConstructorTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan bool, 1)
		_, err := helve.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("slow")
			h := helve.Deploy(app, "Slow", func(context.Context) (*slow, error) {
				time.Sleep(time.Hour) // fake time, and it ignores its context
				return &slow{closed}, nil
			}, helve.Options{ConstructTimeout: new(time.Minute)})
			app.Ingress(helve.MethodOf(h, (*slow).Do))
			return app, nil
		})
		wantReason(t, err, helve.Deadline)
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		<-closed // what it made in the end was given back
	})
}

type slow struct{ closed chan bool }

func (s *slow) Do(context.Context, int) (int, error) { return 0, nil }
func (s *slow) Close(context.Context) error          { s.closed <- true; return nil }

func TestRegisteredErrors(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildErrors, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*Failing](s, "errors", "Failing")
		if err != nil {
			t.Fatal(err)
		}
		fail := helve.MethodOf(h, (*Failing).Fail)
		_, err = fail.Call(t.Context(), "value")
		if !errors.Is(err, errNotFound) {
			t.Errorf("%v is not errNotFound", err)
		}
		_, err = fail.Remote(t.Context(), "type").Result(t.Context())
		if e, ok := errors.AsType[*QuotaError](err); !ok || e.Left != 3 || e.Who != "me" {
			t.Errorf("%v is no QuotaError", err)
		}
		_, err = fail.Call(t.Context(), "other")
		if errors.Is(err, errNotFound) || err == nil {
			t.Errorf("%v", err)
		}
		wantReason(t, err, helve.User)
	})
}

var errNotFound = errors.New("not found")

type QuotaError struct {
	Left int
	Who  string
}

func (e *QuotaError) Error() string { return fmt.Sprintf("%s has %d left", e.Who, e.Left) }

type Failing struct{}

func (*Failing) Fail(_ context.Context, how string) (int, error) {
	switch how {
	case "value":
		return 0, fmt.Errorf("looking: %w", errNotFound)
	case "type":
		return 0, fmt.Errorf("looking: %w", &QuotaError{3, "me"})
	}
	return 0, errors.New("another")
}

func buildErrors() (*helve.App, error) {
	app := helve.NewApp("errors")
	app.Errors(errNotFound, (*QuotaError)(nil))
	h := helve.Deploy(app, "Failing", func(context.Context) (*Failing, error) { return &Failing{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Failing).Fail))
	return app, nil
}
