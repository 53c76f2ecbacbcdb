package controller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// rolled is a version of an application of n replicas whose constructors take a second; share of its calls fail, of 1 to 100.
func rolled(n int, version string, share int, set func(o *spec.Options)) deploy.App {
	def := appOf(map[string]int{"A": n}, func() error {
		time.Sleep(time.Second) // fake time
		return nil
	})
	def.Retry = true
	o := &def.Graph.Deployments[0].Options
	o.Version = version
	if set != nil {
		set(o)
	}
	calls := 0
	def.Classes["A"].Methods = map[string]*instance.Method{"Work": {
		Name: "Work", Shape: instance.Unary, In: reflect.TypeFor[int](), Out: reflect.TypeFor[int](),
		Invoke: func(context.Context, any, any) (any, error) {
			if calls++; calls%100 < share { // calls come one after the other
				return nil, errors.New("no")
			}
			return 1, nil
		},
	}}
	return def
}

// work makes calls one after the other, and gives the number of those that failed.
func (n *testNode) work(t *testing.T, calls int) (failed int) {
	t.Helper()
	for range calls {
		c := &call.Call{Want: call.Native}
		c.Info.Place = &call.Place{App: "app", Deployment: "A", Method: "Work"}
		c.SetOne(call.Slot{Payload: call.Payload{Codec: call.Native, Value: 1}})
		w := call.NewWaiter()
		if _, err := w.Wait(t.Context(), n.Deployment("app", "A").Submit(nil, c, w)); err != nil {
			failed++
		}
	}
	return failed
}

// versions counts the replicas that run, by the number of their version.
func (n *testNode) versions() string {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	counts := map[string]int{}
	for _, r := range n.Apps["app"].Deployments["A"].Replicas {
		if r.State == helvetype.ReplicaRunning {
			counts[r.Of.Version]++
		}
	}
	return fmt.Sprint(counts)
}

func (n *testNode) rollout() *helvetype.Rollout { return n.Status().Applications["app"].Rollout }

// reasons are the events of the application itself and of its deployments that a rollout has noted.
func (n *testNode) reasons() (all []string) {
	events, _ := n.set.Events.Since(0, 10_000)
	for _, e := range events {
		if strings.HasPrefix(e.Reason, "rollout_") || e.Reason == "rolled_back" || e.Reason == "flapping" {
			all = append(all, e.Reason)
		}
	}
	return all
}

func wantOf[T any](t *testing.T, when string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", when, got, want)
	}
}

// TestRolloutKeepsItsBudget: while ten replicas change, at least ten are ready and at most twelve are there, and no call fails.
func TestRolloutKeepsItsBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(10, "1", 0, nil))
		done := make(chan error, 1)
		go func() { done <- n.Deploy(t.Context(), rolled(10, "2", 0, nil)) }()
		start, over := time.Now(), false
		for !over {
			select {
			case err := <-done:
				over = true
				wantOf(t, "deploy", err, nil)
			default:
				time.Sleep(100 * time.Millisecond) // fake time
			}
			synctest.Wait()
			live := 0
			for _, r := range n.Status().Applications["app"].Deployments["A"].Replicas {
				if r.State != helvetype.ReplicaStopping {
					live++
				}
			}
			if ready := len(n.running("app", "A")); ready < 10 || live > 12 {
				t.Fatalf("%d replicas are ready of %d", ready, live)
			}
			wantOf(t, "calls that failed", n.work(t, 3), 0)
		}
		if took := time.Since(start); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("it took %s: five waves of a second", took)
		}
		wantOf(t, "events", n.reasons(), []string{"rollout_started", "rollout_done"})
	})
}

