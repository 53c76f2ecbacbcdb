package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// byLoad are the options of a deployment of one slot a replica, whose number follows the load.
func byLoad(least, most int) helve.Options {
	return helve.Options{MaxOngoingRequests: new(1), Autoscaling: &helvetype.AutoscalingOptions{MinReplicas: &least, MaxReplicas: most, TargetOngoingRequests: 1}}
}

// settled lets some fake time pass, and gives the status of the deployment "Lab" then.
func settled(sys *helve.System, after time.Duration) helvetype.DeploymentStatus {
	time.Sleep(after)
	synctest.Wait()
	return sys.Status().Applications["labs"].Deployments["Lab"]
}

// TestFollowsLoad: the number of replicas follows the calls that wait and run, up within seconds and down after a while, each change is an event with its reason, and the application runs on meanwhile.
func TestFollowsLoad(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		l := fixture.StartLab(t, r, byLoad(1, 4), fixture.Constant(7, hold))
		if d := settled(l.System, time.Second); d.Wanted != 1 || d.Autoscaling == nil || d.Autoscaling.Most != 4 {
			t.Fatalf("%+v", d)
		}
		var calls []*helve.Response[int]
		for range 6 {
			calls = append(calls, l.Do.Remote(ctx, 0))
		}
		d := settled(l.System, 3*time.Second)
		if d.Wanted != 4 || d.Ready != 4 || d.Calls.Running != 4 || len(d.Autoscaling.Decisions) == 0 ||
			!strings.Contains(d.Autoscaling.Decisions[0].Reason, "at most 4 by max_replicas") {
			t.Errorf("3 s after six calls: %d wanted, %d ready, %d running, %+v", d.Wanted, d.Ready, d.Calls.Running, d.Autoscaling)
		}
		if s := l.System.Status().Applications["labs"].Status; s != helvetype.ApplicationRunning {
			t.Errorf("the application is %s", s)
		}
		close(hold)
		for _, c := range calls {
			if n, err := c.Result(ctx); n != 7 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		if d = settled(l.System, 10*time.Minute); d.Wanted != 1 || d.Ready != 1 || d.Status != helvetype.DeploymentHealthy {
			t.Errorf("ten minutes later: %d wanted, %d ready, %s", d.Wanted, d.Ready, d.Status)
		}
	})
}

// TestWakesFromZero: the last replica ends when no call has come for a while, and the next call starts one, which executes it.
func TestWakesFromZero(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx := t.Context()
		o := byLoad(0, 4)
		o.Autoscaling.InitialReplicas = new(1)
		l := fixture.StartLab(t, r, o, fixture.Constant(7, nil))
		if d := settled(l.System, 10*time.Minute); d.Wanted != 0 || d.Ready != 0 || d.Status != helvetype.DeploymentHealthy {
			t.Fatalf("without a call: %d wanted, %d ready, %s", d.Wanted, d.Ready, d.Status)
		}
		begun := time.Now()
		if n, err := l.Do.Call(ctx, 0); n != 7 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if took := time.Since(begun); took > time.Second { // fake time: the scaler is woken, and does not look by itself
			t.Errorf("the first call took %s", took)
		}
		if d := settled(l.System, time.Second); d.Ready != 1 || !strings.Contains(d.Autoscaling.Decisions[len(d.Autoscaling.Decisions)-1].Reason, "no replica") {
			t.Errorf("%d ready, %+v", d.Ready, d.Autoscaling)
		}
	})
}

// TestInitialReplicas: a first deploy starts initial_replicas. A deploy of the same config keeps the number that the load needs, and one of another config begins with initial_replicas again.
func TestInitialReplicas(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		build := func(most int) helve.Build {
			o := byLoad(1, most)
			o.Autoscaling.InitialReplicas = new(3)
			return scaled(o, func(context.Context) (*fixture.Lab, error) { return fixture.Constant(1, nil), nil })
		}
		sys := helvetest.Start(t, r.Config, build(4))
		for _, step := range []struct {
			when        string
			most        int // of a deploy; 0 for none
			after       time.Duration
			want, bound int
		}{
			{"after the first deploy", 0, 2 * time.Second, 3, 4},
			{"without a call", 0, 10 * time.Minute, 1, 4},
			{"after a deploy of the same config", 4, 2 * time.Second, 1, 4},
			{"after a deploy of another config", 5, 2 * time.Second, 3, 5},
		} {
			if step.most > 0 {
				if err := sys.Deploy(t.Context(), build(step.most)); err != nil {
					t.Fatal(err)
				}
			}
			if d := settled(sys, step.after); d.Wanted != step.want || d.Ready != step.want || d.Autoscaling.Most != step.bound {
				t.Errorf("%s: %d wanted, %d ready, %+v; want %d", step.when, d.Wanted, d.Ready, d.Autoscaling, step.want)
			}
		}
	})
}

