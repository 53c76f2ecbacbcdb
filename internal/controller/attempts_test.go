package controller

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
)

// driven is an application as a driver deploys it, with a constructor of the test's.
func driven(name string, o spec.Options, construct func(ctx context.Context) error) deploy.App {
	def := deploy.App{
		Graph: graphOf(spec.Deployment{Name: "A", Language: "go", Options: o}), Replace: true, Attempts: true, KeepFailed: true,
		Classes: map[string]*instance.Class{"A": {
			App: name, Deployment: "A", Methods: instance.Methods(reflect.TypeFor[nothing]()),
			Construct: func(ctx context.Context) (any, error) { return nothing{}, construct(ctx) },
		}},
	}
	def.Graph.App, def.Graph.RoutePrefix = name, "/app"
	return def
}

// TestAttempts: a start that fails is made again until it succeeds, or until its deployment has failed as often as it may.
func TestAttempts(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		options        spec.Options
		failures, made int64
		fatal          bool
	}{
		"heals":                       {failures: 2, made: 3},
		"three per replica":           {failures: 9, made: 3, fatal: true},
		"as often as the option says": {options: spec.Options{MaxConstructorRetries: 2}, failures: 9, made: 2, fatal: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				defer n.Close(t.Context())
				var made atomic.Int64
				err := n.Deploy(t.Context(), driven("app", x.options, func(context.Context) error {
					if made.Add(1) <= x.failures {
						return errors.New("not yet")
					}
					return nil
				}))
				if (err != nil) != x.fatal || made.Load() != x.made {
					t.Errorf("%d attempts: %v", made.Load(), err)
				}
			})
		})
	}
}

// TestStartsWhileDeleting: a call waits for a replica of an application that is being deleted, and the constructor fails each time. The starts have their delays, as ever.
func TestStartsWhileDeleting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		var made atomic.Int64
		def := driven("app", spec.Options{GracefulShutdownTimeout: 10 * time.Second}, func(context.Context) error {
			if made.Add(1) > 1 {
				return errors.New("no licence any more")
			}
			return nil
		})
		if err := n.Deploy(t.Context(), def); err != nil {
			t.Fatal(err)
		}
		for _, r := range n.running("app", "A") {
			kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed", Code: -1, At: time.Now()}, First: true, FirstOfDeployment: true})
		}
		waited := make(chan struct{})
		go func() {
			defer close(waited)
			if r, e := n.Deployment("app", "A").Acquire(t.Context(), &call.Info{Place: &call.Place{App: "app", Deployment: "A", Method: "Call"}}, "driver"); e == nil {
				r.Gate().Release(nil)
			}
		}()
		synctest.Wait()
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		<-waited
		if n := made.Load(); n < 2 || n > 6 {
			t.Errorf("%d starts in 10 s, want one at once, and then after 1, 2 and 4 s", n-1)
		}
	})
}

// TestRouteOfFailedDeploy: requests of an application that failed to start get 503, and not the answers of the application whose prefix is shorter. Another application may
// take the route.
func TestRouteOfFailedDeploy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		good := func(context.Context) error { return nil }
		root := driven("root", spec.Options{}, good)
		root.Graph.RoutePrefix = "/"
		if err := n.Deploy(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		ask := func() (status int, body string) {
			w := httptest.NewRecorder()
			n.set.Proxy.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/app/x", http.NoBody))
			return w.Code, w.Body.String()
		}
		before, body := ask()
		if before == http.StatusServiceUnavailable {
			t.Fatalf("the application of / does not answer: %s", body)
		}
		if err := n.Deploy(t.Context(), driven("app", spec.Options{}, func(context.Context) error { return errors.New("no licence") })); err == nil {
			t.Fatal("it has started")
		}
		if status, body := ask(); status != http.StatusServiceUnavailable || !strings.Contains(body, `application \"app\" has failed to start`) && !strings.Contains(body, `application "app" has failed to start`) {
			t.Errorf("failed: %d %s", status, body)
		}
		if err := n.Deploy(t.Context(), driven("other", spec.Options{}, good)); err != nil {
			t.Error(err)
		}
		if status, body := ask(); status == http.StatusServiceUnavailable {
			t.Errorf("taken by another: %d %s", status, body)
		}
		if err := n.Delete(t.Context(), "other"); err != nil {
			t.Error(err)
		}
		if status, body := ask(); status != http.StatusServiceUnavailable {
			t.Errorf("the other is deleted: %d %s", status, body)
		}
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Error(err)
		}
		if status, body := ask(); status != before {
			t.Errorf("deleted: %d %s, want %d", status, body, before)
		}
	})
}

