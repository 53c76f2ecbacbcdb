package files_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestSettingsByRequest: a request changes the target capacity and options of HTTP without a file, its plan says so before, and a whole file of the source default is over the target capacity.
func TestSettingsByRequest(t *testing.T) {
	t.Parallel()
	p, ctx := newPlace(t), t.Context()
	p.write("shop.py", shop)
	const file = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop, deployments: [{name: Ranker, num_replicas: 2}]}]"
	same(t, p.applied(file), map[string]string{"shop": "created 1"})
	change := func(text string) (c helvetype.SettingsChange) {
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := p.Generation()
	wish := change(`{"target_capacity": 50, "http_options": {"request_timeout_s": 7, "port": 1}}`)
	plan, err := p.PlanSettings(ctx, wish)
	var paths []string
	for _, c := range plan.Changes {
		paths = append(paths, c.Path+" "+c.Update)
	}
	if err != nil || !slices.Equal(paths, []string{"http_options.port start of the node", "http_options.request_timeout_s in place", "target_capacity in place"}) || len(plan.Warnings) != 1 {
		t.Fatalf("%v %+v, %v", paths, plan, err)
	}
	for _, wrong := range []string{`{}`, `{"target_capacity": 200}`, `{"http_options": {"root_path": "x"}}`} {
		if _, err := p.PlanSettings(ctx, change(wrong)); code(err) != fmt.Sprint(helvetype.CodeInvalidArgument) {
			t.Errorf("the plan of %s: %v", wrong, err)
		}
		if _, err := p.ChangeSettings(ctx, ann, change(wrong)); code(err) != fmt.Sprint(helvetype.CodeInvalidArgument) {
			t.Errorf("the change %s: %v", wrong, err)
		}
	}
	if now := p.Generation(); now != before {
		t.Fatalf("plans and refusals have changed the generation from %d to %d", before, now)
	}
	old := ann
	old.Seen = before - 1
	_, err = p.ChangeSettings(ctx, old, wish)
	if e, ok := errors.AsType[*helvetype.OperationError](err); !ok || e.Code != helvetype.CodeFailedPrecondition {
		t.Errorf("a change for another generation: %v", err)
	}

	out, err := p.ChangeSettings(ctx, ann, wish)
	s := out.Settings
	if err != nil || *s.TargetCapacity != 50 || s.HTTP.Options.RequestTimeout != 7 || s.Generation <= before || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "goes on there") {
		t.Fatalf("%+v, %v", out, err)
	}
	if s.Store.Kind != "memory" || s.Keeper != nil || s.Node.PID == 0 || len(s.HTTP.URLs) == 0 {
		t.Errorf("%+v", s)
	}
	if plan, err = p.PlanSettings(ctx, wish); err != nil || len(plan.Changes) != 0 {
		t.Errorf("the plan of settings that hold: %+v, %v", plan, err)
	}
	same(t, p.applied(file), map[string]string{"shop": "unchanged 1"})
	now, err := p.AllSettings(ctx)
	if err != nil || now.TargetCapacity != nil || now.HTTP.Options.RequestTimeout != 7 || string(now.HTTP.Set) != `{"port":1,"request_timeout_s":7}` {
		t.Errorf("after a file: %+v, %s, %v", now, now.HTTP.Set, err)
	}
	if out, err = p.ChangeSettings(ctx, ann, change(`{"http_options": null}`)); err != nil || out.Settings.HTTP.Options.RequestTimeout != 0 || string(out.Settings.HTTP.Set) != "{}" {
		t.Errorf("without http_options: %+v, %v", out.Settings.HTTP, err)
	}
}
