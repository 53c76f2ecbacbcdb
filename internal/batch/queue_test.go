package batch

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// record has the inputs of a fake function.
type record struct {
	mu      sync.Mutex
	batches [][]int
	times   []time.Duration
	start   time.Time
	now     int
	most    int
}

func (r *record) enter(in []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, slices.Clone(in))
	r.times = append(r.times, time.Since(r.start))
	r.now++
	r.most = max(r.most, r.now)
}

func (r *record) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
}

var errOdd = errors.New("odd")

// square takes a while, fails, panics and exits for some inputs.
func (r *record) square(ctx context.Context, in []int) ([]int, error) {
	r.enter(in)
	defer r.leave()
	out := make([]int, len(in))
	for i, v := range in {
		switch v {
		case -1:
			return nil, errOdd
		case -2:
			panic("boom")
		case -3:
			runtime.Goexit()
		case -4:
			return out[:0], nil
		case -5:
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		out[i] = v * v
	}
	time.Sleep(time.Second)
	return out, nil
}

// bubble runs f in fake time with a batcher of a record.
func bubble(t *testing.T, o Options, size func(int) int, f func(t *testing.T, r *record, b *Batcher[int, int])) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &record{start: time.Now()}
		b, err := New(r.square, o, size)
		if err != nil {
			t.Fatal(err)
		}
		f(t, r, b)
		synctest.Wait()
		if s := b.Stats(); s.Waiting != 0 || s.Running != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
}

// do calls for each input, in order, and gives the answers.
func do(t *testing.T, b *Batcher[int, int], in ...int) []int {
	t.Helper()
	out, errs := make([]int, len(in)), make([]error, len(in))
	var wg sync.WaitGroup
	for i, v := range in {
		wg.Go(func() { out[i], errs[i] = b.Do(t.Context(), v) })
		synctest.Wait()
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%v: %v", in, err)
	}
	return out
}

func TestForming(t *testing.T) {
	wait := func(d time.Duration) *time.Duration { return &d }
	for _, c := range []struct {
		name    string
		o       Options
		in      []int
		batches [][]int
		times   []time.Duration
	}{
		{"a full batch runs at once", Options{MaxSize: 3, Wait: wait(time.Hour)}, []int{1, 2, 3}, [][]int{{1, 2, 3}}, []time.Duration{0}},
		{"size one never waits", Options{MaxSize: 1, Wait: wait(time.Hour)}, []int{1, 2}, [][]int{{1}, {2}}, []time.Duration{0, time.Second}},
		{"the first item's wait counts", Options{MaxSize: 10, Wait: wait(time.Minute)}, []int{1, 2}, [][]int{{1, 2}}, []time.Duration{time.Minute}},
		{"no wait takes what is there", Options{MaxSize: 10, Wait: wait(0)}, []int{1, 2, 3}, [][]int{{1}, {2, 3}}, []time.Duration{0, time.Second}},
		{"more than fit", Options{MaxSize: 2, Wait: wait(time.Hour)}, []int{1, 2, 3, 4}, [][]int{{1, 2}, {3, 4}}, []time.Duration{0, time.Second}},
		{"two at a time", Options{MaxSize: 2, Wait: wait(time.Hour), MaxConcurrent: 2}, []int{1, 2, 3, 4, 5, 6}, [][]int{{1, 2}, {3, 4}, {5, 6}}, []time.Duration{0, 0, time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, c.o, nil, func(t *testing.T, r *record, b *Batcher[int, int]) {
				for i, v := range do(t, b, c.in...) {
					if v != c.in[i]*c.in[i] {
						t.Errorf("%d gave %d", c.in[i], v)
					}
				}
				if !slices.EqualFunc(r.batches, c.batches, slices.Equal) || !slices.Equal(r.times, c.times) {
					t.Errorf("batches %v at %v, want %v at %v", r.batches, r.times, c.batches, c.times)
				}
				if r.most > max(c.o.MaxConcurrent, 1) {
					t.Errorf("%d at a time", r.most)
				}
			})
		})
	}
}

func TestSizes(t *testing.T) {
	size := func(v int) int {
		if v == 13 {
			panic("unlucky")
		}
		return v
	}
	bubble(t, Options{MaxSize: 5}, size, func(t *testing.T, r *record, b *Batcher[int, int]) {
		if _, err := b.Do(t.Context(), 6); call.AsError(err).Reason != helvetype.ReasonBadInput {
			t.Errorf("%v", err)
		}
		if _, err := b.Do(t.Context(), 13); call.AsError(err).Type != "panic" {
			t.Errorf("%v", err)
		}
		do(t, b, 2, 2, 3, 1, 1) // 3 does not fit, and begins the next batch
		if want := [][]int{{2, 2}, {3, 1, 1}}; !slices.EqualFunc(r.batches, want, slices.Equal) {
			t.Errorf("%v, want %v", r.batches, want)
		}
	})
}

