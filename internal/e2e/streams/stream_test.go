package streams_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestTwoStreams: two streams of one replica do not wait for each other, and a stream that has ended stays ended.
func TestTwoStreams(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double, OnSeq: fixture.CountUp})
		ctx := t.Context()
		for way, open := range fixture.BothWays(l.Seq) {
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

func TestNothingComesAfterACancelledStream(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		step := make(chan struct{})
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double, OnSeq: func(context.Context, int) fixture.Seq {
			return func(yield func(int, error) bool) { // ignores its context and the result of yield
				defer func() { recover() }() //nolint:errcheck // yield panics after it returned false
				for i := range 3 {
					yield(i, nil)
				}
				<-step
				yield(3, nil)
			}
		}})
		resp := l.Seq.Remote(t.Context(), 0)
		synctest.Wait()
		resp.Cancel()
		close(step)
		synctest.Wait()
		got, err := fixture.Collect(resp.All())
		fixture.WantReason(t, err, helve.Cancelled)
		if len(got) != 0 {
			t.Errorf("%v came after the cancel", got)
		}
	})
}

func TestStreams(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: fixture.Double, OnSeq: fixture.CountUp})
		for way, call := range fixture.BothWays(l.Seq) {
			for _, n := range []int{0, 1, 2, 63, 64, 65, 1000} {
				got, err := fixture.Collect(call(t.Context(), n))
				want := make([]int, n)
				for i := range want {
					want[i] = i
				}
				if !slices.Equal(got, want) || (n%2 == 1) != (err != nil) {
					t.Errorf("%s %d: %v, %v", way, n, got, err)
				}
				if e, ok := errors.AsType[*helve.Error](err); err != nil && (!ok || e.Type() != "*fixture.Quota" || e.Deployment() != "Lab") {
					t.Errorf("%s: %+v", way, err)
				}
			}
			s := call(t.Context(), 2)
			fixture.Collect(s)
			got, err := fixture.Collect(s)
			if len(got) > 0 || helve.ReasonOf(err) != helve.BadInput {
				t.Errorf("%s: a second range: %v, %v", way, got, err)
			}
		}
		// Two streams advance independently; the slot of one is free for the other when it ended.
		if v, err := l.Do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestStreamShapes(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double, OnSeq: fixture.CountUp})
		_, err := fixture.Collect(helve.StreamNamed[int, int](l.Handle, "do").Call(t.Context(), 1))
		fixture.WantReason(t, err, helve.BadInput)
		_, err = helve.MethodNamed[int, int](l.Handle, "seq").Call(t.Context(), 1)
		fixture.WantReason(t, err, helve.BadInput)
		got, err := fixture.Collect(helve.StreamNamed[int, int](l.Handle, "seq").Call(t.Context(), 4))
		if err != nil || !slices.Equal(got, []int{0, 1, 2, 3}) {
			t.Errorf("by name: %v, %v", got, err)
		}
		_, err = fixture.Collect(helve.StreamNamed[int, string](l.Handle, "seq").Remote(t.Context(), 4).All())
		fixture.WantReason(t, err, helve.BadInput)
		_, err = fixture.Collect((helve.Stream[int, int]{}).Call(t.Context(), 4))
		fixture.WantReason(t, err, helve.BadInput)
		_, err = fixture.Collect((helve.Stream[int, int]{}).Remote(t.Context(), 4).All())
		fixture.WantReason(t, err, helve.BadInput)
	})
}

func TestStreamCallIsLazyAndRemoteIsEager(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		started := make(chan struct{}, 2)
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: fixture.Double, OnSeq: func(_ context.Context, n int) fixture.Seq {
			return func(yield func(int, error) bool) {
				started <- struct{}{}
				yield(n, nil)
			}
		}})
		lazy := l.Seq.Call(t.Context(), 1)
		eager := l.Seq.Remote(t.Context(), 2)
		<-started // there is no reader
		if got, err := fixture.Collect(eager.All()); err != nil || !slices.Equal(got, []int{2}) {
			t.Errorf("%v, %v", got, err)
		}
		select {
		case <-started:
			t.Error("Call started before it was ranged over")
		default:
		}
		if got, err := fixture.Collect(lazy); err != nil || !slices.Equal(got, []int{1}) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// TestStreamBuffer: an eager stream runs at most 64 items or 1 MB ahead, between processes 256 items.
