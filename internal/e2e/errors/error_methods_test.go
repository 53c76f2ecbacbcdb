package errors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// trap is an error, or a value to panic with, whose methods panic, end their goroutine or block, as the field how says.
type trap struct{ how string }

func (t *trap) spring(method string) bool {
	switch t.how { // a nil trap panics here
	case method + " panics":
		panic(&trap{method + " panics"}) // with a value that panics in turn
	case method + " exits":
		runtime.Goexit()
	case method + " blocks":
		select {}
	}
	return false
}

func (t *trap) Error() string          { t.spring("Error"); return "trap: " + t.how }
func (t *trap) Is(error) bool          { return t.spring("Is") }
func (t *trap) As(any) bool            { return t.spring("As") }
func (t *trap) String() string         { return t.Error() }
func (t *trap) GoString() string       { return t.Error() }
func (t *trap) Format(fmt.State, rune) { t.spring("Format") }
func (t *trap) LogValue() slog.Value {
	t.spring("LogValue")
	return slog.StringValue("value")
}

func (t *trap) Unwrap() error {
	switch t.how {
	case "unwraps for ever":
		return &trap{t.how}
	case "unwraps to itself":
		return t
	}
	t.spring("Unwrap")
	return nil
}

// fork unwraps to two of itself.
type fork struct{ n []int }

func (f fork) Error() string   { return fmt.Sprint("fork ", len(f.n)) }
func (f fork) Unwrap() []error { return []error{f, fork{f.n[1:]}} }

// blurter is a value to panic with.
type blurter struct{ how string }

func (t blurter) String() string { (&trap{t.how}).spring("String"); return "blurter" }

// traps are errors that do harm where a method of theirs is called outside of the guard.
func traps() map[string]error {
	all := map[string]error{
		"nil": (*trap)(nil), "nil of ours": (*helve.Error)(nil), "nil, wrapped": errors.Join((*trap)(nil)),
		"fork": fork{}, "cycle through ours": cyclic(), "of no reason": &call.Error{Message: "mine", Cause: (*trap)(nil)},
		"zero": &helve.Error{}, "embedded nil": embedding{},
	}
	for _, method := range []string{"Error", "Is", "As", "Unwrap", "Format", "LogValue"} {
		for _, what := range []string{" panics", " exits"} {
			all[method+what] = &trap{method + what}
			all[method+what+", wrapped"] = errors.Join(errors.New("above"), &trap{method + what})
		}
	}
	for _, how := range []string{"unwraps for ever", "unwraps to itself"} {
		all[how] = &trap{how}
	}
	return all
}

// embedding is a type of error with the methods of a *helve.Error.
type (
	ownError  = helve.Error
	embedding struct{ *ownError }
)

func cyclic() error {
	e := &call.Error{Reason: helve.User, Message: "cyclic"}
	e.Cause = fmt.Errorf("around: %w", e)
	return e
}

type snared struct {
	batcher *helve.Batcher[string, string]
	models  *helve.Models[string]
}

func newSnared(ctx context.Context) (*snared, error) {
	b, err := helve.NewBatcher(func(_ context.Context, in []string) ([]string, error) { return nil, traps()[in[0]] }, helve.BatchOptions[string]{Wait: new(time.Duration(0))})
	if err != nil {
		return nil, err
	}
	m, err := helve.NewModels(ctx, func(_ context.Context, id string) (string, error) { return id, traps()[id] }, helve.ModelsOptions[string]{})
	return &snared{b, m}, err
}

func (*snared) Fail(_ context.Context, kind string) (string, error) { return kind, traps()[kind] }
func (*snared) Panic(_ context.Context, kind string) error          { panic(traps()[kind]) }
func (*snared) Say(_ context.Context, how string) error             { panic(blurter{how}) }
func (*snared) Nest(_ context.Context, how string) error {
	panic(map[string]any{"x": []any{blurter{how}}})
}
func (s *snared) Batch(ctx context.Context, kind string) (string, error) {
	return s.batcher.Do(ctx, kind)
}
func (s *snared) Model(ctx context.Context, kind string) (string, error) {
	out, release, err := s.models.GetID(ctx, kind)
	release()
	return out, err
}

