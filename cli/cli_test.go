package cli_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

type echo struct{}

func (echo) Say(_ context.Context, text string) (string, error) { return text, nil }

// said runs a command line and gives its exit status and what it wrote to stderr.
func said(t *testing.T, args []string, apps ...cli.Application) (status int, text string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stderr := os.Stderr
	os.Stderr = w
	status = cli.Run(args, apps...)
	os.Stderr = stderr
	w.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return status, string(b)
}

// TestMistakesAreFoundBeforeAConstructorRuns: a name that is not the one inside, which status, routes and exec: paths have; an
// address that is in use; flags.
func TestMistakesAreFoundBeforeAConstructorRuns(t *testing.T) {
	constructed := false
	build := func() (*helve.App, error) {
		app := helve.NewApp("inside")
		h := helve.Deploy(app, "Echo", func(context.Context) (echo, error) { constructed = true; return echo{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, echo.Say))
		return app, nil
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, c := range map[string]struct {
		status int
		args   []string
	}{
		`application "outside": its Build names it "inside" in helve.NewApp`: {1, []string{"run", "outside", "--http", ""}},
		"--http " + taken.Addr().String() + ": listen tcp ":                  {1, []string{"run", "inside", "--http", taken.Addr().String()}},
		"--http nonsense: address nonsense: missing port in address":         {2, []string{"run", "inside", "--http", "nonsense"}},
		"--http 127.0.0.1:x: lookup tcp/x: unknown port":                     {2, []string{"run", "inside", "--http", "127.0.0.1:x"}},
		"--worker-grace: needs StateDir":                                     {2, []string{"run", "inside", "--http", "", "--worker-grace", "1s"}},
		"--arena-size: must be at least":                                     {2, []string{"run", "inside", "--http", "", "--arena-size", "1"}},
		"--http-stall-timeout: must not be negative":                         {2, []string{"run", "inside", "--http", "", "--http-stall-timeout", "-1s"}},
		`--admin 0.0.0.0:1: the host "0.0.0.0" is not on the loopback`:       {2, []string{"run", "inside", "--http", "", "--admin", "0.0.0.0:1"}},
		"--admin yes: address yes: missing port in address: give an":         {2, []string{"run", "inside", "--http", "", "--admin", "yes"}},
		"--admin " + taken.Addr().String() + ": listen tcp ":                 {1, []string{"run", "inside", "--http", "", "--admin", taken.Addr().String()}},
		`--isolation "x": must be node or process`:                           {2, []string{"run", "inside", "--http", "", "--isolation", "x"}},
		"unknown flag: --nope":                                               {2, []string{"run", "inside", "--nope"}},
	} {
		status, text := said(t, c.args, cli.App("inside", build), cli.App("outside", build))
		if status != c.status || !strings.Contains(text, want) {
			t.Errorf("status %d: %s; want %q", status, text, want)
		}
		if constructed {
			t.Fatalf("%v: a constructor ran", c.args)
		}
	}
}
