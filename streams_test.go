package helve_test

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
)

type seq = iter.Seq2[int, error]

func exit() { runtime.Goexit() }

func collect[T any](s iter.Seq2[T, error]) (all []T, err error) {
	for v, e := range s {
		if err != nil {
			return all, errors.New("an item after the error")
		}
		if e != nil {
			err = e
			continue
		}
		all = append(all, v)
	}
	return all, err
}

// count yields 0 to n-1, and an error after that if n is odd. It goes on after the error, as a careless method would.
func count(_ context.Context, n int) seq {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if n%2 == 1 {
			yield(0, &Quota{"odd"})
			yield(99, nil)
		}
	}
}

// both are the two ways to call a stream.
func bothWays(s helve.Stream[int, int]) map[string]func(context.Context, int) seq {
	return map[string]func(context.Context, int) seq{
		"Call":   s.Call,
		"Remote": func(ctx context.Context, n int) seq { return s.Remote(ctx, n).All() },
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, one(), &Lab{do: double, seq: count})
		for way, call := range bothWays(l.seq) {
			for _, n := range []int{0, 1, 2, 63, 64, 65, 1000} {
				got, err := collect(call(t.Context(), n))
				want := make([]int, n)
				for i := range want {
					want[i] = i
				}
				if !slices.Equal(got, want) || (n%2 == 1) != (err != nil) {
					t.Errorf("%s %d: %v, %v", way, n, got, err)
				}
				if e, ok := errors.AsType[*helve.Error](err); err != nil && (!ok || e.Type() != "*helve_test.Quota" || e.Deployment() != "Lab") {
					t.Errorf("%s: %+v", way, err)
				}
			}
			s := call(t.Context(), 2)
			collect(s)
			got, err := collect(s)
			if len(got) > 0 || helve.ReasonOf(err) != helve.BadInput {
				t.Errorf("%s: a second range: %v, %v", way, got, err)
			}
		}
		// Two streams advance independently; the slot of one is free for the other when it ended.
		if v, err := l.do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestStreamShapes(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, helve.Options{}, &Lab{do: double, seq: count})
		_, err := collect(helve.StreamNamed[int, int](l.h, "do").Call(t.Context(), 1))
		wantReason(t, err, helve.BadInput)
		_, err = helve.MethodNamed[int, int](l.h, "seq").Call(t.Context(), 1)
		wantReason(t, err, helve.BadInput)
		got, err := collect(helve.StreamNamed[int, int](l.h, "seq").Call(t.Context(), 4))
		if err != nil || !slices.Equal(got, []int{0, 1, 2, 3}) {
			t.Errorf("by name: %v, %v", got, err)
		}
		_, err = collect(helve.StreamNamed[int, string](l.h, "seq").Remote(t.Context(), 4).All())
		wantReason(t, err, helve.BadInput)
		_, err = collect((helve.Stream[int, int]{}).Call(t.Context(), 4))
		wantReason(t, err, helve.BadInput)
		_, err = collect((helve.Stream[int, int]{}).Remote(t.Context(), 4).All())
		wantReason(t, err, helve.BadInput)
	})
}

func TestStreamCallIsLazyAndRemoteIsEager(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		started := make(chan struct{}, 2)
		l := startLab(t, r, one(), &Lab{do: double, seq: func(_ context.Context, n int) seq {
			return func(yield func(int, error) bool) {
				started <- struct{}{}
				yield(n, nil)
			}
		}})
		lazy := l.seq.Call(t.Context(), 1)
		eager := l.seq.Remote(t.Context(), 2)
		<-started // nobody reads
		if got, err := collect(eager.All()); err != nil || !slices.Equal(got, []int{2}) {
			t.Errorf("%v, %v", got, err)
		}
		select {
		case <-started:
			t.Error("Call started before it was ranged over")
		default:
		}
		if got, err := collect(lazy); err != nil || !slices.Equal(got, []int{1}) {
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
				h := helve.Deploy(app, "Bulk", func(context.Context) (*Bulk, error) { return &Bulk{&items}, nil }, one())
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
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		ended := make(chan error, 1)
		var began atomic.Int64
		l := startLab(t, r, one(), &Lab{do: double, seq: func(ctx context.Context, n int) seq {
			watch := make(chan error, 1)
			go func() { // what a method has running beside itself
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
		for way, call := range bothWays(l.seq) {
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
		resp := l.seq.Remote(t.Context(), 1)
		var last error
		for _, err := range resp.All() {
			if last != nil {
				t.Error("an item after the error")
			}
			last = err
			resp.Cancel()
		}
		wantReason(t, last, helve.Cancelled)
		<-ended
		// Forgotten: the collector finds it. One that has not begun would never run.
		before := began.Load()
		forgotten := l.seq.Remote(t.Context(), 1)
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
		if v, err := l.do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestPanicOfTheLoopIsNotTheMethods(t *testing.T) {
	t.Parallel()
	eachRunner(t, func(t *testing.T, r helvetest.Runner) {
		l := startLab(t, r, one(), &Lab{do: double, seq: count})
		for way, call := range bothWays(l.seq) {
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
		if v, err := l.do.Call(t.Context(), 2); v != 4 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestFakes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := helve.MethodFunc(func(ctx context.Context, n int) (int, error) {
		switch {
		case n < 0:
			panic("negative")
		case helve.ModelIDFrom(ctx) != "":
			return len(helve.ModelIDFrom(ctx)), nil
		case n == 0:
			return 0, errors.New("zero")
		}
		return n + 1, nil
	})
	if v, err := m.Call(ctx, 1); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if v, err := m.RemoteFrom(ctx, m.Remote(ctx, 1)).Result(ctx); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if v, err := m.With(helve.ModelID("abc")).Call(ctx, 1); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	_, err := m.Call(ctx, 0)
	wantReason(t, err, helve.User)
	_, err = m.Remote(ctx, -1).Result(ctx)
	wantReason(t, err, helve.User)
	res, err := m.Broadcast(ctx, 4).Results(ctx)
	if err != nil || len(res) != 1 || res[0].Value != 5 || res[0].Replica != "fake" {
		t.Errorf("%v, %v", res, err)
	}
	sel, err := m.Choose(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Dispatch(ctx, sel, 1).Result(ctx); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	s := helve.StreamFunc(count)
	for way, call := range bothWays(s) {
		if got, err := collect(call(ctx, 3)); len(got) != 3 || helve.ReasonOf(err) != helve.User {
			t.Errorf("%s: %v, %v", way, got, err)
		}
	}
}