// TestStepsAndPauses: a rollout waits at its steps and while it is paused, replicas that end come again in their own revision, and Resume goes on.
func TestStepsAndPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		step := func(o *spec.Options) { o.Rollout.Steps = []string{"1"} }
		n.deploy(t, rolled(4, "1", 0, nil))
		done := make(chan error, 1)
		go func() { done <- n.Deploy(context.Background(), rolled(4, "2", 0, step)) }()
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		wantOf(t, "at the step", n.versions(), "map[1:3 2:1]")
		if r := n.rollout(); r == nil || r.State != "waiting" || r.Step != 1 || r.Steps != 2 || r.From != 1 || r.To != 2 {
			t.Errorf("%+v", r)
		}
		for _, version := range []string{"1", "2"} {
			for _, r := range n.running("app", "A") {
				if r.Of.Version == version {
					kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed"}, First: true, FirstOfDeployment: true})
					break
				}
			}
			time.Sleep(time.Minute) // fake time
			synctest.Wait()
			wantOf(t, "after the end of a replica of version "+version, n.versions(), "map[1:3 2:1]")
		}
		wantOf(t, "resume", n.ResumeRollout(t.Context(), "app", "ann"), nil)
		time.Sleep(1500 * time.Millisecond) // fake time
		wantOf(t, "pause", n.PauseRollout(t.Context(), "app", "ann"), nil)
		time.Sleep(time.Hour) // fake time
		synctest.Wait()
		wantOf(t, "paused", n.versions(), "map[1:1 2:3]")
		if r := n.rollout(); r == nil || r.State != "paused" {
			t.Errorf("%+v", r)
		}
		if err := n.PauseRollout(t.Context(), "app", "ann"); !errors.Is(err, deploy.ErrNoRollout) {
			t.Error(err)
		}
		wantOf(t, "resume", n.ResumeRollout(t.Context(), "app", "ann"), nil)
		wantOf(t, "deploy", <-done, nil)
		synctest.Wait()
		wantOf(t, "in the end", n.versions(), "map[2:4]")
		if err := n.ResumeRollout(t.Context(), "app", "ann"); !errors.Is(err, deploy.ErrNoRollout) {
			t.Error(err)
		}
		wantOf(t, "events", n.reasons(), []string{"rollout_started", "rollout_resumed", "rollout_step", "rollout_paused", "rollout_resumed", "rollout_done"})
	})
}

// TestOptionsInAPause: other options of an application neither end the pause of its rollout, nor begin its steps anew.
func TestOptionsInAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		step := func(o *spec.Options) { o.Rollout.Steps = []string{"1"} }
		n.deploy(t, rolled(4, "1", 0, nil))
		done := make(chan error, 1)
		go func() { done <- n.Deploy(context.Background(), rolled(4, "2", 0, step)) }()
		time.Sleep(time.Minute) // fake time
		set := func(when string) {
			t.Helper()
			def := rolled(4, "2", 0, func(o *spec.Options) {
				step(o)
				o.MaxOngoingRequests = 7
			})
			def.Changes, def.Replace = 2, true
			if err := n.Deploy(t.Context(), def); !errors.Is(err, deploy.ErrRollout) {
				t.Errorf("%s: %v", when, err)
			}
		}
		set("at the step")
		wantOf(t, "pause", n.PauseRollout(t.Context(), "app", "ann"), nil)
		set("paused")
		time.Sleep(time.Hour) // fake time
		synctest.Wait()
		wantOf(t, "paused", n.versions(), "map[1:3 2:1]")
		if r := n.rollout(); r == nil || r.State != "paused" || r.Step != 1 || r.To != 2 {
			t.Errorf("%+v", r)
		}
		for _, state := range []string{"waiting", "going"} { // the end of the pause, and of the wait of the step
			wantOf(t, "resume", n.ResumeRollout(t.Context(), "app", "ann"), nil)
			wantOf(t, "state", n.rollout().State, state)
		}
		set("at the last step")
		wantOf(t, "deploy", <-done, nil)
		wantOf(t, "in the end", n.versions(), "map[2:4]")
	})
}

// TestSupersededReplicas: ready replicas of a rollout whose place another deploy has taken serve until newer ones take their place, and the status has the revision of each replica.
func TestSupersededReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		step := func(n string) func(*spec.Options) { return func(o *spec.Options) { o.Rollout.Steps = []string{n} } }
		n.deploy(t, rolled(4, "1", 0, nil))
		second, third := make(chan error, 1), make(chan error, 1)
		go func() { second <- n.Deploy(context.Background(), rolled(4, "2", 0, step("2"))) }()
		time.Sleep(time.Minute) // fake time
		go func() { third <- n.Deploy(context.Background(), rolled(4, "3", 0, step("1"))) }()
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		if err := <-second; !errors.Is(err, deploy.ErrSuperseded) {
			t.Error(err)
		}
		of := map[int]int{}
		for _, r := range n.Status().Applications["app"].Deployments["A"].Replicas {
			of[r.Revision]++
		}
		wantOf(t, "at the step of the third", of, map[int]int{1: 2, 2: 1, 3: 1})
		wantOf(t, "resume", n.ResumeRollout(t.Context(), "app", "ann"), nil)
		wantOf(t, "deploy", <-third, nil)
		wantOf(t, "in the end", n.versions(), "map[3:4]")
	})
}

