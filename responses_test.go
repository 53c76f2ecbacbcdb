package helve_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
)

func double(_ context.Context, n int) (int, error) { return 2 * n, nil }

func TestResponseIsReadAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, &Lab{do: double})
		resp := l.do.Remote(t.Context(), 21)
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
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started, release := make(latch), make(latch)
		l := startLab(t, r, helve.Options{}, &Lab{do: func(ctx context.Context, n int) (int, error) {
			close(started)
			return n, release.wait(ctx)
		}})
		resp := l.do.Remote(t.Context(), 7)
		<-started // nobody has asked for the result
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

func TestCancel(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started, ended := make(chan int, 4), make(chan error, 4)
		l := startLab(t, r, one(), &Lab{do: func(ctx context.Context, n int) (int, error) {
			started <- n
			if n == 3 {
				return n, nil
			}
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		}})
		first := l.do.Remote(t.Context(), 1)
		<-started
		queued := l.do.Remote(t.Context(), 2)
		third := l.do.Remote(t.Context(), 3)
		queued.Cancel()
		queued.Cancel()
		_, err := queued.Result(t.Context())
		wantReason(t, err, helve.Cancelled)
		first.Cancel()
		_, err = first.Result(t.Context())
		wantReason(t, err, helve.Cancelled)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the method saw %v", err)
		}
		if v, err := third.Result(t.Context()); v != 3 || err != nil {
			t.Errorf("the call behind: %d, %v", v, err)
		}
		if n := <-started; n != 3 {
			t.Errorf("a call cancelled in the queue was started: %d", n)
		}
		third.Cancel() // it has ended
		if v, err := third.Result(t.Context()); v != 3 || err != nil {
			t.Errorf("a cancel after the end: %d, %v", v, err)
		}
	})
}

func TestComposition(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			app := helve.NewApp("sum")
			h := helve.Deploy(app, "Sum", func(context.Context) (*Sum, error) { return &Sum{}, nil }, one())
			app.Ingress(helve.MethodOf(h, (*Sum).Double))
			return app, nil
		})
		h, err := helve.HandleOf[*Sum](sys, "sum", "Sum")
		if err != nil {
			t.Fatal(err)
		}
		twice, add := helve.MethodOf(h, (*Sum).Double), helve.MethodOf(h, (*Sum).Add)
		ctx := t.Context()
		// One still running response feeds two later calls; every call goes to the one slot there is.
		a := twice.Remote(ctx, 5)
		b, c := twice.RemoteFrom(ctx, a), twice.RemoteFrom(ctx, a)
		sum := add.RemoteWith(ctx, Pair{Plus: 100},
			helve.Fill(func(in *Pair) *int { return &in.A }, b), helve.Fill(func(in *Pair) *int { return &in.B }, c))
		if v, err := sum.Result(ctx); v != 140 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		// A chain does not deadlock whatever is awaited first.
		x := twice.RemoteFrom(ctx, twice.RemoteFrom(ctx, twice.Remote(ctx, 1)))
		if vs, err := helve.All(ctx, x, a, b); err != nil || !slices.Equal(vs, []int{8, 10, 20}) {
			t.Errorf("%v, %v", vs, err)
		}
		if v, err := add.RemoteWith(ctx, Pair{A: 1, B: 2}).Result(ctx); v != 3 || err != nil {
			t.Errorf("nothing to fill: %d, %v", v, err)
		}
		twiceField := add.RemoteWith(ctx, Pair{},
			helve.Fill(func(in *Pair) *int { return &in.A }, a), helve.Fill(func(in *Pair) *int { return &in.A }, b))
		_, err = twiceField.Result(ctx)
		wantReason(t, err, helve.BadInput)
		elsewhere := new(int)
		_, err = add.RemoteWith(ctx, Pair{}, helve.Fill(func(*Pair) *int { return elsewhere }, a)).Result(ctx)
		wantReason(t, err, helve.BadInput)
	})
}

type Pair struct{ A, B, Plus int }

type Sum struct{}

func (*Sum) Double(_ context.Context, n int) (int, error) { return 2 * n, nil }
func (*Sum) Add(_ context.Context, p Pair) (int, error)   { return p.A + p.B + p.Plus, nil }