func TestStreamBuffer(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		synctest.Test(t, func(t *testing.T) {
			var items atomic.Int64
			sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
				app := helve.NewApp("b")
				h := helve.Deploy(app, "Bulk", func(context.Context) (*Bulk, error) { return &Bulk{&items}, nil }, fixture.OneSlot())
				app.Ingress(helve.MethodOf(h, (*Bulk).Do))
				return app, nil
			})
			h, err := helve.HandleOf[*Bulk](sys, "b", "Bulk")
			if err != nil {
				t.Fatal(err)
			}
			s := helve.StreamOf(h, (*Bulk).Blocks)
			small := int64(64)
			if r.Name == helvetest.Pipe.Name {
				small = 256
			}
			for size, most := range map[int]int64{1: small, 100 << 10: 11, 2 << 20: 3} {
				items.Store(0)
				resp := s.Remote(t.Context(), size)
				synctest.Wait()
				if n := items.Load(); n > most+1 || n == 0 { // the last one is in the producer's hands
					t.Errorf("blocks of %d: %d items ahead, at most %d are promised", size, n, most)
				}
				read := 0
				for b, err := range resp.All() {
					if err != nil || len(b) != size {
						t.Fatalf("%d, %v", len(b), err)
					}
					synctest.Wait()
					if read++; items.Load()-int64(read) > most+1 {
						t.Fatalf("blocks of %d: %d items ahead of the reader", size, items.Load()-int64(read))
					}
					if read == 20 {
						break
					}
				}
				synctest.Wait()
			}
		})
	}
}

type Bulk struct{ items *atomic.Int64 }

func (b *Bulk) Do(context.Context, helve.None) (int, error) { return 0, nil }

func (b *Bulk) Blocks(_ context.Context, size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			b.items.Add(1)
			if !yield(make([]byte, size), nil) {
				return
			}
		}
	}
}

func TestBreakingOutCancelsTheProducer(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		ended := make(chan error, 1)
		var began atomic.Int64
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: fixture.Double, OnSeq: func(ctx context.Context, n int) fixture.Seq {
			watch := make(chan error, 1)
			go func() { // a goroutine that the method started
				<-ctx.Done()
				watch <- ctx.Err()
			}()
			return func(yield func(int, error) bool) {
				defer func() { ended <- <-watch }()
				began.Add(1)
				for yield(n, nil) {
				}
			}
		}})
		for way, call := range fixture.BothWays(l.Seq) {
			go func() {
				for range call(t.Context(), 1) {
					break
				}
			}()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the producer saw %v", way, err)
			}
		}
		// Cancelled: the reader gets the error, last and once.
		resp := l.Seq.Remote(t.Context(), 1)
		var last error
		for _, err := range resp.All() {
			if last != nil {
				t.Error("an item after the error")
			}
			last = err
			resp.Cancel()
		}
		fixture.WantReason(t, last, helve.Cancelled)
		<-ended
		// Forgotten: the collector finds it. A stream that has not begun would never run.
		before := began.Load()
		forgotten := l.Seq.Remote(t.Context(), 1)
		for began.Load() == before && t.Context().Err() == nil {
			runtime.Gosched()
		}
		runtime.KeepAlive(forgotten)
		for done := false; !done; {
			runtime.GC()
			select {
			case <-ended:
				done = true
			default:
				runtime.Gosched()
			}
		}
		if v, err := l.Do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestPanicOfTheLoopIsNotTheMethods(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{OnDo: fixture.Double, OnSeq: fixture.CountUp})
		for way, call := range fixture.BothWays(l.Seq) {
			func() {
				defer func() {
					if v := recover(); v != "mine" {
						t.Errorf("%s: recovered %v", way, v)
					}
				}()
				for range call(t.Context(), 10) {
					panic("mine")
				}
			}()
		}
		if v, err := l.Do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}