// TestWarmSpare: the first replica of a deployment of none takes the process that was ready before the call, and another process gets ready then.
func TestWarmSpare(t *testing.T) {
	t.Parallel()
	type echo interface {
		Echo(context.Context, string) (string, error)
	}
	dir := t.TempDir()
	sys := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("warm")
		o := byLoad(0, 2)
		o.WarmSpare, o.Env = true, map[string]string{"WARM_DIRECTORY": dir}
		h := helve.Python[echo](app, "Warm", "warm:Warm", helve.Args{}, o)
		app.Ingress(helve.MethodOf(h, echo.Echo))
		return app, nil
	})
	imported := func(n int) (pids []string) {
		fixture.Eventually(t, func() string {
			pids = nil
			all, err := os.ReadDir(dir) // a file for each process that has imported the module
			for _, f := range all {
				pids = append(pids, f.Name())
			}
			if len(pids) != n {
				return fmt.Sprintf("processes %v have imported the module, %v; want %d", pids, err, n)
			}
			return ""
		})
		return pids
	}
	ready := imported(1)[0]
	if d := sys.Status().Applications["warm"].Deployments["Warm"]; d.Wanted != 0 || len(d.Replicas) != 0 {
		t.Errorf("before the call: %+v", d)
	}
	h, err := helve.HandleOf[echo](sys, "warm", "Warm")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := helve.MethodOf(h, echo.Echo).Call(t.Context(), ""); pid != ready || err != nil {
		t.Errorf("process %s has executed the call, and %s was ready; %v", pid, ready, err)
	}
	imported(2)
}

// TestScaleDownKeepsCalls: a replica with a call that takes long is not the one that stops, and where all have calls each finishes its own.
func TestScaleDownKeepsCalls(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		o := byLoad(1, 4)
		o.Autoscaling.InitialReplicas = new(4)
		l := fixture.StartLab(t, r, o, fixture.Constant(7, hold))
		call := l.Do.Remote(ctx, 0)
		synctest.Wait()
		d := settled(l.System, 10*time.Minute)
		if d.Wanted != 1 || d.Ready != 1 || d.Calls.Running != 1 || replicas(l.System, helvetype.ReplicaStopping) != 0 {
			t.Errorf("%d wanted, %d ready, %d calls run, %d replicas stop", d.Wanted, d.Ready, d.Calls.Running, replicas(l.System, helvetype.ReplicaStopping))
		}
		close(hold)
		if n, err := call.Result(ctx); n != 7 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestScaleOfAutoscaled: a number is not set by hand where an autoscaler sets it; a deploy that changes the bounds acts at once, and one that changes nothing keeps the number.
func TestScaleOfAutoscaled(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx := t.Context()
		build := func(o helve.Options) helve.Build {
			return scaled(o, func(context.Context) (*fixture.Lab, error) { return fixture.Constant(1, nil), nil })
		}
		sys := helvetest.Start(t, r.Config, build(byLoad(2, 4)))
		if err := sys.Scale(ctx, "labs", "Lab", 3); !errors.Is(err, deploy.ErrAutoscaled) && (err == nil || !strings.Contains(err.Error(), "autoscaler")) {
			t.Errorf("%v", err)
		}
		for _, step := range []struct {
			o    helve.Options
			want int
		}{
			{byLoad(3, 4), 3},
			{byLoad(1, 2), 2},
			{helve.Options{MaxOngoingRequests: new(1), NumReplicas: new(1)}, 1},
		} {
			if err := sys.Deploy(ctx, build(step.o)); err != nil {
				t.Fatal(err)
			}
			if d := settled(sys, 2*time.Second); d.Wanted != step.want || d.Ready != step.want {
				t.Errorf("%d wanted, %d ready; want %d", d.Wanted, d.Ready, step.want)
			}
		}
	})
}

// TestUnfinishedByScaleDown: where each replica executes a call, the autoscaler stops one of them all the same. A call that is not over within graceful_shutdown_timeout_s is in the log, with the option and the decision.
func TestUnfinishedByScaleDown(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold, log := t.Context(), make(fixture.Latch), fixture.NewLog()
		r.Config.Logger = slog.New(log)
		o := byLoad(1, 2)
		o.Autoscaling.TargetOngoingRequests, o.Autoscaling.InitialReplicas = 4, new(2)
		l := fixture.StartLab(t, r, o, fixture.Constant(7, hold))
		calls := []*helve.Response[int]{l.Do.Remote(ctx, 0), l.Do.Remote(ctx, 0)}
		if d := settled(l.System, 10*time.Minute); d.Wanted != 1 {
			t.Fatalf("%d replicas are wanted", d.Wanted)
		}
		const want = "a replica has stopped: calls were not over within 20 s (graceful_shutdown_timeout_s of Lab): 1; the autoscaler needs fewer replicas: 2 -> 1 replicas: "
		if text := log.String(); !strings.Contains(text, want) {
			t.Errorf("%s\nwant %s", text, want)
		}
		close(hold)
		for _, c := range calls {
			c.Result(ctx) //nolint:errcheck // a method that does not end with its replica answers all the same
		}
	})
}
