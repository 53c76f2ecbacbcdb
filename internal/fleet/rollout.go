package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/store"
)

// Change is a rollout of an application, with its part of the controller. For example, revision 2 changes to 3: the planner is given the number of new
// replicas that package rollout allows for now, and a failure leads back to revision 2.
type Change struct {
	*rollout.Rollout
	Back   *Revision      // the revision to go back to; nil if the node before has made the rollout
	Limits map[string]int // the number of new replicas that each deployment may have for now; a deployment without one is not bounded
	Undone bool           // the rollout has settled and has failed since, and a deploy of from is under way
}

// BeginRolloutLocked begins the rollout of the revision that has become the target.
func (a *Application) BeginRolloutLocked(r *Revision) {
	a.Change = nil
	if w := r.Wrote.Watch; r.Def.Restored && w != nil && w.Until.After(time.Now()) {
		longest := time.Duration(0) // the watch has begun so long before its end: see Rollout.Settle
		for i := range r.Def.Graph.Deployments {
			if of := rollout.Of(r.Def.Graph.Deployments[i].Options.Effective(), 1); of.RollBack && of.Rate.Enabled {
				longest = max(longest, of.Rate.Window)
			}
		}
		a.Change = &Change{Rollout: rollout.Watch(int(w.From), r.Number, r.Def.At, w.Until.Add(-longest), w.Until, w.Old, time.Now())}
	}
	if a.Previous == nil || r.Def.Restored {
		return
	}
	a.Change = &Change{Rollout: rollout.New(a.Previous.Number, r.Number, time.Now()), Back: a.Previous}
	if was := r.Wrote.Rollout; r.Wrote.Unended() { // a node before this one has begun it
		a.Change.Continue(was.Step, was.Paused, r.Def.At, was.Since)
	}
	a.NoteRolloutLocked("rollout_started", fmt.Sprintf("revision %d changes to revision %d", a.Change.From, a.Change.To), nil)
}

// WatchesOnly says that a node before this one has made the rollout, and that its error rate is still watched.
func (ch *Change) WatchesOnly() bool { return ch != nil && ch.Back == nil }

// NoteRolloutLocked records a fact about the rollout of an application. The state of the application stays.
func (a *Application) NoteRolloutLocked(reason, message string, inputs map[string]string) {
	all := map[string]string{}
	if ch := a.Change; ch != nil {
		all["from"], all["to"] = fmt.Sprint(ch.From), fmt.Sprint(ch.To)
	}
	maps.Copy(all, inputs)
	a.fleet.Journal.NoteWith(helvetype.Object{Kind: helvetype.KindApplication, App: a.Name}, string(a.Shown.State), reason, message, 0, all)
}

func (a *Application) NoteStepLocked() {
	a.NoteRolloutLocked("rollout_step", fmt.Sprintf("step %d begins", a.Change.Step), map[string]string{"step": fmt.Sprint(a.Change.Step)})
}

// ChangingLocked are the deployments of a rollout, sorted by name.
func (a *Application) ChangingLocked(now time.Time) (all []rollout.Deployment) {
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		d := a.Deployments[name]
		if d.Now.Revision != a.Current || d.Dropped {
			continue
		}
		n := d.placeableLocked()
		of := rollout.Deployment{Name: name, Settings: rollout.Of(d.Now.Definition.Options, n), Replicas: n, New: !d.Continued, Error: cmp.Or(d.Message, d.roomLocked())}
		if f := d.Former; f != nil && f.Version == d.Now.Version && f.Config.Current.Number == d.Now.Config.Current.Number {
			of.Steps = nil // the deployment does not change
		}
		if a.Current.Def.RollbackOf != 0 { // its revision has served before, and the present one is bad; a rollback of a rollback would have no end
			of.Steps, of.Rate.Enabled = nil, false
		}
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaStopping {
				continue
			}
			switch {
			case r.Of != d.Now || r.Outdated:
				of.Former++
			case r.State != helvetype.ReplicaRunning:
				of.Live++
			case r.Config != d.Now.Config.Current.Number: // the replica goes on, and is given the user config of the revision
				if of.Former++; r.Changing != nil {
					of.Live++
				}
			default:
				if of.Live++; r.TakesLocked() && r.AvailableLocked(now).IsZero() {
					of.Ready++
				} else if of.Error == "" {
					of.Error = r.outLocked() // for example, its readiness check fails
				}
			}
		}
		all = append(all, of)
	}
	return all
}

