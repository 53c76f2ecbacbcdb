package files_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/store"
)

// durable has a node keep the code of revisions.
func durable(s *node.Settings) {
	s.Durable, s.Store, s.Blobs = true, store.NewMemory(), store.NewMemoryBlobs()
}

// settled waits until an application runs, and its rollout is over, but for the watch of its error rate.
func (p *place) settled(app string) {
	p.t.Helper()
	fixture.Eventually(p.t, func() string {
		if a := p.node.Status().Applications[app]; a.Status != helvetype.ApplicationRunning || a.Rollout != nil && a.Rollout.State != "watching" {
			return fmt.Sprintf("application %s is %s, its rollout %+v", app, a.Status, a.Rollout)
		}
		return ""
	})
}

// code is the code of an error of an operation; "" for no error.
func code(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*helvetype.OperationError](err)
	if !ok {
		return err.Error()
	}
	return fmt.Sprint(e.Code)
}

// value is the value of an option of a deployment, with its source.
func (p *place) value(deployment, path string) string {
	p.t.Helper()
	c, err := p.Config(p.t.Context(), "shop")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, v := range c.Deployments[deployment] {
		if v.Path == path {
			return string(v.Value) + " " + v.From
		}
	}
	return "none"
}

// TestOperations asks a node for all that an operator does with revisions: plan, patch, configuration, history and rollback.
func TestOperations(t *testing.T) {
	t.Parallel()
	p := newPlace(t, durable)
	p.write("shop.py", shop)
	const file = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker, user_config: {a: 1}}]}]"
	same(t, p.applied(file, func(r *helvetype.ApplyRequest) { r.Message = "first" }), map[string]string{"shop": "created 1"})
	first := p.get("/shop")
	ctx := t.Context()

	// A plan says what an apply does, and changes nothing.
	before := p.Generation()
	plan, err := p.Plan(ctx, helvetype.ApplyRequest{Config: strings.Replace(file, "a: 1", "a: 2", 1), Name: "serve.yaml", Dir: p.dir})
	if err != nil || len(plan.Applications) != 1 || len(plan.Applications[0].Deployments) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if d := plan.Applications[0].Deployments[0]; d.Update != "in place" || len(d.Options) != 1 || d.Options[0].Path != "user_config" || d.Replicas != 1 {
		t.Errorf("the plan is %+v", d)
	}
	if plan, err = p.Plan(ctx, helvetype.ApplyRequest{Config: "applications: []", Name: "serve.yaml", Dir: p.dir}); err != nil || len(plan.Applications) != 1 || plan.Applications[0].Change != "deleted" {
		t.Errorf("a file without the application has the plan %+v, %v", plan, err)
	}
	if now := p.Generation(); now != before || p.get("/shop") != first {
		t.Errorf("a plan has changed the generation from %d to %d, or the application", before, now)
	}

	// An override is over the code, stays over a deploy, and null clears it.
	patch := func(options string, seen uint64) (helvetype.Outcome, error) {
		return p.Patch(ctx, ann, "shop", json.RawMessage(options), seen)
	}
	if got := p.value("Ranker", "max_ongoing_requests"); got != "3 code" {
		t.Errorf("max_ongoing_requests is %s", got)
	}
	// The plan of an override says what the override does, refuses what it refuses, and changes nothing.
	plan, err = p.PlanPatch(ctx, "shop", json.RawMessage(`{"deployments": {"Ranker": {"max_ongoing_requests": 20, "user_config": {"a": 7}}}}`))
	if err != nil || len(plan.Applications) != 1 || plan.Applications[0].Change != "changed" || len(plan.Applications[0].Deployments) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if d := plan.Applications[0].Deployments[0]; d.Name != "Ranker" || d.Update != "in place" || len(d.Options) != 2 || d.Options[0].Path != "max_ongoing_requests" ||
		string(d.Options[0].Before) != "3" || string(d.Options[0].After) != "20" || d.Options[1].Path != "user_config" || string(d.Options[1].After) != `{"a":7}` {
		t.Errorf("the plan of an override is %+v", d)
	}
	if plan, err = p.PlanPatch(ctx, "shop", json.RawMessage(`{"deployments": {"Ranker": {"max_ongoing_requests": 3}}}`)); err != nil || len(plan.Applications) != 1 {
		t.Errorf("an override with the value of the code has the plan %+v, %v", plan, err)
	}
	for options, want := range map[string]helvetype.Code{
		`{"deployments": {"Ranker": {"max_ongoing_requests": 0}}}`: helvetype.CodeInvalidArgument,
		`{"deployments": {"Rankr": {"max_ongoing_requests": 5}}}`:  helvetype.CodeNotFound,
		`{"deployments": {"Ranker": {"max_ongoing_request": 5}}}`:  helvetype.CodeInvalidArgument,
		`{"max_ongoing_requests": 5}`:                              helvetype.CodeInvalidArgument,
	} {
		if _, err := p.PlanPatch(ctx, "shop", json.RawMessage(options)); code(err) != fmt.Sprint(want) {
			t.Errorf("the plan of %s: %v", options, err)
		}
	}
	if _, err := p.PlanPatch(ctx, "none", json.RawMessage(`{}`)); code(err) != fmt.Sprint(helvetype.CodeNotFound) {
		t.Errorf("the plan of an override of no application: %v", err)
	}
	if now := p.Generation(); now != before || p.get("/shop") != first || p.value("Ranker", "max_ongoing_requests") != "3 code" {
		t.Errorf("the plan of an override has changed the generation from %d to %d, or the application", before, now)
	}
	if r, err := patch(`{"deployments": {"Ranker": {"max_ongoing_requests": 20}}}`, before); err != nil || r.Revision != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.settled("shop")
	if got := p.value("Ranker", "max_ongoing_requests"); got != "20 override" {
		t.Errorf("with an override max_ongoing_requests is %s", got)
	}
	if got := p.get("/shop"); got != first {
		t.Errorf("an override of an option that changes in place has another replica answer: %q, and not %q", got, first)
	}
	p.applied(strings.Replace(file, "a: 1", "a: 2", 1), func(r *helvetype.ApplyRequest) { r.Message = "second" })
	if got := p.value("Ranker", "max_ongoing_requests"); got != "20 override" {
		t.Errorf("after a deploy max_ongoing_requests is %s", got)
	}
	if _, err := patch(`{"deployments": {"Ranker": {"max_ongoing_requests": null}}}`, 0); err != nil {
		t.Fatal(err)
	}
	p.settled("shop")
	if got := p.value("Ranker", "max_ongoing_requests"); got != "3 code" {
		t.Errorf("without the override max_ongoing_requests is %s", got)
	}

	// A rollback is a new revision with a message, for which a plan can be made.
	plan, err = p.PlanRollback(ctx, "shop", 1)
	if err != nil || len(plan.Applications) != 1 || plan.Applications[0].Change != "changed" || !slices.Equal(plan.Applications[0].Notes, []string{"it repeats revision 1"}) {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := p.Rollback(ctx, ann, "shop", 99, ""); code(err) != fmt.Sprint(helvetype.CodeNotFound) {
		t.Errorf("a rollback to a revision that is not there: %v", err)
	}
	if r, err := p.Rollback(ctx, ann, "shop", 1, "the second was slow"); err != nil || r.Revision != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.settled("shop")
	if got := p.get("/shop"); !strings.HasPrefix(got, "3 {'a': 1} ") {
		t.Errorf("after the rollback the application answers %q", got)
	}
	var h helvetype.History
	fixture.Eventually(t, func() string { // The attempt of the rollout ends a moment after the status says that the application runs.
		var err error
		if h, err = p.History(ctx, "shop"); err != nil {
			return err.Error()
		}
		if len(h.Revisions) > 0 && h.Revisions[0].State == "starting" {
			return "the rollout to the newest revision has not ended"
		}
		return ""
	})
	var lines []string
	for _, r := range h.Revisions {
		lines = append(lines, fmt.Sprintf("%d %s %s %q %d", r.Number, r.State, r.By, r.Message, r.RollbackOf))
	}
	same(t, lines, []string{
		`5 running ann "the second was slow" 1`, `4 retired ann "options: Ranker.max_ongoing_requests" 0`, `3 retired ann "second" 0`,
		`2 retired ann "options: Ranker.max_ongoing_requests" 0`, `1 retired ann "first" 0`,
	})
	program := p.node.Rollback(ctx, "shop", 3, "program") // as a Go program asks for it
	if h, err = p.History(ctx, "shop"); program != nil || err != nil || h.Revisions[0].By == "" {
		t.Errorf("a rollback of a program has no author: %+v, %v, %v", h.Revisions[0], program, err)
	}

	// Changes for another generation than the present one are refused, and so are changes of an object that is not there.
	old := ann
	old.Seen = before
	for name, change := range map[string]func(app string) error{
		"rollback": func(app string) error { _, err := p.Rollback(ctx, old, app, 1, ""); return err },
		"patch": func(app string) error {
			_, err := p.Patch(ctx, old, app, json.RawMessage(`{"deployments": {"Ranker": {"max_ongoing_requests": 9}}}`), before)
			return err
		},
		"scale":    func(app string) error { return p.Scale(ctx, old, app, "Ranker", 2, "") },
		"restart":  func(app string) error { return p.Restart(ctx, old, app, "", "") },
		"pause":    func(app string) error { return p.Pause(ctx, old, app) },
		"resume":   func(app string) error { _, err := p.Resume(ctx, old, app); return err },
		"delete":   func(app string) error { return p.Delete(ctx, old, app) },
		"shutdown": func(string) error { return p.Shutdown(ctx, old) },
	} {
		old.Seen = before
		if got := code(change("shop")); got != fmt.Sprint(helvetype.CodeFailedPrecondition) {
			t.Errorf("%s for another generation gives %q", name, got)
		}
		if name == "shutdown" {
			continue
		}
		old.Seen = 0
		if name == "patch" {
			continue // its generation is an argument of its own
		}
		if got := code(change("nope")); got != fmt.Sprint(helvetype.CodeNotFound) {
			t.Errorf("%s of no application gives %q", name, got)
		}
	}

	// A number of replicas that an operator has set is over that of code and file.
	old.Seen = 0
	if got := p.value("Ranker", "num_replicas"); got != "1 default" {
		t.Errorf("the number of replicas is %s", got)
	}
	if err := p.Scale(ctx, old, "shop", "Ranker", 2, "a sale"); err != nil || p.value("Ranker", "num_replicas") != "2 override" {
		t.Errorf("the number of replicas is %s: %v", p.value("Ranker", "num_replicas"), err)
	}

	// A shutdown with a generation deletes all applications.
	p.applied("applications: [{name: other, import_path: 'shop:app', route_prefix: /other}]", func(r *helvetype.ApplyRequest) { r.Keep = true })
	old.Seen = p.Generation()
	if err := p.Shutdown(ctx, old); err != nil {
		t.Error(err)
	}
	fixture.Eventually(t, func() string {
		if all := p.node.Status().Applications; len(all) > 0 {
			return fmt.Sprintf("the applications are %v", all)
		}
		return ""
	})
}

