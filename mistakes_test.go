package helve_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// start runs an application that must fail to start, within a time that shows that nothing hangs.
func start(t *testing.T, c helve.Config, build helve.Build) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := c.Run(ctx, build)
	if err == nil {
		s.Close(ctx)
		t.Fatal("it started")
	}
	return err
}

func wants(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, w := range texts {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q:\n%v", w, err)
		}
	}
}

func (s *Subject) hidden(context.Context, string) (string, error) { return "", nil }

func free(*Subject, context.Context, string) (string, error) { return "", nil }

func TestMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	constructed := false
	err := start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("mistakes")
		con := func(context.Context) (*Subject, error) { constructed = true; return &Subject{}, nil }
		a := helve.Deploy(app, "A", con, helve.Options{NumReplicas: new(0), MaxOngoingRequests: new(-1), Isolation: "thread"})
		helve.Deploy(app, "A", con, helve.Options{Default: "Nope"})
		helve.Deploy(app, "B b", con, helve.Options{Uses: []helve.Target{helve.Method[string, string]{}}})
		helve.Deploy[*Subject](app, "C", nil, helve.Options{})
		bad := func(s *Subject, ctx context.Context, in string) (string, error) { return s.Echo(ctx, in) }
		helve.MethodOf(a, bad)
		helve.MethodOf(a, free)
		helve.MethodOf(a, (*Subject).hidden)
		return app, nil
	})
	wants(t, err, `application "mistakes"`, `deployment "A": NumReplicas (num_replicas): must be at least 1, is 0`,
		`deployment "A": MaxOngoingRequests (max_ongoing_requests): must be at least 1, is -1`, `deployment "A": isolation: must be node or process`,
		`deployment "A": the name is used twice`, `deployment "A": default: *helve_test.Subject has no method "Nope"`,
		`"B b": only letters`, `uses: a zero handle or method`, `deployment "C": the constructor is nil`,
		`is a closure; give a method expression such as (*helve_test.Subject).Method`,
		`helve_test.free is a function, not a method`, `hidden is not an exported method`, `no ingress`)
	if constructed {
		t.Error("a constructor ran although the graph has mistakes")
	}
}

// clerk has methods of the shape of a method expression.
type clerk struct{}

func (clerk) Echo(s *Subject, ctx context.Context, in string) (string, error) { return s.Echo(ctx, in) }

func TestMistakesInOptionsAreReportedTogether(t *testing.T) {
	t.Parallel()
	err := start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("mistakes")
		app.RoutePrefix("no-slash/")
		app.Errors(nil, errors.New("twice"), errors.New("twice"))
		h := helve.Deploy(app, "A", newSubject, helve.Options{
			MaxQueuedRequests: new(0), MaxConstructorRetries: new(0), ConstructTimeout: new(time.Duration(0)),
			HealthCheckPeriod: new(-time.Second), HealthCheckTimeout: new(time.Duration(0)), UserConfig: make(chan int),
			GracefulShutdownTimeout: new(-time.Second), Routing: helve.ConsistentHash{VirtualNodes: new(0), Fallbacks: new(-1)},
		})
		echo := helve.MethodOf(h, clerk{}.Echo)
		h.With(helve.RequestCodec("yaml"))
		echo.With(helve.ResponseCodec("xml"), helve.RequestCodec("MsgPack"))
		helve.StreamOf[*Subject, string, string](h, nil)
		return app, nil
	})
	wants(t, err, `deployment "A": MaxQueuedRequests (max_queued_requests): must be -1 (no limit) or at least 1, is 0`,
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
	wantReason(t, err, helve.BadInput)
	_, err = m.Remote(t.Context(), 1).Result(t.Context())
	wantReason(t, err, helve.BadInput)
	if _, err := (helve.Options{NumReplicas: new(-1)}).Effective(); err == nil {
		t.Error("Effective accepted -1 replicas")
	}
	if e, err := (helve.Options{NumReplicas: new(3)}).Effective(); err != nil || *e.NumReplicas != 3 || *e.MaxOngoingRequests != 5 ||
		e.Sources["num_replicas"] != "code" || e.Sources["max_ongoing_requests"] != "default" {
		t.Errorf("%+v, %v", e, err)
	}
	wants(t, start(t, helve.Config{StrictCodec: "pickle"}, buildErrors), "StrictCodec: must be msgpack or orjson")
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
	if err := start(t, helve.Config{}, func() (*helve.App, error) { return nil, why }); !errors.Is(err, why) {
		t.Error(err)
	}
	wants(t, start(t, helve.Config{}, func() (*helve.App, error) { return nil, nil }), "no application and no error")
}