// TestRollbackHasNoSteps: a rollback replaces all replicas, although the revision that it repeats has steps, also when a node is killed in the middle of it.
func TestRollbackHasNoSteps(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed=", killed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				step := func(o *spec.Options) { o.Rollout.Steps = []string{"1"} }
				good, bad := rolled(4, "1", 0, step), rolled(4, "2", 0, nil)
				back := good
				back.RollbackOf = 1
				d := newDurable(nil)
				n := d.node()
				n.deploy(t, good)
				n.deploy(t, bad)
				done := make(chan error, 1)
				go func() { done <- n.Deploy(context.Background(), back) }()
				if killed {
					time.Sleep(1500 * time.Millisecond) // fake time
					n.kill()
					<-done
					d.deployed(good, bad)
					n = d.restored(t)
				}
				defer n.kill()
				time.Sleep(time.Minute) // fake time
				synctest.Wait()
				wantOf(t, "in the end", n.versions(), "map[3:4]")
				n.wantStatus(t, "in the end", helvetype.ApplicationRunning, 3, 4)
			})
		})
	}
}

// TestErrorRate: a revision whose calls fail too often goes back by itself, while it is rolled out and for a minute after that, and the event has the counts.
func TestErrorRate(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{"in a step": {"1"}, "afterwards": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				n.deploy(t, rolled(2, "1", 1, nil))
				n.work(t, 200)
				done := make(chan error, 1)
				go func() {
					done <- n.Deploy(context.Background(), rolled(2, "2", 50, func(o *spec.Options) { o.Rollout.Steps = steps }))
				}()
				time.Sleep(10 * time.Second) // fake time
				for range 30 {
					n.work(t, 20)
					time.Sleep(time.Second) // fake time
				}
				synctest.Wait()
				s := n.Status().Applications["app"]
				if s.Status != helvetype.ApplicationDeployFailed || !strings.Contains(s.Message, "revision 2") || !strings.Contains(s.Message, "calls of the new revision failed") {
					t.Errorf("%s: %s", s.Status, s.Message)
				}
				wantOf(t, "what runs", strings.Contains(n.versions(), "2:"), false)
				if err := <-done; (err != nil) != (steps != nil) {
					t.Errorf("deploy: %v", err)
				}
				events, _ := n.set.Events.Since(0, 10_000)
				i := slices.IndexFunc(events, func(e helvetype.Event) bool { return e.Reason == "rolled_back" })
				if i < 0 || events[i].Inputs["cause"] != "error_rate" || events[i].Inputs["new_calls"] == "0" || events[i].Inputs["from"] != "2" || events[i].Inputs["to"] != "1" {
					t.Errorf("%d: %v", i, n.reasons())
				}
			})
		})
	}
}

// TestErrorRateOfKeptReplicas: a change that keeps the replicas is judged by the calls of the same replicas before it, and a rollback is not judged.
func TestErrorRateOfKeptReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(2, "1", 20, nil))
		n.work(t, 500)
		n.deploy(t, rolled(2, "1", 20, func(o *spec.Options) { o.MaxOngoingRequests = 7 }))
		for range 90 {
			n.work(t, 10)
			time.Sleep(time.Second) // fake time
		}
		back := rolled(2, "1", 20, nil)
		back.RollbackOf = 1
		n.deploy(t, back)
		for range 90 {
			n.work(t, 10)
			time.Sleep(time.Second) // fake time
		}
		synctest.Wait()
		if s := n.Status().Applications["app"]; s.Status != helvetype.ApplicationRunning || slices.Contains(n.reasons(), "rolled_back") {
			t.Errorf("%s: %s; %v", s.Status, s.Message, n.reasons())
		}
	})
}

