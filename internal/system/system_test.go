package system

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

type echo struct{}

func (echo) Call(_ context.Context, in string) (string, error) { return in, nil }

// echoApp builds an application of one deployment.
func echoApp(name string) Build {
	return func() (*graph.App, error) {
		a := &graph.App{Name: name, RoutePrefix: "/" + name}
		t := reflect.TypeFor[echo]()
		d := &graph.Deployment{App: a, Name: "Echo", Receiver: t, Declare: func() graph.Declaration { return graph.Declaration{} }}
		a.AddGo(d, graph.Code{Construct: func(context.Context) (any, error) { return echo{}, nil }})
		b := graph.Bind(d, t, reflect.ValueOf(echo.Call), "MethodOf", func(*instance.Method) {})
		a.SetIngress(&b, spec.IngressMethod)
		return a, nil
	}
}

func panics() (*graph.App, error) { panic("the build is broken") }

func fails() (*graph.App, error) { return nil, errors.New("the build has failed") }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestFind: a worker builds the application that its node has named, and an error lists the builds that have failed.
func TestFind(t *testing.T) {
	t.Parallel()
	app, g, err := find("two", []Build{panics, echoApp("one"), echoApp("two")})
	if err != nil || app.Name != "two" || g.App != "two" {
		t.Errorf("application %v, error %v", app, err)
	}
	_, _, err = find("three", []Build{panics, fails, nil, echoApp("one")})
	for _, want := range []string{"the build is broken", "the build has failed", "the Build function is nil", "application three is not built here: call helve.WorkerMain(BuildThree, ...) first"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

// TestDescribed: an executable describes the application of a name, or its only one.
func TestDescribed(t *testing.T) {
	t.Parallel()
	one, two := echoApp("one"), echoApp("two")
	for name, c := range map[string]struct {
		ask    string
		builds []Build
		want   string // the name of the application, or a part of the error
	}{
		"by name":        {"two", []Build{one, two}, "two"},
		"the only one":   {build.Only, []Build{one}, "one"},
		"which":          {build.Only, []Build{one, two}, `it contains ["one" "two"]`},
		"unknown":        {"three", []Build{one}, `no application "three"`},
		"none":           {"three", nil, "contains no application"},
		"a broken build": {"three", []Build{panics, one}, "the build is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := described(c.ask, c.builds)
			if err != nil && !strings.Contains(err.Error(), c.want) || err == nil && g.App != c.want {
				t.Errorf("%q, error %v; want %s", g.App, err, c.want)
			}
		})
	}
}

// TestCheck: the mistakes of a configuration come together, by their fields.
func TestCheck(t *testing.T) {
	t.Parallel()
	if err := (Config{Logger: discard(), Isolation: spec.Pipe}).check(); err != nil {
		t.Errorf("a legal configuration: %v", err)
	}
	err := Config{
		Logger: discard(), Isolation: "moon", StrictCodec: "raw", WorkerGrace: time.Second, ReferenceLimit: -1, MaxBody: 1,
		HTTPLimits: clients.Limits{Memory: 1},
	}.check()
	for _, field := range []string{"Isolation: ", "StrictCodec: ", "WorkerGrace: ", "ReferenceLimit: ", "MaxBody: ", "HTTPLimits: "} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("no mistake of %s in: %v", field, err)
		}
	}
}

// TestSystem: an application is started, found, replaced and deleted.
func TestSystem(t *testing.T) {
	t.Parallel()
	public := errors.New("as users see it")
	s, err := Config{Logger: discard(), Public: func(error) error { return public }}.Run(t.Context(), echoApp("one"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Node.Close(t.Context())
	d, e := s.Find("one", "Echo")
	if e != nil || d.Current() == nil || d.App.Name != "one" {
		t.Errorf("deployment %v, failure %v", d, e)
	}
	if _, e := s.Find("one", "Nothing"); e == nil {
		t.Error("a deployment that is not there is found")
	}
	if err := s.Deploy(t.Context(), echoApp("two")); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Deploy(ended, echoApp("three")); !errors.Is(err, public) {
		t.Errorf("error %v of a deploy, want it as users see it", err)
	}
	if err := s.Delete(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if _, e := s.Find("one", "Echo"); e == nil {
		t.Error("a deployment of a deleted application is found")
	}
}

// TestPairs: each isolation of a worker in this process has a connection of its own.
func TestPairs(t *testing.T) {
	t.Parallel()
	for isolation, pair := range pairs {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			a, b, err := pair()
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			go func() {
				defer a.Close()
				a.Write([]byte("x")) //nolint:errcheck // the read fails then
			}()
			one := make([]byte, 1)
			if n, err := b.Read(one); n != 1 || one[0] != 'x' {
				t.Errorf("read %d bytes %q, error %v", n, one, err)
			}
		})
	}
}
