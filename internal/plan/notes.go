package plan

import (
	"fmt"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// Notes are what a change of an application means beside its options: a is the application now, and repeats the revision that a rollback repeats, 0 for none. For example, of a new
// file for shop, whose rollout waits at a step: "it ends the rollout of revision 4, which waits at step 1 of 2".
func Notes(change string, a helvetype.ApplicationStatus, repeats int) (all []string) {
	if repeats != 0 {
		all = append(all, fmt.Sprintf("it repeats revision %d", repeats))
	}
	if change != Changed {
		return all
	}
	if r := a.Rollout; r != nil && r.State != "watching" && r.State != "rolling back" {
		state := map[string]string{"waiting": "waits", "paused": "is paused", "going": "is under way"}[r.State]
		if r.Steps > 0 {
			state += fmt.Sprintf(" at step %d of %d", r.Step, r.Steps)
		}
		all = append(all, fmt.Sprintf("it ends the rollout of revision %d, which %s", r.To, state))
	}
	if a.Status == helvetype.ApplicationDeployFailed && a.Message != "" {
		first, _, _ := strings.Cut(strings.TrimSpace(a.Message), "\n")
		all = append(all, "the deploy before has failed: "+first)
	}
	return all
}
