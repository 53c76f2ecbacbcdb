package cancellation_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestDeadlines runs in fake time.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ran := map[int]int{}
				var mu sync.Mutex
				l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
					mu.Lock()
					ran[n]++
					mu.Unlock()
					if n == 9 { // ignores its context
						time.Sleep(time.Hour)
						return n, nil
					}
					d, _ := ctx.Deadline()
					<-ctx.Done()
					return int(time.Until(d)), ctx.Err()
				}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				first, second := l.Do.Remote(ctx, 1), l.Do.Remote(ctx, 2)
				for _, resp := range []*helve.Response[int]{first, second} {
					_, err := resp.Result(t.Context())
					fixture.WantReason(t, err, helve.Deadline)
				}
				synctest.Wait()
				if ran[1] != 1 || ran[2] != 0 {
					t.Errorf("a call that expired in the queue ran: %v", ran)
				}
				if _, err := l.Do.Call(ctx, 3); helve.ReasonOf(err) != helve.Deadline || ran[3] != 0 {
					t.Errorf("a call with an ended context: %v, %v", err, ran)
				}
				// A method that ignores its context: Remote answers in time, and the slot is held until it returns.
				start := time.Now()
				ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
				defer cancel2()
				_, err := l.Do.Remote(ctx2, 9).Result(t.Context())
				fixture.WantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != time.Second {
					t.Errorf("answered after %v", took)
				}
				ctx3, cancel3 := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel3()
				_, err = l.Do.Call(ctx3, 4)
				fixture.WantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != 2*time.Hour+time.Second {
					t.Errorf("ended after %v", took)
				}
				if r.Name == "local" { // Call returns late, with the context's cause
					start = time.Now()
					ctx4, cancel4 := context.WithTimeout(t.Context(), time.Second)
					defer cancel4()
					_, err = l.Do.Call(ctx4, 9)
					fixture.WantReason(t, err, helve.Deadline)
					if took := time.Since(start); took != time.Hour {
						t.Errorf("Call returned after %v", took)
					}
				}
				// Those that ran are 1, 9, 4 and perhaps 9 again, which kept its caller waiting.
				want := helvetype.Calls{Total: 3, Errors: 3}
				if r.Name == "local" {
					want = helvetype.Calls{Total: 4, Errors: 4, Late: 1}
				}
				synctest.Wait()
				if got := l.System.Status().Applications["labs"].Deployments["Lab"].Calls; got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		})
	}
}
