package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestCallsDuringDelete(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		o, hook := fixture.WithHook(helve.Options{})
		l := fixture.StartLab(t, r, o, &fixture.Lab{OnDo: fixture.Double})
		in, out := make(chan struct{}), make(chan struct{})
		f := func() { close(in); <-out }
		hook.Store(&f)
		ended := make(chan error, 1)
		go func() { _, err := l.Do.Call(context.Background(), 1); ended <- err }()
		<-in // the client has seen that the deployment is up
		if err := l.System.Delete(t.Context(), "labs"); err != nil {
			t.Error(err)
		}
		close(out)
		fixture.WantReason(t, <-ended, helve.DeploymentUnavailable)
	})
}

// TestNameIsDeployedAgainWhileTheFormerDrains: the deploy waits, both are whole, and handles of the former find the new one, on
// every way of calling.
func TestNameIsDeployedAgainWhileTheFormerDrains(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		os := map[string]helve.Options{"Lab": {}}
		l := fixture.StartLab(t, r, helve.Options{}, fixture.Constant(1, hold))
		slow := l.Do.Remote(ctx, 0)
		synctest.Wait()
		deleted, deployed := make(chan error, 1), make(chan error, 1)
		go func() { deleted <- l.System.Delete(ctx, "labs") }()
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		build := fixture.BuildLabs("labs", os, func(string) *fixture.Lab { return fixture.Constant(2, nil) })
		if err := l.System.Deploy(short, build); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"labs" is being deleted`) {
			t.Errorf("one that did not wait for long enough: %v", err)
		}
		go func() { deployed <- l.System.Deploy(ctx, build) }()
		// Its route is free already.
		if err := l.System.Deploy(ctx, func() (*helve.App, error) {
			a, err := fixture.BuildLabs("other", os, func(string) *fixture.Lab { return fixture.Constant(3, nil) })()
			a.RoutePrefix("/labs")
			return a, err
		}); err != nil {
			t.Errorf("another application under the route: %v", err)
		}
		if err := l.System.Delete(ctx, "other"); err != nil {
			t.Error(err)
		}
		close(hold)
		if n, err := slow.Result(ctx); n != 1 || err != nil {
			t.Errorf("a call of the former: %d, %v", n, err)
		}
		if err := errors.Join(<-deleted, <-deployed); err != nil {
			t.Error(err)
		}
		if a := l.System.Status().Applications["labs"]; a.Status != "RUNNING" {
			t.Errorf("%+v", a)
		}
		if _, err := helve.HandleOf[*fixture.Lab](l.System, "labs", "Lab"); err != nil { // the end of the delete did not take it along
			t.Error(err)
		}
		for way, call := range map[string]func(l fixture.RunningLab) (int, error){
			"Call":   func(l fixture.RunningLab) (int, error) { return l.Do.Call(ctx, 0) },
			"Remote": func(l fixture.RunningLab) (int, error) { return l.Do.Remote(ctx, 0).Result(ctx) },
			"by name": func(l fixture.RunningLab) (int, error) {
				return helve.MethodNamed[int, int](l.Handle, "Do").Call(ctx, 0)
			},
			"with options": func(l fixture.RunningLab) (int, error) { return l.Do.With(helve.SessionID("s")).Call(ctx, 0) },
			"Broadcast": func(l fixture.RunningLab) (int, error) {
				rs, err := l.Do.Broadcast(ctx, 0).Results(ctx)
				if err != nil || len(rs) != 1 {
					return len(rs), err
				}
				return rs[0].Value, rs[0].Err
			},
			"Choose": func(l fixture.RunningLab) (int, error) {
				s, err := l.Do.Choose(ctx)
				if err != nil {
					return 0, err
				}
				return l.Do.Dispatch(ctx, s, 0).Result(ctx)
			},
			"Stream.Call":   func(l fixture.RunningLab) (int, error) { return first(l.Seq.Call(ctx, 0)) },
			"Stream.Remote": func(l fixture.RunningLab) (int, error) { return first(l.Seq.Remote(ctx, 0).All()) },
			"RemoteFrom": func(l fixture.RunningLab) (int, error) {
				return l.Do.RemoteFrom(ctx, helve.MethodFunc(fixture.Double).Remote(ctx, 1)).Result(ctx)
			},
		} {
			former := fixture.RunningLab{System: l.System, Handle: l.Handle, Do: helve.MethodOf(l.Handle, (*fixture.Lab).Do), Seq: helve.StreamOf(l.Handle, (*fixture.Lab).Seq)} // of the handle, not looked up again
			if n, err := call(former); n != 2 || err != nil {
				t.Errorf("%s: %d, %v", way, n, err)
			}
		}
	})
}

func first(s fixture.Seq) (int, error) {
	got, err := fixture.Collect(s)
	if err != nil || len(got) != 1 {
		return len(got), err
	}
	return got[0], nil
}

// Elsewhere is no Lab.
type Elsewhere struct{}

func (Elsewhere) Do(_ context.Context, n int) (int, error) { return n, nil }

// TestHandlesFindNoStrangers: a handle does not call a deployment of another type that has the same name now.
func TestHandlesFindNoStrangers(t *testing.T) {
	t.Parallel()
	fixture.EachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, fixture.Constant(1, nil))
		if err := l.System.Delete(t.Context(), "labs"); err != nil {
			t.Fatal(err)
		}
		_, err := l.Do.Call(t.Context(), 0)
		fixture.WantReason(t, err, helve.DeploymentUnavailable)
		if r.Name == helvetest.Socket.Name { // the system's workers build the application that it was started with
			return
		}
		if err := l.System.Deploy(t.Context(), func() (*helve.App, error) {
			a := helve.NewApp("labs")
			a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", func(context.Context) (Elsewhere, error) { return Elsewhere{}, nil }, helve.Options{}), Elsewhere.Do))
			return a, nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err = l.Do.Call(t.Context(), 0)
		fixture.WantReason(t, err, helve.DeploymentUnavailable)
	})
}

// TestWhyAHandleIsNotThere: the text says what became of the application.
func TestWhyAHandleIsNotThere(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		l := fixture.StartLab(t, r, helve.Options{}, fixture.Constant(1, nil))
		why := func(when, app, want string) {
			t.Helper()
			if _, err := helve.HandleOf[*fixture.Lab](l.System, app, "Lab"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", when, err, want)
			}
		}
		why("unknown", "nope", `no application "nope" is running; there is labs`)
		deployed := make(chan error, 1)
		go func() {
			deployed <- l.System.Deploy(ctx, func() (*helve.App, error) {
				a := helve.NewApp("late")
				a.RoutePrefix("")
				a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", func(ctx context.Context) (*fixture.Lab, error) {
					return fixture.Constant(2, nil), hold.Wait(ctx)
				}, helve.Options{}), (*fixture.Lab).Do))
				return a, nil
			})
		}()
		synctest.Wait()
		why("early", "late", `application "late" is being deployed`)
		close(hold)
		if err := <-deployed; err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.System.Delete(ctx, "labs"), l.System.Delete(ctx, "late")); err != nil {
			t.Fatal(err)
		}
		why("after", "labs", `no application "labs" is running`)
		if err := l.System.Close(ctx); err != nil {
			t.Fatal(err)
		}
		why("closed", "labs", "the node is closing")
	})
}