func TestUpstreamErrorArrivesAsItself(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		var downstream atomic.Int64
		labs := startLabs(t, r, map[string]helve.Options{"A": one(), "B": one()}, func(name string) *Lab {
			return &Lab{do: func(_ context.Context, n int) (int, error) {
				if name == "A" {
					return 0, &Quota{"no more"}
				}
				downstream.Add(1)
				return n, nil
			}}
		})
		up := labs["A"].do.Remote(t.Context(), 1)
		for _, resp := range []*helve.Response[int]{labs["B"].do.RemoteFrom(t.Context(), up), labs["B"].do.RemoteFrom(t.Context(), labs["B"].do.RemoteFrom(t.Context(), up))} {
			_, err := resp.Result(t.Context())
			var e *helve.Error
			if !errors.As(err, &e) || e.Deployment() != "A" || e.Type() != "*helve_test.Quota" || e.Message() != "no more" {
				t.Errorf("%+v", err)
			}
		}
		if v, err := labs["B"].do.Call(t.Context(), 3); v != 3 || err != nil || downstream.Load() != 1 {
			t.Errorf("downstream after its upstream failed: %d, %v, ran %d times", v, err, downstream.Load())
		}
		if _, err := helve.All(t.Context(), labs["B"].do.Remote(t.Context(), 1), up); helve.ReasonOf(err) != helve.User {
			t.Errorf("All: %v", err)
		}
	})
}

func TestUnresolvedArgumentsDoNotCountAsQueued(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		release := make(latch)
		labs := startLabs(t, r, map[string]helve.Options{
			"A": {MaxOngoingRequests: new(100)}, "B": {MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)},
		}, func(name string) *Lab {
			return &Lab{do: func(ctx context.Context, n int) (int, error) {
				if name == "A" {
					return n, release.wait(ctx)
				}
				return n, nil
			}}
		})
		up := labs["A"].do.Remote(t.Context(), 1)
		var waiting []*helve.Response[int]
		for range 10 {
			waiting = append(waiting, labs["B"].do.RemoteFrom(t.Context(), up))
		}
		waiting[9].Cancel()
		if v, err := labs["B"].do.Call(t.Context(), 5); v != 5 || err != nil {
			t.Errorf("with ten calls waiting for arguments: %d, %v", v, err)
		}
		close(release)
		answered := 0
		for i, w := range waiting {
			switch _, err := w.Result(t.Context()); {
			case err == nil:
				answered++
			case i == 9:
				wantReason(t, err, helve.Cancelled)
			default:
				wantReason(t, err, helve.Backpressure)
			}
		}
		if answered == 0 {
			t.Error("none of the calls ran")
		}
	})
}

func TestBackpressure(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started, release := make(chan int, 8), make(latch)
		l := startLab(t, r, helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)}, &Lab{do: func(ctx context.Context, n int) (int, error) {
			started <- n
			return n, release.wait(ctx)
		}})
		runs, queued := l.do.Remote(t.Context(), 1), l.do.Remote(t.Context(), 2)
		<-started
		for range 3 {
			_, err := l.do.Remote(t.Context(), 3).Result(t.Context())
			wantReason(t, err, helve.Backpressure)
			if helve.CodeOf(err).String() != "ResourceExhausted" || !strings.Contains(err.Error(), "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).") {
				t.Errorf("%v", err)
			}
			if _, err := l.do.Call(t.Context(), 4); helve.ReasonOf(err) != helve.Backpressure {
				t.Errorf("Call: %v", err)
			}
		}
		close(release)
		if vs, err := helve.All(t.Context(), runs, queued); err != nil || !slices.Equal(vs, []int{1, 2}) {
			t.Errorf("%v, %v", vs, err)
		}
	})
}