// TestFailedDeployStays in the status, without a replica, and not ready, until it is deleted or deployed again.
func TestFailedDeployStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		bad := func(context.Context) error { return errors.New("no licence") }
		good := func(context.Context) error { return nil }
		for _, again := range []string{"delete", "deploy"} {
			if err := n.Deploy(t.Context(), driven("app", spec.Options{}, bad)); err == nil || !strings.Contains(err.Error(), "no licence") {
				t.Fatalf("%v", err)
			}
			if got := brief(n); got != "DEPLOY_FAILED A:DEPLOY_FAILED" {
				t.Error(got)
			}
			d := n.Status().Applications["app"].Deployments["A"]
			if d.Trigger != helvetype.TriggerReplicaStartupFailed || len(d.Replicas) != 0 || !strings.Contains(d.Message, "failed to start 3 times in a row") {
				t.Errorf("%+v", d)
			}
			if ready, there := n.Readiness()["app"]; ready || !there {
				t.Errorf("ready: %v, asked: %v", ready, there)
			}
			if err := n.Missing("app"); !strings.Contains(err.Error(), "no licence") {
				t.Error(err)
			}
			if err := n.Deploy(t.Context(), driven("other", spec.Options{}, good)); err != nil { // under the same route
				t.Error(err)
			}
			if err := n.Delete(t.Context(), "other"); err != nil {
				t.Error(err)
			}
			if again == "delete" {
				if err := n.Delete(t.Context(), "app"); err != nil || len(n.Status().Applications) > 0 {
					t.Errorf("%v, %v", err, n.Status())
				}
				continue
			}
			if err := n.Deploy(t.Context(), driven("app", spec.Options{}, good)); err != nil {
				t.Error(err)
			}
			if got := brief(n); got != "RUNNING A:HEALTHY" {
				t.Error(got)
			}
		}
	})
}

// TestSupersede: a deploy that is under way is given up for the next one of its name, whether the application was there before or not.
func TestSupersede(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"first": false, "update": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(Settings{})
				defer n.Close(t.Context())
				good := func(context.Context) error { return nil }
				if before {
					if err := n.Deploy(t.Context(), driven("app", spec.Options{}, good)); err != nil {
						t.Fatal(err)
					}
				}
				stuck := make(chan error, 1)
				go func() {
					stuck <- n.Deploy(t.Context(), driven("app", spec.Options{}, func(ctx context.Context) error {
						<-ctx.Done()
						return context.Cause(ctx)
					}))
				}()
				synctest.Wait()
				if err := n.Deploy(t.Context(), driven("app", spec.Options{}, good)); err != nil {
					t.Error(err)
				}
				if err := <-stuck; err == nil || !strings.Contains(err.Error(), "another deploy has taken its place") {
					t.Errorf("%v", err)
				}
				if got := brief(n); got != "RUNNING A:HEALTHY" {
					t.Error(got)
				}
			})
		})
	}
}

// TestFailureInTheBackground: the log has the error of a start for which no program waits; where one waits, the program has it.
func TestFailureInTheBackground(t *testing.T) {
	t.Parallel()
	for name, added := range map[string]func(){"in the background": func() {}, "awaited": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuffer
				n := newTestNode(Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				def := driven("app", spec.Options{}, func(context.Context) error { return errors.New("no licence") })
				def.Added = added
				if err := n.Deploy(t.Context(), def); err == nil {
					t.Error("it has started")
				}
				n.Close(t.Context())
				if got := strings.Contains(log.String(), "no licence"); got != (added != nil) {
					t.Errorf("%v: %s", got, log.String())
				}
			})
		})
	}
}