// TestClearedNumber: null for num_replicas takes away the number that an operator has set, without new replicas; the number of the file holds then, also over the next deploy.
func TestClearedNumber(t *testing.T) {
	t.Parallel()
	p := newPlace(t, durable)
	p.write("shop.py", shop)
	const file = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker, num_replicas: 1}]}]"
	same(t, p.applied(file), map[string]string{"shop": "created 1"})
	deployment := func() helvetype.DeploymentStatus { return p.node.Status().Applications["shop"].Deployments["Ranker"] }
	first := deployment().Replicas[0].ID
	scale := func() {
		t.Helper()
		if err := p.Scale(t.Context(), ann, "shop", "Ranker", 2, "a sale"); err != nil {
			t.Fatal(err)
		}
		if got := p.value("Ranker", "num_replicas"); got != "2 override" {
			t.Fatalf("after Scale num_replicas is %s", got)
		}
	}
	patch := func(options string) helvetype.Outcome {
		t.Helper()
		r, err := p.Patch(t.Context(), ann, "shop", json.RawMessage(`{"deployments": {"Ranker": `+options+`}}`), 0)
		if err != nil {
			t.Fatal(err)
		}
		p.settled("shop")
		return r
	}

	scale()
	plan, err := p.PlanPatch(t.Context(), "shop", json.RawMessage(`{"deployments": {"Ranker": {"num_replicas": null}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := plan.Applications[0].Deployments[0]; plan.Applications[0].Change != "changed" || d.Change != "changed" || d.Wanted != 2 || d.Next != 1 || d.Update != "nothing" || d.ScaledBy != "ann: a sale" {
		t.Errorf("the plan is %s, %+v", plan.Applications[0].Change, d)
	}
	if deployment().Wanted != 2 {
		t.Errorf("the plan has changed the number to %d", deployment().Wanted)
	}
	if r := patch(`{"max_queued_requests": 7}`); r.Change != "changed" || deployment().Wanted != 2 {
		t.Errorf("another option: %+v, and %d replicas are wanted", r, deployment().Wanted)
	}
	for i, options := range []string{`{"num_replicas": null}`, `null`} {
		if i > 0 {
			scale()
			patch(`{"max_queued_requests": 8}`)
		}
		if r := patch(options); r.Change != "changed" || deployment().Wanted != 1 || p.value("Ranker", "num_replicas") != "1 file" {
			t.Errorf("%s: %+v, %d replicas are wanted, num_replicas is %s", options, r, deployment().Wanted, p.value("Ranker", "num_replicas"))
		}
		if r := patch(options); r.Change != "unchanged" {
			t.Errorf("%s again: %+v", options, r)
		}
		same(t, p.applied(file), map[string]string{"shop": "unchanged " + fmt.Sprint(deployment().Replicas[0].Revision)})
		if deployment().Wanted != 1 {
			t.Errorf("after a deploy of the same file %d replicas are wanted", deployment().Wanted)
		}
	}
	fixture.Eventually(t, func() string {
		if all := deployment().Replicas; len(all) != 1 || all[0].ID != first {
			return fmt.Sprintf("the replicas are %+v, not %s alone", all, first)
		}
		return ""
	})

	// With an autoscaler the number is not that of the operator any more, and there is nothing to clear.
	scale()
	if r := patch(`{"autoscaling_config": {"min_replicas": 2, "max_replicas": 3}, "num_replicas": null}`); r.Change != "changed" || deployment().Wanted != 2 {
		t.Errorf("with an autoscaler: %+v, and %d replicas are wanted", r, deployment().Wanted)
	}
}

// TestPlanOfRollbackDuringRollout: the plan of a rollback while a rollout waits has the number of replicas that the rollback leaves: that before the rollout.
func TestPlanOfRollbackDuringRollout(t *testing.T) {
	t.Parallel()
	p := newPlace(t, durable)
	p.write("shop.py", shop)
	file := func(factor, replicas int) string {
		return fmt.Sprintf("applications: [{name: shop, import_path: 'shop:untyped', route_prefix: /shop, args: {factor: %d}, deployments: [{name: Ranker, num_replicas: %d, rollout_config: {steps: [1]}}]}]", factor, replicas)
	}
	same(t, p.applied(file(1, 2)), map[string]string{"shop": "created 1"})
	if _, err := p.Apply(t.Context(), ann, helvetype.ApplyRequest{Config: file(2, 3), Name: "serve.yaml", Dir: p.dir}); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, func() string {
		if r := p.node.Status().Applications["shop"].Rollout; r == nil || r.State != "waiting" {
			return fmt.Sprintf("the rollout is %+v", r)
		}
		return ""
	})
	wanted := func() int { return p.node.Status().Applications["shop"].Deployments["Ranker"].Wanted }
	plan, err := p.PlanRollback(t.Context(), "shop", 1)
	if err != nil || len(plan.Applications) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	d := plan.Applications[0].Deployments[0]
	if d.Wanted != 3 || wanted() != 3 {
		t.Errorf("the rollout has %d replicas, and %d in the plan", wanted(), d.Wanted)
	}
	if _, err := p.Rollback(t.Context(), ann, "shop", 1, ""); err != nil {
		t.Fatal(err)
	}
	p.settled("shop")
	if d.Next != wanted() || d.Next != 2 {
		t.Errorf("the plan of the rollback has %d replicas, and the rollback leaves %d", d.Next, wanted())
	}
}
