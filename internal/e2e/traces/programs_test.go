package traces_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Gate has calls that others hold up.
type Gate struct{ began, end chan struct{} }

// Hold waits for Release.
func (g *Gate) Hold(_ context.Context, n int) (int, error) {
	<-g.end
	return n, nil
}

// Begin lets Release know that a call waits for the result of Hold.
func (g *Gate) Begin(_ context.Context, n int) (int, error) {
	g.began <- struct{}{}
	return n, nil
}

// Release waits for Begin, or ends a Hold.
func (g *Gate) Release(_ context.Context, last bool) (bool, error) {
	if last {
		g.end <- struct{}{}
	} else {
		<-g.began
	}
	return last, nil
}

// pair is an input.
type pair struct{ A, B int }

// Adder adds.
type Adder struct{}

// Add adds.
func (Adder) Add(_ context.Context, p pair) (int, error) { return p.A + p.B, nil }

// Summing calls an Adder with the result of a Gate.
type Summing struct {
	hold    helve.Method[int, int]
	begin   helve.Method[int, int]
	release helve.Method[bool, bool]
	add     helve.Method[pair, int]
}

// Ask is the ingress: "sum", "began" or "release".
func (s *Summing) Ask(ctx context.Context, text string) (string, error) {
	if text != "sum" {
		_, err := s.release.Call(ctx, text == "release")
		return text, err
	}
	inside, span := helve.Span(ctx, "both")
	defer span.End()
	sum := s.add.RemoteWith(inside, pair{B: 1}, helve.Fill(func(p *pair) *int { return &p.A }, s.hold.Remote(inside, 2)))
	_, begins := s.begin.Call(ctx, 0)
	_, err := sum.Result(inside)
	return text, errors.Join(begins, err)
}

var buildSumming = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("summing")
	g := helve.Deploy(app, "Gate", func(context.Context) (*Gate, error) { return &Gate{make(chan struct{}), make(chan struct{})}, nil }, helve.Options{MaxOngoingRequests: new(4)})
	a := helve.Deploy(app, "Adder", func(context.Context) (Adder, error) { return Adder{}, nil }, helve.Options{})
	s := helve.Deploy(app, "Summing", func(context.Context) (*Summing, error) {
		return &Summing{helve.MethodOf(g, (*Gate).Hold), helve.MethodOf(g, (*Gate).Begin), helve.MethodOf(g, (*Gate).Release), helve.MethodOf(a, Adder.Add)}, nil
	}, helve.Options{Uses: []helve.Target{g, a}, MaxOngoingRequests: new(4)})
	app.Ingress(helve.MethodOf(s, (*Summing).Ask))
	return app, nil
})

// TestWaitForArguments: the wait of a call in Go for a result that is its argument is a span below the span of the method, in the node and in workers.
func TestWaitForArguments(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			r := receive(t)
			url := run(t, buildSumming, r, isolation, 1)
			ended := make(chan string, 1)
			go func() {
				q := fixture.PostText(t, context.WithoutCancel(t.Context()), url, "sum")
				q.Body.Close()
				ended <- strings.ReplaceAll(q.Header.Get("X-Request-Id"), "-", "")
			}()
			ask(t, url, "began", "")
			ask(t, url, "release", "") // a request later than the begin, so the wait was no short one
			trace := <-ended
			fixture.Eventually(t, func() string {
				r.mu.Lock()
				defer r.mu.Unlock()
				both := ""
				for _, s := range r.spans {
					if s.TraceID == trace && s.Name == "both" {
						both = s.SpanID
					}
				}
				for _, s := range r.spans {
					if s.TraceID == trace && s.attribute("helve.kind") == "arguments" && s.Name == "arguments of Adder.Add" && s.ParentSpanID == both && both != "" {
						return ""
					}
				}
				return "no span of the arguments"
			})
		})
	}
}

// TestSpanOfAProgram: a span outside of methods is the root of a trace with the calls in it, in the program that runs the node and in one that has attached. It is not parallel: the newest
// node of the process gets such spans.
func TestSpanOfAProgram(t *testing.T) { //nolint:paralleltest // see above
	r := receive(t)
	s, err := helve.Config{Admin: "private", Isolation: helve.InNode, Tracing: helve.Tracing{Endpoint: r.url, Ratio: 1}}.Run(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test has what it wants
	program := func(t *testing.T, s *helve.System) {
		front, err := helve.HandleOf[*Front](s, "traces", "Front")
		if err != nil {
			t.Fatal(err)
		}
		ctx, span := helve.Span(t.Context(), "nightly", slog.Int("n", 7))
		_, inner := helve.Span(ctx, "inner")
		inner.End()
		if _, err := helve.MethodOf(front, (*Front).Ask).Call(ctx, "fail"); err != nil {
			t.Error(err)
		}
		trace := strings.Split(helve.TraceparentFrom(ctx), "-")[1]
		span.End()
		r.await(t, trace, "", `nightly n=7
  Front.Ask
    broken failed
  inner
`)
	}
	t.Run("in its process", func(t *testing.T) { program(t, s) }) //nolint:paralleltest // see above
	t.Run("attached", func(t *testing.T) {                        //nolint:paralleltest // see above
		remote, err := helve.Connect(t.Context(), s.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer remote.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it only ends the connection
		program(t, remote)
	})
}
