// Package operate_test has a durable node (helve start) with operators that change its applications at the same time, and kills the node at each step of
// a rollout, a rollback and a delete, while clients make requests.
package operate_test

import (
	"context"
	"os"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// TestOperate has the tests of this package, which share one binary.
func TestOperate(t *testing.T) {
	t.Parallel()
	binary := fixture.Compile(t, "./cmd/helve")
	for name, test := range map[string]func(*testing.T, string){
		"no update is lost": testNoUpdateLost, "operators at once": testAtOnce, "killed": testKilled, "soak": testSoak,
		"killed in a failing rollout over a step": testKilledOverAStep, "restarted in a pause": testRestartedInAPause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary)
		})
	}
}

// Page is a deployment that says of which version it is: the argument of the executable that the deploy gave.
type Page struct{}

// Version answers with the version.
func (Page) Version(context.Context, string) (string, error) { return version(), nil }

func version() string {
	if len(os.Args) < 2 {
		return ""
	}
	return os.Args[1]
}

// page registers an application with two replicas whose route is its name.
func page(name string) helve.Build {
	return fixture.Register(func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		h := helve.Deploy(app, "Page", func(context.Context) (Page, error) { return Page{}, nil },
			helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(100), Isolation: helve.Process})
		app.Ingress(helve.MethodOf(h, Page.Version))
		return app, nil
	})
}

var _, _ = page("shop"), page("chat")
