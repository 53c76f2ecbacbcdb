package traces_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Ranker batches two calls, streams, and is told of things.
type Ranker struct{ batch *helve.Batcher[int, int] }

func newRanker(context.Context) (*Ranker, error) {
	b, err := helve.NewBatcher(func(ctx context.Context, in []int) ([]int, error) {
		_, span := helve.Span(ctx, "matrix", slog.Int("size", len(in)))
		defer span.End()
		out := make([]int, len(in))
		for i, n := range in {
			out[i] = 10 * n
		}
		return out, nil
	}, helve.BatchOptions[int]{MaxSize: 2, Wait: new(time.Minute)})
	return &Ranker{b}, err
}

// Rank waits for another call.
func (r *Ranker) Rank(ctx context.Context, n int) (int, error) { return r.batch.Do(ctx, n) }

// Items streams.
func (*Ranker) Items(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Note takes a broadcast.
func (*Ranker) Note(context.Context, int) (int, error) { return 0, nil }

// Front calls a Ranker in all ways.
type Front struct {
	rank  helve.Method[int, int]
	items helve.Stream[int, int]
	note  helve.Method[int, int]
}

// Ask is the ingress.
func (f *Front) Ask(ctx context.Context, text string) (string, error) {
	if text == "fail" {
		_, span := helve.Span(ctx, "broken")
		span.Fail(errors.New("no ranks today"))
		span.End()
		return helve.TraceparentFrom(ctx), nil
	}
	inside, span := helve.Span(ctx, "gather", slog.Int("n", 2))
	first, second := f.rank.Remote(inside, 1), f.rank.Remote(inside, 2)
	a, err1 := first.Result(inside)
	b, err2 := second.Result(inside)
	span.Set(slog.Bool("late", true))
	span.End()
	for range f.items.Call(ctx, 3) { //nolint:revive // they are counted elsewhere
	}
	_, err3 := f.note.Broadcast(ctx, 1).Results(ctx)
	return fmt.Sprint(a, b), errors.Join(err1, err2, err3)
}

var build = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("traces")
	r := helve.Deploy(app, "Ranker", newRanker, helve.Options{MaxOngoingRequests: new(4)})
	f := helve.Deploy(app, "Front", func(context.Context) (*Front, error) {
		return &Front{helve.MethodOf(r, (*Ranker).Rank), helve.StreamOf(r, (*Ranker).Items), helve.MethodOf(r, (*Ranker).Note)}, nil
	}, helve.Options{Uses: []helve.Target{r}})
	app.Ingress(helve.MethodOf(f, (*Front).Ask))
	return app, nil
})

// Model is the class in Python of testdata/traced.py.
type Model interface {
	Embed(ctx context.Context, n int) (int, error)
	Top(ctx context.Context, n int) (int, error)
	Items(ctx context.Context, n int) iter.Seq2[int, error]
	Note(ctx context.Context, n int) (int, error)
}

// Mixed calls a Model in all ways.
type Mixed struct{ model helve.Handle[Model] }

// Ask is the ingress.
func (m *Mixed) Ask(ctx context.Context, _ string) (string, error) {
	inside, span := helve.Span(ctx, "gather")
	embed := helve.MethodOf(m.model, Model.Embed)
	first, second := embed.Remote(inside, 1), embed.Remote(inside, 2)
	_, err1 := first.Result(inside)
	_, err2 := second.Result(inside)
	span.End()
	n, err3 := helve.MethodOf(m.model, Model.Top).Call(ctx, 3)
	var err4 error
	for _, err := range helve.StreamOf(m.model, Model.Items).Call(ctx, 2) {
		err4 = errors.Join(err4, err)
	}
	_, err5 := helve.MethodOf(m.model, Model.Note).Broadcast(ctx, 1).Results(ctx)
	return fmt.Sprint(n), errors.Join(err1, err2, err3, err4, err5)
}

var buildMixed = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("mixed")
	many := helve.Options{MaxOngoingRequests: new(4)}
	r := helve.Deploy(app, "Ranker", newRanker, many)
	m := helve.Python[Model](app, "Model", "testdata.traced:Model", helve.Args{Positional: []any{r}}, helve.Options{MaxOngoingRequests: new(4), Uses: []helve.Target{r}})
	f := helve.Deploy(app, "Mixed", func(context.Context) (*Mixed, error) { return &Mixed{m}, nil }, helve.Options{Uses: []helve.Target{m}})
	app.Ingress(helve.MethodOf(f, (*Mixed).Ask))
	return app, nil
})

