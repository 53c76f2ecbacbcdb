package fleet

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// The number of replicas of a deployment that follows its load is not changed by its autoscaler alone. Each change is an event all the same, autoscale_up or autoscale_down, with a reason and its inputs, and one of the
// decisions that status and helve why show. The rules beside those of package autoscale are here, each with an example:
//
//   - target_capacity: a deploy has set 2 replicas, and the target capacity is 50 now: 1 replica.
//   - deploy: revision 2 has initial_replicas of 4, and 2 replicas run: 4.
//   - failed_deploy: revision 2, which had initial_replicas of 4, fails: the 2 replicas of revision 1 are back.
//   - record: another writer has put 3 into the store: 3.

// renumbering says why the number of replicas of a deployment changes.
type renumbering struct {
	rule, reason string
	cause        uint64            // the event that leads to it; 0 for none
	inputs       map[string]string // beside those of each change
}

// byCapacityLocked is the change by the target capacity of the node.
func (d *Deployment) byCapacityLocked() renumbering {
	part := fmt.Sprintf("%d of %d replicas", d.Asked.At(d.App.fleet.Capacity), d.Asked.Replicas)
	return renumbering{rule: "target_capacity", reason: fmt.Sprintf("the target capacity is %s %%: %s", percent(d.App.fleet.Capacity), part), inputs: map[string]string{"of": strconv.Itoa(d.Asked.Replicas)}}
}

// percent is a target capacity as text; nil is 100.
func percent(capacity *float64) string {
	if capacity == nil {
		return "100"
	}
	return short(*capacity)
}

// byRecord is the change by a record of the store that another writer has written.
func byRecord(s store.Scale) renumbering {
	reason := fmt.Sprintf("%s has set %d", s.By, s.Replicas)
	if s.Reason != "" {
		reason += ": " + s.Reason
	}
	return renumbering{rule: "record", reason: reason}
}

// NoteDeployedLocked notes that a deploy, which the deployment has just taken over, has changed the number of replicas: before is the number until then. The first number of a deployment is no change.
func (d *Deployment) NoteDeployedLocked(before int) {
	if d.Former == nil {
		return
	}
	r, c := d.Now.Revision, d.App.fleet.Capacity
	reason := fmt.Sprintf("revision %d begins with %d", r.Number, d.Wanted)
	if config, err := autoscale.Parse(d.Now.Definition.Options.AutoscalingConfig); err == nil && autoscale.Share(config.Initial(), c) == d.Wanted {
		reason += map[bool]string{true: ", by initial_replicas", false: ", by min_replicas"}[config.InitialReplicas != nil]
	}
	if c != nil && *c < 100 {
		reason += fmt.Sprintf(" at a target capacity of %s %%", percent(c))
	}
	d.renumberedLocked(before, renumbering{rule: "deploy", reason: reason, cause: d.Causes.Cause(states.Deploy, &d.App.causes), inputs: map[string]string{"revision": r.ID()}})
}

// NoteReturnedLocked notes that the number of replicas of the revision before is back, because a revision has failed: before is the number until then.
func (d *Deployment) NoteReturnedLocked(before int, failed *Revision) {
	d.renumberedLocked(before, renumbering{
		rule: "failed_deploy", reason: fmt.Sprintf("revision %d was given up: the number before it is back", failed.Number),
		cause: d.Causes.Cause(states.RollBack, &d.App.causes), inputs: map[string]string{"revision": failed.ID()},
	})
}

// renumberLocked changes the number of replicas of a deployment for another reason than a decision of its autoscaler.
func (d *Deployment) renumberLocked(to Number, why renumbering) {
	d.scaleLocked(to, func(before int) { d.renumberedLocked(before, why) })
}

// renumberedLocked has the change of the number of a deployment that follows its load as an event, which causes those of the replicas, and as a decision. before is the number until now.
func (d *Deployment) renumberedLocked(before int, why renumbering) {
	f := d.App.fleet
	if d.Wanted == before || !d.followsLoadLocked() {
		return
	}
	inputs := map[string]string{"rule": why.rule, "from": strconv.Itoa(before), "to": strconv.Itoa(d.Wanted)}
	maps.Copy(inputs, why.inputs)
	if f.Capacity != nil {
		inputs["target_capacity"] = short(*f.Capacity)
	}
	if config, err := autoscale.Parse(d.Now.Definition.Options.AutoscalingConfig); err == nil {
		least, most := autoscale.Bounds(config, f.Capacity, f.rising)
		inputs["least"], inputs["most"] = strconv.Itoa(least), strconv.Itoa(most)
	}
	d.Causes.Decided(d.noteNumberLocked(before, d.Wanted, why.reason, why.cause, inputs))
	if f.Scaler != nil {
		f.Scaler.RenumberedLocked(d, helvetype.ScalingDecision{At: time.Now().UTC().Round(0), From: before, To: d.Wanted, Reason: why.reason})
	}
}

// noteNumberLocked is the event of a change of the number of a deployment that follows its load.
func (d *Deployment) noteNumberLocked(from, to int, reason string, cause uint64, inputs map[string]string) (id uint64) {
	event := states.AutoscaleUp
	if to < from {
		event = states.AutoscaleDown
	}
	return d.App.fleet.Journal.NoteWith(d.Object(), string(d.Shown.State), string(event), fmt.Sprintf("%d -> %d replicas: %s", from, to, reason), cause, inputs)
}
