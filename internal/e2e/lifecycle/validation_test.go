package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// shy has a method that is not exported.
type shy struct{}

func (*shy) hidden(context.Context, string) (string, error) { return "", nil }

func free(*fixture.Subject, context.Context, string) (string, error) { return "", nil }

func TestMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	constructed := false
	err := fixture.StartError(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("mistakes")
		con := func(context.Context) (*fixture.Subject, error) { constructed = true; return &fixture.Subject{}, nil }
		a := helve.Deploy(app, "A", con, helve.Options{NumReplicas: new(0), MaxOngoingRequests: new(-1), Isolation: "thread"})
		helve.Deploy(app, "A", con, helve.Options{Default: "Nope"})
		helve.Deploy(app, "B\nb", con, helve.Options{Uses: []helve.Target{helve.Method[string, string]{}}})
		helve.Deploy[*fixture.Subject](app, "C", nil, helve.Options{})
		bad := func(s *fixture.Subject, ctx context.Context, in string) (string, error) { return s.Echo(ctx, in) }
		helve.MethodOf(a, bad)
		helve.MethodOf(a, free)
		helve.MethodOf(helve.Deploy(app, "D", func(context.Context) (*shy, error) { return &shy{}, nil }, helve.Options{}), (*shy).hidden)
		return app, nil
	})
	fixture.WantText(t, err, `application "mistakes"`, `deployment "A": NumReplicas (num_replicas): must be at least 1, is 0`,
		`deployment "A": MaxOngoingRequests (max_ongoing_requests): must be at least 1, is -1`, `deployment "A": isolation: must be node or process`,
		`deployment "A": the name is used twice`, `deployment "A": default: *fixture.Subject has no method "Nope"`,
		`"B\nb": '\n' cannot be printed on one line`, `uses: a zero handle or method`, `deployment "C": the constructor is nil`,
		`is a closure; give a method expression such as (*fixture.Subject).Method`,
		`lifecycle_test.free is a function, not a method`, `hidden is not an exported method`, `no ingress`)
	if constructed {
		t.Error("a constructor ran although the graph has mistakes")
	}
}

// clerk has methods of the shape of a method expression.
type clerk struct{}

func (clerk) Echo(s *fixture.Subject, ctx context.Context, in string) (string, error) {
	return s.Echo(ctx, in)
}

func TestMistakesInOptionsAreReportedTogether(t *testing.T) {
	t.Parallel()
	err := fixture.StartError(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("mistakes")
		app.RoutePrefix("no-slash/")
		app.Errors(nil, errors.New("twice"), errors.New("twice"))
		h := helve.Deploy(app, "A", fixture.NewSubject, helve.Options{
			MaxQueuedRequests: new(0), MaxConstructorRetries: new(0), ConstructTimeout: new(time.Duration(0)),
			HealthCheckPeriod: new(-time.Second), HealthCheckTimeout: new(time.Duration(0)), UserConfig: make(chan int),
			GracefulShutdownTimeout: new(-time.Second), Routing: helve.ConsistentHash{VirtualNodes: new(0), Fallbacks: new(-1)},
		})
		echo := helve.MethodOf(h, clerk{}.Echo)
		h.With(helve.RequestCodec("yaml"))
		echo.With(helve.ResponseCodec("xml"), helve.RequestCodec("MsgPack"))
		helve.StreamOf[*fixture.Subject, string, string](h, nil)
		return app, nil
	})
	fixture.WantText(t, err, `deployment "A": MaxQueuedRequests (max_queued_requests): must be -1 (no limit) or at least 1, is 0`,
		`deployment "A": MaxConstructorRetries (max_constructor_retry_count): must be at least 1`, `deployment "A": ConstructTimeout (construct_timeout_s): must be more than 0`,
		`deployment "A": HealthCheckPeriod (health_check_period_s): must not be negative`, `deployment "A": HealthCheckTimeout (health_check_timeout_s): must be more than 0`,
		`deployment "A": UserConfig (user_config): `, `has no method Reconfigure(context.Context, C) error`,
		`deployment "A": GracefulShutdownTimeout (graceful_shutdown_timeout_s): must not be negative, is -1s`,
		`deployment "A": Routing.VirtualNodes (request_router.virtual_nodes): must be at least 1`, `Routing.Fallbacks (request_router.fallback_replicas): must be at least 0`,
		`is a method value, bound to one instance`, `StreamOf: the method is nil`,
		`deployment "A": RequestCodec: there is no codec "yaml"; the codecs are cloudpickle, pickle, msgpack, orjson, raw`,
		`deployment "A": ResponseCodec: there is no codec "xml"`, `errors: nil`, `two values of type *errors.errorString with the text "twice"`,
		`route_prefix "no-slash/"`, `no ingress`)

	// A mistake that is made later is the call's.
	m := helve.MethodFunc(func(context.Context, int) (int, error) { return 1, nil }).With(helve.RequestCodec("yaml"))
	_, err = m.Call(t.Context(), 1)
	fixture.WantReason(t, err, helve.BadInput)
	_, err = m.Remote(t.Context(), 1).Result(t.Context())
	fixture.WantReason(t, err, helve.BadInput)
	if _, err := (helve.Options{NumReplicas: new(-1)}).Effective(); err == nil {
		t.Error("Effective accepted -1 replicas")
	}
	if e, err := (helve.Options{NumReplicas: new(3)}).Effective(); err != nil || *e.NumReplicas != 3 || *e.MaxOngoingRequests != 5 ||
		e.Sources["num_replicas"] != "code" || e.Sources["max_ongoing_requests"] != "default" {
		t.Errorf("%+v, %v", e, err)
	}
	fixture.WantText(t, fixture.StartError(t, helve.Config{StrictCodec: "pickle"}, buildUnknown), "StrictCodec: must be msgpack or orjson")
}

func TestZeroMethodReturnsAnError(t *testing.T) {
	t.Parallel()
	var m helve.Method[string, string]
	if _, err := m.Call(t.Context(), "x"); helve.ReasonOf(err) != helve.BadInput {
		t.Errorf("Call: %v", err)
	}
	if _, err := m.Remote(t.Context(), "x").Result(t.Context()); helve.ReasonOf(err) != helve.BadInput {
		t.Errorf("Remote: %v", err)
	}
}

func TestBuildErrorsAndNilApps(t *testing.T) {
	t.Parallel()
	why := errors.New("no config")
	if err := fixture.StartError(t, helve.Config{}, func() (*helve.App, error) { return nil, why }); !errors.Is(err, why) {
		t.Error(err)
	}
	fixture.WantText(t, fixture.StartError(t, helve.Config{}, func() (*helve.App, error) { return nil, nil }), "no application and no error")
}

func TestMethodBeforeRun(t *testing.T) {
	t.Parallel()
	app := helve.NewApp("early")
	h := helve.Deploy(app, "S", fixture.NewSubject, helve.Options{})
	_, err := helve.MethodOf(h, (*fixture.Subject).Echo).Call(t.Context(), "x")
	if helve.ReasonOf(err) != helve.DeploymentUnavailable {
		t.Error(err)
	}
}
