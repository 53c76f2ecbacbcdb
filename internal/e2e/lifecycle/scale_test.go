package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// scaled builds the application "labs" with the deployment "Lab".
func scaled(o helve.Options, construct func(context.Context) (*fixture.Lab, error)) helve.Build {
	return func() (*helve.App, error) {
		a := helve.NewApp("labs")
		a.RoutePrefix("")
		a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", construct, o), (*fixture.Lab).Do))
		return a, nil
	}
}

// replicas counts the replicas of the deployment "Lab" in a state.
func replicas(sys *helve.System, state helvetype.ReplicaState) (n int) {
	for _, r := range sys.Status().Applications["labs"].Deployments["Lab"].Replicas {
		if r.State == state {
			n++
		}
	}
	return n
}

// wantScale waits until nothing moves, and compares the state of the deployment "Lab" and the number of replicas that it wants and has.
func wantScale(t *testing.T, sys *helve.System, when string, state helvetype.DeploymentState, wanted, running int) {
	t.Helper()
	synctest.Wait()
	d := sys.Status().Applications["labs"].Deployments["Lab"]
	if n := replicas(sys, helvetype.ReplicaRunning); d.Status != state || d.Wanted != wanted || n != running {
		t.Errorf("%s: %s, %d wanted, %d running; want %s, %d, %d", when, d.Status, d.Wanted, n, state, wanted, running)
	}
}

// TestScaleLosesNoCall: calls that wait run on replicas that are added, and replicas that are too many finish theirs.
func TestScaleLosesNoCall(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		var running atomic.Int32
		lab := fixture.Constant(7, hold)
		do := lab.OnDo
		lab.OnDo = func(ctx context.Context, n int) (int, error) {
			running.Add(1)
			defer running.Add(-1)
			return do(ctx, n)
		}
		l := fixture.StartLab(t, r, fixture.OneSlot(), lab)
		scale := func(n int) {
			t.Helper()
			if err := l.System.Scale(ctx, "labs", "Lab", n); err != nil {
				t.Fatal(err)
			}
		}
		var calls []*helve.Response[int]
		for range 4 {
			calls = append(calls, l.Do.Remote(ctx, 0))
		}
		synctest.Wait()
		if n := running.Load(); n != 1 {
			t.Fatalf("%d calls run on one replica with one slot", n)
		}
		scale(3)
		wantScale(t, l.System, "up", "HEALTHY", 3, 3)
		if n := running.Load(); n != 3 {
			t.Errorf("%d calls run on three replicas", n)
		}
		scale(1)
		wantScale(t, l.System, "down, while calls run", "DOWNSCALING", 1, 1)
		if n := replicas(l.System, helvetype.ReplicaStopping); n != 2 {
			t.Errorf("%d replicas stop", n)
		}
		scale(0)
		wantScale(t, l.System, "none", "DOWNSCALING", 0, 0)
		close(hold)
		time.Sleep(time.Second) // fake time: replicas that stop look at their calls in intervals
		wantScale(t, l.System, "calls have ended", "HEALTHY", 0, 0)
		late := l.Do.Remote(ctx, 0)
		synctest.Wait()
		if n := l.System.Status().Applications["labs"].Deployments["Lab"].Calls.Queued; n != 2 { // the fourth call, and this one
			t.Errorf("%d calls wait for a replica", n)
		}
		scale(1)
		for i, c := range append(calls, late) {
			if n, err := c.Result(ctx); n != 7 || err != nil {
				t.Errorf("call %d: %d, %v", i, n, err)
			}
		}
		wantScale(t, l.System, "one again", "HEALTHY", 1, 1)
	})
}

// TestScaleAndDeploy: a deploy changes the number of replicas if it changes num_replicas, and a deploy that fails puts the number back.
func TestScaleAndDeploy(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx := t.Context()
		var fail atomic.Bool
		build := func(n int) helve.Build {
			return scaled(helve.Options{NumReplicas: &n, MaxConstructorRetries: new(1)}, func(context.Context) (*fixture.Lab, error) {
				if fail.Load() {
					return nil, errors.New("no licence")
				}
				return fixture.Constant(1, nil), nil
			})
		}
		sys := helvetest.Start(t, r.Config, build(2))
		wantScale(t, sys, "as built", "HEALTHY", 2, 2)
		scale := func(n int) {
			t.Helper()
			if err := sys.Scale(ctx, "labs", "Lab", n); err != nil {
				t.Fatal(err)
			}
		}
		deploy := func(n int) {
			t.Helper()
			if err := sys.Deploy(ctx, build(n)); err != nil {
				t.Fatal(err)
			}
		}
		scale(4)
		deploy(2)
		wantScale(t, sys, "deployed with the same number", "HEALTHY", 4, 4)
		deploy(3)
		wantScale(t, sys, "deployed with another number", "HEALTHY", 3, 3)
		scale(1)
		if r.Name == helvetest.Pipe.Name { // the worker runs on, so that the deploy starts nothing that could fail
			deploy(3)
			wantScale(t, sys, "deployed with the same number again", "HEALTHY", 1, 1)
			return
		}
		fail.Store(true)
		for _, n := range []int{2, 3} {
			if err := sys.Deploy(ctx, build(n)); err == nil || !strings.Contains(err.Error(), "no licence") {
				t.Fatal(err)
			}
			wantScale(t, sys, "a deploy has failed", "DEPLOY_FAILED", 1, 1)
		}
		fail.Store(false)
		deploy(3)
		wantScale(t, sys, "after the deploys that failed", "HEALTHY", 1, 1)
		if err := sys.Delete(ctx, "labs"); err != nil {
			t.Fatal(err)
		}
		deploy(3)
		wantScale(t, sys, "deleted and deployed", "HEALTHY", 3, 3)
	})
}

