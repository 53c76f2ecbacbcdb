package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// TestPlanAndDeployAgree: in each state of an application, a deploy makes a revision if and only if the comparison for the plan says so.
func TestPlanAndDeployAgree(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		reach func(*testing.T, *testNode) // the state, from revision 1 with version 1
		next  deploy.App
		makes bool
	}{
		"running":             {func(*testing.T, *testNode) {}, ofVersion("1", 2, nil), false},
		"running, other code": {func(*testing.T, *testNode) {}, ofVersion("2", 2, nil), true},
		"rolled back": {func(t *testing.T, n *testNode) {
			if err := n.Deploy(t.Context(), ofVersion("2", 2, func() error { return errors.New("no port") })); err == nil {
				t.Error("it has started")
			}
		}, ofVersion("1", 2, nil), true},
		"rolled out":                 {hang(ofVersion("2", 2, nil)), ofVersion("2", 2, nil), false},
		"rolled out, the one before": {hang(ofVersion("2", 2, nil)), ofVersion("1", 2, nil), true},
		"paused": {func(t *testing.T, n *testNode) {
			hang(ofVersion("2", 2, nil))(t, n)
			if err := n.PauseRollout(t.Context(), "app", "ann"); err != nil {
				t.Error(err)
			}
		}, ofVersion("2", 2, nil), false},
		"paused after a failure": {func(t *testing.T, n *testNode) {
			def := manual(ofVersion("2", 2, func() error { return errors.New("no port") }))
			if err := n.Deploy(t.Context(), def); !errors.Is(err, deploy.ErrStuck) {
				t.Error(err)
			}
		}, manual(ofVersion("2", 2, nil)), true},
		"scaled": {func(t *testing.T, n *testNode) {
			if err := n.Scale(t.Context(), "app", "A", 5, "ann", ""); err != nil {
				t.Error(err)
			}
		}, ofVersion("1", 2, nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := store.NewMemory()
				n := newTestNode(Settings{Store: s})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 2, nil))
				x.reach(t, n)
				synctest.Wait()
				of, err := n.Compare(t.Context(), x.next)
				if err != nil || (of.Reason != "") != x.makes {
					t.Errorf("the plan says %q: %v; want a revision: %t", of.Reason, err, x.makes)
				}
				before := len(keys(t, s, "revisions/"))
				added := make(chan struct{})
				x.next.Added = func() { close(added) }
				go n.Deploy(context.WithoutCancel(t.Context()), x.next) //nolint:errcheck // it may wait for the end of the test
				<-added
				if got := len(keys(t, s, "revisions/")) - before; (got > 0) != x.makes {
					t.Errorf("the deploy has made %d revisions; want one: %t", got, x.makes)
				}
			})
		})
	}
}

// hang deploys an application whose constructors do not return.
func hang(def deploy.App) func(*testing.T, *testNode) {
	return func(t *testing.T, n *testNode) {
		construct := func(ctx context.Context) (any, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		def.Classes["A"].Construct = construct
		go n.Deploy(context.WithoutCancel(t.Context()), def) //nolint:errcheck // as above
		synctest.Wait()
	}
}

// manual is an application without automatic rollback, whose first failure ends the rollout.
func manual(def deploy.App) deploy.App {
	o := &def.Graph.Deployments[0].Options
	o.Rollout.AutomaticRollback, o.MaxConstructorRetries = false, 1
	o.Sources["rollout_config.automatic_rollback"], o.Sources["max_constructor_retry_count"] = spec.FromCode, spec.FromCode
	return def
}

// TestSameDeployTwice: a deploy that equals the one that is under way waits for its end, and neither gives it up nor starts its replicas again.
func TestSameDeployTwice(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"it runs": nil, "it fails": errors.New("no port")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := store.NewMemory()
				n := newTestNode(Settings{Store: s})
				n.closeAfter(t)
				n.deploy(t, ofVersion("1", 1, nil))
				var starts atomic.Int64
				loaded := make(chan struct{})
				of := func() deploy.App {
					return ofVersion("2", 1, func() error { starts.Add(1); <-loaded; return fails })
				}
				ended := make(chan error, 2)
				for range 2 {
					go func() { ended <- n.Deploy(t.Context(), of()) }()
					synctest.Wait()
				}
				time.Sleep(time.Minute)
				if len(ended) > 0 || starts.Load() != 1 {
					t.Errorf("%d deploys have ended while the replica loads, %d starts", len(ended), starts.Load())
				}
				close(loaded)
				first, second := <-ended, <-ended
				if (first != nil) != (fails != nil) || (second != nil) != (fails != nil) || fails != nil && first.Error() != second.Error() {
					t.Errorf("%v, and %v", first, second)
				}
				if got := keys(t, s, "revisions/"); len(got) != 2 {
					t.Error(got)
				}
			})
		})
	}
}