// TestFailsEachTime: a revision whose replicas fail in the same way each time goes back after three rounds of starts, not after three starts of each replica.
func TestFailsEachTime(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name        string
		set         func(o *spec.Options)
		least, most int64 // starts
		end         string
	}{
		{"a surge of one", nil, 3, 3, "stays at revision 1"},
		{"two at a time", func(o *spec.Options) { o.Rollout.MaxSurge = "2" }, 3, 6, "stays at revision 1"},
		{"no retries", func(o *spec.Options) { o.MaxConstructorRetries = 1 }, 1, 1, "stays at revision 1"},
		{"paused", func(o *spec.Options) { o.Sources["rollout_config.automatic_rollback"] = spec.FromCode }, 3, 3, "helve resume"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				n.deploy(t, rolled(8, "1", 0, nil))
				next := rolled(8, "2", 0, x.set)
				var starts atomic.Int64
				next.Classes["A"].Construct = func(context.Context) (any, error) {
					starts.Add(1)
					return nil, errors.New("a bad config")
				}
				before := time.Now()
				err := n.Deploy(t.Context(), next)
				if err == nil || !strings.Contains(err.Error(), "a bad config") || !strings.Contains(err.Error(), x.end) {
					t.Error(err)
				}
				if took := time.Since(before); took > 5*time.Second { // fake time
					t.Errorf("it took %s", took)
				}
				if n := starts.Load(); n < x.least || n > x.most {
					t.Errorf("%d starts, want %d to %d", n, x.least, x.most)
				}
				synctest.Wait()
				wantOf(t, "what runs", n.versions(), "map[1:8]")
			})
		})
	}
}

// TestProgressDeadline: a revision whose replicas hang goes back, or is paused without automatic_rollback.
func TestProgressDeadline(t *testing.T) {
	t.Parallel()
	for _, automatic := range []bool{true, false} {
		t.Run(fmt.Sprint("automatic=", automatic), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				n.deploy(t, rolled(2, "1", 0, nil))
				next := rolled(2, "2", 0, func(o *spec.Options) {
					o.Rollout.ProgressDeadline = time.Minute
					if !automatic {
						o.Sources["rollout_config.automatic_rollback"] = spec.FromCode
					}
				})
				next.Classes["A"].Construct = func(ctx context.Context) (any, error) {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				}
				done := make(chan error, 1)
				go func() { done <- n.Deploy(t.Context(), next) }()
				time.Sleep(2 * time.Minute) // fake time
				synctest.Wait()
				wantOf(t, "serves", n.versions(), "map[1:2]")
				if automatic {
					if err := <-done; err == nil || !strings.Contains(err.Error(), "progress_deadline_s") {
						t.Error(err)
					}
					return
				}
				if r := n.rollout(); r == nil || r.State != "paused" || !strings.Contains(r.Message, "automatic_rollback is off") {
					t.Errorf("%+v", r)
				}
				if err := <-done; !errors.Is(err, deploy.ErrStuck) || !strings.Contains(err.Error(), "progress_deadline_s") {
					t.Error(err)
				}
				n.deploy(t, rolled(2, "3", 0, nil))
				synctest.Wait()
				wantOf(t, "serves after the next deploy", n.versions(), "map[3:2]")
			})
		})
	}
}

// TestRestartOfReplicas: new replicas of the same revision take the place of the ones that run, and at no time is one missing.
func TestRestartOfReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(3, "1", 0, nil))
		ids := func() (all []string) {
			for _, r := range n.running("app", "A") {
				all = append(all, r.ID)
			}
			slices.Sort(all)
			return all
		}
		before := ids()
		wantOf(t, "restart of one", n.Restart("app", "", before[0], "ann"), nil)
		time.Sleep(10 * time.Second) // fake time
		synctest.Wait()
		if now := ids(); len(now) != 3 || slices.Contains(now, before[0]) || !slices.Contains(now, before[1]) || !slices.Contains(now, before[2]) {
			t.Errorf("%v after %v", now, before)
		}
		before = ids()
		wantOf(t, "restart of all", n.Restart("app", "A", "", "ann"), nil)
		wantOf(t, "while it restarts", n.Status().Applications["app"].Deployments["A"].Status, helvetype.DeploymentUpdating)
		for range 50 {
			time.Sleep(100 * time.Millisecond) // fake time
			synctest.Wait()
			if now := ids(); len(now) < 3 {
				t.Fatalf("%v run", now)
			}
		}
		if now := ids(); len(now) != 3 || slices.ContainsFunc(now, func(id string) bool { return slices.Contains(before, id) }) {
			t.Errorf("%v after %v", now, before)
		}
		var request uint64 // the event of the last restart, which is the cause of what follows
		events, _ := n.set.Events.Since(0, 1000)
		for _, ev := range events {
			switch {
			case ev.Reason == "restart_requested":
				request = ev.ID
			case request != 0 && ev.Object.Kind == helvetype.KindReplica && ev.From == "" && ev.Cause != request:
				t.Errorf("%s of %s, after the restart #%d, is because of #%d", ev.Reason, ev.Object, request, ev.Cause)
			}
		}
		wantOf(t, "what runs", n.versions(), "map[1:3]")
		wantOf(t, "afterwards", n.Status().Applications["app"].Deployments["A"].Status, helvetype.DeploymentHealthy)
		if err := n.Restart("app", "A", "nothing", "ann"); err == nil {
			t.Error("a replica was restarted that is not there")
		}
	})
}