func TestFailuresReachEveryMember(t *testing.T) {
	for _, c := range []struct {
		bad   int
		check func(error) bool
	}{
		{-1, func(err error) bool { return errors.Is(err, errOdd) }},
		{-2, func(err error) bool { return call.AsError(err).Type == "panic" }},
		{-3, func(err error) bool { return call.AsError(err).Type == "goexit" }},
		{-4, func(err error) bool {
			return call.AsError(err).Message == "batch: the function gave 0 results for 3 inputs"
		}},
	} {
		t.Run("", func(t *testing.T) {
			bubble(t, Options{MaxSize: 3, Wait: new(time.Hour)}, nil, func(t *testing.T, _ *record, b *Batcher[int, int]) {
				var wg sync.WaitGroup
				for _, v := range []int{1, 2, c.bad} {
					wg.Go(func() {
						if _, err := b.Do(t.Context(), v); err == nil || !c.check(err) {
							t.Errorf("%v", err)
						}
					})
					synctest.Wait()
				}
				wg.Wait()
				do(t, b, 1, 2, 3) // the batcher works on
			})
		})
	}
}

func TestCancelledItemsDropOut(t *testing.T) {
	bubble(t, Options{MaxSize: 3, Wait: new(time.Minute)}, nil, func(t *testing.T, r *record, b *Batcher[int, int]) {
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := b.Do(ctx, 7)
				errs <- err
			}()
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-errs; call.AsError(err).Reason != helvetype.ReasonCancelled {
				t.Errorf("%v", err)
			}
		}
		if _, err := b.Do(ctx, 8); call.AsError(err).Reason != helvetype.ReasonCancelled {
			t.Errorf("%v", err)
		}
		do(t, b, 1, 2, 3)
		if want := [][]int{{1, 2, 3}}; !slices.EqualFunc(r.batches, want, slices.Equal) {
			t.Errorf("%v", r.batches)
		}
		// A running batch goes on for its other members, and is cancelled when the last has left.
		one, stopOne := context.WithCancel(t.Context())
		two, stopTwo := context.WithTimeout(t.Context(), time.Hour)
		defer stopTwo()
		for _, c := range []context.Context{one, two} {
			go func() {
				_, err := b.Do(c, -5)
				errs <- err
			}()
			synctest.Wait()
		}
		time.Sleep(2 * time.Minute)
		stopOne()
		if err := <-errs; call.AsError(err).Reason != helvetype.ReasonCancelled {
			t.Errorf("%v", err)
		}
		if b.Stats().Running != 1 {
			t.Error("the batch did not go on")
		}
		if err := <-errs; call.AsError(err).Reason != helvetype.ReasonDeadline {
			t.Errorf("%v", err)
		}
	})
}

func TestModelsAreApart(t *testing.T) {
	bubble(t, Options{MaxSize: 2, Wait: new(time.Minute), MaxConcurrent: 9}, nil, func(t *testing.T, r *record, b *Batcher[int, int]) {
		var wg sync.WaitGroup
		for i, model := range []string{"a", "b", "a", "b", "c"} {
			ctx := call.NewContext(t.Context(), &call.Call{Info: call.Info{Affinity: &call.Affinity{Model: model}}})
			wg.Go(func() { b.Do(ctx, i) })
			synctest.Wait()
		}
		wg.Wait()
		if want := [][]int{{0, 2}, {1, 3}, {4}}; !slices.EqualFunc(r.batches, want, slices.Equal) {
			t.Errorf("%v", r.batches)
		}
	})
}

func TestSetAndClose(t *testing.T) {
	bubble(t, Options{MaxSize: 9, Wait: new(time.Hour)}, nil, func(t *testing.T, r *record, b *Batcher[int, int]) {
		errs := make(chan error, 3)
		for range 2 {
			go func() {
				_, err := b.Do(t.Context(), 1)
				errs <- err
			}()
		}
		synctest.Wait()
		if err := b.Set(Options{MaxSize: -1, Wait: new(-time.Second), MaxConcurrent: -1}); err == nil {
			t.Error("mistakes were accepted")
		}
		if err := b.Set(Options{MaxSize: 2}); err != nil { // the waiting items are a full batch now
			t.Error(err)
		}
		if err := errors.Join(<-errs, <-errs); err != nil || len(r.batches) != 1 {
			t.Errorf("%v, %v", err, r.batches)
		}
		if o := b.Options(); o.MaxSize != 2 || *o.Wait != 10*time.Millisecond || o.MaxConcurrent != 1 {
			t.Errorf("%+v", o)
		}
		go func() {
			_, err := b.Do(t.Context(), 1)
			errs <- err
		}()
		synctest.Wait()
		b.Close()
		if err := <-errs; call.AsError(err).Reason != helvetype.ReasonReplicaUnavailable {
			t.Errorf("%v", err)
		}
		if _, err := b.Do(t.Context(), 1); call.AsError(err).Reason != helvetype.ReasonReplicaUnavailable {
			t.Errorf("%v", err)
		}
	})
	if _, err := New[int, int](nil, Options{}, nil); err == nil {
		t.Error("a nil function")
	}
}

