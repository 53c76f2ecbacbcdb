package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestStartFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		begin := time.Now()
		build := func(good int) helve.Build {
			return func() (*helve.App, error) {
				app := helve.NewApp(fmt.Sprint("good", good))
				app.RoutePrefix("/" + fmt.Sprint(good))
				h := helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) {
					starts = append(starts, time.Since(begin))
					if len(starts) < good {
						return nil, fmt.Errorf("attempt %d", len(starts))
					}
					return &fixture.Lab{OnDo: fixture.Double}, nil
				}, helve.Options{MaxConstructorRetries: new(9), NumReplicas: new(1)})
				app.Ingress(helve.MethodOf(h, (*fixture.Lab).Do))
				return app, nil
			}
		}
		// The first application is not retried.
		if _, err := helve.Run(t.Context(), build(2)); err == nil || len(starts) != 1 {
			t.Fatalf("%v after %d starts", err, len(starts))
		}
		starts = nil
		sys := helvetest.Start(t, helve.Config{}, build(1))
		starts, begin = nil, time.Now()
		if err := sys.Deploy(t.Context(), build(3)); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, 0, time.Second}; !slices.Equal(starts, want) {
			t.Errorf("started after %v, want %v", starts, want)
		}
		starts = nil
		err := sys.Deploy(t.Context(), build(99)) // three per replica are allowed
		var e *helve.Error
		if !errors.As(err, &e) || e.Method() != "constructor" || e.Message() != "attempt 3" || len(starts) != 3 {
			t.Errorf("%v after %d starts", err, len(starts))
		}
		if _, there := sys.Status().Applications["good99"]; there {
			t.Error("something stayed behind")
		}
	})
}

// TestReplicasThatFailTogether: a failure in all replicas at once counts once for the back-off. Counted each by itself,
// three of ten would already keep the next start back for longer than most things are down.
func TestReplicasThatFailTogether(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sys := helvetest.Start(t, helve.Config{}, fixture.BuildLabs("x", map[string]helve.Options{"Lab": {}}, func(string) *fixture.Lab { return &fixture.Lab{OnDo: fixture.Double} }))
				var mu sync.Mutex
				starts, begin := map[time.Duration]int{}, time.Now()
				if err := sys.Deploy(t.Context(), func() (*helve.App, error) {
					app := helve.NewApp("many")
					app.RoutePrefix("")
					h := helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) {
						mu.Lock()
						at := time.Since(begin)
						starts[at]++
						mu.Unlock()
						time.Sleep(100 * time.Millisecond) // in fake time, the duration of a start
						if at < 500*time.Millisecond {
							return nil, errors.New("the database is not up")
						}
						return &fixture.Lab{OnDo: fixture.Double}, nil
					}, helve.Options{NumReplicas: new(n), MaxConstructorRetries: new(100)})
					app.Ingress(helve.MethodOf(h, (*fixture.Lab).Do))
					return app, nil
				}); err != nil {
					t.Fatal(err)
				}
				if want := map[time.Duration]int{0: n, 100 * time.Millisecond: n, 1200 * time.Millisecond: n}; !maps.Equal(starts, want) {
					t.Errorf("started at %v, want %v", starts, want)
				}
			})
		})
	}
}

func TestConstructorTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan bool, 1)
		_, err := helve.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("slow")
			h := helve.Deploy(app, "Slow", func(context.Context) (*slow, error) {
				time.Sleep(time.Hour) // fake time, and the constructor ignores its context
				return &slow{closed}, nil
			}, helve.Options{ConstructTimeout: new(time.Minute)})
			app.Ingress(helve.MethodOf(h, (*slow).Do))
			return app, nil
		})
		fixture.WantReason(t, err, helve.Deadline)
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		<-closed // the instance that the constructor made late was closed
	})
}

type slow struct{ closed chan bool }

func (s *slow) Do(context.Context, int) (int, error) { return 0, nil }
func (s *slow) Close(context.Context) error          { s.closed <- true; return nil }

// worker reports whether this process is a worker. A Build must never ask that; the builds here do, to differ.
func worker() bool { return os.Getenv("HELVE_WORKER") != "" }

func ingressOf(app *helve.App, con func(context.Context) (*fixture.Subject, error)) *helve.App {
	h := helve.Deploy(app, "Subject", con, helve.Options{Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*fixture.Subject).Echo))
	return app
}

type Other struct{ fixture.Subject }

func (o *Other) Echo(_ context.Context, n int) (int, error) { return n, nil }

var buildDiffers = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("differs")
	if !worker() {
		return ingressOf(app, fixture.NewSubject), nil
	}
	h := helve.Deploy(app, "Subject", func(context.Context) (*Other, error) { return &Other{}, nil }, helve.Options{})
	helve.Deploy(app, "Extra", fixture.NewSubject, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Other).Echo))
	return app, nil
})

var buildDies = fixture.Register(func() (*helve.App, error) {
	return ingressOf(helve.NewApp("dies"), func(context.Context) (*fixture.Subject, error) {
		fmt.Fprintln(os.Stderr, "the disk is on fire")
		os.Exit(7)
		return nil, nil
	}), nil
})

var buildExits = fixture.Register(func() (*helve.App, error) {
	if os.Getenv("HELVE_WORKER") == "exits" {
		fmt.Fprintln(os.Stderr, "no licence")
		os.Exit(3)
	}
	return ingressOf(helve.NewApp("exits"), fixture.NewSubject), nil
})

var buildRaises = fixture.Register(func() (*helve.App, error) {
	return ingressOf(helve.NewApp("raises"), func(context.Context) (*fixture.Subject, error) {
		panic("no weights")
	}), nil
})