// TestDeadlines runs in fake time.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ran := map[int]int{}
				var mu sync.Mutex
				l := startLab(t, r, one(), &Lab{do: func(ctx context.Context, n int) (int, error) {
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
				first, second := l.do.Remote(ctx, 1), l.do.Remote(ctx, 2)
				for _, resp := range []*helve.Response[int]{first, second} {
					_, err := resp.Result(t.Context())
					wantReason(t, err, helve.Deadline)
				}
				synctest.Wait()
				if ran[1] != 1 || ran[2] != 0 {
					t.Errorf("a call that expired in the queue ran: %v", ran)
				}
				if _, err := l.do.Call(ctx, 3); helve.ReasonOf(err) != helve.Deadline || ran[3] != 0 {
					t.Errorf("a call with an ended context: %v, %v", err, ran)
				}
				// A method that ignores its context: Remote answers in time, and the slot is held until it returns.
				start := time.Now()
				ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
				defer cancel2()
				_, err := l.do.Remote(ctx2, 9).Result(t.Context())
				wantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != time.Second {
					t.Errorf("answered after %v", took)
				}
				ctx3, cancel3 := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel3()
				_, err = l.do.Call(ctx3, 4)
				wantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != 2*time.Hour+time.Second {
					t.Errorf("ended after %v", took)
				}
				if r.Name == "local" { // Call returns late, with the context's cause
					start = time.Now()
					ctx4, cancel4 := context.WithTimeout(t.Context(), time.Second)
					defer cancel4()
					_, err = l.do.Call(ctx4, 9)
					wantReason(t, err, helve.Deadline)
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
				if got := l.sys.Status().Applications["labs"].Deployments["Lab"].Calls; got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		})
	}
}

// TestChildrenOfACall: cancelling reaches the calls that a method has made, its normal end does not.
func TestChildrenOfACall(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started, ended := make(chan struct{}, 8), make(chan error, 8)
		release := make(latch)
		var labs map[string]lab
		labs = startLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *Lab {
			return &Lab{do: func(ctx context.Context, n int) (int, error) {
				if name == "B" {
					started <- struct{}{}
					select {
					case <-ctx.Done():
					case <-release:
					}
					ended <- ctx.Err()
					return n, ctx.Err()
				}
				down := labs["B"].in(ctx).do
				switch n {
				case 0: // waits for its child
					return down.Remote(ctx, 1).Result(ctx)
				case 1: // leaves it running
					down.Remote(ctx, 1)
				case 2: // leaves it running, detached
					down.Remote(helve.Detach(ctx), 1)
					<-ctx.Done()
				}
				return n, nil
			}}
		})
		up := labs["A"].do
		for _, call := range []func(context.Context, int) error{
			func(ctx context.Context, n int) error { _, err := up.Remote(ctx, n).Result(t.Context()); return err },
			func(ctx context.Context, n int) error { _, err := up.Call(ctx, n); return err },
		} {
			// The parent is cancelled: so is the child.
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, 1)
			go func() { errs <- call(ctx, 0) }()
			<-started
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the child saw %v", err)
			}
			wantReason(t, <-errs, helve.Cancelled)

			// The parent has returned; then its caller's context ends: the child runs on.
			ctx, cancel = context.WithCancel(t.Context())
			if err := call(ctx, 1); err != nil {
				t.Error(err)
			}
			<-started
			cancel()
			release <- struct{}{}
			if err := <-ended; err != nil {
				t.Errorf("a child that its parent left running saw %v", err)
			}

			// Detached: it survives the parent's cancellation.
			ctx, cancel = context.WithCancel(t.Context())
			go func() { errs <- call(ctx, 2) }()
			<-started
			cancel()
			wantReason(t, <-errs, helve.Cancelled)
			release <- struct{}{}
			if err := <-ended; err != nil {
				t.Errorf("a detached child saw %v", err)
			}
		}
	})
}

func TestDepth(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		var l lab
		l = startLab(t, r, helve.Options{MaxOngoingRequests: new(100)}, &Lab{do: func(ctx context.Context, n int) (int, error) {
			if n%2 == 0 {
				return l.in(ctx).do.Call(ctx, n+1)
			}
			return l.in(ctx).do.Remote(ctx, n+1).Result(ctx)
		}})
		_, err := l.do.Call(t.Context(), 0)
		wantReason(t, err, "depth")
		above := "Lab.Do -> Lab.Do -> "
		if r.Config.Isolation != helve.InNode { // the calls above were made in another process
			above = "Lab.Do"
		}
		if !strings.Contains(err.Error(), "64 deep: "+above) {
			t.Errorf("%v", err)
		}
	})
}

