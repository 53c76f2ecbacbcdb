package cancellation_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestEndsInTheQueue: a call that expires or is cancelled while it waits fails at that instant and never runs, however it was
// made, and leaves its place.
func TestEndsInTheQueue(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold, ran := make(fixture.Latch), new(atomic.Int64)
		l := fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(4)}, &fixture.Lab{
			OnDo: func(ctx context.Context, n int) (int, error) {
				if n > 0 {
					ran.Add(1)
				}
				return n, hold.Wait(ctx)
			},
			OnSeq: func(context.Context, int) fixture.Seq {
				return func(yield func(int, error) bool) { ran.Add(1); yield(1, nil) }
			},
		})
		first := l.Do.Remote(t.Context(), 0)
		ways := map[string]func(context.Context) error{
			"Call": func(ctx context.Context) error { _, err := l.Do.Call(ctx, 1); return err },
			"Remote": func(ctx context.Context) error {
				_, err := l.Do.Remote(ctx, 1).Result(context.Background())
				return err
			},
			"Choose":      func(ctx context.Context) error { _, err := l.Do.Choose(ctx); return err },
			"Stream.Call": func(ctx context.Context) error { _, err := fixture.Collect(l.Seq.Call(ctx, 1)); return err },
		}
		for _, want := range []helvetype.Reason{helve.Deadline, helve.Cancelled} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if want == helve.Cancelled {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(time.Minute, cancel)
			}
			type end struct {
				way   string
				err   error
				after time.Duration
			}
			ends, start := make(chan end, len(ways)), time.Now()
			for way, call := range ways {
				go func() { err := call(ctx); ends <- end{way, err, time.Since(start)} }()
			}
			synctest.Wait()
			_, err := l.Do.Call(t.Context(), 2)
			fixture.WantReason(t, err, helve.Backpressure) // all four wait
			for range ways {
				if e := <-ends; helve.ReasonOf(e.err) != want || e.after != time.Minute {
					t.Errorf("%s, %s: %v after %v", e.way, want, e.err, e.after)
				}
			}
			cancel()
		}
		close(hold)
		if _, err := first.Result(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := ran.Load(); n != 0 {
			t.Errorf("%d calls that had ended ran", n)
		}
		if v, err := l.Do.Call(t.Context(), 3); v != 3 || err != nil {
			t.Errorf("the next call: %d, %v", v, err)
		}
	})
}

// TestWhatAMethodLeavesRunning goes on when the method has returned, until the deadline that the method had.
func TestWhatAMethodLeavesRunning(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		start, ended := time.Now(), make(chan string, 8)
		var labs map[string]fixture.RunningLab
		labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *fixture.Lab {
			leave := func(ctx context.Context) {
				down := labs["B"].In(ctx).Do
				down.Remote(ctx, 1)
				go down.Call(ctx, 2) //nolint:errcheck // what it sees counts
				go func() { <-ctx.Done(); ended <- fmt.Sprint("goroutine ", time.Since(start), " ", context.Cause(ctx)) }()
			}
			return &fixture.Lab{
				OnDo: func(ctx context.Context, n int) (int, error) {
					if name == "A" {
						leave(ctx)
						return n, nil
					}
					<-ctx.Done()
					ended <- fmt.Sprint(n, " ", time.Since(start), " ", ctx.Err())
					return n, ctx.Err()
				},
				OnSeq: func(ctx context.Context, n int) fixture.Seq {
					return func(yield func(int, error) bool) { leave(ctx); yield(n, nil) }
				},
			}
		})
		a := labs["A"]
		for way, call := range map[string]func(context.Context) error{
			"Call":   func(ctx context.Context) error { _, err := a.Do.Call(ctx, 5); return err },
			"Remote": func(ctx context.Context) error { _, err := a.Do.Remote(ctx, 5).Result(ctx); return err },
			"Stream": func(ctx context.Context) error { _, err := fixture.Collect(a.Seq.Remote(ctx, 5).All()); return err },
		} {
			start = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := call(ctx); err != nil || time.Since(start) > 0 {
				t.Errorf("%s: %v after %v", way, err, time.Since(start))
			}
			cancel() // of the caller: the call has its answer
			synctest.Wait()
			if len(ended) > 0 {
				t.Errorf("%s: something ended with the caller: %s", way, <-ended)
			}
			got := []string{<-ended, <-ended, <-ended}
			slices.Sort(got)
			const at = "1m0s context deadline exceeded"
			if want := []string{"1 " + at, "2 " + at, "goroutine " + at}; !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", way, got, want)
			}
		}
	})
}

// TestManyFinishedCallsLeaveNothing: no timer, context or place in a table, also under a deadline that is far away. It is not
// parallel, because the heap is the process's.
func TestManyFinishedCallsLeaveNothing(t *testing.T) { //nolint:paralleltest // see above
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Socket} {
		t.Run(r.Name, func(t *testing.T) {
			l := fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(100)}, &fixture.Lab{
				OnDo:  func(ctx context.Context, n int) (int, error) { ctx.Done(); return n, nil },
				OnSeq: func(ctx context.Context, n int) iter.Seq2[int, error] { ctx.Done(); return fixture.CountUp(ctx, n) },
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			heap := func() int64 {
				for range 4 { // cleanups run between two
					runtime.GC()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			const calls = 20_000
			for way, call := range map[string]func() error{
				"Call":   func() error { _, err := l.Do.Call(ctx, 1); return err },
				"Remote": func() error { _, err := l.Do.Remote(ctx, 1).Result(ctx); return err },
				"Stream": func() error { _, err := fixture.Collect(l.Seq.Remote(ctx, 2).All()); return err },
				"by name": func() error {
					_, err := helve.MethodNamed[int, int](l.Handle, "Do").Remote(ctx, 1).Result(ctx)
					return err
				},
				"model":   func() error { _, err := l.Do.With(helve.ModelID("m")).Remote(ctx, 1).Result(ctx); return err },
				"session": func() error { _, err := l.Do.With(helve.SessionID("m")).Call(ctx, 1); return err },
			} {
				// The first thousands of calls may make what later ones use again (descriptors of goroutines, blocks of the runtime's cleanups): in one
				// round of 20,000 calls 200 kB stayed, and none in the next. A call that leaves something leaves it in each round.
				left := int64(math.MaxInt64)
				for round := 0; round < 3 && left > 8; round++ {
					before := heap()
					for range calls {
						if err := call(); err != nil {
							t.Fatalf("%s: %v", way, err)
						}
					}
					left = (heap() - before) / calls
					for deadline := time.Now().Add(10 * time.Second); left > 8 && time.Now().Before(deadline); { // goroutines on their way out
						left = (heap() - before) / calls
					}
				}
				if left > 8 {
					t.Errorf("%s: a call leaves %d bytes", way, left)
				}
			}
		})
	}
}

// TestDetachedWorkSurvives the cancel of the call that it came from, over every path.
func TestDetachedWorkSurvives(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ended := make(chan error, 1)
		var labs map[string]fixture.RunningLab
		labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *fixture.Lab {
			if name == "B" {
				return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
					if _, limited := ctx.Deadline(); limited {
						ended <- errors.New("it has a deadline")
						return 0, nil
					}
					time.Sleep(time.Hour)
					ended <- ctx.Err()
					return n, nil
				}}
			}
			return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
				labs["B"].Do.Remote(helve.Detach(ctx), n)
				<-ctx.Done()
				return 0, ctx.Err()
			}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		resp := labs["A"].Do.Remote(ctx, 1)
		synctest.Wait()
		resp.Cancel()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("detached work saw %v", err)
		}
	})
}
