package calls_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Bounds is a Go deployment for calls that are over a limit; testdata/bounds.py is its Python twin.
type Bounds struct {
	near, py helve.AnyHandle
}

func (*Bounds) Echo(_ context.Context, s string) (string, error) { return s, nil }
func (*Bounds) Fail(_ context.Context, n int) (string, error) {
	return "", errors.New(strings.Repeat("\xff", n))
}
func (*Bounds) Reconfigure(context.Context, any) error { return nil }

// Inside calls the two deployments from where it runs, as the test does from the node.
func (b *Bounds) Inside(ctx context.Context, kind string) (string, error) {
	return "", wrongCalls(ctx, kind, b.near, b.py)
}

type pyBounds interface {
	Echo(context.Context, string) (string, error)
	Fail(context.Context, int) (string, error)
}

var buildBounds = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("bounds")
	py := helve.Python[pyBounds](app, "Py", "testdata.bounds:Bounds", helve.Args{}, helve.Options{})
	near := helve.Deploy(app, "Near", func(context.Context) (*Bounds, error) { return &Bounds{}, nil }, helve.Options{
		UserConfig: map[string]string{"x": strings.Repeat("x", 3<<20)}, // more than a hello may have
	})
	first := helve.Deploy(app, "First", func(context.Context) (*Bounds, error) { return &Bounds{near, py}, nil }, helve.Options{
		Uses: []helve.Target{near, py},
	})
	app.Ingress(helve.MethodOf(first, (*Bounds).Echo))
	return app, nil
})

// wrongCalls makes calls that are over a limit, each of which fails with an error that names the limit, and then a call
// within the limits.
func wrongCalls(ctx context.Context, kind string, handles ...helve.AnyHandle) error {
	var wrong []error
	expect := func(reason helvetype.Reason, text string, err error) {
		if s := fmt.Sprint(err); helve.ReasonOf(err) != reason || !strings.Contains(s, text) || len(s) > 2000 {
			wrong = append(wrong, fmt.Errorf("%s: %s, not %s %q: %.300s", kind, helve.ReasonOf(err), reason, text, s))
		}
	}
	for _, h := range handles {
		echo := helve.MethodNamed[string, string](h, "Echo")
		switch kind {
		case "ids":
			for text, id := range map[string]string{"must be UTF-8": "\xff", "zero byte": "a\x00b", "at most 16384 bytes": strings.Repeat("x", 70_000)} {
				_, err := echo.With(helve.ModelID(id)).Call(ctx, "x")
				expect(helve.ReasonOf(err), text, err)
				expect(helve.ReasonOf(err), "ModelID: must", err)
				_, err = echo.With(helve.SessionID(id)).Remote(ctx, "x").Result(ctx)
				expect(helve.ReasonOf(err), "SessionID: must", err)
			}
		case "names":
			for _, name := range []string{strings.Repeat("x", 1<<20), "\xff\xfe", "a\x00b", strings.Repeat("é", 600)} {
				_, err := helve.MethodNamed[string, string](h, name).Call(ctx, "x")
				expect(helve.NoMethod, "method", err)
			}
			for i := range 6000 {
				_, err := helve.MethodNamed[string, string](h, fmt.Sprint("x", i)).Call(ctx, "x")
				expect(helve.NoMethod, "method", err)
			}
		case "errors":
			if _, err := helve.MethodNamed[int, string](h, "Fail").Call(ctx, 5<<20); helve.ReasonOf(err) != helve.User {
				wrong = append(wrong, fmt.Errorf("%.300v", err))
			}
		}
		if s, err := echo.Call(ctx, "x"); s != "x" || err != nil {
			wrong = append(wrong, fmt.Errorf("%s: the next call: %q, %w", kind, s, err))
		}
	}
	return errors.Join(wrong...)
}

// TestOverTheLimits: a call with too long a name or value fails, from the node and from a replica, to a deployment in Go and
// one in Python. Replicas, their processes and the node go on. A user config may have megabytes.
func TestOverTheLimits(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildBounds, func(t *testing.T, s *helve.System) {
		for _, kind := range []string{"ids", "names", "errors"} {
			t.Run(kind, func(t *testing.T) {
				var handles []helve.AnyHandle
				for _, name := range []string{"Near", "Py"} {
					h, err := helve.HandleOf[pyBounds](s, "bounds", name)
					if err != nil {
						t.Fatal(err)
					}
					handles = append(handles, h)
				}
				if err := wrongCalls(t.Context(), kind, handles...); err != nil {
					t.Errorf("%.2000v", err)
				}
				first, err := helve.HandleOf[*Bounds](s, "bounds", "First")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := helve.MethodOf(first, (*Bounds).Inside).Call(t.Context(), kind); err != nil {
					t.Errorf("%.2000v", err)
				}
			})
		}
	}, helvetest.Local, helvetest.Process)
}

// TestTimesOverTheLimit: a time that cannot be added to the time of the day is a mistake that names its option and its deployment.
func TestTimesOverTheLimit(t *testing.T) {
	t.Parallel()
	never := new(time.Duration(math.MaxInt64))
	for name, o := range map[string]helve.Options{
		"construct_timeout_s": {ConstructTimeout: never}, "health_check_period_s": {HealthCheckPeriod: never},
		"health_check_timeout_s": {HealthCheckTimeout: never}, "graceful_shutdown_timeout_s": {GracefulShutdownTimeout: never},
		"unresponsive_after_s": {UnresponsiveAfter: never}, "max_unresponsive_s": {MaxUnresponsive: never},
		"request_routing_stats_period_s": {RoutingStatsPeriod: never}, "request_routing_stats_timeout_s": {RoutingStatsTimeout: never},
	} {
		_, err := helve.Config{}.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("never")
			d := helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) { return &fixture.Lab{}, nil }, o)
			app.Ingress(helve.MethodOf(d, (*fixture.Lab).Do))
			return app, nil
		})
		if want := fmt.Sprintf("(%s): must be at most 3153600000 seconds (100 years)", name); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), `deployment "Lab"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrongIDsAreFoundByRun: a handle in a graph whose id is none is a mistake of the graph.
func TestWrongIDsAreFoundByRun(t *testing.T) {
	t.Parallel()
	for text, option := range map[string]helve.CallOption{
		"ModelID: must be UTF-8": helve.ModelID("\xff"), "SessionID: must not have a zero byte": helve.SessionID("\x00"),
		"SessionID: must be at most 16384 bytes long": helve.SessionID(strings.Repeat("x", 1<<20)),
	} {
		_, err := helve.Config{}.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("ids")
			d := helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) { return &fixture.Lab{}, nil }, helve.Options{})
			app.Ingress(helve.MethodOf(d.With(option), (*fixture.Lab).Do))
			return app, nil
		})
		if err == nil || !strings.Contains(err.Error(), `deployment "Lab": `+text) || len(err.Error()) > 300 {
			t.Errorf("%.300v", err)
		}
	}
}
