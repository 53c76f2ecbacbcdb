package streams_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Source is called from the node and from Relay, over every path.
type Source struct {
	ended   chan error // how an endless stream ended
	reached atomic.Int64
	open    atomic.Int64
}

// Count yields 0 to n-1.
func (s *Source) Count(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Fail yields three items and then an error.
func (s *Source) Fail(_ context.Context, text string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range 3 {
			if !yield(fmt.Sprint(i), nil) {
				return
			}
		}
		yield("", errors.New(text))
	}
}

// Endless yields until it is told to stop.
func (s *Source) Endless(ctx context.Context, size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		defer func() { s.ended <- context.Cause(ctx) }()
		for yield(make([]byte, size), nil) {
			s.reached.Add(1)
		}
	}
}

// Hold yields one item, and then nothing until it is told to stop.
func (s *Source) Hold(ctx context.Context, _ helve.None) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		s.open.Add(1)
		defer s.open.Add(-1)
		if yield(0, nil) {
			<-ctx.Done()
		}
	}
}

// Open is how many streams of Hold are under way.
func (s *Source) Open(context.Context, helve.None) (int64, error) { return s.open.Load(), nil }

// Ended waits for the end of a stream of Endless, and says how far it came.
func (s *Source) Ended(ctx context.Context, _ helve.None) (int64, error) {
	select {
	case <-s.ended:
		return s.reached.Load(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Reached is how many items of Endless were taken.
func (s *Source) Reached(context.Context, helve.None) (int64, error) { return s.reached.Load(), nil }

// Relay calls Source from where it runs itself.
type Relay struct {
	count   helve.Stream[int, int]
	fail    helve.Stream[string, string]
	endless helve.Stream[int, []byte]
}

// Count passes the items of Source on, in pairs.
func (f *Relay) Count(ctx context.Context, n int) iter.Seq2[[2]int, error] {
	return func(yield func([2]int, error) bool) {
		var pair [2]int
		for v, err := range f.count.Remote(ctx, n).All() {
			if err != nil {
				yield(pair, err)
				return
			}
			pair[v%2] = v
			if v%2 == 1 && !yield(pair, nil) {
				return
			}
		}
	}
}

// Fail gives the items and the error as one text.
func (f *Relay) Fail(ctx context.Context, text string) (string, error) {
	var all []string
	for v, err := range f.fail.Call(ctx, text) {
		if err != nil {
			return strings.Join(all, ",") + ":" + err.Error(), nil
		}
		all = append(all, v)
	}
	return strings.Join(all, ","), nil
}

// Break reads n items of an endless stream.
func (f *Relay) Break(ctx context.Context, n int) (int, error) {
	read := 0
	for _, err := range f.endless.Remote(ctx, 10).All() {
		if err != nil {
			return read, err
		}
		if read++; read == n {
			break
		}
	}
	return read, nil
}

var buildFar = fixture.Register(func() (*helve.App, error) {
	a := helve.NewApp("far")
	source := helve.Deploy(a, "Source", func(context.Context) (*Source, error) {
		return &Source{ended: make(chan error, 10)}, nil
	}, helve.Options{NumReplicas: new(2)})
	single := helve.Deploy(a, "Single", func(context.Context) (*Source, error) {
		return &Source{ended: make(chan error, 10)}, nil
	}, helve.Options{})
	helve.Deploy(a, "Many", func(context.Context) (*Source, error) { return &Source{}, nil }, helve.Options{MaxOngoingRequests: new(manyStreams + 1)})
	f := &Relay{
		helve.StreamOf(source, (*Source).Count), helve.StreamOf(source, (*Source).Fail), helve.StreamOf(single, (*Source).Endless),
	}
	front := helve.Deploy(a, "Relay", func(context.Context) (*Relay, error) { return f, nil },
		helve.Options{Uses: []helve.Target{f.count, f.fail, f.endless}, MaxOngoingRequests: new(100)})
	a.Ingress(helve.MethodOf(front, (*Relay).Fail))
	return a, nil
})

func handle[R any](t *testing.T, s *helve.System, name string) helve.Handle[R] {
	t.Helper()
	h, err := helve.HandleOf[R](s, "far", name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestStreamsOverEveryPath: items, errors and ends arrive, in order and once, from wherever the stream is called.
func TestStreamsOverEveryPath(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildFar, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		source, front := handle[*Source](t, s, "Source"), handle[*Relay](t, s, "Relay")
		for _, n := range []int{0, 1, 2, 1000, 20000} {
			i := 0
			for v, err := range helve.StreamOf(source, (*Source).Count).Remote(ctx, n).All() {
				if err != nil || v != i {
					t.Fatalf("item %d of %d is %d, %v", i, n, v, err)
				}
				i++
			}
			if i != n {
				t.Errorf("%d items, want %d", i, n)
			}
			i = 0
			for v, err := range helve.StreamOf(front, (*Relay).Count).Call(ctx, n) {
				if err != nil || v != [2]int{i, i + 1} {
					t.Fatalf("item %d of %d is %d, %v", i, n, v, err)
				}
				i += 2
			}
			if i != n/2*2 {
				t.Errorf("%d items through the front, want %d", i, n)
			}
		}
		got, err := helve.MethodOf(front, (*Relay).Fail).Call(ctx, "no more")
		if err != nil || !strings.HasPrefix(got, "0,1,2:") || !strings.Contains(got, "no more") {
			t.Errorf("%q, %v", got, err)
		}
		var last error
		n := 0
		for _, err := range helve.StreamOf(source, (*Source).Fail).Remote(ctx, "no more").All() {
			if n++; err != nil {
				last = err
			}
		}
		if n != 4 || helve.ReasonOf(last) != helve.User || !strings.Contains(last.Error(), "no more") {
			t.Errorf("%d items, then %v", n, last)
		}
	})
}

// TestStreamsStop: a stream without a reader ends its method, in every way in which a reader can leave.
func TestStreamsStop(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildFar, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		single, front := handle[*Source](t, s, "Single"), handle[*Relay](t, s, "Relay")
		endless := helve.StreamOf(single, (*Source).Endless)
		ended := helve.MethodOf(single, (*Source).Ended)
		if n, err := helve.MethodOf(front, (*Relay).Break).Call(ctx, 1000); n != 1000 || err != nil {
			t.Fatalf("%d items, %v", n, err)
		}
		if _, err := ended.Call(ctx, helve.None{}); err != nil {
			t.Fatal(err)
		}
		for name, leave := range map[string]func(r *helve.ResponseStream[[]byte], cancel func()){
			"close":   func(r *helve.ResponseStream[[]byte], _ func()) { r.Close() },
			"cancel":  func(r *helve.ResponseStream[[]byte], _ func()) { r.Cancel() },
			"context": func(_ *helve.ResponseStream[[]byte], cancel func()) { cancel() },
		} {
			c, cancel := context.WithCancel(ctx)
			r := endless.Remote(c, 100_000)
			for _, err := range r.All() { // the method has begun
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				leave(r, cancel)
				break
			}
			cancel()
			if _, err := ended.Call(ctx, helve.None{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

const manyStreams = 10_000

// TestManyStreamsCancelledAtOnce: each ends for its reader and at its method, and the connection serves on.
func TestManyStreamsCancelledAtOnce(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildFar, func(t *testing.T, s *helve.System) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		many := handle[*Source](t, s, "Many")
		hold, open := helve.StreamOf(many, (*Source).Hold), helve.MethodOf(many, (*Source).Open)
		streams := make([]*helve.ResponseStream[int], manyStreams)
		for i := range streams {
			streams[i] = hold.Remote(ctx, helve.None{})
		}
		for n := int64(0); n < manyStreams; {
			var err error
			if n, err = open.Call(ctx, helve.None{}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		for _, r := range streams {
			var last error
			for _, err := range r.All() {
				last = err
			}
			if helve.ReasonOf(last) != helve.Cancelled {
				t.Fatalf("%v", last)
			}
		}
		for n := int64(1); n != 0; {
			var err error
			if n, err = open.Call(t.Context(), helve.None{}); err != nil {
				t.Fatal(err)
			}
		}
	}, helvetest.Local, helvetest.Process)
}

// TestStreamsWait: a method whose consumer has stopped reading waits, over every path, so that memory is bounded.
func TestStreamsWait(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildFar, func(t *testing.T, s *helve.System) {
		single := handle[*Source](t, s, "Single")
		const size = 100_000
		ctx := t.Context()
		r := helve.StreamOf(single, (*Source).Endless).Remote(ctx, size)
		reached, n := helve.MethodOf(single, (*Source).Reached), int64(0)
		for left := 300; left > 0; { // each gives the method, once it runs, the time to go further
			var err error
			if n, err = reached.Call(ctx, helve.None{}); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				left--
			}
		}
		if n*size > 4<<20 {
			t.Errorf("the method is %d items ahead of a consumer that has read nothing", n)
		}
		r.Close()
		if _, err := helve.MethodOf(single, (*Source).Ended).Call(ctx, helve.None{}); err != nil {
			t.Error(err)
		}
	})
}