func (*snared) Items(_ context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield(kind, traps()[kind]) }
}

var buildSnared = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("snared")
	app.Errors(errGone, (*LimitError)(nil))
	h := helve.Deploy(app, "Snared", newSnared, helve.Options{MaxOngoingRequests: new(4)})
	for _, f := range []func(*snared, context.Context, string) (string, error){(*snared).Batch, (*snared).Model} {
		helve.MethodOf(h, f)
	}
	app.Ingress(helve.MethodOf(h, (*snared).Fail))
	return app, nil
})

// TestMethodsOfErrorValuesAreGuarded: an error or a panic value whose own methods panic, end their goroutine or have no end is
// the error of its call, and of nothing else, on every path.
func TestMethodsOfErrorValuesAreGuarded(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildSnared, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*snared](s, "snared", "Snared")
		if err != nil {
			t.Fatal(err)
		}
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		fail := helve.MethodOf(h, (*snared).Fail)
		ways := map[string]func(kind string) error{
			"call":   func(kind string) error { _, err := fail.Call(ctx, kind); return err },
			"remote": func(kind string) error { _, err := fail.Remote(ctx, kind).Result(ctx); return err },
			"panic":  func(kind string) error { _, err := helve.ActionOf(h, (*snared).Panic).Call(ctx, kind); return err },
			"batch":  func(kind string) error { _, err := helve.MethodOf(h, (*snared).Batch).Call(ctx, kind); return err },
			"model":  func(kind string) error { _, err := helve.MethodOf(h, (*snared).Model).Call(ctx, kind); return err },
			"stream": func(kind string) (err error) {
				for _, e := range helve.StreamOf(h, (*snared).Items).Call(ctx, kind) {
					err = e
				}
				return err
			},
			"stream under way": func(kind string) (err error) {
				for _, e := range helve.StreamOf(h, (*snared).Items).Remote(ctx, kind).All() {
					err = e
				}
				return err
			},
			"broadcast": func(kind string) error { _, err := fail.Broadcast(ctx, kind).Results(ctx); return err },
		}
		for name, way := range ways {
			for kind := range traps() {
				calm(t, name+": "+kind, way(kind))
			}
		}
		for kind := range traps() {
			r, err := http.Post(url, "text/plain", strings.NewReader(kind))
			if err != nil {
				t.Errorf("http: %s: %v", kind, err)
				continue
			}
			io.Copy(io.Discard, r.Body) //nolint:errcheck // the status counts
			r.Body.Close()
			if r.StatusCode != http.StatusInternalServerError {
				t.Errorf("http: %s: %s", kind, r.Status)
			}
		}
		for _, how := range []string{"String panics", "String exits"} {
			for _, m := range []func(*snared, context.Context, string) error{(*snared).Say, (*snared).Nest} {
				_, err := helve.ActionOf(h, m).Call(ctx, how)
				calm(t, how, err)
			}
		}
		if out, err := fail.Call(ctx, "good"); out != "good" || err != nil {
			t.Errorf("afterwards: %q %v", out, err)
		}
	})
}

// calm looks at an error as callers do.
func calm(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || err.Error() == "" || helve.ReasonOf(err) != helve.User {
		t.Errorf("%s: %v", what, err)
	}
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v is what it is not", what, err)
	}
	if _, ok := errors.AsType[*LimitError](err); ok {
		t.Errorf("%s: %v is of a type that it is not of", what, err)
	}
	slog.New(slog.NewJSONHandler(io.Discard, nil)).Error("a caller's log", "error", err)
}

// mortal fails where its kind says.
type mortal struct{ where, kind string }

func (m *mortal) at(where string) error {
	if m.where == where {
		return traps()[m.kind]
	}
	return nil
}

