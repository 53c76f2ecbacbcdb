package controller

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

// TestSupersededIsNoFailure: an application whose deploy another one supersedes is DEPLOYING until the other has ended, with an event that says so. It is DEPLOY_FAILED at no time.
func TestSupersededIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, ofVersion("1", 1, nil))
		hang(ofVersion("2", 1, nil))(t, n)
		from := n.set.Events.Last()
		n.deploy(t, ofVersion("3", 1, nil))
		synctest.Wait()
		var went []string
		events, _ := n.set.Events.Since(from, 1000)
		for _, ev := range events {
			if ev.Object.Kind == helvetype.KindApplication {
				went = append(went, ev.Reason+" "+ev.To)
			}
		}
		want := "superseded DEPLOYING, rollout_started DEPLOYING, rollout_done DEPLOYING, ready RUNNING"
		if got := strings.Join(went, ", "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestDeployedAt: the time of the deploy is that of the revision that runs: a deploy that fails leaves it, and a rollback has a time of its own.
func TestDeployedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		first := time.Now()
		n.deploy(t, ofVersion("1", 1, nil))
		want := func(what string, want time.Time) {
			t.Helper()
			if got := n.Status().Applications["app"].DeployedAt; !got.Equal(want) {
				t.Errorf("%s it was deployed at %s, want %s", what, got, want)
			}
		}
		want("at first", first)
		time.Sleep(time.Hour)
		failed := time.Now()
		next := withConstruct(ofVersion("2", 1, nil), func() error {
			want("while the next one starts", failed)
			return errors.New("no port")
		})
		if err := n.Deploy(t.Context(), next); err == nil || !strings.Contains(err.Error(), "no port") {
			t.Error(err)
		}
		synctest.Wait()
		want("after a deploy that has failed", first)
		time.Sleep(time.Hour)
		n.deploy(t, ofVersion("3", 1, nil))
		time.Sleep(time.Hour)
		back := ofVersion("1", 1, nil)
		back.RollbackOf = 1
		back.Replace = true
		again := time.Now()
		n.deploy(t, back)
		want("after a rollback", again)
	})
}

// TestCauseOfRollback: the event roll_back leads to the fact that the revision was rolled back, and that to the failure of a replica; starts and stops after it name the fact, too.
func TestCauseOfRollback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(3, "1", 0, nil))
		var starts atomic.Int64
		next := rolled(3, "2", 0, func(o *spec.Options) {
			o.MaxConstructorRetries = 1
			o.Sources["max_constructor_retry_count"] = spec.FromCode
		})
		next = withConstruct(next, func() error {
			if starts.Add(1) > 1 {
				return errors.New("no port")
			}
			return nil
		})
		if err := n.Deploy(t.Context(), next); err == nil || !strings.Contains(err.Error(), "no port") {
			t.Error(err)
		}
		synctest.Wait()
		chain := map[string][]string{}
		events, _ := n.set.Events.Since(0, 1000)
		for _, ev := range events {
			for cause, ok := n.set.Events.Find(ev.Cause); ok; cause, ok = n.set.Events.Find(cause.Cause) {
				chain[ev.Reason] = append(chain[ev.Reason], cause.Reason)
			}
			if ev.Reason == "roll_back" {
				break
			}
		}
		if got := strings.Join(chain["roll_back"], ", "); got != "rolled_back, replica_startup_failed, start_failed" {
			t.Errorf("roll_back because of %s", got)
		}
		last, _ := n.set.Events.Find(n.set.Events.Last())
		for range 10 {
			if last.Cause == 0 {
				break
			}
			last, _ = n.set.Events.Find(last.Cause)
		}
		if last.Reason != "start_failed" {
			t.Errorf("the stop of the new replica began with %+v", last)
		}
	})
}

func withConstruct(def deploy.App, construct func() error) deploy.App {
	other := appOf(map[string]int{"A": 1}, construct)
	def.Classes["A"].Construct = other.Classes["A"].Construct
	return def
}

