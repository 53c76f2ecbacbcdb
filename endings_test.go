package helve_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
)

// eachBubble runs body in fake time with every runner that stays in the test's process.
func eachBubble(t *testing.T, body func(t *testing.T, r helvetest.Runner)) {
	t.Helper()
	for _, r := range append(helvetest.InNode(), helvetest.Pipe) {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { body(t, r) })
		})
	}
}

// TestEndsInTheQueue: a call that expires or is cancelled while it waits fails at that instant and never runs, however it was
// made, and leaves its place.
func TestEndsInTheQueue(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold, ran := make(latch), new(atomic.Int64)
		l := startLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(4)}, &Lab{
			do: func(ctx context.Context, n int) (int, error) {
				if n > 0 {
					ran.Add(1)
				}
				return n, hold.wait(ctx)
			},
			seq: func(context.Context, int) seq { return func(yield func(int, error) bool) { ran.Add(1); yield(1, nil) } },
		})
		first := l.do.Remote(t.Context(), 0)
		ways := map[string]func(context.Context) error{
			"Call": func(ctx context.Context) error { _, err := l.do.Call(ctx, 1); return err },
			"Remote": func(ctx context.Context) error {
				_, err := l.do.Remote(ctx, 1).Result(context.Background())
				return err
			},
			"Choose":      func(ctx context.Context) error { _, err := l.do.Choose(ctx); return err },
			"Stream.Call": func(ctx context.Context) error { _, err := collect(l.seq.Call(ctx, 1)); return err },
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
			_, err := l.do.Call(t.Context(), 2)
			wantReason(t, err, helve.Backpressure) // all four wait
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
		if v, err := l.do.Call(t.Context(), 3); v != 3 || err != nil {
			t.Errorf("the next call: %d, %v", v, err)
		}
	})
}

// TestWhatAMethodLeavesRunning goes on when the method has returned, until the deadline that the method had.
func TestWhatAMethodLeavesRunning(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		start, ended := time.Now(), make(chan string, 8)
		var labs map[string]lab
		labs = startLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *Lab {
			leave := func(ctx context.Context) {
				down := labs["B"].in(ctx).do
				down.Remote(ctx, 1)
				go down.Call(ctx, 2) //nolint:errcheck // what it sees counts
				go func() { <-ctx.Done(); ended <- fmt.Sprint("goroutine ", time.Since(start), " ", context.Cause(ctx)) }()
			}
			return &Lab{
				do: func(ctx context.Context, n int) (int, error) {
					if name == "A" {
						leave(ctx)
						return n, nil
					}
					<-ctx.Done()
					ended <- fmt.Sprint(n, " ", time.Since(start), " ", ctx.Err())
					return n, ctx.Err()
				},
				seq: func(ctx context.Context, n int) seq {
					return func(yield func(int, error) bool) { leave(ctx); yield(n, nil) }
				},
			}
		})
		a := labs["A"]
		for way, call := range map[string]func(context.Context) error{
			"Call":   func(ctx context.Context) error { _, err := a.do.Call(ctx, 5); return err },
			"Remote": func(ctx context.Context) error { _, err := a.do.Remote(ctx, 5).Result(ctx); return err },
			"Stream": func(ctx context.Context) error { _, err := collect(a.seq.Remote(ctx, 5).All()); return err },
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
			l := startLab(t, r, helve.Options{MaxOngoingRequests: new(100)}, &Lab{
				do:  func(ctx context.Context, n int) (int, error) { ctx.Done(); return n, nil },
				seq: func(ctx context.Context, n int) iter.Seq2[int, error] { ctx.Done(); return count(ctx, n) },
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
				"Call":    func() error { _, err := l.do.Call(ctx, 1); return err },
				"Remote":  func() error { _, err := l.do.Remote(ctx, 1).Result(ctx); return err },
				"Stream":  func() error { _, err := collect(l.seq.Remote(ctx, 2).All()); return err },
				"by name": func() error { _, err := helve.MethodNamed[int, int](l.h, "Do").Remote(ctx, 1).Result(ctx); return err },
				"model":   func() error { _, err := l.do.With(helve.ModelID("m")).Remote(ctx, 1).Result(ctx); return err },
				"session": func() error { _, err := l.do.With(helve.SessionID("m")).Call(ctx, 1); return err },
			} {
				call() //nolint:errcheck // makes what is made once
				before := heap()
				for range calls {
					if err := call(); err != nil {
						t.Fatalf("%s: %v", way, err)
					}
				}
				left := (heap() - before) / calls
				for deadline := time.Now().Add(10 * time.Second); left > 8 && time.Now().Before(deadline); { // goroutines on their way out
					left = (heap() - before) / calls
				}
				if left > 8 {
					t.Errorf("%s: a call leaves %d bytes", way, left)
				}
			}
		})
	}
}