// TestDepthOfOneWay: the limit holds although every call goes the same way, as long as there are slots.
func TestDepthOfOneWay(t *testing.T) {
	t.Parallel()
	ways := map[string]func(ctx context.Context, l lab, n int) (int, error){
		"Call":   func(ctx context.Context, l lab, n int) (int, error) { return l.do.Call(ctx, n) },
		"Remote": func(ctx context.Context, l lab, n int) (int, error) { return l.do.Remote(ctx, n).Result(ctx) },
		"named": func(ctx context.Context, l lab, n int) (int, error) {
			return helve.MethodNamed[int, int](l.h, "Do").Call(ctx, n)
		},
		"dispatch": func(ctx context.Context, l lab, n int) (int, error) {
			s, err := l.do.Choose(context.WithoutCancel(ctx))
			if err != nil {
				return 0, err
			}
			return l.do.Dispatch(ctx, s, n).Result(ctx)
		},
	}
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		for name, call := range ways {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var l lab
				var deepest atomic.Int64
				l = startLab(t, r, helve.Options{MaxOngoingRequests: new(400)}, &Lab{do: func(ctx context.Context, n int) (int, error) {
					deepest.Store(int64(n))
					return call(ctx, l.in(ctx), n+1)
				}})
				_, err := call(t.Context(), l, 0)
				wantReason(t, err, "depth")
				if deepest.Load() != 63 {
					t.Errorf("%d calls nested", deepest.Load()+1)
				}
			})
		}
		t.Run("stream", func(t *testing.T) {
			t.Parallel()
			for _, remote := range []bool{false, true} {
				var l lab
				var deepest atomic.Int64
				l = startLab(t, r, helve.Options{MaxOngoingRequests: new(400)}, &Lab{seq: func(ctx context.Context, n int) iter.Seq2[int, error] {
					deepest.Store(int64(n))
					if remote {
						return l.in(ctx).seq.Remote(ctx, n+1).All()
					}
					return l.in(ctx).seq.Call(ctx, n+1)
				}})
				for _, err := range l.seq.Call(t.Context(), 0) {
					wantReason(t, err, "depth")
				}
				if deepest.Load() != 63 {
					t.Errorf("%d streams nested, remote %t", deepest.Load()+1, remote)
				}
			}
		})
	})
}

// TestCycles is not about workers: the node does not know which call in a worker made another.
func TestCycles(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var labs map[string]lab
				forgotten := make(chan *helve.Response[int], 1)
				labs = startLabs(t, r, map[string]helve.Options{"A": one(), "B": one()}, func(name string) *Lab {
					return &Lab{do: func(ctx context.Context, n int) (int, error) {
						switch {
						case name == "A" && n == 9:
							return 9, nil
						case name == "A":
							return labs["B"].do.Call(ctx, n)
						case n == 0: // back to the full ancestor, waiting
							return labs["A"].do.Call(ctx, 9)
						case n == 1: // the same over Remote: only the deadline ends it
							return labs["A"].do.Remote(ctx, 9).Result(ctx)
						}
						forgotten <- labs["A"].do.Remote(ctx, 9)
						return n, nil
					}}
				})
				up := labs["A"].do
				_, err := up.Call(t.Context(), 0)
				wantReason(t, err, "cycle")
				if !strings.Contains(err.Error(), "A.Do -> B.Do -> A.Do") {
					t.Errorf("%v", err)
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err = up.Remote(ctx, 1).Result(t.Context())
				wantReason(t, err, helve.Deadline)
				if took := time.Since(start); took != time.Minute {
					t.Errorf("a cycle over Remote ended after %v", took)
				}
				if v, err := up.Call(t.Context(), 2); v != 2 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
				if v, err := (<-forgotten).Result(t.Context()); v != 9 || err != nil {
					t.Errorf("a fire-and-forget call back to a full ancestor: %d, %v", v, err)
				}
			})
		})
	}
}

