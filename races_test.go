package helve_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// hooked is a routing policy that lets a test do something while a call is on its way to a replica.
type hooked struct{ hook *atomic.Pointer[func()] }

func (h hooked) Rank(_ helve.RoutedCall, _ []helve.ReplicaView, ranks []int) ([]int, bool) {
	if f := h.hook.Swap(nil); f != nil {
		(*f)()
	}
	return ranks, false
}

func withHook(o helve.Options) (helve.Options, *atomic.Pointer[func()]) {
	hook := new(atomic.Pointer[func()])
	o.Routing = helve.CustomRouting(func() helve.RoutingPolicy { return hooked{hook} })
	return o, hook
}

// inBubbles runs body in fake time with the runners that stay in the test's process.
func inBubbles(t *testing.T, body func(t *testing.T, r helvetest.Runner)) {
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { body(t, r) })
		})
	}
}

func TestCancelWhileACallBegins(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		var ran atomic.Int64
		o, hook := withHook(helve.Options{})
		l := startLab(t, r, o, &Lab{do: func(ctx context.Context, n int) (int, error) {
			if ctx.Err() == nil {
				ran.Add(1)
			}
			return n, nil
		}})
		upstream := make(latch)
		src := helve.MethodFunc(func(ctx context.Context, n int) (int, error) { return n, upstream.wait(ctx) })
		resp := l.do.RemoteFrom(t.Context(), src.Remote(t.Context(), 1))
		f := func() { resp.Cancel() }
		hook.Store(&f)
		close(upstream)
		_, err := resp.Result(t.Context())
		wantReason(t, err, helve.Cancelled)
		time.Sleep(time.Second)
		if ran.Load() != 0 {
			t.Error("a call that was cancelled while it began ran with a live context")
		}
		for range 1000 { // for the race detector
			resp := l.do.RemoteFrom(t.Context(), src.Remote(t.Context(), 1))
			resp.Cancel()
		}
	})
}

func TestCallsDuringDelete(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		o, hook := withHook(helve.Options{})
		l := startLab(t, r, o, &Lab{do: double})
		in, out := make(chan struct{}), make(chan struct{})
		f := func() { close(in); <-out }
		hook.Store(&f)
		ended := make(chan error, 1)
		go func() { _, err := l.do.Call(context.Background(), 1); ended <- err }()
		<-in // it has seen that the deployment is up
		if err := l.sys.Delete(t.Context(), "labs"); err != nil {
			t.Error(err)
		}
		close(out)
		wantReason(t, <-ended, helve.DeploymentUnavailable)
	})
}

// Closing is an instance that says whether it was closed.
type Closing struct{ closed atomic.Bool }

func (c *Closing) Closed(context.Context, int) (bool, error) { return c.closed.Load(), nil }
func (c *Closing) Close(context.Context) error               { c.closed.Store(true); return nil }

func TestDispatchToAStoppedReplica(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			a := helve.NewApp("closing")
			h := helve.Deploy(a, "C", func(context.Context) (*Closing, error) { return &Closing{}, nil },
				helve.Options{GracefulShutdownTimeout: new(time.Second)})
			a.Ingress(helve.MethodOf(h, (*Closing).Closed))
			return a, nil
		})
		h, err := helve.HandleOf[*Closing](sys, "closing", "C")
		if err != nil {
			t.Fatal(err)
		}
		closed := helve.MethodOf(h, (*Closing).Closed)
		sel, err := closed.Choose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.Delete(t.Context(), "closing"); err != nil {
			t.Fatal(err)
		}
		was, err := closed.Dispatch(t.Context(), sel, 1).Result(t.Context())
		if wantReason(t, err, helve.ReplicaUnavailable); was {
			t.Error("a method ran on a closed instance")
		}
	})
}

// Configured says what it was given.
type Configured struct {
	mu sync.Mutex
	at string
}

func (c *Configured) Config(context.Context, helve.None) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at, nil
}

func (c *Configured) Reconfigure(_ context.Context, at string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
	return nil
}

