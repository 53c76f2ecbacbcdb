package files_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestNumberBesideAutoscaler: a num_replicas that an operator sets beside an autoscaler is refused with the command that works, the plan of other bounds has these, an override that an operator has set goes when
// the operator sets the other one of the two, and a change has the warnings that a plan has.
func TestNumberBesideAutoscaler(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	file := func(options string) string {
		return "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker, " + options + "}]}]"
	}
	same(t, p.applied(file("autoscaling_config: {min_replicas: 1, max_replicas: 3}")), map[string]string{"shop": "created 1"})
	patch := func(options string) (helvetype.Outcome, error) {
		return p.Patch(t.Context(), ann, "shop", json.RawMessage(`{"deployments": {"Ranker": `+options+`}}`), 0)
	}

	r, err := patch(`{"num_replicas": 2}`)
	e, ok := errors.AsType[*helvetype.OperationError](err)
	if !ok || e.Code != helvetype.CodeFailedPrecondition || !strings.Contains(e.Message, "its autoscaler sets the number of replicas") || !strings.HasPrefix(e.Next, "helve set shop/Ranker autoscaling_config.min_replicas=2 ") {
		t.Fatalf("num_replicas beside an autoscaler: %+v, %v", r, err)
	}
	if got := p.value("Ranker", "num_replicas"); got != "1 default" {
		t.Errorf("after the refusal num_replicas is %s", got)
	}

	plan, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: file("autoscaling_config: {min_replicas: 2, max_replicas: 3}"), Name: "serve.yaml", Dir: p.dir})
	if err != nil {
		t.Fatal(err)
	}
	d := plan.Applications[0].Deployments[0]
	if a := d.Autoscaler; a == nil || *a.Before != (helvetype.ReplicaBounds{Least: 1, Most: 3}) || *a.After != (helvetype.ReplicaBounds{Least: 2, Most: 3}) || d.Wanted != 1 || d.Next != 2 || d.ScaledBy != "" {
		t.Errorf("the plan of a higher min_replicas is %+v, %+v", d, d.Autoscaler)
	}
	if o := d.Options; len(o) != 1 || o[0].Path != "autoscaling_config.min_replicas" || string(o[0].Before) != "1" || string(o[0].After) != "2" {
		t.Errorf("the options of the plan are %+v", o)
	}

	for options, want := range map[string]string{`{"max_ongoing_request": null}`: "did you mean max_ongoing_requests?", `{"autoscaling_config": {"max_replcas": null}}`: "max_replcas: there is no such field"} {
		if r, err := patch(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", options, r, err, want)
		}
	}

	if r, err := patch(`{"autoscaling_config": {"target_ongoing_requests": 9}, "max_ongoing_requests": 5}`); err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "target_ongoing_requests is 9, above max_ongoing_requests (5)") {
		t.Errorf("a target that no replica reaches: %+v, %v", r, err)
	}
	if r, err := patch(`{"autoscaling_config": null, "max_ongoing_requests": null}`); err != nil || len(r.Warnings) != 0 {
		t.Errorf("without the target: %+v, %v", r, err)
	}

	p.applied(file("num_replicas: 1"))
	for i, step := range []struct{ options, number, auto string }{
		{`{"autoscaling_config": {"max_replicas": 4}}`, "1 file", `{"max_replicas":4} override`},
		{`{"num_replicas": 2}`, "2 override", "null default"},
		{`{"autoscaling_config": {"max_replicas": 5}}`, "1 file", `{"max_replicas":5} override`},
	} {
		if _, err := patch(step.options); err != nil {
			t.Fatalf("%s: %v", step.options, err)
		}
		p.settled("shop")
		if number, auto := p.value("Ranker", "num_replicas"), p.value("Ranker", "autoscaling_config"); number != step.number || auto != step.auto {
			t.Errorf("%s: num_replicas is %s, and autoscaling_config %s", fmt.Sprint(i, step.options), number, auto)
		}
	}
}

// TestNoCapacityForAutoscaler: at a target capacity of 0 a deployment with an autoscaler has no replica, a request waits, and helve why names the capacity. A file without the capacity has the request executed.
func TestNoCapacityForAutoscaler(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	const file = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker, autoscaling_config: {min_replicas: 1, max_replicas: 3}}]}]"
	same(t, p.applied("target_capacity: 0\n"+file), map[string]string{"shop": "created 1"})
	answer := make(chan string, 1)
	go func() { // [place.get] may end a test only on its own goroutine
		r, err := http.Get(p.url + "/shop")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body) //nolint:errcheck // the text is compared
		answer <- string(b)
	}()
	fixture.Eventually(t, func() string {
		e, err := p.Explain(t.Context(), helvetype.Object{App: "shop"}, 0)
		if err != nil || !strings.Contains(e.Sentence, "1 call waits for a replica, and the deployment should have none: the target capacity of the node is 0 %") {
			return fmt.Sprintf("%s, %v", e.Sentence, err)
		}
		return ""
	})
	if d := p.node.Status().Applications["shop"].Deployments["Ranker"]; d.Wanted != 0 || d.Autoscaling.Most != 0 {
		t.Errorf("at no capacity: %+v", d)
	}
	p.applied(file)
	if got := <-answer; !strings.HasPrefix(got, "3 ") {
		t.Errorf("the request that has waited has the answer %q", got)
	}
	plan, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: "target_capacity: 0\napplications: [{name: other, import_path: 'shop:app', route_prefix: /other}]", Name: "other.yaml", Dir: p.dir, Source: "other"})
	if c := plan.Capacity; err != nil || len(c) == 0 || c[0].App != "shop" || c[0].Next != 0 || c[0].Wanted == 0 || slices.ContainsFunc(c, func(c helvetype.CapacityChange) bool { return c.App == "other" }) {
		t.Errorf("the plan of another file with a target capacity of 0: %+v, %v", plan.Capacity, err)
	}
}

