package plan_test

import (
	"slices"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/plan"
)

// TestNotes: a plan names the revision of a rollback, the rollout that the change ends, and the failure of the deploy before.
func TestNotes(t *testing.T) {
	t.Parallel()
	rollout := func(state string, steps int) helvetype.ApplicationStatus {
		return helvetype.ApplicationStatus{Status: helvetype.ApplicationDeploying, Rollout: &helvetype.Rollout{From: 3, To: 4, State: state, Step: min(1, steps), Steps: steps}}
	}
	failed := helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: "revision 4 is rolled back: no model\nTraceback"}
	for name, x := range map[string]struct {
		change  string
		a       helvetype.ApplicationStatus
		repeats int
		want    []string
	}{
		"nothing to say":     {plan.Changed, helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning}, 0, nil},
		"a rollback":         {plan.Changed, helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning}, 2, []string{"it repeats revision 2"}},
		"a step":             {plan.Changed, rollout("waiting", 2), 0, []string{"it ends the rollout of revision 4, which waits at step 1 of 2"}},
		"a pause":            {plan.Changed, rollout("paused", 0), 2, []string{"it repeats revision 2", "it ends the rollout of revision 4, which is paused"}},
		"under way":          {plan.Changed, rollout("going", 0), 0, []string{"it ends the rollout of revision 4, which is under way"}},
		"all are new":        {plan.Changed, rollout("watching", 2), 0, nil},
		"the same file":      {plan.Unchanged, rollout("waiting", 2), 0, nil},
		"after a rollback":   {plan.Changed, failed, 0, []string{"the deploy before has failed: revision 4 is rolled back: no model"}},
		"the file before it": {plan.Unchanged, failed, 0, nil},
	} {
		if got := plan.Notes(x.change, x.a, x.repeats); !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}