// TestFailedDeployWaits: a deploy that goes back ends when the revision before has its replicas again, and no replica of the new one serves.
func TestFailedDeployWaits(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"": false, "the replicas before hang": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				n.closeAfter(t)
				var starts atomic.Int64
				over := make(chan struct{})
				defer close(over)
				n.deploy(t, withConstruct(rolled(4, "1", 0, nil), func() error {
					time.Sleep(time.Minute) // fake time
					if starts.Add(1) > 4 && hangs {
						<-over
					}
					return nil
				}))
				next := rolled(4, "2", 100, func(o *spec.Options) {
					o.Rollout.Steps, o.Rollout.ErrorRate.MinCalls = []string{"2"}, 10
					o.Sources["rollout_config.steps"], o.Sources["rollout_config.error_rate.min_calls"] = spec.FromCode, spec.FromCode
				})
				failed := make(chan error, 1)
				go func() { failed <- n.Deploy(t.Context(), next) }()
				for range 30 {
					time.Sleep(time.Second) // fake time
					n.work(t, 4)
				}
				wantOf(t, "goes back", n.reasons()[len(n.reasons())-1], "rolled_back")
				if len(failed) > 0 {
					t.Errorf("the deploy has ended with %v, and %v serve", <-failed, n.versions())
				}
				begun := time.Now()
				if err := <-failed; err == nil || !strings.Contains(err.Error(), "stays at revision 1") {
					t.Error(err)
				}
				if hangs {
					wantOf(t, "waits for", time.Since(begun).Round(time.Minute), spec.Options{}.Effective().Rollout.ProgressDeadline)
					return
				}
				wantOf(t, "serve", n.versions(), "map[1:4]")
			})
		})
	}
}

// TestFailureOutlivesTheNode: the next node shows that the newest deploy has failed, until the next deploy.
func TestFailureOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good := ofVersion("1", 1, nil)
		d := newDurable(func(string) (deploy.App, error) { return good, nil })
		first := d.node()
		first.deploy(t, good)
		if err := first.Deploy(t.Context(), ofVersion("2", 1, func() error { return errors.New("no port") })); err == nil {
			t.Error("it has started")
		}
		want := func(n *durableNode, when string) {
			t.Helper()
			time.Sleep(time.Minute) // fake time
			synctest.Wait()
			if s := n.Status().Applications["app"]; s.Status != helvetype.ApplicationDeployFailed || !strings.HasPrefix(s.Message, "revision 2 was rolled back: ") || !strings.Contains(s.Message, "no port") {
				t.Errorf("%s: %s: %s", when, s.Status, s.Message)
			}
		}
		want(first, "before")
		first.kill()
		second := d.restored(t)
		defer second.kill()
		want(second, "restored")
		second.deploy(t, good)
		second.wantStatus(t, "deployed again", helvetype.ApplicationRunning, 3, 1)
	})
}

// TestUndoneOutlivesTheNode: so it is after an automatic rollback of a revision that has run.
func TestUndoneOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good := rolled(1, "1", 0, nil)
		d := newDurable(func(string) (deploy.App, error) { return good, nil })
		first := d.node()
		first.deploy(t, good)
		first.deploy(t, rolled(1, "2", 0, nil))
		for range 3 {
			for _, r := range first.running("app", "A") {
				kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed"}, First: true, FirstOfDeployment: true})
			}
			time.Sleep(5 * time.Second) // fake time
			synctest.Wait()
		}
		time.Sleep(time.Minute) // fake time
		first.kill()
		second := d.restored(t)
		defer second.kill()
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		if s := second.Status().Applications["app"]; s.Status != helvetype.ApplicationDeployFailed || !strings.HasPrefix(s.Message, "revision 2 was rolled back: ") {
			t.Errorf("%s: %s", s.Status, s.Message)
		}
	})
}
