package calls_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestResponseIsReadAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double})
		resp := l.Do.Remote(t.Context(), 21)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 10 {
					if v, err := resp.Result(t.Context()); v != 42 || err != nil {
						t.Errorf("%d, %v", v, err)
					}
				}
			})
		}
		wg.Wait()
		if resp.RequestID() == "" {
			t.Error("no request id")
		}
	})
}

func TestResponseIsEagerAndOutlivesAResultThatGaveUp(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		started, release := make(fixture.Latch), make(fixture.Latch)
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			close(started)
			return n, release.Wait(ctx)
		}})
		resp := l.Do.Remote(t.Context(), 7)
		<-started // no caller has asked for the result
		short, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := resp.Result(short); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		close(release)
		if v, err := resp.Result(t.Context()); v != 7 || err != nil {
			t.Errorf("after a result that gave up: %d, %v", v, err)
		}
	})
}