// TestExternalScaler: the number that a program has set stays over a deploy with another num_replicas, and an autoscaling_config does not go with it.
func TestExternalScaler(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	file := func(options string) string {
		return "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, external_scaler_enabled: true, deployments: [{name: Ranker, " + options + "}]}]"
	}
	same(t, p.applied(file("num_replicas: 1")), map[string]string{"shop": "created 1"})
	if err := p.Scale(t.Context(), ann, "shop", "Ranker", 2, "by a program"); err != nil {
		t.Fatal(err)
	}
	same(t, p.applied(file("num_replicas: 3")), map[string]string{"shop": "changed 2"})
	if d := p.node.Status().Applications["shop"].Deployments["Ranker"]; d.Wanted != 2 {
		t.Errorf("after a deploy with another num_replicas %d replicas are wanted", d.Wanted)
	}
	if _, err := p.apply(file("autoscaling_config: {max_replicas: 3}")); err == nil || !strings.Contains(err.Error(), "external_scaler_enabled") {
		t.Errorf("an autoscaling_config beside it: %v", err)
	}
}

// TestNumberWithoutEffect: a number that an operator has set before the deployment had an autoscaler is in its options as one without an effect, and has its effect again without the autoscaler.
func TestNumberWithoutEffect(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	file := func(options string) string {
		return "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker" + options + "}]}]"
	}
	unused := func() string {
		c, err := p.Config(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range c.Deployments["Ranker"] {
			if v.Path == "num_replicas" {
				return v.Unused
			}
		}
		return "there is no num_replicas"
	}
	same(t, p.applied(file("")), map[string]string{"shop": "created 1"})
	if _, err := p.Patch(t.Context(), ann, "shop", json.RawMessage(`{"deployments": {"Ranker": {"num_replicas": 2}}}`), 0); err != nil {
		t.Fatal(err)
	}
	p.settled("shop")
	if got := p.value("Ranker", "num_replicas") + " " + unused(); got != "2 override " {
		t.Errorf("num_replicas that was set is %q", got)
	}
	p.applied(file(", autoscaling_config: {min_replicas: 1, max_replicas: 3}"))
	if got := p.value("Ranker", "num_replicas") + " " + unused(); got != "2 override autoscaling_config sets the number of replicas" {
		t.Errorf("beside an autoscaler it is %q", got)
	}
	p.applied(file(""))
	if got := p.value("Ranker", "num_replicas") + " " + unused(); got != "2 override " {
		t.Errorf("without the autoscaler it is %q", got)
	}
	if err := p.Scale(t.Context(), ann, "shop", "Ranker", 3, "for a test"); err != nil {
		t.Fatal(err)
	}
	p.applied(file(", autoscaling_config: {min_replicas: 1, max_replicas: 3}"))
	if got := p.value("Ranker", "num_replicas") + " " + unused(); got != "2 override autoscaling_config sets the number of replicas" {
		t.Errorf("after a scale, beside an autoscaler, it is %q", got)
	}
}

// TestCapacityOfAnotherSource: the target capacity of a file acts on the applications of all sources. The answer to the file has the capacity before and after; only a whole file of the source "default" ends it by leaving it out.
func TestCapacityOfAnotherSource(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	of := func(app string) string {
		return "applications: [{name: " + app + ", import_path: 'shop:app', route_prefix: /" + app + ", deployments: [{name: Ranker, num_replicas: 2}]}]"
	}
	search := func(r *helvetype.ApplyRequest) { r.Source = "search" }
	wanted := func() string {
		all := p.node.Status().Applications
		return fmt.Sprint(all["shop"].Deployments["Ranker"].Wanted, all["find"].Deployments["Ranker"].Wanted)
	}
	for i, step := range []struct {
		file          string
		source        func(*helvetype.ApplyRequest)
		change, after string
	}{
		{of("shop"), func(*helvetype.ApplyRequest) {}, "", "2 0"},
		{"target_capacity: 50\n" + of("find"), search, "target_capacity null -> 50", "1 1"},
		{of("find"), search, "", "1 1"},
		{"target_capacity: 80\n" + of("find"), search, "target_capacity 50 -> 80", "2 2"},
		{of("shop"), func(*helvetype.ApplyRequest) {}, "target_capacity 80 -> null", "2 2"},
	} {
		a, err := p.apply(step.file, step.source)
		if err != nil {
			t.Fatal(err)
		}
		change := ""
		for _, c := range a.Settings {
			change += fmt.Sprintf("%s %s -> %s", c.Path, cmp.Or(string(c.Before), "null"), cmp.Or(string(c.After), "null"))
		}
		if change != step.change || wanted() != step.after {
			t.Errorf("file %d: the settings %q, and %s replicas are wanted; want %q, and %s", i, change, wanted(), step.change, step.after)
		}
	}
	if _, err := p.apply("target_capacity: 10\napplications: [{name: bad, import_path: 'nope:app'}]"); err == nil {
		t.Error("a module that is not there is no error")
	}
}
