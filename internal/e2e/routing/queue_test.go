package routing_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestDerivedHandlesShareAQueue: calls of derived handles wait in the same queue, in order, and count to the same limits.
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

func TestBackpressure(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
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