func (m *mortal) Say(_ context.Context, s string) (string, error) { return s, nil }
func (m *mortal) CheckHealth(context.Context) error               { return m.at("health") }
func (m *mortal) Close(context.Context) error                     { return m.at("close") }
func (m *mortal) Reconfigure(_ context.Context, c string) error {
	if c == "bad" {
		return m.at("reconfigure")
	}
	return nil
}

func (m *mortal) RoutingStats(context.Context) (map[string]any, error) {
	return map[string]any{}, m.at("stats")
}

// TestMethodsOfErrorValuesAreGuardedInTheLifeOfReplicas is the same for health checks, configs, closes and statistics.
func TestMethodsOfErrorValuesAreGuardedInTheLifeOfReplicas(t *testing.T) {
	t.Parallel()
	build := func(where, kind string) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("mortal")
			m := &mortal{where, kind}
			h := helve.Deploy(app, "Mortal", func(context.Context) (*mortal, error) { return m, m.at("constructor") }, helve.Options{
				UserConfig: "good", RoutingStatsPeriod: new(time.Millisecond),
				Routing: helve.CustomRouting(func() helve.RoutingPolicy { return indifferent{} }),
			})
			app.Ingress(helve.MethodOf(h, (*mortal).Say))
			return app, nil
		}
	}
	for _, runner := range []helvetest.Runner{helvetest.Local, helvetest.Socket} {
		t.Run(runner.Name, func(t *testing.T) {
			t.Parallel()
			for kind := range traps() {
				for _, where := range []string{"constructor", "health"} {
					c := runner.Config
					c.Logger = slog.New(slog.DiscardHandler)
					if _, err := c.Run(t.Context(), build(where, kind)); err == nil {
						t.Errorf("%s: %s: Run has no error", where, kind)
					}
				}
				s := helvetest.Start(t, runner.Config, build("reconfigure", kind))
				if err := s.Reconfigure(t.Context(), "mortal", "Mortal", "bad"); err == nil {
					t.Errorf("reconfigure: %s: no error", kind)
				}
			}
			for _, kind := range []string{"nil", "Error exits", "unwraps for ever"} {
				for _, where := range []string{"close", "stats"} {
					s := helvetest.Start(t, runner.Config, build(where, kind))
					h, err := helve.HandleOf[*mortal](s, "mortal", "Mortal")
					if err != nil {
						t.Fatal(err)
					}
					if out, err := helve.MethodOf(h, (*mortal).Say).Call(t.Context(), "hi"); out != "hi" || err != nil {
						t.Errorf("%s: %s: %q %v", where, kind, out, err)
					}
				}
			}
		})
	}
}

type indifferent struct{}

func (indifferent) Rank(_ helve.RoutedCall, _ []helve.ReplicaView, ranks []int) ([]int, bool) {
	return ranks, false
}

// leaving ends its goroutine.
type leaving struct{ how string }

func (l leaving) Rank(helve.RoutedCall, []helve.ReplicaView, []int) ([]int, bool) {
	if l.how == "panics" {
		panic((*trap)(nil))
	}
	runtime.Goexit()
	return nil, false
}

// TestPolicyThatFails: a policy that cannot be made is an error of the start. A call whose policy panics, or ends its
// goroutine, goes to a replica all the same.
func TestPolicyThatFails(t *testing.T) {
	t.Parallel()
	build := func(make func() helve.RoutingPolicy) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("mortal")
			h := helve.Deploy(app, "Mortal", func(context.Context) (*mortal, error) { return &mortal{}, nil }, helve.Options{Routing: helve.CustomRouting(make)})
			app.Ingress(helve.MethodOf(h, (*mortal).Say))
			return app, nil
		}
	}
	for name, make := range map[string]func() helve.RoutingPolicy{
		"panics": func() helve.RoutingPolicy { panic((*trap)(nil)) },
		"exits":  func() helve.RoutingPolicy { runtime.Goexit(); return nil },
		"nil":    func() helve.RoutingPolicy { return nil },
	} {
		_, err := helve.Run(t.Context(), build(make))
		if err == nil || !strings.Contains(err.Error(), `deployment "Mortal": request_router`) {
			t.Errorf("a maker that %s: %v", name, err)
		}
	}
	for _, how := range []string{"panics", "exits"} {
		s := helvetest.Start(t, helve.Config{}, build(func() helve.RoutingPolicy { return leaving{how} }))
		h, err := helve.HandleOf[*mortal](s, "mortal", "Mortal")
		if err != nil {
			t.Fatal(err)
		}
		say := helve.MethodOf(h, (*mortal).Say)
		if out, err := say.Call(t.Context(), "hi"); out != "hi" || err != nil {
			t.Errorf("a Rank that %s: Call: %q %v", how, out, err)
		}
		if out, err := say.Remote(t.Context(), "hi").Result(t.Context()); out != "hi" || err != nil {
			t.Errorf("a Rank that %s: Remote: %q %v", how, out, err)
		}
	}
}

