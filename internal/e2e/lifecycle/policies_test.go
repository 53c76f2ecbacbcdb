package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// byPolicy are options of a deployment of 1 to 8 replicas, whose number a policy decides.
func byPolicy(p *helvetype.AutoscalingPolicy) helve.Options {
	o := byLoad(1, 8)
	o.Autoscaling.UpscaleDelay, o.Autoscaling.DownscaleDelay, o.Autoscaling.Policy = new(time.Duration(0)), new(time.Duration(0)), p
	return o
}

// TestGoPolicy: a policy in Go decides in the place of the load, with a state of its own type; a failure, a panic and an answer that is late leave the number, and the status names them.
func TestGoPolicy(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		mode := make(chan string, 1)
		mode <- "state"
		now := func() string { m := <-mode; mode <- m; return m }
		set := func(m string) { <-mode; mode <- m }
		type state struct{ Asked int }
		p := helvetype.PolicyWithState(func(ctx context.Context, v helvetype.AutoscalingView, s state) (float64, state, error) {
			switch now() {
			case "fails":
				return 0, s, errors.New("no number")
			case "panics":
				panic("much")
			case "late":
				<-ctx.Done()
				return 7, s, nil
			case "two":
				return 2, s, nil
			}
			if v.Deployment != "Lab" || v.App != "labs" || v.Replicas != len(v.Running) || v.Least != 1 || v.Most != 8 || v.Now.IsZero() {
				return 0, s, errors.New("the view is wrong")
			}
			return float64(min(s.Asked+1, 4)), state{s.Asked + 1}, nil
		})
		p.Timeout = 3 * time.Second
		l := fixture.StartLab(t, r, byPolicy(p), fixture.Constant(7, nil))
		d := settled(l.System, 30*time.Second)
		if d.Wanted != 4 || d.Ready != 4 || !strings.HasPrefix(d.Autoscaling.Policy, helvetype.GoPolicy+"lifecycle_test.") || d.Autoscaling.Health != helvetype.AutoscalingHealthy {
			t.Fatalf("%d of %d, %+v", d.Ready, d.Wanted, d.Autoscaling)
		}
		for m, want := range map[string]string{"fails": "no number", "panics": "panic: much", "late": "it has not answered within 3s"} {
			set(m)
			d := settled(l.System, 2*time.Minute)
			a := d.Autoscaling
			if d.Wanted != 4 || a.Health != helvetype.AutoscalingDelayed || a.PolicyFailedSince.IsZero() || len(a.Errors) != 1 || !strings.HasPrefix(a.Errors[0], want) {
				t.Errorf("%s: %d wanted, %+v", m, d.Wanted, a)
			}
		}
		set("two")
		if d := settled(l.System, 2*time.Minute); d.Wanted != 2 || d.Ready != 2 || d.Autoscaling.Health != helvetype.AutoscalingHealthy || len(d.Autoscaling.Errors) != 0 {
			t.Errorf("after the failures: %d wanted, %+v", d.Wanted, d.Autoscaling)
		}
	})
}

// TestGoPolicyOfAll: a policy in Go for an application decides for its deployments together, each with its state; a number for another deployment is a failure.
func TestGoPolicyOfAll(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		wrong := make(chan bool, 1)
		wrong <- false
		share := func(_ context.Context, views []helvetype.AutoscalingView, states map[string]int) (map[string]float64, map[string]int, error) {
			w := <-wrong
			wrong <- w
			if w {
				return map[string]float64{"C": 1}, nil, nil
			}
			replicas, next := map[string]float64{}, map[string]int{}
			for i, v := range views {
				next[v.Deployment] = states[v.Deployment] + 1
				replicas[v.Deployment] = float64(min(next[v.Deployment], i+2))
			}
			return replicas, next, nil
		}
		os := map[string]helve.Options{"A": byPolicy(nil), "B": byPolicy(nil)}
		sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			a, err := fixture.BuildLabs("labs", os, func(string) *fixture.Lab { return fixture.Constant(7, nil) })()
			if err == nil {
				a.ScaleTogether(helvetype.PolicyOfAll(share))
			}
			return a, err
		})
		all := func() (a, b helvetype.DeploymentStatus) {
			settled(sys, time.Minute)
			ds := sys.Status().Applications["labs"].Deployments
			return ds["A"], ds["B"]
		}
		if a, b := all(); a.Wanted != 2 || b.Wanted != 3 || a.Autoscaling.PolicyScope != "application" || !strings.HasPrefix(b.Autoscaling.Policy, helvetype.GoPolicy) {
			t.Errorf("%d and %d replicas, %+v", a.Wanted, b.Wanted, a.Autoscaling)
		}
		<-wrong
		wrong <- true
		if a, b := all(); a.Wanted != 2 || b.Wanted != 3 || len(a.Autoscaling.Errors) != 1 || a.Autoscaling.Errors[0] != `it has answered for "C", which is no autoscaled deployment of the application` {
			t.Errorf("%d and %d replicas, %+v", a.Wanted, b.Wanted, a.Autoscaling)
		}
	})
}

// TestGoPolicyMistakes: a policy of no function is a mistake of its deployment.
func TestGoPolicyMistakes(t *testing.T) {
	t.Parallel()
	p := helvetype.Policy(nil)
	build := fixture.BuildLabs("labs", map[string]helve.Options{"Lab": byPolicy(p)}, func(string) *fixture.Lab { return fixture.Constant(7, nil) })
	if _, err := helve.Run(t.Context(), build); err == nil || !strings.Contains(err.Error(), "the function of an autoscaling policy is nil") {
		t.Error(err)
	}
}
