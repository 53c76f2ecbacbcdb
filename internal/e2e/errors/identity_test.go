package errors_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

var (
	errGone   = errors.New("gone")
	errShut   = fmt.Errorf("shut: %w", errGone) // registered, and wraps a registered error
	errPublic = helve.Public(helve.NotFound, "no such page")
	errNobody = errors.New("not registered")
)

// LimitError wraps another error, of which its fields say nothing.
type LimitError struct {
	Left int
	err  error
}

func (e *LimitError) Error() string { return fmt.Sprint(e.Left, " left") }
func (e *LimitError) Unwrap() error { return e.err }

// StepError has an error in a field, as many errors have.
type StepError struct {
	Step string
	Err  error
}

func (e StepError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e StepError) Unwrap() error { return e.Err }

// likeError is not registered. Its Is matches errGone and context.DeadlineExceeded, and its As gives a LimitError.
type likeError struct{}

func (likeError) Error() string { return "like" }
func (likeError) Is(target error) bool {
	return target == errGone || target == context.DeadlineExceeded
}
func (likeError) As(target any) bool {
	l, ok := target.(**LimitError)
	if ok {
		*l = &LimitError{Left: 7}
	}
	return ok
}

// identities are errors of methods, by the names that the tests ask for.
var identities = map[string]func() error{
	"value":            func() error { return errGone },
	"wrapped":          func() error { return fmt.Errorf("lookup: %w", errGone) },
	"two wrapped":      func() error { return fmt.Errorf("lookup: %w, %w", errGone, &LimitError{Left: 1}) },
	"joined":           func() error { return errors.Join(errNobody, errGone, &LimitError{Left: 4}) },
	"typed over value": func() error { return &LimitError{3, errGone} },
	"typed over typed": func() error { return &LimitError{3, StepError{"second", errGone}} },
	"field":            func() error { return StepError{"first", &LimitError{5, errGone}} },
	"field of others":  func() error { return StepError{"first", errNobody} },
	"value over value": func() error { return fmt.Errorf("door: %w", errShut) },
	"two of a type":    func() error { return errors.Join(&LimitError{Left: 1}, &LimitError{Left: 2}) },
	"public":           func() error { return errPublic },
	"public, wrapped":  func() error { return fmt.Errorf("page 7: %w", errPublic) },
	"own deadline":     func() error { return fmt.Errorf("query: %w", context.DeadlineExceeded) },
	"own cancel":       func() error { return fmt.Errorf("lookup: %w", context.Canceled) },
	"both":             func() error { return errors.Join(context.Canceled, &LimitError{2, context.DeadlineExceeded}) },
	"says so itself":   func() error { return likeError{} },
	"nobody's":         func() error { return errNobody },
}

type identity struct{ of helve.Method[string, string] }

func (identity) Fail(_ context.Context, kind string) (string, error) { return "", identities[kind]() }

func (identity) Items(_ context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", identities[kind]()) }
}

func (identity) Panic(_ context.Context, kind string) error { panic(identities[kind]()) }

// Pass returns the error of another deployment, Wrap wraps that error.
func (i identity) Pass(ctx context.Context, kind string) (string, error) { return i.of.Call(ctx, kind) }

func (i identity) Wrap(ctx context.Context, kind string) (string, error) {
	out, err := i.of.Remote(ctx, kind).Result(ctx)
	return out, fmt.Errorf("above: %w", err)
}

func identityOf(outer, inner helve.Isolation) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("identity-" + string(outer) + "-" + string(inner))
		app.Errors(errGone, errShut, errPublic, (*LimitError)(nil), StepError{})
		low := helve.Deploy(app, "Low", func(context.Context) (identity, error) { return identity{}, nil }, helve.Options{Isolation: inner})
		fail := helve.MethodOf(low, identity.Fail)
		high := helve.Deploy(app, "High", func(context.Context) (identity, error) { return identity{fail}, nil },
			helve.Options{Isolation: outer, Uses: []helve.Target{fail}})
		app.Ingress(helve.MethodOf(high, identity.Pass))
		return app, nil
	}
}

var (
	buildIdentity      = fixture.Register(identityOf(helve.InNode, helve.InNode))
	buildIdentityTwice = fixture.Register(identityOf(helve.Process, helve.InNode)) // an error of the node passes a worker
)