func TestSeveralApplicationsAndSystems(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		os := map[string]helve.Options{"Lab": {}}
		times := func(k int) func(string) *Lab {
			return func(string) *Lab {
				return &Lab{do: func(_ context.Context, n int) (int, error) { return k * n, nil }}
			}
		}
		one := helvetest.Start(t, r.Config, buildLabs("x", os, times(2)))
		two := helvetest.Start(t, r.Config, buildLabs("x", os, times(3)))
		if err := one.Deploy(t.Context(), buildLabs("y", os, times(5))); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		x, y, z := labsOf(t, one, "x", os)["Lab"], labsOf(t, one, "y", os)["Lab"], labsOf(t, two, "x", os)["Lab"]
		if v, err := z.do.RemoteFrom(ctx, y.do.RemoteFrom(ctx, x.do.Remote(ctx, 1))).Result(ctx); v != 30 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		if err := one.Deploy(ctx, buildLabs("y", os, times(7))); err != nil {
			t.Fatal(err)
		}
		for range 20 { // a handle from before reaches the new revision alone
			if v, err := y.do.Call(ctx, 1); v != 7 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
		}
		if err := one.Delete(ctx, "y"); err != nil {
			t.Fatal(err)
		}
		_, err := y.do.Call(ctx, 1)
		wantReason(t, err, helve.DeploymentUnavailable)
		if v, err := x.do.Call(ctx, 1); v != 2 || err != nil {
			t.Errorf("the other application after a delete: %d, %v", v, err)
		}
		if err := one.Deploy(ctx, buildLabs("y", os, times(7))); err != nil {
			t.Errorf("deployed again: %v", err)
		}
		if v, err := labsOf(t, one, "y", os)["Lab"].do.Call(ctx, 1); v != 7 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestHandleFrom(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		labs := startLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *Lab {
			return &Lab{do: func(ctx context.Context, n int) (int, error) {
				if name == "B" {
					return n + 1, nil
				}
				if _, err := helve.HandleFrom[*Lab](ctx, "C"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
					return 0, errors.Join(errors.New("a handle to nothing"), err)
				}
				h, err := helve.HandleFrom[*Lab](ctx, "B")
				if err != nil {
					return 0, err
				}
				return helve.MethodOf(h, (*Lab).Do).Call(ctx, n)
			}}
		})
		if v, err := labs["A"].do.Call(t.Context(), 1); v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		ds := labs["A"].sys.Status().Applications["labs"].Deployments["A"]
		for len(ds.DynamicUses) == 0 && t.Context().Err() == nil { // workers tell it beside the call
			ds = labs["A"].sys.Status().Applications["labs"].Deployments["A"]
		}
		if !slices.Equal(ds.DynamicUses, []string{"B"}) || len(ds.Uses) != 0 {
			t.Errorf("%+v", ds)
		}
		if _, err := helve.HandleFrom[*Lab](t.Context(), "A"); helve.ReasonOf(err) != helve.BadInput {
			t.Errorf("outside: %v", err)
		}
	})
}

func TestGoexitAndPanicResolve(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, one(), &Lab{
			do: func(_ context.Context, n int) (int, error) {
				switch n {
				case 0:
					panic("boom")
				case 1:
					exit()
				}
				return n, nil
			},
			seq: func(_ context.Context, n int) seq {
				return func(yield func(int, error) bool) {
					yield(5, nil)
					if n == 0 {
						panic("boom")
					}
					exit()
				}
			},
		})
		for n, want := range []string{"panic", "goexit"} {
			_, err := l.do.Remote(t.Context(), n).Result(t.Context())
			var e *helve.Error
			if !errors.As(err, &e) || e.Type() != want || e.Traceback() == "" {
				t.Errorf("%d: %+v", n, err)
			}
			got, err := collect(l.seq.Remote(t.Context(), n).All())
			if !errors.As(err, &e) || e.Type() != want || !slices.Equal(got, []int{5}) {
				t.Errorf("stream %d: %v, %+v", n, got, err)
			}
		}
		if _, err := l.do.Call(t.Context(), 0); helve.ReasonOf(err) != helve.User {
			t.Errorf("%v", err)
		}
		if got, err := collect(l.seq.Call(t.Context(), 0)); helve.ReasonOf(err) != helve.User || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if v, err := l.do.Call(t.Context(), 2); v != 2 || err != nil {
			t.Errorf("the slot was lost: %d, %v", v, err)
		}
	})
}