// TestEveryItemGetsItsAnswer holds for any mix of items, cancellations and options.
func TestEveryItemGetsItsAnswer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			o := Options{MaxSize: 1 + rng.IntN(8), Wait: new(time.Duration(rng.IntN(3)) * time.Second), MaxConcurrent: 1 + rng.IntN(3)}
			r := &record{start: time.Now()}
			b, err := New(r.square, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for v := 1; v <= 100; v++ {
				ctx, cancel := context.WithCancel(t.Context())
				may := rng.IntN(5) == 0 // be cancelled
				if may {
					time.AfterFunc(time.Duration(rng.IntN(2000))*time.Millisecond, cancel)
				}
				wg.Go(func() {
					defer cancel()
					if got, err := b.Do(ctx, v); err == nil && got != v*v || err != nil && !may {
						t.Errorf("seed %d: %d gave %d, %v", seed, v, got, err)
					}
				})
				synctest.Wait()
				if rng.IntN(4) == 0 {
					time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
				}
			}
			wg.Wait()
			time.Sleep(time.Minute) // batches without members end too
			synctest.Wait()
			last := 0
			for _, batch := range r.batches {
				if len(batch) > o.MaxSize {
					t.Errorf("seed %d: a batch of %d, at most %d are allowed", seed, len(batch), o.MaxSize)
				}
				for _, v := range batch {
					if v <= last && o.MaxConcurrent == 1 {
						t.Errorf("seed %d: %d ran after %d", seed, v, last)
					}
					last = v
				}
			}
			if r.most > o.MaxConcurrent {
				t.Errorf("seed %d: %d batches at a time", seed, r.most)
			}
		})
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s, err := NewStream(func(ctx context.Context, in []int) iter.Seq2[[]Item[int], error] {
			return func(yield func([]Item[int], error) bool) {
				defer func() { ended <- ctx.Err() }()
				for i := 0; ; i++ {
					step := make([]Item[int], len(in))
					for k, v := range in {
						step[k] = Item[int]{Value: v + i, Skip: v == 200 && i%2 == 1, End: v == 100 && i == 3}
					}
					if in[0] == -1 && i == 2 {
						yield(nil, errOdd)
						yield(nil, nil) // careless
					}
					if !yield(step, nil) {
						return
					}
				}
			}
		}, func(i Item[int]) Item[int] { return i }, Options{MaxSize: 3, Wait: new(time.Second)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([][]int, 3)
		var wg sync.WaitGroup
		for k, v := range []int{100, 200, 300} {
			wg.Go(func() {
				for out, err := range s.Do(t.Context(), v) {
					if err != nil {
						t.Errorf("%d: %v", v, err)
					}
					got[k] = append(got[k], out)
					if len(got[k]) == 5+k*200 { // the slowest reads more than the buffer holds
						break
					}
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(got[0], []int{100, 101, 102}) || !slices.Equal(got[1][:3], []int{200, 202, 204}) || len(got[2]) != 405 || got[2][404] != 704 {
			t.Errorf("%v, %v, %d", got[0], got[1], len(got[2]))
		}
		if err := <-ended; err == nil {
			t.Error("the batch of readers that have gone was not cancelled")
		}
		for range 2 {
			wg.Go(func() {
				n, last := 0, error(nil)
				for _, err := range s.Do(t.Context(), -1) {
					if last != nil {
						t.Error("something after the error")
					}
					n, last = n+1, err
				}
				if n != 3 || !errors.Is(last, errOdd) {
					t.Errorf("%d items, then %v", n, last)
				}
			})
		}
		wg.Wait()
		<-ended
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var last error
		for _, last = range s.Do(ctx, 5) {
			time.Sleep(time.Second)
		}
		if call.AsError(last).Reason != helvetype.ReasonDeadline {
			t.Errorf("%v", last)
		}
		<-ended
	})
}

func BenchmarkDo(b *testing.B) {
	q, err := New(func(_ context.Context, in []int) ([]int, error) { return in, nil }, Options{MaxSize: 1}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Do(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
}
