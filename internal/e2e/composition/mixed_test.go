package composition_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Greeter is called by Python, through handles among the arguments of its constructor.
type Greeter struct{}

func (Greeter) SayHi(_ context.Context, name string) (string, error) {
	return "Hello " + name + "!", nil
}
func (Greeter) Sum(_ context.Context, in fixture.AddIn) (int, error) { return in.X + in.Y, nil }
func (Greeter) Fail(_ context.Context, text string) (string, error) {
	return "", &fixture.Quota{Text: text}
}

// Left is the time until the deadline, in seconds, 0 for none.
func (Greeter) Left(ctx context.Context, _ helve.None) (float64, error) {
	if d, ok := ctx.Deadline(); ok {
		return time.Until(d).Seconds(), nil
	}
	return 0, nil
}

type caller interface {
	Via(context.Context, string) (string, error)
	ViaArgs(context.Context, int) (int, error)
	ViaCodec(context.Context, string) (int, error)
	ViaInstance(context.Context, string) (int, error)
	ViaBad(context.Context, int) (int, error)
	ViaFail(context.Context, string) (string, error)
	Echo(context.Context, string) (string, error)
	Left(context.Context, helve.None) (*float64, error)
	ViaLeft(context.Context, helve.None) (float64, error)
}

var buildMixed = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("mixed")
	g := helve.Deploy(app, "Greeter", func(context.Context) (Greeter, error) { return Greeter{}, nil }, helve.Options{})
	p := helve.Python[caller](app, "Caller", "subject:Subject",
		helve.Args{Positional: []any{"> "}, Named: map[string]any{"downstream": g}}, helve.Options{Uses: []helve.Target{g}})
	app.Ingress(helve.MethodOf(p, caller.Via))
	return app, nil
})

// TestMixedGraph calls Go from Python and Python from Go, with Go in the node and in a worker.
func TestMixedGraph(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildMixed, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[caller](s, "mixed", "Caller")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if got, err := helve.MethodOf(h, caller.Echo).Call(ctx, "x"); err != nil || got != "> x" {
			t.Errorf("the constructor's positional argument: %q, %v", got, err)
		}
		if got, err := helve.MethodOf(h, caller.Via).Call(ctx, "snake"); err != nil || got != "Hello snake!" {
			t.Errorf("say_hi is SayHi: %q, %v", got, err)
		}
		if got, err := helve.MethodOf(h, caller.ViaArgs).Call(ctx, 40); err != nil || got != 42 {
			t.Errorf("keyword arguments fill fields: %d, %v", got, err)
		}
		for _, codec := range []string{"msgpack", "orjson", "pickle", "cloudpickle"} {
			if got, err := helve.MethodOf(h, caller.ViaCodec).Call(ctx, codec); err != nil || got != 42 {
				t.Errorf("%s from Python: %d, %v", codec, got, err)
			}
		}
		for _, codec := range []string{"pickle", "cloudpickle"} {
			_, err := helve.MethodOf(h, caller.ViaInstance).Call(ctx, codec)
			if err == nil || !strings.Contains(err.Error(), "argument x: pickle holds an instance of subject.Quota, which Go does not read") {
				t.Errorf("an instance in %s: %v", codec, err)
			}
		}
		_, err = helve.MethodOf(h, caller.ViaBad).Call(ctx, 40)
		if err == nil || !strings.Contains(err.Error(), `"z"`) {
			t.Errorf("an unknown field is named: %v", err)
		}
		_, err = helve.MethodOf(h, caller.ViaFail).Call(ctx, "through Python")
		if err == nil || !strings.Contains(err.Error(), "through Python") {
			t.Errorf("a Go error through Python: %v", err)
		}
		left := helve.MethodOf(h, caller.Left)
		if none, err := left.Call(ctx, helve.None{}); err != nil || none != nil {
			t.Errorf("time left without a deadline: %v, %v", none, err)
		}
		hour, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if s, err := left.Call(hour, helve.None{}); err != nil || s == nil || *s <= 0 || *s > 3600 {
			t.Errorf("time left of an hour: %v, %v", s, err)
		}
		if s, err := helve.MethodOf(h, caller.ViaLeft).Call(hour, helve.None{}); err != nil || s <= 0 || s > 3600 {
			t.Errorf("time left two calls down: %v, %v", s, err)
		}
	})
}