// run starts an application with its spans sent to a receiver.
func run(t *testing.T, build helve.Build, r *receiver, isolation helve.Isolation, ratio float64) (url string) {
	t.Helper()
	s, err := helve.Config{HTTP: "127.0.0.1:0", Isolation: isolation, Tracing: helve.Tracing{Endpoint: r.url, Headers: map[string]string{"Token": "x"}, Ratio: ratio}}.Run(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	url, _ = s.HTTP()
	return url
}

// ask sends a request, and gives its answer and the id of its trace.
func ask(t *testing.T, url, text, traceparent string) (answer, trace string) {
	t.Helper()
	r := fixture.PostText(t, t.Context(), url, text, "traceparent", traceparent)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", r.Status, b, err)
	}
	return string(b), strings.ReplaceAll(r.Header.Get("X-Request-Id"), "-", "")
}

// TestOneTrace: a request is one trace, with its calls by handles, a batch, a stream, a broadcast and the spans of user code, in one process and in several.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			r := receive(t)
			url := run(t, build, r, isolation, 1)
			_, trace := ask(t, url, "x", "")
			r.await(t, trace, "", `POST /
  Front.Ask
    Ranker.Items
    broadcast Ranker.Note
    gather n=2 late=true
      Ranker.Rank
        batch Ranker.Rank links=1/1
      Ranker.Rank
        batch Ranker.Rank links=2/2
          matrix size=2
`)
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.header.Get("Token") != "x" {
				t.Errorf("the header: %v", r.header)
			}
		})
	}
}

// TestOneTraceOfGoAndPython: calls, batches, streams and broadcasts between both languages are in one trace, and so are calls of tasks and threads of a method. A thread that has no
// context of its own, such as one of run_in_executor, is below the method's call.
func TestOneTraceOfGoAndPython(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			r := receive(t)
			url := run(t, buildMixed, r, isolation, 1)
			answer, trace := ask(t, url, "x", "")
			if answer != "3" {
				t.Errorf("the answer is %s", answer)
			}
			r.await(t, trace, "", `POST /
  Mixed.Ask
    Model.Items
    Model.Top
      Ranker.Items
      Ranker.Note
      Ranker.Note
      elsewhere
        Ranker.Note
        Ranker.Note
      python n=3 late=true
        Ranker.Rank
          batch Ranker.Rank links=1/1
        Ranker.Rank
          batch Ranker.Rank links=2/2
            matrix size=2
    broadcast Model.Note
    gather
      Model.Embed
        batch embed links=1/1
      Model.Embed
        batch embed links=2/2
          matrix size=2
`)
		})
	}
}

// TestSampledByTheClient: without a ratio the client says which requests are sampled, and its span is above the trace.
func TestSampledByTheClient(t *testing.T) {
	t.Parallel()
	r := receive(t)
	url := run(t, build, r, helve.Process, -1)
	const trace = "0123456789abcdef0123456789abcdef"
	ask(t, url, "x", "")
	if answer, _ := ask(t, url, "fail", "00-"+trace+"-00000000000000a1-00"); !strings.HasPrefix(answer, "00-"+trace) || !strings.HasSuffix(answer, "-00") {
		t.Errorf("the context in the method: %s", answer)
	}
	answer, _ := ask(t, url, "fail", "00-"+trace+"-00000000000000a2-01")
	r.await(t, trace, "00000000000000a2", "POST /\n  Front.Ask\n    broken failed\n")
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := slices.DeleteFunc(slices.Clone(r.spans), func(s span) bool { return s.attribute("helve.kind") == "wait" }) // a busy machine lets a call wait for a moment
	if len(spans) != 3 {
		t.Errorf("%d spans", len(spans))
	}
	for _, s := range spans {
		if s.Name == "Front.Ask" && answer != "00-"+trace+"-"+s.SpanID+"-01" {
			t.Errorf("the context in the method: %s, and its span %s", answer, s.SpanID)
		}
	}
}

// TestCallsUnderAnotherSpan: calls of a program, and of a method, go below the span that a header describes.
func TestCallsUnderAnotherSpan(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s, err := helve.Config{Tracing: helve.Tracing{Endpoint: r.url}}.Run(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(t.Context()))
	h, err := helve.HandleOf[*Ranker](s, "traces", "Ranker")
	if err != nil {
		t.Fatal(err)
	}
	const trace = "0123456789abcdef0123456789abcdee"
	ctx := helve.WithTraceparent(t.Context(), "00-"+trace+"-00000000000000a1-01")
	if helve.TraceparentFrom(ctx) != "00-"+trace+"-00000000000000a1-01" || helve.WithTraceparent(ctx, "none") != ctx {
		t.Error("the context is lost")
	}
	rank := helve.MethodOf(h, (*Ranker).Rank)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := rank.Call(ctx, 1); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	r.await(t, trace, "00000000000000a1", `Ranker.Rank
  batch Ranker.Rank links=1/1
Ranker.Rank
  batch Ranker.Rank links=2/2
    matrix size=2
`)
	if _, span := helve.Span(t.Context(), "outside"); span == nil { // it does nothing
		t.Error("no span")
	} else {
		span.End()
	}
}