// TestPauseOutlivesTheNode: the next node of a killed one finds the rollout paused, and Resume ends it there.
func TestPauseOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		former, next := rolled(3, "1", 0, nil), rolled(3, "2", 0, nil)
		d := newDurable(nil)
		first := d.node()
		first.deploy(t, former)
		done := make(chan error, 1)
		go func() { done <- first.Deploy(context.Background(), next) }()
		synctest.Wait()
		wantOf(t, "pause", first.PauseRollout(t.Context(), "app", "ann"), nil)
		first.kill()
		<-done
		if a := record(t, d.store, store.AppKey("app")); !a.Paused || a.Revision != 2 || a.Attempt == nil {
			t.Errorf("%+v", a)
		}
		asked := []deploy.App{next, former}
		d.own = func(string) (def deploy.App, _ error) {
			def, asked = asked[0], asked[1:]
			return def, nil
		}
		second := d.restored(t)
		defer second.kill()
		time.Sleep(time.Hour) // fake time
		synctest.Wait()
		wantOf(t, "paused", second.versions(), "map[1:3]")
		wantOf(t, "resume", second.ResumeRollout(t.Context(), "app", "ann"), nil)
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		wantOf(t, "in the end", second.versions(), "map[2:3]")
		if a := record(t, d.store, store.AppKey("app")); a.Paused || a.Attempt != nil {
			t.Errorf("%+v", a)
		}
	})
}

// TestWatchOutlivesTheNode: a node is killed in the minute after a rollout. The next node goes back when too many calls fail, against the calls of the
// revision before that the first node has seen.
func TestWatchOutlivesTheNode(t *testing.T) {
	t.Parallel()
	for _, share := range []int{3, 50} {
		t.Run(fmt.Sprint(share, " % fail"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				former, next := rolled(2, "1", 1, nil), rolled(2, "2", share, nil)
				d := newDurable(nil)
				first := d.node()
				first.deploy(t, former)
				first.work(t, 200)
				first.deploy(t, next)
				before := first.rollout()
				time.Sleep(2 * time.Second) // fake time
				first.kill()
				if a := record(t, d.store, store.AppKey("app")); a.Watch == nil || a.Watch.From != 1 || a.Watch.Old["A"].Calls != 200 {
					t.Fatalf("%+v", a.Watch)
				}
				d.own = func(string) (deploy.App, error) { return next, nil }
				second := d.restored(t)
				defer second.kill()
				second.set.Former = func(context.Context, string, int) (deploy.App, error) { return former, nil }
				time.Sleep(10 * time.Second) // fake time
				if r := second.rollout(); r == nil || r.State != "watching" || r.From != 1 || !r.StartedAt.Equal(before.StartedAt) || !r.Since.Equal(before.Since) {
					t.Errorf("%+v, and before %+v", r, before)
				}
				for range 10 {
					second.work(t, 20)
					time.Sleep(time.Second) // fake time
				}
				time.Sleep(10 * time.Second) // fake time
				synctest.Wait()
				wantOf(t, "goes back", slices.Contains(second.reasons(), "rolled_back"), share == 50)
				time.Sleep(time.Minute) // fake time
				synctest.Wait()
				if r := second.rollout(); share != 50 && r != nil {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// TestBeginOutlivesTheNode: the next node of a killed one says when the rollout has begun, and not when the node was started.
func TestBeginOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		former, next := rolled(3, "1", 0, nil), rolled(3, "2", 0, nil)
		next.Classes["A"].Construct = func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
		d := newDurable(nil)
		first := d.node()
		first.deploy(t, former)
		time.Sleep(time.Minute) // fake time
		begun := time.Now()
		done := make(chan error, 1)
		go func() { done <- first.Deploy(context.Background(), next) }()
		time.Sleep(30 * time.Second) // fake time
		before := first.rollout()
		first.kill()
		<-done
		asked := []deploy.App{next, former}
		d.own = func(string) (def deploy.App, _ error) {
			def, asked = asked[0], asked[1:]
			return def, nil
		}
		second := d.restored(t)
		defer second.kill()
		time.Sleep(30 * time.Second) // fake time
		for _, r := range []*helvetype.Rollout{before, second.rollout()} {
			if r == nil || r.State != "going" || r.Since.Sub(begun).Abs() > time.Second || r.StartedAt.Sub(begun).Abs() > time.Second {
				t.Errorf("%+v, and it has begun at %v", r, begun)
			}
		}
	})
}

// TestRestartIsRecorded: the record of the application names the replicas that a restart has still to replace, and none when it is over.
func TestRestartIsRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(nil)
		n := d.node()
		defer n.kill()
		n.deploy(t, rolled(3, "1", 0, nil))
		wantOf(t, "restart", n.Restart("app", "", "", "ann"), nil)
		wantOf(t, "its replicas", len(record(t, d.store, store.AppKey("app")).Restarting), 3)
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		wantOf(t, "afterwards", len(record(t, d.store, store.AppKey("app")).Restarting), 0)
	})
}

