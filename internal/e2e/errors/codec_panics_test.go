package errors_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// touchy is a value whose own code panics or ends its goroutine while it is written or read.
type touchy struct{ n int }

const (
	writePanics = iota + 10
	writeExits
	readPanics
	readExits
)

func (v touchy) MarshalJSON() ([]byte, error) {
	switch v.n {
	case writePanics:
		panic("unlucky")
	case writeExits:
		runtime.Goexit()
	}
	return json.Marshal(v.n)
}

func (v *touchy) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &v.n); err != nil {
		return err
	}
	switch v.n {
	case readPanics:
		panic("unlucky")
	case readExits:
		runtime.Goexit()
	}
	return nil
}

// TouchyPair is an input that two calls fill.
type TouchyPair struct{ A, B touchy }

// Handler takes and gives such values.
type Handler struct{}

func (*Handler) Take(_ context.Context, v touchy) (int, error)         { return v.n, nil }
func (*Handler) Give(_ context.Context, n int) (touchy, error)         { return touchy{n}, nil }
func (*Handler) Sum(_ context.Context, in TouchyPair) (int, error)     { return in.A.n + in.B.n, nil }
func (*Handler) Any(_ context.Context, in map[string]any) (int, error) { return len(in), nil }
func (*Handler) Hold(ctx context.Context, _ helve.None) error          { <-ctx.Done(); return ctx.Err() }
func (*Handler) Items(_ context.Context, n int) iter.Seq2[touchy, error] {
	return func(yield func(touchy, error) bool) { _ = yield(touchy{1}, nil) && yield(touchy{n}, nil) }
}

var buildTouchy = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("touchy")
	h := helve.Deploy(app, "Handler", func(context.Context) (*Handler, error) { return &Handler{}, nil },
		helve.Options{MaxOngoingRequests: new(1)})
	app.Ingress(helve.MethodOf(h, (*Handler).Sum))
	return app, nil
})

// TestValuesWhoseCodeFails: the code of a value panics while any goroutine encodes or decodes it. Only the call of that
// value fails, at every read of its result, and the slot is free again.
func TestValuesWhoseCodeFails(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildTouchy, func(t *testing.T, sys *helve.System) {
		h, err := helve.HandleOf[*Handler](sys, "touchy", "Handler")
		if err != nil {
			t.Fatal(err)
		}
		encoded := !strings.HasSuffix(t.Name(), "/local") && !strings.HasSuffix(t.Name(), "/stubborn")
		take, give, sum := helve.MethodOf(h, (*Handler).Take), helve.MethodOf(h, (*Handler).Give), helve.MethodOf(h, (*Handler).Sum)
		hold, items := helve.ActionOf(h, (*Handler).Hold), helve.StreamOf(h, (*Handler).Items)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // for all ways
		defer cancel()
		queued := func(send func() *helve.Response[int]) error {
			held := hold.Remote(ctx, helve.None{})
			r := send()
			held.Cancel()
			_, err := r.Result(ctx)
			return err
		}
		result := func(_ any, err error) error { return err }
		twice := func(r *helve.Response[touchy]) error {
			_, first := r.Result(ctx)
			if _, second := r.Result(ctx); (first == nil) != (second == nil) {
				t.Errorf("Result gives %v, then %v", first, second)
			}
			return first
		}
		for kind, n := range map[string]int{"panic": readPanics, "goexit": readExits, "panic in Marshal": writePanics, "goexit in Marshal": writeExits} {
			ways := map[string]func() error{
				"Call":   func() error { return result(take.Call(ctx, touchy{n})) },
				"Remote": func() error { return result(take.Remote(ctx, touchy{n}).Result(ctx)) },
				"queued": func() error { return queued(func() *helve.Response[int] { return take.Remote(ctx, touchy{n}) }) },
				"in any": func() error {
					return result(helve.MethodOf(h, (*Handler).Any).Call(ctx, map[string]any{"x": []any{touchy{n}}}))
				},
				"result":  func() error { return twice(give.Remote(ctx, n)) },
				"JSON":    func() error { return result(give.With(helve.ResponseCodec("orjson")).Call(ctx, n)) },
				"From":    func() error { return result(take.RemoteFrom(ctx, give.Remote(ctx, n)).Result(ctx)) },
				"stream":  func() error { return result(fixture.Collect(items.Remote(ctx, n).All())) },
				"items":   func() error { return result(fixture.Collect(items.Call(ctx, n))) },
				"gather":  func() error { return result(give.Broadcast(ctx, n).Results(ctx)) },
				"scatter": func() error { return result(take.Broadcast(ctx, touchy{n}).Results(ctx)) },
				"Fill": func() error {
					return result(sum.RemoteWith(ctx, TouchyPair{}, helve.Fill(func(in *TouchyPair) *touchy { return &in.A }, give.Remote(ctx, 1)),
						helve.Fill(func(in *TouchyPair) *touchy { return &in.B }, give.Remote(ctx, n))).Result(ctx))
				},
			}
			for way, call := range ways {
				err := call()
				failed, ok := errors.AsType[*helve.Error](err)
				switch {
				case !encoded && err != nil:
					t.Errorf("%s, %s: %v", way, kind, err)
				case encoded && way == "in any" && n >= readPanics: // no code decodes it into its type
					if err != nil {
						t.Errorf("%s, %s: %v", way, kind, err)
					}
				case encoded && (!ok || failed.Reason() != helve.User || failed.Type() != strings.Fields(kind)[0]):
					t.Errorf("%s, %s: %v", way, kind, err)
				}
				free, cancel := context.WithTimeout(ctx, time.Minute)
				if got, err := take.Call(free, touchy{1}); got != 1 || err != nil {
					t.Fatalf("after %s, %s: %d, %v", way, kind, got, err)
				}
				cancel()
			}
		}
	})
}
