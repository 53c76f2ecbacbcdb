package streams_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestStreamsThatHoldAllSlots: a call that waits for them is reported after a second, with the name of the option, in every runner.
func TestStreamsThatHoldAllSlots(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		log := fixture.NewLog()
		r.Config.Logger = slog.New(log)
		l := fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(2)}, &fixture.Lab{OnDo: fixture.Double, OnSeq: func(ctx context.Context, _ int) fixture.Seq {
			return func(yield func(int, error) bool) {
				yield(1, nil)
				<-ctx.Done()
			}
		}})
		a, b := l.Seq.Remote(t.Context(), 0), l.Seq.Remote(t.Context(), 0)
		synctest.Wait()
		waiting := l.Do.Remote(t.Context(), 1)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		const text = "deployment Lab: all 2 slots (max_ongoing_requests) have been held by HTTP requests, streams or connections for more than 1s, with 1 call waiting: helve why labs/Lab says what holds them, and what frees them"
		if strings.Contains(log.String(), text) {
			t.Error("warned before a second")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !strings.Contains(log.String(), text) {
			t.Errorf("no warning:\n%s", log)
		}
		a.Close()
		b.Close()
		if got, err := waiting.Result(t.Context()); got != 2 || err != nil {
			t.Error(got, err)
		}
	})
}
