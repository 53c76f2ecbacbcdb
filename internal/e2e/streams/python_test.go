package streams_test

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Counter is the Go deployment whose stream testdata/streams.py reads.
type Counter struct{}

func (Counter) Count(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

type pyRelay interface {
	Tens(context.Context, int) iter.Seq2[int, error]
	Words(context.Context, int) iter.Seq2[string, error]
	Plain(context.Context, int) iter.Seq2[int, error]
	One(context.Context, int) (int, error)
}

var buildPyStreams = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("pystreams")
	source := helve.Deploy(app, "Counter", func(context.Context) (Counter, error) { return Counter{}, nil }, helve.Options{})
	relay := helve.Python[pyRelay](app, "Relay", "testdata.streams:Relay", helve.Args{Positional: []any{source}},
		helve.Options{Uses: []helve.Target{source}})
	app.Ingress(helve.MethodOf(relay, pyRelay.One))
	return app, nil
})

// TestStreamsToAndFromPython: a Go caller reads a Python generator, which reads a Go stream, with errors last. A reader that
// breaks out leaves the replica as it was.
func TestStreamsToAndFromPython(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildPyStreams, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[pyRelay](s, "pystreams", "Relay")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		tens := helve.StreamOf(h, pyRelay.Tens)
		for name, seq := range map[string]iter.Seq2[int, error]{"Call": tens.Call(ctx, 1000), "Remote": tens.Remote(ctx, 1000).All()} {
			n := 0
			for v, err := range seq {
				if err != nil || v != n*10 {
					t.Fatalf("%s: item %d is %d, %v", name, n, v, err)
				}
				n++
			}
			if n != 1000 {
				t.Errorf("%s: %d items", name, n)
			}
		}
		for range 20 { // more than there are slots
			for v, err := range tens.Remote(ctx, 1<<40).All() {
				if err != nil {
					t.Fatal(err)
				}
				if v == 1000 {
					break
				}
			}
		}
		n := 0
		var last error
		for v, err := range helve.StreamOf(h, pyRelay.Words).Call(ctx, 300) {
			if last = err; err == nil && len(v) != n {
				t.Errorf("item %d has %d bytes", n, len(v))
			} else if err == nil {
				n++
			}
		}
		if n != 300 || last == nil || !strings.Contains(last.Error(), "out of words") || helve.ReasonOf(last) != helve.User {
			t.Errorf("%d items, then %v", n, last)
		}
		for _, err := range helve.StreamOf(h, pyRelay.Plain).Call(ctx, 1) {
			if err == nil || !strings.Contains(err.Error(), "did not return a generator") {
				t.Errorf("a method that returns: %v", err)
			}
		}
	}, helvetest.Local, helvetest.Process)
}
