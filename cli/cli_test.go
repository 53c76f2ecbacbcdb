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
		`application "outside": its Build names it "inside" in helve.NewApp`:                                                    {1, []string{"run", "outside", "--http", ""}},
		"--http " + taken.Addr().String() + ": listen tcp ":                                                                     {1, []string{"run", "inside", "--http", taken.Addr().String()}},
		"--http nonsense: address nonsense: missing port in address":                                                            {2, []string{"run", "inside", "--http", "nonsense"}},
		"--http 127.0.0.1:x: lookup tcp/x: unknown port":                                                                        {2, []string{"run", "inside", "--http", "127.0.0.1:x"}},
		"--worker-grace: needs --state-dir":                                                                                     {2, []string{"run", "inside", "--http", "", "--worker-grace", "1s"}},
		"--arena-size: must be at least":                                                                                        {2, []string{"run", "inside", "--http", "", "--arena-size", "1"}},
		`--http-stall-timeout: must be a time above 0 such as 90s`:                                                              {2, []string{"run", "inside", "--http", "", "--http-stall-timeout", "-1s"}},
		`--http-idle-timeout: must be a time above 0 such as 90s`:                                                               {2, []string{"run", "inside", "--http", "", "--http-idle-timeout", "0"}},
		`--http-streams: must be a number above 0, is "0"`:                                                                      {2, []string{"run", "inside", "--http", "", "--http-streams", "0"}},
		`--worker-grace: must be a time above 0`:                                                                                {2, []string{"run", "inside", "--http", "", "--worker-grace", "0s"}},
		"--http-connections: must be at most ":                                                                                  {2, []string{"run", "inside", "--http", "", "--http-connections", "2000000000"}},
		"--http-max-body: must be at most half of --http-memory, 4194304":                                                       {2, []string{"run", "inside", "--http", "", "--http-memory", "8MiB", "--http-max-body", "5MiB"}},
		"--tls-client-ca: needs --tls-certificate and --tls-key: without":                                                       {2, []string{"run", "inside", "--http", "", "--tls-client-ca", "x"}},
		"--tls-key: is missing; a certificate needs its key":                                                                    {2, []string{"run", "inside", "--http", "", "--tls-certificate", "x"}},
		`--http ,: an address of "," is empty`:                                                                                  {2, []string{"run", "inside", "--http", ","}},
		`an address of "127.0.0.1:0," is empty`:                                                                                 {2, []string{"run", "inside", "--http", "127.0.0.1:0,"}},
		`--http-root-path: "/a%2f": is compared with decoded paths; decoded it is a wrong "/a/": must begin with / and not end`: {2, []string{"run", "inside", "--http", "", "--http-root-path", "/a%2f"}},
		"behind an equals sign: --access-log=json":                                                                              {2, []string{"run", "inside", "--http", "", "--access-log", "json"}},
		"sign: --access-log=text":                                                                                               {2, []string{"run", "--http", "", "--access-log", "text"}},
		"an equals sign: --access-log=json":                                                                                     {2, []string{"--http", "", "--access-log", "json"}},
		`no application "json" in this binary`:                                                                                  {2, []string{"run", "json", "--http", ""}},
		`--admin 0.0.0.0:1: the host "0.0.0.0" is not on the loopback`:                                                          {2, []string{"run", "inside", "--http", "", "--admin", "0.0.0.0:1"}},
		"--admin yes: address yes: missing port in address: give an":                                                            {2, []string{"run", "inside", "--http", "", "--admin", "yes"}},
		"--admin " + taken.Addr().String() + ": listen tcp ":                                                                    {1, []string{"run", "inside", "--http", "", "--admin", taken.Addr().String()}},
		`--isolation "x": must be node or process`:                                                                              {2, []string{"run", "inside", "--http", "", "--isolation", "x"}},
		"unknown flag: --nope":                                                                                                  {2, []string{"run", "inside", "--nope"}},
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