func TestMethodBeforeRun(t *testing.T) {
	t.Parallel()
	app := helve.NewApp("early")
	h := helve.Deploy(app, "S", newSubject, helve.Options{})
	_, err := helve.MethodOf(h, (*Subject).Echo).Call(t.Context(), "x")
	if helve.ReasonOf(err) != helve.DeploymentUnavailable {
		t.Error(err)
	}
}

// worker reports whether this process is a worker: what a Build must never ask, which is why these do.
func worker() bool { return os.Getenv("HELVE_WORKER") != "" }

func ingressOf(app *helve.App, con func(context.Context) (*Subject, error)) *helve.App {
	h := helve.Deploy(app, "Subject", con, helve.Options{Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*Subject).Echo))
	return app
}

type Other struct{ Subject }

func (o *Other) Echo(_ context.Context, n int) (int, error) { return n, nil }

func buildDiffers() (*helve.App, error) {
	app := helve.NewApp("differs")
	if !worker() {
		return ingressOf(app, newSubject), nil
	}
	h := helve.Deploy(app, "Subject", func(context.Context) (*Other, error) { return &Other{}, nil }, helve.Options{})
	helve.Deploy(app, "Extra", newSubject, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Other).Echo))
	return app, nil
}

func buildDies() (*helve.App, error) {
	return ingressOf(helve.NewApp("dies"), func(context.Context) (*Subject, error) {
		fmt.Fprintln(os.Stderr, "the disk is on fire")
		os.Exit(7)
		return nil, nil
	}), nil
}

func buildExits() (*helve.App, error) {
	if os.Getenv("HELVE_WORKER") == "exits" {
		fmt.Fprintln(os.Stderr, "no licence")
		os.Exit(3)
	}
	return ingressOf(helve.NewApp("exits"), newSubject), nil
}

func buildRaises() (*helve.App, error) {
	return ingressOf(helve.NewApp("raises"), func(context.Context) (*Subject, error) {
		panic("no weights")
	}), nil
}

func buildUnknown() (*helve.App, error) {
	return ingressOf(helve.NewApp("unknown"), newSubject), nil
}

func TestWorkersThatCannotStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		build helve.Build
		texts []string
	}{
		"another graph": {buildDiffers, []string{"application differs is not the same", "deployment Extra: 0 in the node, 1 in the worker",
			"deployment Subject: type is *helve_test.Subject in the node, *helve_test.Other in the worker",
			"deployment Subject: method Echo: input is string in the node, int in the worker"}},
		"constructor exits":  {buildDies, []string{"deployment Subject", "exit status 7", "the disk is on fire"}},
		"exits at once":      {buildExits, []string{"application exits", "exit status 3", "no licence"}},
		"constructor panics": {buildRaises, []string{"Subject", "panic: no weights"}},
		"not built here":     {buildUnknown, []string{"application unknown is not built here: call helve.WorkerMain(BuildUnknown, ...) first"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wants(t, start(t, helve.Config{}, test.build), test.texts...)
		})
	}
}

func TestConstructorErrors(t *testing.T) {
	t.Parallel()
	why := errors.New("no weights")
	for name, con := range map[string]func(context.Context) (*Subject, error){
		"error": func(context.Context) (*Subject, error) { return nil, why },
		"panic": func(context.Context) (*Subject, error) { panic(why) },
		"nil":   func(context.Context) (*Subject, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := start(t, helve.Config{Isolation: helve.InNode}, func() (*helve.App, error) {
				return ingressOf(helve.NewApp("c"), con), nil
			})
			wants(t, err, "Subject")
			if name != "nil" && !errors.Is(err, why) {
				t.Errorf("the constructor's own error is lost: %v", err)
			}
		})
	}
}