// TestErrorsAreTheSameInEveryProcess: errors.Is, errors.As, code and reason of a call's error do not depend on where the
// method ran, nor on how the call was made, nor on the processes between.
func TestErrorsAreTheSameInEveryProcess(t *testing.T) {
	t.Parallel()
	test := func(app string) func(t *testing.T, s *helve.System) {
		return func(t *testing.T, s *helve.System) {
			low, err := helve.HandleOf[identity](s, app, "Low")
			if err != nil {
				t.Fatal(err)
			}
			high, err := helve.HandleOf[identity](s, app, "High")
			if err != nil {
				t.Fatal(err)
			}
			fail, items := helve.MethodOf(low, identity.Fail), helve.StreamOf(low, identity.Items)
			pass, wrap := helve.MethodOf(high, identity.Pass), helve.MethodOf(high, identity.Wrap)
			ctx := t.Context()
			ways := map[string]func(kind string) error{
				"call":   func(kind string) error { _, err := fail.Call(ctx, kind); return err },
				"remote": func(kind string) error { _, err := fail.Remote(ctx, kind).Result(ctx); return err },
				"from": func(kind string) error {
					_, err := fail.RemoteFrom(ctx, fail.Remote(ctx, kind)).Result(ctx)
					return err
				},
				"all": func(kind string) error { _, err := helve.All(ctx, fail.Remote(ctx, kind)); return err },
				"stream": func(kind string) (err error) {
					for _, e := range items.Call(ctx, kind) {
						err = e
					}
					return err
				},
				"stream under way": func(kind string) (err error) {
					for _, e := range items.Remote(ctx, kind).All() {
						err = e
					}
					return err
				},
				"broadcast": func(kind string) error {
					rs, err := fail.Broadcast(ctx, kind).Results(ctx)
					if err != nil && len(rs) == 1 {
						err = errors.Join(err, rs[0].Err)
					}
					return err
				},
				"dispatch": func(kind string) error {
					sel, err := fail.Choose(ctx)
					if err != nil {
						return nil
					}
					defer sel.Release()
					_, err = fail.Dispatch(ctx, sel, kind).Result(ctx)
					return err
				},
				"passed":  func(kind string) error { _, err := pass.Call(ctx, kind); return err },
				"wrapped": func(kind string) error { _, err := wrap.Call(ctx, kind); return err },
				"panic":   func(kind string) error { _, err := helve.ActionOf(low, identity.Panic).Call(ctx, kind); return err },
			}
			for name, way := range ways {
				for kind, make := range identities {
					sameIdentity(t, name+" "+kind, way(kind), make(), name == "panic")
				}
			}
		}
	}
	helvetest.Run(t, buildIdentity, test("identity-node-node"), append(helvetest.All(), helvetest.Socket)...)
	t.Run("relayed", func(t *testing.T) {
		t.Parallel()
		test("identity-process-node")(t, helvetest.Start(t, helve.Config{}, buildIdentityTwice))
	})
}

// sameIdentity compares the error of a call with the error that the method returned.
func sameIdentity(t *testing.T, what string, got, made error, panicked bool) {
	t.Helper()
	if got == nil || helve.ReasonOf(got) != helve.User {
		t.Errorf("%s: %v, reason %q", what, got, helve.ReasonOf(got))
		return
	}
	for _, target := range []error{errGone, errShut, errPublic, context.DeadlineExceeded, context.Canceled} {
		if is, was := errors.Is(got, target), errors.Is(made, target); is != was {
			t.Errorf("%s: errors.Is(%v) is %v, it was %v", what, target, is, was)
		}
	}
	limit, hadLimit := errors.AsType[*LimitError](made)
	if l, ok := errors.AsType[*LimitError](got); ok != hadLimit || ok && l.Left != limit.Left {
		t.Errorf("%s: errors.As(*LimitError) is %v %v, it was %v %v", what, l, ok, limit, hadLimit)
	}
	step, hadStep := errors.AsType[StepError](made)
	s, ok := errors.AsType[StepError](got)
	if ok != hadStep || ok && (s.Error() != step.Error() || errors.Is(s.Err, errGone) != errors.Is(step.Err, errGone)) {
		t.Errorf("%s: errors.As(StepError) is %v %v, it was %v %v", what, s, ok, step, hadStep)
	}
	if !strings.Contains(got.Error(), made.Error()) {
		t.Errorf("%s: the text is %q, it was %q", what, got, made)
	}
	want := helve.Unknown
	if errors.Is(made, errPublic) && !panicked {
		want = helve.NotFound
	}
	if code := helve.CodeOf(got); code != want {
		t.Errorf("%s: the code is %s, want %s", what, code, want)
	}
}
