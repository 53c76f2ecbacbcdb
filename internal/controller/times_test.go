package controller_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// TestTimesOfDeployments: the calls of each deployment of an application that ends are cut off at the deployment's own time, and deployments without
// calls hold nothing up.
func TestTimesOfDeployments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b   time.Duration            // graceful_shutdown_timeout_s
		calls  map[string]time.Duration // at a deployment: how long its call runs; 0 for without an end
		took   time.Duration
		closes bool // the node closes
	}{
		"an idle deployment with more time":       {a: 2 * time.Second, b: 20 * time.Second, calls: map[string]time.Duration{"A": 0}, took: 2 * time.Second},
		"an idle deployment when the node closes": {a: 2 * time.Second, b: 20 * time.Second, calls: map[string]time.Duration{"A": 0}, took: 2 * time.Second, closes: true},
		"no calls":                                     {a: 2 * time.Second, b: 20 * time.Second},
		"a call that ends":                             {a: 2 * time.Second, b: 20 * time.Second, calls: map[string]time.Duration{"A": time.Second}, took: time.Second},
		"the other deployment has its time":            {a: 2 * time.Second, b: 20 * time.Second, calls: map[string]time.Duration{"A": 0, "B": 5 * time.Second}, took: 5 * time.Second},
		"a deployment has the time of its callers":     {a: 9 * time.Second, b: time.Second, calls: map[string]time.Duration{"B": 0}, took: 9 * time.Second},
		"both are cut off":                             {a: 2 * time.Second, b: 3 * time.Second, calls: map[string]time.Duration{"A": 0, "B": 0}, took: 3 * time.Second},
		"both are cut off when the node closes":        {a: 2 * time.Second, b: 3 * time.Second, calls: map[string]time.Duration{"A": 0, "B": 0}, took: 3 * time.Second, closes: true},
		"the callers' time is short, and their end is": {a: 3 * time.Second, b: 3 * time.Second, calls: map[string]time.Duration{"A": time.Second, "B": 0}, took: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, _ := newFourth(t)
				app := deploy.App{Graph: spec.Graph{
					App: "app", Ingress: &spec.IngressSpec{Deployment: "A", Method: "Call", Kind: spec.IngressMethod},
					Deployments: []spec.Deployment{
						{Name: "A", Language: "go", Uses: []string{"B"}, Options: spec.Options{GracefulShutdownTimeout: c.a}},
						{Name: "B", Language: "go", Options: spec.Options{GracefulShutdownTimeout: c.b}},
					},
				}}
				if err := n.Deploy(t.Context(), app); err != nil {
					t.Fatal(err)
				}
				for name, runs := range c.calls {
					r, e := n.Deployment("app", name).Acquire(t.Context(), &call.Info{Place: &call.Place{App: "app", Deployment: name, Method: "Call"}}, "driver")
					if e != nil {
						t.Fatal(e)
					}
					if runs > 0 {
						time.AfterFunc(runs, func() { r.Gate().Release(nil) })
					}
				}
				begun := time.Now()
				if c.closes {
					draining, cancel := serving.Draining(t.Context(), n.Closing())
					defer cancel()
					n.Close(context.Background(), draining) //nolint:errcheck // it names the calls
				} else if err := n.Delete(t.Context(), "app"); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun).Round(10 * time.Millisecond); took != c.took {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
