package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/spec"
)

// shop is a version of an application whose ingress A, of one replica, uses B, of four. Constructors of B take a second, and fail in a bad version. Its rollouts
// wait when one replica of B is new.
func shop(version string, bad bool) deploy.App {
	def := appOf(map[string]int{"A": 1, "B": 4}, nil)
	def.Retry = true
	def.Graph.Deployments[0].Uses = []string{"B"}
	for i := range def.Graph.Deployments {
		def.Graph.Deployments[i].Options.Version = version
	}
	def.Graph.Deployments[1].Options.Rollout.Steps = []string{"1"}
	def.Classes["B"].Construct = func(context.Context) (any, error) {
		if time.Sleep(time.Second); bad { // fake time
			return nil, errors.New("bad build")
		}
		return nothing{}, nil
	}
	return def
}

// revisionsOf counts the replicas of a deployment that run, by the number of their version.
func (n *testNode) revisionsOf(deployment string) string {
	counts := map[string]int{}
	for _, r := range n.running("app", deployment) {
		n.Mu.Lock()
		counts[r.Of.Version]++
		n.Mu.Unlock()
	}
	return fmt.Sprint(counts)
}

// both runs a test with hosts that begin before the deployments that theirs use are ready, and with others.
func both(t *testing.T, test func(t *testing.T, d *durable)) {
	t.Helper()
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint("early=", early), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDurable(nil)
				d.early = early
				test(t, d)
			})
		})
	}
}

// deployed gives the definitions that the next node asks for, in the order in which it does.
func (d *durable) deployed(defs ...deploy.App) {
	d.own = func(string) (def deploy.App, _ error) {
		def, defs = defs[0], defs[1:]
		return def, nil
	}
}

// TestRestartInABadRollout: a node dies while the new revision of B fails. The next node has both deployments again within the time of their constructors, of the revision
// before, and the rollout goes back there after three rounds.
func TestRestartInABadRollout(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, d *durable) {
		good, bad := shop("1", false), shop("2", true)
		first := d.node()
		first.deploy(t, good)
		ended := make(chan error, 1)
		go func() { ended <- first.Deploy(context.Background(), bad) }()
		time.Sleep(500 * time.Millisecond) // fake time
		first.kill()
		<-ended
		d.deployed(bad, good)
		second := d.restored(t)
		defer second.kill()
		time.Sleep(1500 * time.Millisecond) // fake time
		synctest.Wait()
		wantOf(t, "A after a second and a half", second.revisionsOf("A"), "map[1:1]")
		wantOf(t, "B", second.revisionsOf("B"), "map[1:4]")
		if ready := second.Readiness()["app"]; !ready {
			t.Error("the application does not answer")
		}
		time.Sleep(10 * time.Second) // fake time
		second.wantStatus(t, "in the end", helvetype.ApplicationDeployFailed, 1, 1)
		wantOf(t, "B in the end", second.revisionsOf("B"), "map[1:4]")
	})
}

// TestRestartInAPause: a node dies while a rollout is paused at a step, in which A is new and one of four replicas of B is. No replica outlives it. The next node has both
// deployments again, and resume ends the rollout.
func TestRestartInAPause(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, d *durable) {
		old, next := shop("1", false), shop("2", false)
		first := d.node()
		first.deploy(t, old)
		ended := make(chan error, 1)
		go func() { ended <- first.Deploy(context.Background(), next) }()
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		wantOf(t, "A at the step", first.revisionsOf("A"), "map[2:1]")
		wantOf(t, "B at the step", first.revisionsOf("B"), "map[1:3 2:1]")
		wantOf(t, "pause", first.PauseRollout(t.Context(), "app", "ann"), nil)
		first.kill()
		<-ended
		d.deployed(next, old)
		second := d.restored(t)
		defer second.kill()
		time.Sleep(2500 * time.Millisecond) // fake time
		synctest.Wait()
		wantOf(t, "A", len(second.running("app", "A")), 1)
		wantOf(t, "B", second.revisionsOf("B"), "map[1:4]")
		if r := second.rollout(); r == nil || r.State != "paused" {
			t.Errorf("%+v", r)
		}
		for range 2 {
			wantOf(t, "resume", second.ResumeRollout(t.Context(), "app", "ann"), nil)
			time.Sleep(time.Minute) // fake time
			synctest.Wait()
		}
		second.wantStatus(t, "in the end", helvetype.ApplicationRunning, 2, 1)
		wantOf(t, "B in the end", second.revisionsOf("B"), "map[2:4]")
	})
}

// TestRestartInARollout: a node dies in a rollout without steps whose new revision hangs. The next node has the replicas of the revision before, and one new one.
func TestRestartInARollout(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, d *durable) {
		old, next := shop("1", false), shop("2", false)
		next.Graph.Deployments[1].Options.Rollout = spec.Rollout{}
		next.Classes["B"].Construct = func(ctx context.Context) (any, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		first := d.node()
		first.deploy(t, old)
		ended := make(chan error, 1)
		go func() { ended <- first.Deploy(context.Background(), next) }()
		time.Sleep(time.Second) // fake time
		first.kill()
		<-ended
		d.deployed(next, old)
		second := d.restored(t)
		defer second.kill()
		time.Sleep(2500 * time.Millisecond) // fake time
		synctest.Wait()
		wantOf(t, "A", second.revisionsOf("A"), "map[1:1]")
		wantOf(t, "B", second.revisionsOf("B"), "map[1:4]")
		second.Mu.Lock()
		wantOf(t, "replicas of B that start or run", len(second.Apps["app"].Deployments["B"].Replicas), 5)
		second.Mu.Unlock()
	})
}