// CountsLocked are the calls that the replicas of a deployment have had, those of the revision that is the target as new ones.
func (d *Deployment) CountsLocked() (all []rollout.Count) {
	for _, r := range d.Replicas {
		if r.Running != nil {
			all = append(all, r.countLocked())
		}
	}
	return all
}

func (r *Replica) countLocked() rollout.Count {
	k := r.Running.Counts()
	return rollout.Count{Replica: r.ID, New: r.Of == r.Dep.Now, Started: r.StartedAt, Calls: k.Ended(), Failures: k.Failed}
}

// AvailableLocked says when a replica that runs has been ready for min_ready_s, and can take the place of another; zero if it has.
func (r *Replica) AvailableLocked(now time.Time) time.Time {
	if at := r.ReadyAt.Add(rollout.MinReady(r.Of.Definition.Options)); !r.ReadyAt.IsZero() && at.After(now) {
		return at
	}
	return time.Time{}
}

// targetLocked is the target of a deployment for the planner.
func (d *Deployment) targetLocked() planner.Target {
	e, a := d.Now, d.App
	t := planner.Target{
		Key: planner.Key{App: a.Name, Deployment: d.Name}, Revision: e.Version, Replicas: max(d.placeableLocked()-d.yieldedLocked(), 0),
		GiveUp: d.maxFailures(), Early: e.Host.StartsEarly(),
	}
	if d.hasteLocked() {
		t.GiveUpRounds = planner.RolloutRounds
	}
	t.Uses = e.usesLocked()
	t.Served = e.Revision != a.Current || d.Former != nil && d.Former.Version == e.Version
	bounds := d.boundsLocked()
	t.Change = &bounds
	if a.Change == nil || a.Change.Settled() {
		return t
	}
	if f := d.Former; f != nil && f.Version != e.Version {
		if n, ok := a.Change.Limits[d.Name]; ok {
			bounds.New = n
		}
		bounds.Had = t.Replicas
		if d.SetByLocked(a.Current) { // else the number was scaled since
			bounds.Before = max(placement.Placeable(d.FormerAsked.At(a.fleet.Capacity), e.Definition.Options.MaxReplicasPerNode)-d.yieldedLocked(), 0)
			bounds.Had = bounds.Before
		} else if d.followsLoadLocked() { // what the load asks for beside the number before is new, and of the new revision
			bounds.Had = min(bounds.Had, placement.Placeable(d.FormerAsked.At(a.fleet.Capacity), e.Definition.Options.MaxReplicasPerNode))
		}
		if f.Ran || f.Revision.Def.Restored {
			bounds.Former, bounds.Uses, bounds.Doubt = f.Version, f.usesLocked(), !e.Ran || d.Failures.Number() > 0
			bounds.Failures = d.FormerFailures.History(f.Ran || f.Revision.Def.Restored && d.FormerFailures.Number() > 0)
		}
		if d.MadeRoom {
			bounds.Had = max(bounds.Had-1, 0)
		}
	}
	return t
}

// usesLocked are the deployments that the form of a deployment uses.
func (e *DeploymentRevision) usesLocked() (all []planner.Key) {
	for _, u := range e.Definition.Spec.Uses {
		all = append(all, planner.Key{App: e.Revision.App.Name, Deployment: u})
	}
	return all
}

// hasteLocked says that a few rounds of failed starts end the rollout, or pause it without automatic rollback: no new replica of the deployment ever ran, and the revision before serves.
func (d *Deployment) hasteLocked() bool {
	return d.App.DeployingLocked() && !d.Now.Ran && d.Now.retries() && d.formerRanLocked()
}

