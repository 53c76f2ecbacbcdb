package cli_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

type echo struct{}

func (echo) Say(_ context.Context, text string) (string, error) { return text, nil }

// TestNamesDiffer: the name on the command line is the one that the application runs under, in status, routes and exec: paths.
func TestNamesDiffer(t *testing.T) {
	build := func() (*helve.App, error) {
		app := helve.NewApp("inside")
		h := helve.Deploy(app, "Echo", func(context.Context) (echo, error) { return echo{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, echo.Say))
		return app, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stderr := os.Stderr
	os.Stderr = w
	status := cli.Run([]string{"run", "outside", "--http", ""}, cli.App("outside", build))
	os.Stderr = stderr
	w.Close()
	said, err := io.ReadAll(r)
	want := `application "outside": its Build names it "inside" in helve.NewApp`
	if status != 1 || err != nil || !strings.Contains(string(said), want) {
		t.Errorf("status %d, %v: %s; want %q", status, err, said, want)
	}
}