// TestScaleDuringDeploy: the number that is set while a revision starts stays, whether the revision fails or not.
func TestScaleDuringDeploy(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"it runs": nil, "it fails": errors.New("no licence")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, hold := t.Context(), make(fixture.Latch)
				sys := helvetest.Start(t, helve.Config{}, scaled(helve.Options{}, func(context.Context) (*fixture.Lab, error) { return fixture.Constant(1, nil), nil }))
				deployed := make(chan error, 1)
				go func() {
					deployed <- sys.Deploy(ctx, scaled(helve.Options{NumReplicas: new(3), MaxConstructorRetries: new(1)}, func(ctx context.Context) (*fixture.Lab, error) {
						return fixture.Constant(2, nil), errors.Join(hold.Wait(ctx), failure)
					}))
				}()
				wantScale(t, sys, "it starts", "UPDATING", 3, 1)
				if err := sys.Scale(ctx, "labs", "Lab", 2); err != nil {
					t.Fatal(err)
				}
				wantScale(t, sys, "scaled", "UPDATING", 2, 1)
				close(hold)
				if err := <-deployed; (err != nil) != (failure != nil) {
					t.Error(err)
				}
				over := helvetype.DeploymentHealthy
				if failure != nil {
					over = helvetype.DeploymentDeployFailed
				}
				wantScale(t, sys, "it is over", over, 2, 2)
			})
		})
	}
}

// TestScaleStates: a deployment is UPSCALING until the replicas that are added run, and UNHEALTHY if they fail.
func TestScaleStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, hold := t.Context(), make(fixture.Latch)
		var later atomic.Bool
		var broken atomic.Bool
		sys := helvetest.Start(t, helve.Config{}, scaled(helve.Options{}, func(ctx context.Context) (*fixture.Lab, error) {
			if broken.Load() {
				return nil, errors.New("no licence")
			}
			if later.Load() {
				return fixture.Constant(1, nil), hold.Wait(ctx)
			}
			return fixture.Constant(1, nil), nil
		}))
		scale := func(n int) {
			t.Helper()
			if err := sys.Scale(ctx, "labs", "Lab", n); err != nil {
				t.Fatal(err)
			}
		}
		later.Store(true)
		scale(2)
		wantScale(t, sys, "up", "UPSCALING", 2, 1)
		if a := sys.Status().Applications["labs"]; a.Status != helvetype.ApplicationDeploying {
			t.Errorf("the application is %s", a.Status)
		}
		close(hold)
		wantScale(t, sys, "done", "HEALTHY", 2, 2)
		broken.Store(true)
		scale(3)
		wantScale(t, sys, "it fails", "UNHEALTHY", 3, 2)
		broken.Store(false)
		time.Sleep(time.Minute) // fake time: until the next start
		wantScale(t, sys, "it starts after all", "HEALTHY", 3, 3)
	})
}

// TestMaxReplicasPerNode: a node has no more replicas than a deployment allows; the others wait, and the status says so.
func TestMaxReplicasPerNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := helvetest.Start(t, helve.Config{}, scaled(helve.Options{MaxReplicasPerNode: 2}, func(context.Context) (*fixture.Lab, error) {
			return fixture.Constant(1, nil), nil
		}))
		if err := sys.Scale(t.Context(), "labs", "Lab", 5); err != nil {
			t.Fatal(err)
		}
		wantScale(t, sys, "over the bound", "UPSCALING", 5, 2)
		const want = "max_replicas_per_node is 2: 3 of 5 replicas wait for another node"
		if d := sys.Status().Applications["labs"].Deployments["Lab"]; d.Message != want {
			t.Errorf("the message is %q, want %q", d.Message, want)
		}
		if err := sys.Scale(t.Context(), "labs", "Lab", 2); err != nil {
			t.Fatal(err)
		}
		wantScale(t, sys, "within the bound", "HEALTHY", 2, 2)
	})
}

func TestScaleErrors(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, fixture.Constant(1, nil))
		for name, x := range map[string]struct {
			app, deployment string
			n               int
			want            string
		}{
			"another application": {"nope", "Lab", 2, `no application "nope" is running; there is labs`},
			"another deployment":  {"labs", "Labb", 2, `no deployment "Labb" in application "labs"; it has Lab`},
			"fewer than none":     {"labs", "Lab", -1, `the number of replicas must be at least 0 and at most 100000, is -1`},
			"too many":            {"labs", "Lab", 100_001, `the number of replicas must be at least 0 and at most 100000, is 100001`},
		} {
			if err := l.System.Scale(t.Context(), x.app, x.deployment, x.n); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: %v, want %q", name, err, x.want)
			}
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.System.Scale(over, "labs", "Lab", 2); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is over: %v", err)
		}
		wantScale(t, l.System, "after the errors", "HEALTHY", 1, 1)
		if err := l.System.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.System.Scale(t.Context(), "labs", "Lab", 2); err == nil || !strings.Contains(err.Error(), "the node is closing") {
			t.Errorf("closed: %v", err)
		}
	})
}