// TestBroadcastToWhatStops: a broadcast that waits behind another when the replicas stop gets an entry for each that says so,
// and names them as missed; the one that ran has its answers.
func TestBroadcastToWhatStops(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold := make(latch)
		l := startLab(t, r, helve.Options{NumReplicas: new(2), GracefulShutdownTimeout: new(time.Minute)}, &Lab{
			do: func(ctx context.Context, n int) (int, error) { return n, hold.wait(ctx) }, seq: count,
		})
		first := l.do.Broadcast(t.Context(), 1)
		synctest.Wait()
		second := l.do.Broadcast(t.Context(), 2)
		deleted := make(chan error, 1)
		go func() { deleted <- l.sys.Delete(t.Context(), "labs") }()
		entries, err := second.Results(t.Context())
		if err == nil || len(entries) != 2 {
			t.Errorf("%+v, %v", entries, err)
		}
		var ids []string
		for _, e := range entries {
			wantReason(t, e.Err, helve.ReplicaUnavailable)
			ids = append(ids, e.Replica)
		}
		if missed := second.Missed(t.Context()); !slices.Equal(missed, ids) || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 2 {
			t.Errorf("missed %v of %v", missed, ids)
		}
		close(hold)
		if entries, err := first.Results(t.Context()); err != nil || len(entries) != 2 || entries[0].Value != 1 || len(first.Missed(t.Context())) > 0 {
			t.Errorf("%+v, %v", entries, err)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	})
}

// TestTwoStreams advance by themselves: neither waits for the other, and one that is over stays over.
func TestTwoStreams(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, &Lab{do: double, seq: count})
		ctx := t.Context()
		for way, open := range bothWays(l.seq) {
			a, stopA := iter.Pull2(open(ctx, 4))
			b, stopB := iter.Pull2(open(ctx, 100))
			for i := range 4 {
				v, err, ok := a()
				if v != i || err != nil || !ok {
					t.Errorf("%s: %d, %v, %v", way, v, err, ok)
				}
				for k := range 3 {
					if w, err, ok := b(); w != 3*i+k || err != nil || !ok {
						t.Errorf("%s: the other: %d, %v, %v", way, w, err, ok)
					}
				}
			}
			for range 2 {
				if _, _, ok := a(); ok {
					t.Errorf("%s: an item after the last", way)
				}
			}
			if w, err, ok := b(); w != 12 || err != nil || !ok {
				t.Errorf("%s: the other, when one is over: %d, %v, %v", way, w, err, ok)
			}
			stopA()
			stopB()
		}
	})
}