// TestOtherFailuresOfAnUpdate: the log says nothing of starts that end because the update has failed or another deploy has come. For example, two
// replicas of an update have the same mistake: Deploy returns the error of the first one, and that of the second one adds nothing.
func TestOtherFailuresOfAnUpdate(t *testing.T) {
	t.Parallel()
	for name, superseded := range map[string]bool{"the update has failed": false, "another deploy has come": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuffer
				n := newTestNode(Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				good := func(context.Context) error { return nil }
				if err := n.Deploy(t.Context(), driven("app", spec.Options{}, good)); err != nil {
					t.Fatal(err)
				}
				var made atomic.Int64
				update := driven("app", spec.Options{NumReplicas: 2, MaxConstructorRetries: 1}, func(ctx context.Context) error {
					if made.Add(1) == 1 && !superseded {
						return errors.New("no licence")
					}
					<-ctx.Done()
					return errors.New("too late")
				})
				failed := make(chan error, 1)
				go func() { failed <- n.Deploy(t.Context(), update) }()
				synctest.Wait()
				if superseded {
					if err := n.Deploy(t.Context(), driven("app", spec.Options{}, good)); err != nil {
						t.Error(err)
					}
				}
				if err := <-failed; err == nil || made.Load() != 2 {
					t.Errorf("%d replicas: %v", made.Load(), err)
				}
				synctest.Wait()
				if strings.Contains(log.String(), "failed to start") {
					t.Error(log.String())
				}
				n.Close(t.Context())
			})
		})
	}
}

// TestRefusedDeployChangesNothing: a deploy whose route belongs to another application neither gives up the deploy that is under way, nor takes a
// failed application out of the status.
func TestRefusedDeployChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		good := func(context.Context) error { return nil }
		bad := func(context.Context) error { return errors.New("no licence") }
		other := driven("other", spec.Options{}, good)
		other.Graph.RoutePrefix = "/other"
		if err := n.Deploy(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		refused := func(when string) {
			t.Helper()
			again := driven("app", spec.Options{}, good)
			again.Graph.RoutePrefix = "/other"
			if err := n.Deploy(t.Context(), again); err == nil || !strings.Contains(err.Error(), "Prefix /other is being used") {
				t.Errorf("%s: %v", when, err)
			}
		}
		if err := n.Deploy(t.Context(), driven("app", spec.Options{}, bad)); err == nil {
			t.Error("it has started")
		}
		refused("after the failure")
		if got := n.Status().Applications["app"].Status; got != helvetype.ApplicationDeployFailed {
			t.Errorf("after the failure: %q", got)
		}
		begins, first := make(chan struct{}), make(chan error, 1)
		go func() {
			first <- n.Deploy(t.Context(), driven("app", spec.Options{}, func(context.Context) error { <-begins; return nil }))
		}()
		synctest.Wait()
		refused("while it is deployed")
		close(begins)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// TestRanksOfReplicas: the ranks are 0 to n-1 after starts, a death, and every change of the number; a replica that stays keeps its rank if
// that is there still.
func TestRanksOfReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		if err := n.Deploy(t.Context(), driven("app", spec.Options{NumReplicas: 3}, func(context.Context) error { return nil })); err != nil {
			t.Fatal(err)
		}
		ranks := func(want int) map[string]int {
			t.Helper()
			synctest.Wait()
			all := map[string]int{}
			var have []int
			for _, r := range n.Status().Applications["app"].Deployments["A"].Replicas {
				all[r.ID] = r.Rank
				have = append(have, r.Rank)
			}
			slices.Sort(have)
			for i, r := range have {
				if i != r || len(have) != want {
					t.Errorf("ranks %v, want %d", have, want)
				}
			}
			return all
		}
		before := ranks(3)
		for _, r := range n.running("app", "A") {
			if before[r.ID] == 1 {
				kill(r, host.Ending{Exit: helvetype.Exit{Reason: "killed"}, First: true, FirstOfDeployment: true})
			}
		}
		time.Sleep(time.Minute)
		after := ranks(3)
		for id, rank := range before {
			if got, there := after[id]; there && got != rank {
				t.Errorf("%s had the rank %d, and has %d", id, rank, got)
			}
		}
		for _, replicas := range []int{2, 5, 1, 0, 4} {
			last := ranks(len(after))
			if err := n.Scale(t.Context(), "app", "A", replicas, "test", ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			after = ranks(replicas)
			for id, rank := range after {
				if had, there := last[id]; there && had < replicas && had != rank {
					t.Errorf("of %d replicas, %s had the rank %d, and has %d", replicas, id, had, rank)
				}
			}
		}
	})
}