// formerRanLocked says that the revision before has run on this node, as far as the deployment needs it: a new revision that fails does not fail because of the machine.
// For example, a machine restarts in a rollout before its disk of models is there: replicas of both revisions fail, and the rollout goes on when the disk is there. If former
// replicas of the deployment start and new ones fail, the rollout goes back.
func (d *Deployment) formerRanLocked() bool {
	a := d.App
	if a.Previous == nil || a.Previous.Ran || d.Former != nil {
		return a.Previous != nil && (a.Previous.Ran || d.Former.Ran)
	}
	for _, of := range a.Deployments { // the deployment is new
		if of.Former != nil && of.Former.Ran {
			return true
		}
	}
	return false
}

// boundsLocked are the bounds of the change of a deployment's replicas.
func (d *Deployment) boundsLocked() planner.Change {
	n, o := d.placeableLocked(), &d.Now.Definition.Options
	bounds, _ := planner.Bounds(n, o.Surge(n), o.Unavailable(n), o.MaxReplicasPerNode)
	return bounds
}

// placeableLocked is the number of replicas that this node is to have.
func (d *Deployment) placeableLocked() int {
	return placement.Placeable(d.Wanted, d.Now.Definition.Options.MaxReplicasPerNode)
}

// NoteSurgeLocked says once for each deploy that its replicas cannot start beside the former ones.
func (d *Deployment) NoteSurgeLocked() {
	n, o := d.placeableLocked(), &d.Now.Definition.Options
	if _, said := planner.Bounds(n, o.Surge(n), o.Unavailable(n), o.MaxReplicasPerNode); said != "" && d.Former != nil && d.Former.Version != d.Now.Version && n > 0 {
		d.App.fleet.Journal.Note(d.Object(), string(d.Shown.State), "surge_does_not_fit", said, 0)
	}
}

// noteFlappingLocked says once that replicas of the deployment are ready and end again and again.
func (d *Deployment) noteFlappingLocked() {
	n := d.Failures.Flapping()
	if n == 0 {
		d.flapping = false
		return
	}
	wait := planner.Delay(n)
	d.Message = fmt.Sprintf("flapping: replicas have ended %d times soon after they were ready, and the next start waits %s. The last error: %s", n, wait, d.Message)
	if !d.flapping {
		d.flapping = true
		d.App.fleet.Journal.NoteWith(d.Object(), string(d.Shown.State), "flapping", d.Message, 0, map[string]string{"rounds": fmt.Sprint(n), "wait_s": fmt.Sprint(wait.Seconds())})
	}
}

// FlappingLocked is the failure of a rollout that has settled: replicas of the new revision were ready, and end again and again.
func (a *Application) FlappingLocked() *rollout.Failure {
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if d := a.Deployments[name]; d.Now.Revision == a.Current && d.Continued && d.Failures.Flapping() > 0 && rollout.Of(d.Now.Definition.Options, 1).RollBack {
			return &rollout.Failure{Reason: "replicas_failed", Message: fmt.Sprintf("deployment %s: %s", name, d.Message), Inputs: map[string]string{
				"deployment": name, "failures": fmt.Sprint(d.Failures.Number()),
			}}
		}
	}
	return nil
}

// settleRolloutLocked ends the rollout of an application whose revision runs, but for the watch of its error rate.
func (a *Application) settleRolloutLocked(now time.Time) {
	ch := a.Change
	if ch == nil || ch.Settled() { // a node before this one has made it
		return
	}
	a.NoteRolloutLocked("rollout_done", fmt.Sprintf("all replicas are of revision %d", ch.To), nil)
	if ch.Limits = nil; !ch.Settle(a.ChangingLocked(now), now) {
		a.Change = nil
		return
	}
	old, until := ch.Old()
	a.Current.Wrote.Watch = &store.Watch{From: uint64(ch.From), Until: until.UTC(), Old: old} // written by conclude
}

// noteGone keeps the last counts of a replica of a rollout.
func (r *Replica) NoteGoneLocked(of host.Replica) {
	if ch := r.Dep.App.Change; ch != nil && of != nil {
		ch.Note(r.Dep.Name, r.countLocked())
	}
}