// TestDerivedHandlesShareAQueue: what With gives waits in the same queue, in order, and counts to the same limits.
func TestDerivedHandlesShareAQueue(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold, ran := make(latch), make(chan int, 8)
		l := startLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(3)}, &Lab{seq: count,
			do: func(ctx context.Context, n int) (int, error) { ran <- n; return n, hold.wait(ctx) }})
		derived := []helve.Method[int, int]{
			l.do, l.do.With(helve.Idempotent), l.do.With(helve.ResponseCodec("orjson")), helve.MethodOf(l.h.With(helve.RequestCodec("msgpack")), (*Lab).Do),
		}
		var rs []*helve.Response[int]
		for i, m := range derived {
			rs = append(rs, m.Remote(t.Context(), i))
			synctest.Wait()
		}
		for _, m := range derived {
			_, err := m.Call(t.Context(), 9)
			wantReason(t, err, helve.Backpressure)
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
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, &Lab{seq: count, do: func(ctx context.Context, n int) (int, error) {
			d, ok := ctx.Deadline()
			if left := time.Until(d); !ok || left != time.Hour || ctx.Err() != nil {
				return 0, fmt.Errorf("%v left of an hour, %v", left, ctx.Err())
			}
			time.Sleep(59 * time.Minute) // in fake time
			return 2 * n, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		rs := []*helve.Response[int]{l.do.Remote(ctx, 1), l.do.Remote(ctx, 2)}
		if v, err := l.do.Call(ctx, 3); v != 6 || err != nil {
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

// TestDetachedWorkSurvives the cancel of the call that it came from, over every path.
func TestDetachedWorkSurvives(t *testing.T) {
	t.Parallel()
	eachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ended := make(chan error, 1)
		var labs map[string]lab
		labs = startLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *Lab {
			if name == "B" {
				return &Lab{do: func(ctx context.Context, n int) (int, error) {
					if _, limited := ctx.Deadline(); limited {
						ended <- errors.New("it has a deadline")
						return 0, nil
					}
					time.Sleep(time.Hour)
					ended <- ctx.Err()
					return n, nil
				}}
			}
			return &Lab{do: func(ctx context.Context, n int) (int, error) {
				labs["B"].do.Remote(helve.Detach(ctx), n)
				<-ctx.Done()
				return 0, ctx.Err()
			}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		resp := labs["A"].do.Remote(ctx, 1)
		synctest.Wait()
		resp.Cancel()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("detached work saw %v", err)
		}
	})
}

// Ailing is a replica whose first health check goes wrong.
type Ailing struct{ check func(context.Context) error }

func (*Ailing) Do(context.Context, int) (int, error)    { return 0, nil }
func (a *Ailing) CheckHealth(ctx context.Context) error { return a.check(ctx) }

// TestFirstHealthCheckFails: the replica is not ready, and the start says which step failed and how.
func TestFirstHealthCheckFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		check func(context.Context) error
		want  string
		after time.Duration
	}{
		"error":   {func(context.Context) error { return errors.New("no weights") }, "no weights", 0},
		"panic":   {func(context.Context) error { panic("no weights") }, "panic: no weights", 0},
		"goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, "runtime.Goexit", 0},
		"hangs":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "construct_timeout_s", time.Minute},
		"ignores": {func(context.Context) error { time.Sleep(time.Hour); return nil }, "construct_timeout_s", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start, made := time.Now(), 0
				_, err := helve.Run(t.Context(), func() (*helve.App, error) {
					app := helve.NewApp("ailing")
					h := helve.Deploy(app, "Ailing", func(context.Context) (*Ailing, error) { made++; return &Ailing{c.check}, nil },
						helve.Options{ConstructTimeout: new(time.Minute)})
					app.Ingress(helve.MethodOf(h, (*Ailing).Do))
					return app, nil
				})
				e, ok := errors.AsType[*helve.Error](err)
				if !ok || e.Method() != "CheckHealth" || e.Deployment() != "Ailing" || !strings.Contains(e.Message(), c.want) {
					t.Errorf("%v", err)
				}
				if got := time.Since(start); got != c.after || made != 1 {
					t.Errorf("after %v, %d instances", got, made)
				}
				time.Sleep(2 * time.Hour) // a check that ignores its context
			})
		})
	}
}