func TestPythonThatCannotStart(t *testing.T) {
	t.Parallel()
	type echo interface {
		Echo(context.Context, string) (string, error)
	}
	type other interface {
		Predict(context.Context, string) (string, error)
	}
	python := func(path string, args helve.Args) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("py")
			h := helve.Python[echo](app, "Model", path, args, helve.Options{})
			app.Ingress(helve.MethodOf(h, echo.Echo))
			return app, nil
		}
	}
	for name, test := range map[string]struct {
		build helve.Build
		texts []string
	}{
		"no module":   {python("testdata.nothing:Subject", helve.Args{}), []string{"Model", "No module named 'testdata.nothing'"}},
		"no class":    {python("testdata.subject:Nobody", helve.Args{}), []string{"Model", "Nobody"}},
		"raises":      {python("testdata.subject:Raises", helve.Args{}), []string{"Model", "no weights", "ValueError", "subject.py"}},
		"arguments":   {python("testdata.subject:Subject", helve.Args{Named: map[string]any{"colour": 1}}), []string{"Model", "colour"}},
		"import path": {python("testdata.subject", helve.Args{}), []string{`deployment "Model": import path "testdata.subject": must be module:Class`}},
		"no such method": {func() (*helve.App, error) {
			app := helve.NewApp("py")
			h := helve.Python[other](app, "Model", "testdata.subject:Subject", helve.Args{}, helve.Options{})
			app.Ingress(helve.MethodOf(h, other.Predict))
			return app, nil
		}, []string{"Model", "no method predict", "echo"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wants(t, start(t, helve.Config{}, test.build), test.texts...)
		})
	}
}

// never is closed when the test that uses it is over, so that it leaves no goroutine behind.
var never atomic.Pointer[chan struct{}]

func buildStuck() (*helve.App, error) {
	return ingressOf(helve.NewApp("stuck"), func(context.Context) (*Subject, error) {
		if c := never.Load(); c != nil {
			<-*c // it ignores its context
		} else { // in a worker
			select {}
		}
		return nil, errors.New("late")
	}), nil
}

// TestGivingUpOnAStart: the end of the context given to Run ends a start, whatever a constructor does.
func TestGivingUpOnAStart(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	never.Store(&release)
	t.Cleanup(func() { close(release) })
	type echo interface {
		Echo(context.Context, string) (string, error)
	}
	for name, test := range map[string]struct {
		isolation helve.Isolation
		build     helve.Build
	}{
		"node":   {helve.InNode, buildStuck},
		"worker": {helve.Process, buildStuck},
		"python": {"", func() (*helve.App, error) {
			app := helve.NewApp("py")
			h := helve.Python[echo](app, "Model", "testdata.subject:Stuck", helve.Args{}, helve.Options{NumReplicas: new(2)})
			app.Ingress(helve.MethodOf(h, echo.Echo))
			return app, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := errors.New("no patience")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 500*time.Millisecond, why)
			defer cancel()
			s, err := helve.Config{Isolation: test.isolation}.Run(ctx, test.build)
			if !errors.Is(err, why) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

// TestInterpreters: an interpreter that does not exist, and one without the package, are named with what to do.
func TestInterpreters(t *testing.T) {
	type echo interface {
		Echo(context.Context, string) (string, error)
	}
	bare := filepath.Join(t.TempDir(), "python")
	script := "#!/bin/sh\necho \"$0: Error while finding module specification for 'helve._worker' (ModuleNotFoundError: No module named 'helve')\" >&2\nexit 1\n"
	if err := os.WriteFile(bare, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	build := func() (*helve.App, error) {
		app := helve.NewApp("py")
		h := helve.Python[echo](app, "Model", "testdata.subject:Subject", helve.Args{}, helve.Options{})
		app.Ingress(helve.MethodOf(h, echo.Echo))
		return app, nil
	}
	for path, want := range map[string]string{
		bare:             "install the helve package for that interpreter, or set HELVE_PYTHON",
		"/none/of/these": `deployment "Model": no Python interpreter: HELVE_PYTHON: `,
	} {
		t.Run(path, func(t *testing.T) {
			t.Setenv("HELVE_PYTHON", path)
			wants(t, start(t, helve.Config{}, build), want)
		})
	}
}
