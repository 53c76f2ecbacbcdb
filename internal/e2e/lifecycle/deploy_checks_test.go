package lifecycle_test

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// counting is a Build whose constructors count in made; o is for its second deployment.
func counting(name string, made *atomic.Int64, o helve.Options) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		construct := func(context.Context) (*fixture.Lab, error) { made.Add(1); return fixture.Constant(1, nil), nil }
		a := helve.Deploy(app, "First", construct, helve.Options{})
		helve.Deploy(app, "Second", construct, o)
		app.Ingress(helve.MethodOf(a, (*fixture.Lab).Do))
		return app, nil
	}
}

func policyMaker(f func() helve.RoutingPolicy) helve.Routing { return helve.CustomRouting(f) }

// TestMistakesAreFoundBeforeAnythingStarts: mistakes of the configuration, of the address, and of the workers' surroundings.
// No constructor has run, and no directory was made.
func TestMistakesAreFoundBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := helve.Options{Isolation: helve.Process, Dir: filepath.Join(file, "nowhere")}
	for want, mistake := range map[string]struct {
		config helve.Config
		o      helve.Options
		prefix string
	}{
		"HTTP: listen tcp":                           {config: helve.Config{HTTP: taken.Addr().String()}},
		"HTTP: address nonsense: missing port":       {config: helve.Config{HTTP: "nonsense"}},
		`Isolation: must be node or process, is "x"`: {config: helve.Config{Isolation: "x"}},
		"Logger: it has no handler":                  {config: helve.Config{Logger: &slog.Logger{}}},
		"StrictCodec: must be":                       {config: helve.Config{StrictCodec: "xml"}},
		"WorkerGrace: must not be":                   {config: helve.Config{WorkerGrace: -1}},
		"ArenaSize: must be":                         {config: helve.Config{ArenaSize: 1}},
		"ReferenceLimit: must not":                   {config: helve.Config{ReferenceLimit: -1}},
		"MaxBody: ":                                  {config: helve.Config{MaxBody: 1}},
		"LogDir: ":                                   {config: helve.Config{LogDir: file}},
		"StateDir: ":                                 {config: helve.Config{StateDir: file}},
		`deployment "Second": request_router: panic: no policy`:      {o: helve.Options{Routing: policyMaker(func() helve.RoutingPolicy { panic("no policy") })}},
		`deployment "Second": request_router: the function ended`:    {o: helve.Options{Routing: policyMaker(func() helve.RoutingPolicy { runtime.Goexit(); return nil })}},
		`deployment "Second": request_router: the function gives no`: {o: helve.Options{Routing: policyMaker(func() helve.RoutingPolicy { return nil })}},
		"num_replicas": {o: helve.Options{NumReplicas: new(-1)}},
		`deployment "Second": working_dir: stat ` + file:                    {o: nowhere},
		`deployment "Second": working_dir: ` + file + " is not a directory": {o: helve.Options{Isolation: helve.Process, Dir: file}},
		`route_prefix "/-/x": what begins with /- belongs to the proxy`:     {prefix: "/-/x"},
		`route_prefix "x": must begin with / and not end with it`:           {prefix: "x"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var made atomic.Int64
			c := mistake.config
			if c.StateDir == "" && c.WorkerGrace == 0 {
				c.StateDir = filepath.Join(t.TempDir(), "state")
			}
			build := counting("wrong", &made, mistake.o)
			if mistake.prefix != "" {
				plain := build
				build = func() (*helve.App, error) {
					app, err := plain()
					app.RoutePrefix(mistake.prefix)
					return app, err
				}
			}
			err := fixture.StartError(t, c, build)
			fixture.WantText(t, err, want)
			if n := made.Load(); n > 0 {
				t.Errorf("%d constructors ran", n)
			}
			if _, err := os.Stat(c.StateDir); c.StateDir != file && !os.IsNotExist(err) && !strings.HasPrefix(want, "LogDir") {
				t.Errorf("the state directory is there: %v", err)
			}
		})
	}
}

// TestMistakesOfADeployAreFoundBeforeAnythingStarts likewise, in a system that runs.
func TestMistakesOfADeployAreFoundBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	s := helvetest.Start(t, helve.Config{}, counting("one", &made, helve.Options{}))
	made.Store(0)
	prefixed := func(name, prefix string, o helve.Options) helve.Build {
		return func() (*helve.App, error) {
			app, err := counting(name, &made, o)()
			app.RoutePrefix(prefix)
			return app, err
		}
	}
	for want, build := range map[string]helve.Build{
		`application "two": Prefix / is being used by application "one"; `: prefixed("two", "/", helve.Options{}),
		`what begins with /- belongs to the proxy`:                         prefixed("two", "/-", helve.Options{}),
		`application name "t\nwo": '\n' cannot be printed on one line`:     prefixed("t\nwo", "/x", helve.Options{}),
		`deployment "Second": working_dir: `:                               prefixed("two", "/x", helve.Options{Isolation: helve.Process, Dir: "/no/where"}),
		`there is no executable`:                                           helve.Executable("exec:/no/where#x"),
	} {
		err := s.Deploy(t.Context(), build)
		if err == nil {
			t.Fatalf("%s: it was deployed", want)
		}
		fixture.WantText(t, err, want)
	}
	if n := made.Load(); n > 0 {
		t.Errorf("%d constructors ran", n)
	}
}

// TestRoutesOfBothRevisionsAreTaken: an application that changes may go back, and must find its route then.
func TestRoutesOfBothRevisionsAreTaken(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ctx, hold := t.Context(), make(fixture.Latch)
		os := map[string]helve.Options{"Lab": {MaxConstructorRetries: new(1)}}
		l := fixture.StartLab(t, r, helve.Options{}, fixture.Constant(1, nil))
		changed := make(chan error, 1)
		building := make(chan struct{}, 1)
		go func() {
			changed <- l.System.Deploy(ctx, func() (*helve.App, error) {
				a := helve.NewApp("labs")
				a.RoutePrefix("/elsewhere")
				a.Ingress(helve.MethodOf(helve.Deploy(a, "Lab", func(ctx context.Context) (*fixture.Lab, error) {
					building <- struct{}{}
					hold.Wait(ctx) //nolint:errcheck // it fails anyway
					return nil, fs.ErrInvalid
				}, os["Lab"]), (*fixture.Lab).Do))
				return a, nil
			})
		}()
		<-building
		for _, prefix := range []string{"/labs", "/elsewhere"} {
			err := l.System.Deploy(ctx, func() (*helve.App, error) {
				a, err := fixture.BuildLabs("other", os, func(string) *fixture.Lab { return fixture.Constant(3, nil) })()
				a.RoutePrefix(prefix)
				return a, err
			})
			if err == nil || !strings.Contains(err.Error(), `is being used by application "labs"`) {
				t.Errorf("%s: %v", prefix, err)
			}
		}
		close(hold)
		if err := <-changed; err == nil {
			t.Error("the change succeeded")
		}
	})
}

// TestIngressIsOpenBeforeTheApplicationStarts, where the configuration has its address.
func TestIngressIsOpenBeforeTheApplicationStarts(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	s := helvetest.Start(t, helve.Config{HTTP: "127.0.0.1:0"}, counting("open", &made, helve.Options{}))
	url, failed := s.HTTP()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || failed == nil {
		t.Errorf("%s, %v", resp.Status, failed)
	}
	http.DefaultClient.CloseIdleConnections()
}