// TestFlapping: replicas that end again and again soon after they were ready are said to flap, once; a revision that does so just after its rollout goes back.
func TestFlapping(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("after a change=", again), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				n.deploy(t, rolled(1, "1", 0, nil))
				want := []string{"flapping"}
				if again {
					n.deploy(t, rolled(1, "2", 0, nil))
					want = []string{"rollout_started", "rollout_done", "flapping", "rolled_back", "rollout_started", "rollout_done"}
				}
				for range 3 {
					for _, r := range n.running("app", "A") {
						kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed"}, First: true, FirstOfDeployment: true})
					}
					time.Sleep(5 * time.Second) // fake time
					synctest.Wait()
				}
				time.Sleep(5 * time.Second) // fake time
				synctest.Wait()
				wantOf(t, "events", n.reasons(), want)
				if s := n.Status().Applications["app"]; again && (s.Status != helvetype.ApplicationDeployFailed || !strings.Contains(s.Message, "flapping")) {
					t.Errorf("%s: %s", s.Status, s.Message)
				}
			})
		})
	}
}

// TestCapacity: half of the replicas run at a target capacity of 50, also of a deploy that comes then, and the numbers of the records stay.
func TestCapacity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(4, "1", 0, nil))
		half := 50.0
		n.SetCapacity(&half, false)
		time.Sleep(time.Minute) // fake time
		wantOf(t, "half", n.versions(), "map[1:2]")
		n.deploy(t, rolled(6, "2", 0, nil))
		time.Sleep(time.Minute) // fake time
		wantOf(t, "half of another number", n.versions(), "map[2:3]")
		n.SetCapacity(nil, false)
		time.Sleep(time.Minute) // fake time
		wantOf(t, "all", n.versions(), "map[2:6]")
		wantOf(t, "record", record(t, n.set.Store, store.ScaleKey("app", "A")).Replicas, 6)
	})
}

// TestStepOutlivesTheNode: the next node of a killed one goes on at the step of the rollout.
func TestStepOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		steps := func(o *spec.Options) { o.Rollout.Steps = []string{"1", "2"} }
		former, next := rolled(3, "1", 0, nil), rolled(3, "2", 0, steps)
		d := newDurable(nil)
		first := d.node()
		first.deploy(t, former)
		done := make(chan error, 1)
		go func() { done <- first.Deploy(context.Background(), next) }()
		time.Sleep(time.Minute) // fake time
		wantOf(t, "resume", first.ResumeRollout(t.Context(), "app", "ann"), nil)
		time.Sleep(time.Minute) // fake time
		wantOf(t, "the second step", first.versions(), "map[1:1 2:2]")
		first.kill()
		<-done
		asked := []deploy.App{next, former}
		d.own = func(string) (def deploy.App, _ error) {
			def, asked = asked[0], asked[1:]
			return def, nil
		}
		second := d.restored(t)
		defer second.kill()
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		wantOf(t, "the second step again", second.versions(), "map[1:1 2:2]")
		if r := second.rollout(); r == nil || r.Step != 2 || r.State != "waiting" {
			t.Errorf("%+v", r)
		}
	})
}
