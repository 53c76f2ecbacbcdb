package cancellation_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestCancelWhileACallBegins(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		var ran atomic.Int64
		o, hook := fixture.WithHook(helve.Options{})
		l := fixture.StartLab(t, r, o, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			if ctx.Err() == nil {
				ran.Add(1)
			}
			return n, nil
		}})
		upstream := make(fixture.Latch)
		src := helve.MethodFunc(func(ctx context.Context, n int) (int, error) { return n, upstream.Wait(ctx) })
		resp := l.Do.RemoteFrom(t.Context(), src.Remote(t.Context(), 1))
		f := func() { resp.Cancel() }
		hook.Store(&f)
		close(upstream)
		_, err := resp.Result(t.Context())
		fixture.WantReason(t, err, helve.Cancelled)
		time.Sleep(time.Second)
		if ran.Load() != 0 {
			t.Error("a call that was cancelled while it began ran with a live context")
		}
		for range 1000 { // for the race detector
			resp := l.Do.RemoteFrom(t.Context(), src.Remote(t.Context(), 1))
			resp.Cancel()
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		started, ended := make(chan int, 4), make(chan error, 4)
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			started <- n
			if n == 3 {
				return n, nil
			}
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		}})
		first := l.Do.Remote(t.Context(), 1)
		<-started
		queued := l.Do.Remote(t.Context(), 2)
		third := l.Do.Remote(t.Context(), 3)
		queued.Cancel()
		queued.Cancel()
		_, err := queued.Result(t.Context())
		fixture.WantReason(t, err, helve.Cancelled)
		first.Cancel()
		_, err = first.Result(t.Context())
		fixture.WantReason(t, err, helve.Cancelled)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the method saw %v", err)
		}
		if v, err := third.Result(t.Context()); v != 3 || err != nil {
			t.Errorf("the call behind: %d, %v", v, err)
		}
		if n := <-started; n != 3 {
			t.Errorf("a call cancelled in the queue was started: %d", n)
		}
		third.Cancel() // the call has ended
		if v, err := third.Result(t.Context()); v != 3 || err != nil {
			t.Errorf("a cancel after the end: %d, %v", v, err)
		}
	})
}
