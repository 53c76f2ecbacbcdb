package helve_test

import (
	"context"
	"iter"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
)

// Lab is a deployment whose methods a test writes in place.
type Lab struct {
	do  func(ctx context.Context, n int) (int, error)
	seq func(ctx context.Context, n int) iter.Seq2[int, error]
}

func (l *Lab) Do(ctx context.Context, n int) (int, error) { return l.do(ctx, n) }
func (l *Lab) Act(ctx context.Context, n int) error {
	_, err := l.do(ctx, n)
	return err
}
func (l *Lab) Seq(ctx context.Context, n int) iter.Seq2[int, error] { return l.seq(ctx, n) }

// lab is what a test sees of a Lab that runs.
type lab struct {
	sys *helve.System
	h   helve.Handle[*Lab]
	do  helve.Method[int, int]
	seq helve.Stream[int, int]
}

// in is the lab as a method reaches it that received ctx: from where it runs, which in a worker is over the wire.
func (l lab) in(ctx context.Context) lab {
	h, _ := helve.HandleFrom[*Lab](ctx, l.h.Deployment()) // calls of a zero handle say so
	return lab{l.sys, h, helve.MethodOf(h, (*Lab).Do), helve.StreamOf(h, (*Lab).Seq)}
}

// startLab runs an application of one deployment, of which every replica is l.
func startLab(t *testing.T, r helvetest.Runner, o helve.Options, l *Lab) lab {
	t.Helper()
	return startLabs(t, r, map[string]helve.Options{"Lab": o}, func(string) *Lab { return l })["Lab"]
}

// startLabs runs an application of several deployments; each replica is a new one.
func startLabs(t *testing.T, r helvetest.Runner, os map[string]helve.Options, replica func(name string) *Lab) map[string]lab {
	t.Helper()
	sys := helvetest.Start(t, r.Config, buildLabs("labs", os, replica))
	return labsOf(t, sys, "labs", os)
}

func buildLabs(app string, os map[string]helve.Options, replica func(name string) *Lab) helve.Build {
	return func() (*helve.App, error) {
		a := helve.NewApp(app)
		a.RoutePrefix("/" + app)
		for name, o := range os {
			h := helve.Deploy(a, name, func(context.Context) (*Lab, error) { return replica(name), nil }, o)
			if name == "Lab" || len(os) == 1 || name == "A" {
				a.Ingress(helve.MethodOf(h, (*Lab).Do))
			}
		}
		return a, nil
	}
}

func labsOf(t *testing.T, sys *helve.System, app string, os map[string]helve.Options) map[string]lab {
	t.Helper()
	labs := map[string]lab{}
	for name := range os {
		h, err := helve.HandleOf[*Lab](sys, app, name)
		if err != nil {
			t.Fatal(err)
		}
		labs[name] = lab{sys, h, helve.MethodOf(h, (*Lab).Do), helve.StreamOf(h, (*Lab).Seq)}
	}
	return labs
}

// eachRunner runs body with every runner that stays in the test's process.
func eachRunner(t *testing.T, body func(t *testing.T, r helvetest.Runner)) {
	eachOf(t, helvetest.Here(), body)
}

func eachOf(t *testing.T, runners []helvetest.Runner, body func(t *testing.T, r helvetest.Runner)) {
	for _, r := range runners {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			body(t, r)
		})
	}
}

func one() helve.Options { return helve.Options{MaxOngoingRequests: new(1)} }

// latch holds methods until it is closed.
type latch chan struct{}

func (l latch) wait(ctx context.Context) error {
	select {
	case <-l:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func wantReason(t *testing.T, err error, want helvetype.Reason) {
	t.Helper()
	if helve.ReasonOf(err) != want {
		t.Errorf("error %v, want reason %s", err, want)
	}
}
