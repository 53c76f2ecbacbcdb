package layout_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
)

// TestScaledBy: the line about a number that an operator has set names the number of the options and its source, and no number of a file that has none.
func TestScaledBy(t *testing.T) {
	t.Parallel()
	number := []helvetype.ValueChange{{Path: "num_replicas", Update: "nothing", Before: json.RawMessage("2"), After: json.RawMessage("3")}}
	scaler := &helvetype.AutoscalerPlan{After: &helvetype.ReplicaBounds{Least: 1, Most: 4}, Replaces: 2, ReplacesFrom: "code"}
	for name, x := range map[string]struct {
		d    helvetype.DeploymentPlan
		want []string
	}{
		"the code":         {helvetype.DeploymentPlan{Wanted: 5, Next: 5, Submitted: 2, SubmittedFrom: "code"}, []string{"scaled by root, and stays so: the code has 2"}},
		"the default":      {helvetype.DeploymentPlan{Wanted: 5, Next: 5, Submitted: 1, SubmittedFrom: "default"}, []string{"scaled by root, and stays so: the default is 1"}},
		"another file":     {helvetype.DeploymentPlan{Wanted: 5, Next: 3, Submitted: 3, SubmittedFrom: "file", Options: number}, []string{"scaled to 5 by root: that ends, because the file has another num_replicas"}},
		"an override":      {helvetype.DeploymentPlan{Wanted: 5, Next: 3, Submitted: 3, SubmittedFrom: "override", Options: number}, []string{"scaled to 5 by root: that ends, because helve set has another num_replicas"}},
		"it is cleared":    {helvetype.DeploymentPlan{Wanted: 5, Next: 2, Submitted: 2, SubmittedFrom: "code"}, []string{"scaled to 5 by root: that ends, and the code has 2"}},
		"an autoscaler":    {helvetype.DeploymentPlan{Wanted: 2, Next: 2, Submitted: 1, SubmittedFrom: "override", Autoscaler: scaler}, []string{"scaled to 2 by root: the autoscaler goes on with 2", "its autoscaler has 1 to 4 replicas, in the place of num_replicas 2 (code)"}},
		"nothing to say":   {helvetype.DeploymentPlan{Wanted: 2, Next: 2, Submitted: 2, SubmittedFrom: "file"}, nil},
		"an older version": {helvetype.DeploymentPlan{Wanted: 5, Next: 5, Submitted: 2}, []string{"the file has 2"}},
	} {
		x.d.Name, x.d.Change, x.d.ScaledBy = "Ranker", "changed", "root"
		text := layout.Plan(helvetype.Plan{Applications: []helvetype.ApplicationPlan{{Name: "shop", Change: "changed", Deployments: []helvetype.DeploymentPlan{x.d}}}}, 200)
		for _, want := range x.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		if strings.Contains(text, "root") != (len(x.want) > 0) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestCapacity: a plan names the deployments of other applications that another target capacity changes.
func TestCapacity(t *testing.T) {
	t.Parallel()
	scaler := &helvetype.AutoscalerPlan{Before: &helvetype.ReplicaBounds{Least: 2, Most: 8}, After: &helvetype.ReplicaBounds{}}
	changes := []helvetype.CapacityChange{{App: "ranker", Deployment: "Ranker", Wanted: 2}, {App: "shop", Deployment: "Front", Wanted: 3, Autoscaler: scaler}}
	for after, want := range map[string]string{"0": "by target_capacity 0", "null": "by target_capacity 100"} {
		text := layout.Plan(helvetype.Plan{Settings: []helvetype.ValueChange{{Path: "target_capacity", Update: "in place", After: json.RawMessage(after)}}, Capacity: changes}, 200)
		for _, line := range []string{"    ranker/Ranker: 2 -> 0 replicas " + want + "\n", "    shop/Front: 3 -> 0 replicas " + want + "; its autoscaler has 0 to 0 replicas, and had 2 to 8\n"} {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in\n%s", line, text)
			}
		}
	}
}

// TestNoSurge: a plan says which replicas hold the room that a rollout would need for more replicas.
func TestNoSurge(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentPlan{Name: "L", Change: "changed", Update: "new application", Reason: "args has changed", Replicas: 1, Wanted: 1, Next: 1, Unavailable: 1, NoSurge: "needs 1 licence, and 0 of 2 are free"}
	text := layout.Plan(helvetype.Plan{Applications: []helvetype.ApplicationPlan{{Name: "shop", Change: "changed", Deployments: []helvetype.DeploymentPlan{d}}}}, 300)
	if want := "at most 0 more and 1 fewer meanwhile; they fit the machine, and there is no room for more beside them: one more needs 1 licence, and 0 of 2 are free"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}
