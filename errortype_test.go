package helve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// failing is a deployment with a method that fails. passer is a deployment that passes the failure on.
type failing struct{}

func (failing) Fail(_ context.Context, text string) (string, error) { return "", errors.New(text) }

type passer struct {
	of   helve.Method[string, string]
	seen chan error // the error of the call below, as the passer got it
}

func (p passer) Pass(ctx context.Context, text string) (string, error) {
	out, err := p.of.Call(ctx, text)
	p.seen <- err
	return out, err
}

// TestErrorType checks that every way of calling returns a *helve.Error, and that an error keeps its pointer.
func TestErrorType(t *testing.T) {
	t.Parallel()
	seen := make(chan error, 1)
	build := func() (*helve.App, error) {
		app := helve.NewApp("errortype")
		low := helve.Deploy(app, "Failing", func(context.Context) (failing, error) { return failing{}, nil }, helve.Options{})
		fail := helve.MethodOf(low, failing.Fail)
		high := helve.Deploy(app, "Passer", func(context.Context) (passer, error) { return passer{fail, seen}, nil }, helve.Options{Uses: []helve.Target{fail}})
		app.Ingress(helve.MethodOf(high, passer.Pass))
		return app, nil
	}
	s := helvetest.Start(t, helve.Config{}, build)
	low, err := helve.HandleOf[failing](s, "errortype", "Failing")
	if err != nil {
		t.Fatal(err)
	}
	high, err := helve.HandleOf[passer](s, "errortype", "Passer")
	if err != nil {
		t.Fatal(err)
	}
	fail := helve.MethodOf(low, failing.Fail)
	ctx := t.Context()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	slow := helve.MethodFunc(func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() })
	batcher, err := helve.NewBatcher(func(context.Context, []string) ([]string, error) { return nil, nil }, helve.BatchOptions[string]{Wait: new(time.Duration(0))})
	if err != nil {
		t.Fatal(err)
	}
	models, err := helve.NewModels(ctx, func(context.Context, string) (string, error) { return "", nil }, helve.ModelsOptions[string]{})
	if err != nil {
		t.Fatal(err)
	}
	for name, way := range map[string]func() error{
		"call":             func() error { _, err := fail.Call(ctx, "no"); return err },
		"call, ended":      func() error { _, err := fail.Call(ended, "no"); return err },
		"call, zero":       func() error { _, err := (helve.Method[string, string]{}).Call(ctx, "no"); return err },
		"call, wrong type": func() error { _, err := helve.MethodNamed[string, int](low, "Fail").Call(ctx, "no"); return err },
		"remote":           func() error { _, err := fail.Remote(ctx, "no").Result(ctx); return err },
		"remote, waiting":  func() error { _, err := slow.Remote(ctx, "").Result(ended); return err },
		"from":             func() error { _, err := fail.RemoteFrom(ctx, fail.Remote(ctx, "no")).Result(ctx); return err },
		"all":              func() error { _, err := helve.All(ctx, fail.Remote(ctx, "no")); return err },
		"broadcast, ended": func() error { _, err := fail.Broadcast(ended, "no").Results(ctx); return err },
		"broadcast, entry": func() error { rs, _ := fail.Broadcast(ctx, "no").Results(ctx); return rs[0].Err },
		"choose":           func() error { _, err := fail.Choose(ended); return err },
		"dispatch":         func() error { _, err := fail.Dispatch(ctx, nil, "no").Result(ctx); return err },
		"stream":           func() error { return lastOf(helve.StreamNamed[string, string](low, "Fail").Call(ctx, "no")) },
		"stream under way": func() error { return lastOf(helve.StreamNamed[string, string](low, "Fail").Remote(ctx, "no").All()) },
		"HandleOf":         func() error { _, err := helve.HandleOf[failing](s, "errortype", "Missing"); return err },
		"HandleFrom":       func() error { _, err := helve.HandleFrom[failing](ctx, "Missing"); return err },
		"batch":            func() error { _, err := batcher.Do(ctx, "no"); return err },
		"model":            func() error { _, _, err := models.Get(ctx); return err },
		"Public":           func() error { return helve.Public(helve.NotFound, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			err := way()
			e, ok := err.(*helve.Error) //nolint:errorlint // the test is about the type itself
			if !ok || e == nil || e.Message() == "" || e.Reason() != helve.ReasonOf(err) || e.Code() != helve.CodeOf(err) {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
	t.Run("every reader gets one error", func(t *testing.T) {
		r := fail.Remote(ctx, "no")
		_, first := r.Result(ctx)
		if _, second := r.Result(ctx); first != second { //nolint:errorlint // identity
			t.Errorf("%p, then %p", first, second)
		}
	})
	t.Run("passed on", func(t *testing.T) {
		_, got := helve.MethodOf(high, passer.Pass).Call(ctx, "no")
		if below := <-seen; got != below || !errors.Is(fmt.Errorf("above: %w", got), below) { //nolint:errorlint // identity
			t.Errorf("%p, below it was %p", got, below)
		}
	})
	t.Run("in a tree of the runtime", func(t *testing.T) {
		tree := fmt.Errorf("deploy: %w", errors.Join(io.EOF, call.NewError(helvetype.ReasonBackpressure, "full")))
		first, ok := errors.AsType[*helve.Error](tree)
		if !ok || first.Reason() != helve.Backpressure || first.Error() != "full (backpressure)" || !errors.Is(tree, first) {
			t.Errorf("%v, %v", first, ok)
		}
		if second, _ := errors.AsType[*helve.Error](tree); second != first {
			t.Error("a second look finds another error")
		}
	})
	t.Run("methods", func(t *testing.T) {
		_, err := fail.Call(ctx, "no")
		e := err.(*helve.Error) //nolint:errorlint,forcetypeassert // checked above
		got := fmt.Sprint(e.App(), e.Deployment(), e.Method(), e.Message(), e.Type(), e.PublicMessage(), e.Traceback(), e)
		if want := fmt.Sprint("errortype", "Failing", "Fail", "no", "*errors.errorString", "", "", "errortype/Failing.Fail: no"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if e.RequestID() == "" || e.Replica() == "" || errors.Unwrap(err).Error() != "no" {
			t.Errorf("request %q, replica %q, cause %v", e.RequestID(), e.Replica(), errors.Unwrap(err))
		}
	})
}

func lastOf(items func(func(string, error) bool)) (last error) {
	for _, err := range items {
		last = err
	}
	return last
}