func TestReconfigureWhileAReplicaStarts(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, &Lab{do: double})
		building, goOn, deployed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			deployed <- l.sys.Deploy(t.Context(), func() (*helve.App, error) {
				a := helve.NewApp("configured")
				a.RoutePrefix("")
				h := helve.Deploy(a, "C", func(context.Context) (*Configured, error) {
					close(building)
					<-goOn
					return &Configured{}, nil
				}, helve.Options{UserConfig: "old"})
				a.Ingress(helve.MethodOf(h, (*Configured).Config))
				return a, nil
			})
		}()
		<-building
		if err := l.sys.Reconfigure(t.Context(), "configured", "C", "new"); err != nil {
			t.Error(err)
		}
		close(goOn)
		if err := <-deployed; err != nil {
			t.Fatal(err)
		}
		h, err := l.sys.Ingress("configured")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := helve.MethodNamed[helve.None, string](h, "").Call(t.Context(), helve.None{}); got != "new" || err != nil {
			t.Errorf("a replica that was starting has config %q, %v", got, err)
		}
	})
}

func TestFillFunctionThatPanics(t *testing.T) {
	t.Parallel()
	type inner struct{ A int }
	type input struct{ Inner *inner }
	src := helve.MethodFunc(double)
	use := helve.MethodFunc(func(_ context.Context, in input) (int, error) { return in.Inner.A, nil })
	fill := func(in *input) *int { return &in.Inner.A }
	_, err := use.RemoteWith(t.Context(), input{}, helve.Fill(fill, src.Remote(t.Context(), 1))).Result(t.Context())
	wantReason(t, err, helve.BadInput)
	// A field behind a pointer is not one of the input.
	_, err = use.RemoteWith(t.Context(), input{&inner{}}, helve.Fill(fill, src.Remote(t.Context(), 1))).Result(t.Context())
	wantReason(t, err, helve.BadInput)
}

func TestNothingComesAfterACancelledStream(t *testing.T) {
	t.Parallel()
	inBubbles(t, func(t *testing.T, r helvetest.Runner) {
		step := make(chan struct{})
		l := startLab(t, r, helve.Options{}, &Lab{do: double, seq: func(context.Context, int) seq {
			return func(yield func(int, error) bool) { // ignores its context, and what yield says
				defer func() { recover() }() //nolint:errcheck // yield panics after it returned false
				for i := range 3 {
					yield(i, nil)
				}
				<-step
				yield(3, nil)
			}
		}})
		resp := l.seq.Remote(t.Context(), 0)
		synctest.Wait()
		resp.Cancel()
		close(step)
		synctest.Wait()
		got, err := collect(resp.All())
		wantReason(t, err, helve.Cancelled)
		if len(got) != 0 {
			t.Errorf("%v came after the cancel", got)
		}
	})
}

// TestGoexitUnderCall: a method that ends its goroutine ends that of its caller where Call runs it there. The caller of that one
// gets an error, and all slots are free.
func TestGoexitUnderCall(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		var labs map[string]lab
		labs = startLabs(t, r, map[string]helve.Options{"A": one(), "B": one()}, func(name string) *Lab {
			do := func(_ context.Context, n int) (int, error) {
				if n < 0 {
					runtime.Goexit()
				}
				return n, nil
			}
			if name == "A" {
				do = func(ctx context.Context, n int) (int, error) { return labs["B"].do.Call(ctx, n) }
			}
			return &Lab{do: do}
		})
		ctx, a, b := t.Context(), labs["A"].do, labs["B"].do
		for way, call := range map[string]func() error{
			"Remote":    func() error { _, err := a.Remote(ctx, -1).Result(ctx); return err },
			"Broadcast": func() error { _, err := a.Broadcast(ctx, -1).Results(ctx); return err },
		} {
			if e, ok := errors.AsType[*helve.Error](call()); !ok || e.Type() != "goexit" {
				t.Errorf("%s: %v", way, e)
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Call(ctx, -1) //nolint:errcheck // it may end this goroutine
		}()
		<-ended
		for way, m := range map[string]helve.Method[int, int]{"A": a, "B": b} {
			limit, cancel := context.WithTimeout(ctx, 10*time.Second)
			if v, err := m.Call(limit, 3); v != 3 || err != nil {
				t.Errorf("then %s: %d, %v", way, v, err)
			}
			cancel()
		}
	})
}