// TestMethodsOfCausesAreGuarded: why a caller's context has ended is an error of the user's as others.
func TestMethodsOfCausesAreGuarded(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildSnared, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*snared](s, "snared", "Snared")
		if err != nil {
			t.Fatal(err)
		}
		fail := helve.MethodOf(h, (*snared).Fail)
		for kind, cause := range traps() {
			if strings.HasPrefix(kind, "cycle") || strings.HasPrefix(kind, "of no") || kind == "zero" { // a cause that is an *Error stays itself
				continue
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			_, one := fail.Call(ctx, "good")
			_, two := fail.Remote(ctx, "good").Result(ctx)
			_, three := fail.Broadcast(ctx, "good").Results(ctx)
			_, four := fail.Choose(ctx)
			for i, err := range []error{one, two, three, four} {
				if helve.ReasonOf(err) != helve.Cancelled || err.Error() == "" {
					t.Errorf("%s: %d: %v", kind, i, err)
				}
			}
		}
	})
	for kind, cause := range traps() {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := helve.Run(ctx, buildWaits); err == nil || err.Error() == "" {
			t.Errorf("Run: %s: %v", kind, err)
		}
	}
}

// buildWaits has a constructor that returns when it is not wanted any more.
func buildWaits() (*helve.App, error) {
	app := helve.NewApp("waits")
	h := helve.Deploy(app, "Mortal", func(ctx context.Context) (*mortal, error) { <-ctx.Done(); return nil, context.Cause(ctx) }, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*mortal).Say))
	return app, nil
}

// TestErrorsToRegisterAreGuarded: the text of an error that is registered is asked for.
func TestErrorsToRegisterAreGuarded(t *testing.T) {
	t.Parallel()
	for kind, err := range traps() {
		if kind == "nil of ours" {
			continue
		}
		s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
			app, _ := buildSnared()
			app.Errors(err)
			return app, nil
		})
		h, _ := helve.HandleOf[*snared](s, "snared", "Snared")
		_, got := helve.MethodOf(h, (*snared).Fail).Call(t.Context(), kind)
		calm(t, kind, got)
	}
	for kind, err := range traps() {
		if _, err := helve.Run(t.Context(), func() (*helve.App, error) { return nil, err }); err == nil || err.Error() == "" {
			t.Errorf("Build: %s: %v", kind, err)
		}
	}
}

type panicky struct{ kind string }

func (p panicky) ServeHTTP(http.ResponseWriter, *http.Request) { panic(traps()[p.kind]) }

// TestMethodsOfErrorValuesAreGuardedInHandlers: an http.Handler may panic with anything.
func TestMethodsOfErrorValuesAreGuardedInHandlers(t *testing.T) {
	t.Parallel()
	for kind := range traps() {
		s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
			app := helve.NewApp("panicky")
			app.Ingress(helve.HTTP(helve.Deploy(app, "Panicky", func(context.Context) (panicky, error) { return panicky{kind}, nil }, helve.Options{})))
			return app, nil
		})
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.Get(url)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		r.Body.Close()
		if r.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: %s", kind, r.Status)
		}
	}
}
