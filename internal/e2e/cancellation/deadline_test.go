package cancellation_test

import (
	"context"
	"fmt"
	"slices"
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
				// The calls that ran are 1, 9, 4 and perhaps 9 again, which kept its caller waiting.
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

// TestDeadlineThatIsNotReached: a deadline that is not reached changes no call, and the method sees the time that is left.
func TestDeadlineThatIsNotReached(t *testing.T) {
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
