package helve_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// constant is a Lab whose methods all give n, after its latch if there is one.
func constant(n int, hold latch) *Lab {
	return &Lab{
		do: func(ctx context.Context, _ int) (int, error) {
			if hold != nil {
				return n, hold.wait(ctx)
			}
			return n, nil
		},
		seq: func(context.Context, int) seq { return func(yield func(int, error) bool) { yield(n, nil) } },
	}
}

// TestNameIsDeployedAgainWhileTheFormerDrains: the deploy waits, both are whole, and handles of the former find the new one, on
// every way of calling.
func TestNameIsDeployedAgainWhileTheFormerDrains(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(latch)
		os := map[string]helve.Options{"Lab": {}}
		l := startLab(t, r, helve.Options{}, constant(1, hold))
		slow := l.do.Remote(ctx, 0)
		synctest.Wait()
		deleted, deployed := make(chan error, 1), make(chan error, 1)
		go func() { deleted <- l.sys.Delete(ctx, "labs") }()
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		build := buildLabs("labs", os, func(string) *Lab { return constant(2, nil) })
		if err := l.sys.Deploy(short, build); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"labs" is being deleted`) {
			t.Errorf("one that did not wait for long enough: %v", err)
		}
		go func() { deployed <- l.sys.Deploy(ctx, build) }()
		// Its route is free already.
		if err := l.sys.Deploy(ctx, func() (*helve.App, error) {
			a, err := buildLabs("other", os, func(string) *Lab { return constant(3, nil) })()
			a.RoutePrefix("/labs")
			return a, err
		}); err != nil {
			t.Errorf("another application under the route: %v", err)
		}
		if err := l.sys.Delete(ctx, "other"); err != nil {
			t.Error(err)
		}
		close(hold)
		if n, err := slow.Result(ctx); n != 1 || err != nil {
			t.Errorf("a call of the former: %d, %v", n, err)
		}
		if err := errors.Join(<-deleted, <-deployed); err != nil {
			t.Error(err)
		}
		if a := l.sys.Status().Applications["labs"]; a.Status != "RUNNING" {
			t.Errorf("%+v", a)
		}
		if _, err := helve.HandleOf[*Lab](l.sys, "labs", "Lab"); err != nil { // the end of the delete did not take it along
			t.Error(err)
		}
		for way, call := range map[string]func(l lab) (int, error){
			"Call":   func(l lab) (int, error) { return l.do.Call(ctx, 0) },
			"Remote": func(l lab) (int, error) { return l.do.Remote(ctx, 0).Result(ctx) },
			"by name": func(l lab) (int, error) {
				return helve.MethodNamed[int, int](l.h, "Do").Call(ctx, 0)
			},
			"with options": func(l lab) (int, error) { return l.do.With(helve.SessionID("s")).Call(ctx, 0) },
			"Broadcast": func(l lab) (int, error) {
				rs, err := l.do.Broadcast(ctx, 0).Results(ctx)
				if err != nil || len(rs) != 1 {
					return len(rs), err
				}
				return rs[0].Value, rs[0].Err
			},
			"Choose": func(l lab) (int, error) {
				s, err := l.do.Choose(ctx)
				if err != nil {
					return 0, err
				}
				return l.do.Dispatch(ctx, s, 0).Result(ctx)
			},
			"Stream.Call":   func(l lab) (int, error) { return first(l.seq.Call(ctx, 0)) },
			"Stream.Remote": func(l lab) (int, error) { return first(l.seq.Remote(ctx, 0).All()) },
			"RemoteFrom": func(l lab) (int, error) {
				return l.do.RemoteFrom(ctx, helve.MethodFunc(double).Remote(ctx, 1)).Result(ctx)
			},
		} {
			former := lab{l.sys, l.h, helve.MethodOf(l.h, (*Lab).Do), helve.StreamOf(l.h, (*Lab).Seq)} // of the handle, not looked up again
			if n, err := call(former); n != 2 || err != nil {
				t.Errorf("%s: %d, %v", way, n, err)
			}
		}
	})
}

func first(s seq) (int, error) {
	got, err := collect(s)
	if err != nil || len(got) != 1 {
		return len(got), err
	}
	return got[0], nil
}

// Elsewhere is no Lab.
type Elsewhere struct{}

func (Elsewhere) Do(_ context.Context, n int) (int, error) { return n, nil }

// TestHandlesFindNoStrangers: what has the name now, but is of another type, is not what a handle is for.
func TestHandlesFindNoStrangers(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, constant(1, nil))
		if err := l.sys.Delete(t.Context(), "labs"); err != nil {
			t.Fatal(err)
		}
		_, err := l.do.Call(t.Context(), 0)
		wantReason(t, err, helve.DeploymentUnavailable)
		if r.Name == helvetest.Socket.Name { // its workers build what the system was started with
			return
		}
		if err := l.sys.Deploy(t.Context(), func() (*helve.App, error) {
			a := helve.NewApp("labs")
			a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", func(context.Context) (Elsewhere, error) { return Elsewhere{}, nil }, helve.Options{}), Elsewhere.Do))
			return a, nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err = l.do.Call(t.Context(), 0)
		wantReason(t, err, helve.DeploymentUnavailable)
	})
}

// TestWhyAHandleIsNotThere: the text says what became of the application.
func TestWhyAHandleIsNotThere(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(latch)
		l := startLab(t, r, helve.Options{}, constant(1, nil))
		why := func(when, app, want string) {
			t.Helper()
			if _, err := helve.HandleOf[*Lab](l.sys, app, "Lab"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", when, err, want)
			}
		}
		why("unknown", "nope", `no application "nope" is running; there is labs`)
		deployed := make(chan error, 1)
		go func() {
			deployed <- l.sys.Deploy(ctx, func() (*helve.App, error) {
				a := helve.NewApp("late")
				a.RoutePrefix("")
				a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", func(ctx context.Context) (*Lab, error) {
					return constant(2, nil), hold.wait(ctx)
				}, helve.Options{}), (*Lab).Do))
				return a, nil
			})
		}()
		synctest.Wait()
		why("early", "late", `application "late" is being deployed`)
		close(hold)
		if err := <-deployed; err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.sys.Delete(ctx, "labs"), l.sys.Delete(ctx, "late")); err != nil {
			t.Fatal(err)
		}
		why("after", "labs", `no application "labs" is running`)
		if err := l.sys.Close(ctx); err != nil {
			t.Fatal(err)
		}
		why("closed", "labs", "the node is closing")
	})
}
