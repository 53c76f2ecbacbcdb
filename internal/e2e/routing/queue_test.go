package routing_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestDerivedHandlesShareAQueue: what With gives waits in the same queue, in order, and counts to the same limits.
func TestDerivedHandlesShareAQueue(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold, ran := make(fixture.Latch), make(chan int, 8)
		l := fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(3)}, &fixture.Lab{OnSeq: fixture.CountUp,
			OnDo: func(ctx context.Context, n int) (int, error) { ran <- n; return n, hold.Wait(ctx) }})
		derived := []helve.Method[int, int]{
			l.Do, l.Do.With(helve.Idempotent), l.Do.With(helve.ResponseCodec("orjson")), helve.MethodOf(l.Handle.With(helve.RequestCodec("msgpack")), (*fixture.Lab).Do),
		}
		var rs []*helve.Response[int]
		for i, m := range derived {
			rs = append(rs, m.Remote(t.Context(), i))
			synctest.Wait()
		}
		for _, m := range derived {
			_, err := m.Call(t.Context(), 9)
			fixture.WantReason(t, err, helve.Backpressure)
		}
		close(hold)
		for i, r := range rs {
			if v, err := r.Result(t.Context()); v != i || err != nil || <-ran != i {
				t.Errorf("call %d: %d, %v", i, v, err)
			}
		}
	})
}

// TestLimitThatIsNotReached changes nothing, neither for a call nor for what it calls or leaves to others.
func TestLimitThatIsNotReached(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnSeq: fixture.CountUp, OnDo: func(ctx context.Context, n int) (int, error) {
			d, ok := ctx.Deadline()
			if left := time.Until(d); !ok || left != time.Hour || ctx.Err() != nil {
				return 0, fmt.Errorf("%v left of an hour, %v", left, ctx.Err())
			}
			time.Sleep(59 * time.Minute) // in fake time
			return 2 * n, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		rs := []*helve.Response[int]{l.Do.Remote(ctx, 1), l.Do.Remote(ctx, 2)}
		if v, err := l.Do.Call(ctx, 3); v != 6 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		if vs, err := helve.All(ctx, rs...); !slices.Equal(vs, []int{2, 4}) || err != nil {
			t.Errorf("%v, %v", vs, err)
		}
		time.Sleep(time.Hour) // the limit passes when all is over
		if v, err := rs[0].Result(t.Context()); v != 2 || err != nil {
			t.Errorf("afterwards: %d, %v", v, err)
		}
	})
}

func TestBackpressure(t *testing.T) {
	t.Parallel()
	fixture.EachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started, release := make(chan int, 8), make(fixture.Latch)
		l := fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)}, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			started <- n
			return n, release.Wait(ctx)
		}})
		runs, queued := l.Do.Remote(t.Context(), 1), l.Do.Remote(t.Context(), 2)
		<-started
		for range 3 {
			_, err := l.Do.Remote(t.Context(), 3).Result(t.Context())
			fixture.WantReason(t, err, helve.Backpressure)
			if helve.CodeOf(err).String() != "ResourceExhausted" || !strings.Contains(err.Error(), "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).") {
				t.Errorf("%v", err)
			}
			if _, err := l.Do.Call(t.Context(), 4); helve.ReasonOf(err) != helve.Backpressure {
				t.Errorf("Call: %v", err)
			}
		}
		close(release)
		if vs, err := helve.All(t.Context(), runs, queued); err != nil || !slices.Equal(vs, []int{1, 2}) {
			t.Errorf("%v, %v", vs, err)
		}
	})
}
