package scaler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// changes are the changes of the number of A as its events have them, each with some of its inputs. They are compared with the decisions of the status, which must be the same.
func (n *node) changes() (all []string) {
	n.t.Helper()
	var texts []string
	for _, ev := range n.events.History(helvetype.Object{Kind: helvetype.KindDeployment, App: "app", Deployment: "A"}) {
		if ev.Reason != "autoscale_up" && ev.Reason != "autoscale_down" {
			continue
		}
		in := ev.Inputs
		texts = append(texts, ev.Message)
		text := fmt.Sprintf("%s %s, by %s, %s to %s", ev.Reason, ev.Message, in["rule"], in["least"], in["most"])
		if c, ok := in["target_capacity"]; ok {
			text += ", capacity " + c
		}
		if in["from"] == "" || in["to"] == "" {
			n.t.Errorf("%s has no numbers: %v", ev.Message, in)
		}
		all = append(all, text)
	}
	var shown []string
	for _, c := range n.Status().Applications["app"].Deployments["A"].Autoscaling.Decisions {
		shown = append(shown, fmt.Sprintf("%d -> %d replicas: %s", c.From, c.To, c.Reason))
	}
	if !slices.Equal(shown, texts) {
		n.t.Errorf("the decisions of the status are %q, and the events %q", shown, texts)
	}
	return all
}

// TestEachChangeIsADecision: each change of the number of an autoscaled deployment is an event with its inputs and a decision with its reason, also where the autoscaler has not decided it.
func TestEachChangeIsADecision(t *testing.T) {
	t.Parallel()
	of := func(config string) spec.Options { return autoscaled(config) }
	const two = `{"min_replicas": 2, "max_replicas": 8}`
	const warm = `{"min_replicas": 2, "max_replicas": 8, "initial_replicas": 4}`
	capacity := func(percent float64, rising bool) func(*node) {
		return func(n *node) { n.SetCapacity(&percent, rising) }
	}
	deploy := func(o spec.Options, construct func(context.Context) error) func(*node) {
		return func(n *node) {
			if err := n.deploy(o, construct); (err == nil) != (construct == nil) {
				n.t.Errorf("deploy: %v", err)
			}
		}
	}
	failing := of(`{"min_replicas": 2, "max_replicas": 8, "initial_replicas": 4, "target_ongoing_requests": 3}`)
	failing.MaxConstructorRetries, failing.Sources["max_constructor_retry_count"] = 1, spec.FromCode
	for name, x := range map[string]struct {
		first spec.Options
		steps []func(*node)
		want  []string
	}{
		"target capacity": {of(two), []func(*node){capacity(50, false), capacity(100, true)}, []string{
			"autoscale_down 2 -> 1 replicas: the target capacity is 50 %: 1 of 2 replicas, by target_capacity, 1 to 4, capacity 50",
			"autoscale_up 1 -> 2 replicas: the target capacity is 100 %: 2 of 2 replicas, by target_capacity, 2 to 8, capacity 100",
		}},
		"initial_replicas": {of(two), []func(*node){deploy(of(warm), nil)}, []string{
			"autoscale_up 2 -> 4 replicas: revision 2 begins with 4, by initial_replicas, by deploy, 2 to 8",
		}},
		"initial_replicas at half the capacity": {of(two), []func(*node){capacity(50, false), deploy(of(warm), nil)}, []string{
			"autoscale_down 2 -> 1 replicas: the target capacity is 50 %: 1 of 2 replicas, by target_capacity, 1 to 4, capacity 50",
			"autoscale_up 1 -> 2 replicas: revision 2 begins with 2, by initial_replicas at a target capacity of 50 %, by deploy, 1 to 4, capacity 50",
		}},
		"from num_replicas": {fixed(3), []func(*node){deploy(of(warm), nil)}, []string{
			"autoscale_up 3 -> 4 replicas: revision 2 begins with 4, by initial_replicas, by deploy, 2 to 8",
		}},
		"bounds": {of(two), []func(*node){deploy(of(`{"min_replicas": 3, "max_replicas": 8}`), nil)}, []string{
			"autoscale_up 2 -> 3 replicas: the bounds are 3 to 8, by bounds, 3 to 8",
		}},
		"a failed deploy": {of(two), []func(*node){deploy(failing, func(context.Context) error { return errors.New("no licence") })}, []string{
			"autoscale_up 2 -> 4 replicas: revision 2 begins with 4, by initial_replicas, by deploy, 2 to 8",
			"autoscale_down 4 -> 2 replicas: revision 2 was given up: the number before it is back, by failed_deploy, 2 to 8",
		}},
		"a capacity that rises, then falls with the load": {of(warm), []func(*node){
			func(n *node) { n.wait(2 * time.Minute) }, capacity(50, false), capacity(80, true), capacity(100, true), func(n *node) { n.wait(2 * time.Minute) },
		}, []string{
			"autoscale_down 4 -> 2 replicas: at most 0 replicas were needed in the last 60 s; at least 2 by min_replicas, by quiet, 2 to 8",
			"autoscale_down 2 -> 1 replicas: at most 0 replicas were needed in the last 60 s; at least 1 by min_replicas at a target capacity of 50 %, by quiet, 1 to 4, capacity 50",
			"autoscale_up 1 -> 3 replicas: the bounds are 3 to 6 at a target capacity of 80 %, by bounds, 3 to 6, capacity 80",
			"autoscale_up 3 -> 4 replicas: the target capacity has risen to 100 %, and initial_replicas are 4 there, by warm, 2 to 8, capacity 100",
			"autoscale_down 4 -> 2 replicas: at most 0 replicas were needed in the last 60 s; at least 2 by min_replicas, by quiet, 2 to 8, capacity 100",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newMachine().start(t)
				defer func() { n.end(true) }()
				deploy(x.first, nil)(n)
				n.wait(5 * time.Second)
				for _, step := range x.steps {
					step(n)
					n.wait(5 * time.Second)
				}
				if got := n.changes(); !slices.Equal(got, x.want) {
					t.Errorf("the changes are\n%q\nwant\n%q", got, x.want)
				}
			})
		})
	}
}

// TestRenumberingOutlivesTheNode: a change by the target capacity is a decision of the next node, too, after a kill.
func TestRenumberingOutlivesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		first := m.start(t)
		o := autoscaled(`{"min_replicas": 2, "max_replicas": 8}`)
		if err := first.deploy(o, nil); err != nil {
			t.Fatal(err)
		}
		first.SetCapacity(new(50.0), false)
		first.wait(time.Second)
		first.want("half the capacity", 1, 2, "deploy")
		first.end(false)
		m.app, m.half = m.work.app(o, nil), true
		second := m.start(t)
		defer func() { second.end(true) }()
		second.wait(5 * time.Second)
		all := second.Status().Applications["app"].Deployments["A"].Autoscaling.Decisions
		if len(all) != 1 || all[0].Reason != "the target capacity is 50 %: 1 of 2 replicas" {
			t.Errorf("the decisions of the next node are %+v", all)
		}
	})
}