func buildUnknown() (*helve.App, error) {
	return ingressOf(helve.NewApp("unknown"), fixture.NewSubject), nil
}

func TestWorkersThatCannotStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		build helve.Build
		texts []string
	}{
		"another graph": {buildDiffers, []string{"application differs is not the same", "deployment Extra: 0 in the node, 1 in the worker",
			"deployment Subject: type is *fixture.Subject in the node, *lifecycle_test.Other in the worker",
			"deployment Subject: method Echo: input is string in the node, int in the worker"}},
		"constructor exits":  {buildDies, []string{"deployment Subject", "exit status 7", "the disk is on fire"}},
		"exits at once":      {buildExits, []string{"application exits", "exit status 3", "no licence"}},
		"constructor panics": {buildRaises, []string{"Subject", "panic: no weights"}},
		"not built here":     {buildUnknown, []string{"application unknown is not built here: call helve.WorkerMain(BuildUnknown, ...) first"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture.WantText(t, fixture.StartError(t, helve.Config{}, test.build), test.texts...)
		})
	}
}

func TestConstructorErrors(t *testing.T) {
	t.Parallel()
	why := errors.New("no weights")
	for name, con := range map[string]func(context.Context) (*fixture.Subject, error){
		"error": func(context.Context) (*fixture.Subject, error) { return nil, why },
		"panic": func(context.Context) (*fixture.Subject, error) { panic(why) },
		"nil":   func(context.Context) (*fixture.Subject, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := fixture.StartError(t, helve.Config{Isolation: helve.InNode}, func() (*helve.App, error) {
				return ingressOf(helve.NewApp("c"), con), nil
			})
			fixture.WantText(t, err, "Subject")
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
		"no class":    {python("subject:Nobody", helve.Args{}), []string{"Model", "Nobody"}},
		"raises":      {python("subject:Raises", helve.Args{}), []string{"Model", "no weights", "ValueError", "subject.py"}},
		"arguments":   {python("subject:Subject", helve.Args{Named: map[string]any{"colour": 1}}), []string{"Model", "colour"}},
		"import path": {python("subject", helve.Args{}), []string{`deployment "Model": import path "subject": must be module:Class`}},
		"no such method": {func() (*helve.App, error) {
			app := helve.NewApp("py")
			h := helve.Python[other](app, "Model", "subject:Subject", helve.Args{}, helve.Options{})
			app.Ingress(helve.MethodOf(h, other.Predict))
			return app, nil
		}, []string{"Model", "no method predict", "echo"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture.WantText(t, fixture.StartError(t, helve.Config{}, test.build), test.texts...)
		})
	}
}

// never is closed when the test that uses it is over, so that it leaves no goroutine behind.
var never atomic.Pointer[chan struct{}]

var buildStuck = fixture.Register(func() (*helve.App, error) {
	return ingressOf(helve.NewApp("stuck"), func(context.Context) (*fixture.Subject, error) {
		if c := never.Load(); c != nil {
			<-*c // the constructor ignores its context
		} else { // in a worker
			select {}
		}
		return nil, errors.New("late")
	}), nil
})

var buildFine = fixture.Register(func() (*helve.App, error) {
	app := ingressOf(helve.NewApp("fine"), func(context.Context) (*fixture.Subject, error) { return &fixture.Subject{}, nil })
	app.RoutePrefix("/fine")
	return app, nil
})

// TestGivingUpOnAStart: the end of the context given to Run ends a start, also while a constructor blocks.
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
			h := helve.Python[echo](app, "Model", "subject:Stuck", helve.Args{}, helve.Options{NumReplicas: new(2)})
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

// TestProcessOfAStart: the status of a replica names its process while the constructor still runs, which is where a constructor that
// hangs is looked at.
func TestProcessOfAStart(t *testing.T) {
	t.Parallel()
	type echo interface {
		Echo(context.Context, string) (string, error)
	}
	for name, test := range map[string]struct {
		app   string
		build helve.Build
	}{
		"worker": {"stuck", buildStuck},
		"python": {"py", func() (*helve.App, error) {
			app := helve.NewApp("py")
			h := helve.Python[echo](app, "Subject", "subject:Stuck", helve.Args{}, helve.Options{})
			app.Ingress(helve.MethodOf(h, echo.Echo))
			return app, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := helve.Config{Isolation: helve.Process}.Run(t.Context(), buildFine)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(context.Background()) //nolint:errcheck // it has no calls
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Deploy(ctx, test.build) }()
			var pid int
			fixture.Eventually(t, func() string {
				for _, d := range s.Status().Applications[test.app].Deployments {
					for _, r := range d.Replicas {
						if r.State == helvetype.ReplicaStarting {
							pid = r.PID
						}
					}
				}
				if pid == 0 {
					return "the status does not name the process of the replica that starts"
				}
				return ""
			})
			if !slices.Contains(fixture.Children(t, os.Getpid()), pid) {
				t.Errorf("process %d is no worker of this node", pid)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// TestInterpreters: the error for an interpreter that does not exist, or lacks the package, names the interpreter and a
// remedy.
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
		h := helve.Python[echo](app, "Model", "subject:Subject", helve.Args{}, helve.Options{})
		app.Ingress(helve.MethodOf(h, echo.Echo))
		return app, nil
	}
	for path, want := range map[string]string{
		bare:             bare + " does not have the Python package of Helve: install it there (" + bare + " -m pip install helve-serve==" + helve.Version + "), or name an interpreter",
		"/none/of/these": `deployment "Model": no Python interpreter: HELVE_PYTHON: `,
	} {
		t.Run(path, func(t *testing.T) {
			t.Setenv("HELVE_PYTHON", path)
			fixture.WantText(t, fixture.StartError(t, helve.Config{}, build), want)
		})
	}
}
