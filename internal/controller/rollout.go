package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/store"
)

// change is a rollout of an application, with its part of the controller. For example, revision 2 changes to 3: the planner is given the number of new
// replicas that package rollout allows for now, and a failure leads back to revision 2.
type change struct {
	*rollout.Rollout
	from   *revision      // the revision to go back to; nil if the node before has made the rollout
	limits map[string]int // the number of new replicas that each deployment may have for now; a deployment without one is not bounded
	undone bool           // the rollout has settled and has failed since, and a deploy of from is under way
}

// beginRolloutLocked begins the rollout of the revision that has become the target.
func (a *application) beginRolloutLocked(r *revision) {
	a.change = nil
	if w := r.wrote.Watch; r.def.Restored && w != nil && w.Until.After(time.Now()) {
		a.change = &change{Rollout: rollout.Watch(int(w.From), r.number, w.Until, w.Old, time.Now())}
	}
	if a.previous == nil || r.def.Restored {
		return
	}
	a.change = &change{Rollout: rollout.New(a.previous.number, r.number, r.wrote.Step, r.wrote.Paused, time.Now()), from: a.previous}
	a.noteRolloutLocked("rollout_started", fmt.Sprintf("revision %d changes to revision %d", a.change.From, a.change.To), nil)
}

// watchesOnly says that a node before this one has made the rollout, and that its error rate is still watched.
func (ch *change) watchesOnly() bool { return ch != nil && ch.from == nil }

// noteRolloutLocked records a fact about the rollout of an application. The state of the application stays.
func (a *application) noteRolloutLocked(reason, message string, inputs map[string]string) {
	all := map[string]string{}
	if ch := a.change; ch != nil {
		all["from"], all["to"] = fmt.Sprint(ch.From), fmt.Sprint(ch.To)
	}
	maps.Copy(all, inputs)
	a.c.journal.NoteWith(helvetype.Object{Kind: helvetype.KindApplication, App: a.name}, string(a.shown.State), reason, message, 0, all)
}

// rollOutLocked looks at the rollout of the application, and says when to look again. A rollout that has failed is ended.
func (a *application) rollOutLocked(now time.Time) (wake time.Time) {
	ch := a.change
	if ch == nil || ch.undone || a.endingLocked() {
		return wake
	}
	all := a.changingLocked(now)
	for i := range all {
		if due, _ := ch.Due(&all[i], now); due {
			ch.Sample(&all[i], a.deployments[all[i].Name].countsLocked(), now)
		}
	}
	d := ch.Look(all, now)
	ch.limits = d.Limits
	if d.Failure == nil && ch.Settled() {
		d.Failure = a.flappingLocked()
	}
	switch {
	case d.Failure != nil:
		a.failRolloutLocked(d.Failure)
	case d.Over:
		a.change = nil
	case d.Stepped:
		a.noteStepLocked()
		a.c.wg.Go(func() { a.c.logStale(a.name, a.c.storeRollout(a.c.ctx, a, ch, ch.Paused, ch.Step)) })
	}
	return d.Wake
}

func (a *application) noteStepLocked() {
	a.noteRolloutLocked("rollout_step", fmt.Sprintf("step %d begins", a.change.Step), map[string]string{"step": fmt.Sprint(a.change.Step)})
}

// changingLocked are the deployments of a rollout, sorted by name.
func (a *application) changingLocked(now time.Time) (all []rollout.Deployment) {
	for _, name := range slices.Sorted(maps.Keys(a.deployments)) {
		d := a.deployments[name]
		if d.now.revision != a.current || d.dropped {
			continue
		}
		n := d.placeableLocked()
		of := rollout.Deployment{Name: name, Settings: rollout.Of(d.now.definition.Options, n), Replicas: n, New: !d.continued, Error: d.message}
		if f := d.former; f != nil && f.version == d.now.version && f.config.Current.Number == d.now.config.Current.Number {
			of.Steps = nil // the deployment does not change
		}
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaStopping {
				continue
			}
			switch {
			case r.of != d.now || r.outdated:
				of.Former++
			case r.state != helvetype.ReplicaRunning:
				of.Live++
			case r.config != d.now.config.Current.Number: // the replica goes on, and is given the user config of the revision
				if of.Former++; r.changing != nil {
					of.Live++
				}
			default:
				if of.Live++; r.takesLocked() && r.availableLocked(now).IsZero() {
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

// countsLocked are the calls that the replicas of a deployment have had, those of the revision that is the target as new ones.
func (d *deployment) countsLocked() (all []rollout.Count) {
	for _, r := range d.replicas {
		if r.running != nil {
			all = append(all, r.countLocked())
		}
	}
	return all
}

func (r *replica) countLocked() rollout.Count {
	k := r.running.Counts()
	return rollout.Count{Replica: r.id, New: r.of == r.dep.now, Calls: k.Ended(), Failures: k.Failed}
}

// availableLocked says when a replica that runs has been ready for min_ready_s, and can take the place of another; zero if it has.
func (r *replica) availableLocked(now time.Time) time.Time {
	if at := r.readyAt.Add(rollout.MinReady(r.of.definition.Options)); !r.readyAt.IsZero() && at.After(now) {
		return at
	}
	return time.Time{}
}

// targetLocked is the target of a deployment for the planner.
func (d *deployment) targetLocked() planner.Target {
	e, a := d.now, d.app
	t := planner.Target{
		Key: planner.Key{App: a.name, Deployment: d.name}, Revision: e.version, Replicas: max(d.placeableLocked()-d.yieldedLocked(), 0),
		GiveUp: d.maxFailures(), Early: e.host.StartsEarly(),
	}
	if d.hasteLocked() {
		t.GiveUpRounds = planner.RolloutRounds
	}
	for _, u := range e.definition.Spec.Uses {
		t.Uses = append(t.Uses, planner.Key{App: a.name, Deployment: u})
	}
	bounds := d.boundsLocked()
	t.Change = &bounds
	if a.change == nil || a.change.Settled() {
		return t
	}
	if f := d.former; f != nil && f.version != e.version {
		if n, ok := a.change.limits[d.name]; ok {
			bounds.New = n
		}
		if a.current.wrote.Set(d.name, a.c.scales.Of(a.name, d.name)) { // else the number was scaled since
			bounds.Before = max(planner.Placeable(planner.Capacity(d.formerAsked, a.c.capacity), e.definition.Options.MaxReplicasPerNode)-d.yieldedLocked(), 0)
		}
		if f.ran || f.revision.def.Restored {
			bounds.Former, bounds.Doubt, bounds.Failures = f.version, d.failures.Number() > 0, d.formerFailures.History(true)
		}
	}
	return t
}

// hasteLocked says that a few rounds of failed starts end the rollout: no new replica of the deployment ever ran, and the revision before serves.
func (d *deployment) hasteLocked() bool {
	a := d.app
	return a.previous != nil && a.previous.ran && a.deployingLocked() && !d.now.ran && d.now.retries() && rollout.Of(d.now.definition.Options, 1).RollBack
}

// boundsLocked are the bounds of the change of a deployment's replicas.
func (d *deployment) boundsLocked() planner.Change {
	n, o := d.placeableLocked(), &d.now.definition.Options
	bounds, _ := planner.Bounds(n, o.Surge(n), o.Unavailable(n), o.MaxReplicasPerNode)
	return bounds
}

// placeableLocked is the number of replicas that this node is to have.
func (d *deployment) placeableLocked() int {
	return planner.Placeable(d.wanted, d.now.definition.Options.MaxReplicasPerNode)
}

// noteSurgeLocked says once for each deploy that its replicas cannot start beside the former ones.
func (d *deployment) noteSurgeLocked() {
	n, o := d.placeableLocked(), &d.now.definition.Options
	if _, said := planner.Bounds(n, o.Surge(n), o.Unavailable(n), o.MaxReplicasPerNode); said != "" && d.former != nil && d.former.version != d.now.version && n > 0 {
		d.app.c.journal.Note(d.object(), string(d.shown.State), "surge_does_not_fit", said, 0)
	}
}

// failRolloutLocked ends a rollout that has failed: the application goes back to the revision before. Without automatic_rollback the rollout is paused.
func (a *application) failRolloutLocked(f *rollout.Failure) {
	ch := a.change
	d := a.deployments[f.Inputs["deployment"]]
	if d != nil && !rollout.Of(d.now.definition.Options, 1).RollBack {
		a.stickLocked(f.Message)
		return
	}
	if d != nil {
		d.rolledBack, d.message = f.Message, f.Message
	}
	if !ch.Settled() {
		a.c.failByLocked(a.current, errors.New(f.Message), f.Reason, f.Inputs)
		return
	}
	ch.undone = true
	a.noteRolledBackLocked(ch, f.Message, f.Reason, f.Inputs)
	a.c.wg.Go(func() {
		if err := a.c.undoChange(a.name, ch, f.Message); err != nil {
			a.c.log.Error("the automatic rollback has failed", "app", a.name, "revision", ch.From, "error", err)
		}
	})
}

// undoChange deploys the revision before a rollout again, which has failed after it had settled.
func (c *Controller) undoChange(app string, ch *change, why string) error {
	var def deploy.App
	switch {
	case c.set.Former != nil:
		var err error
		if def, err = c.set.Former(c.ctx, app, ch.From); err != nil {
			return err
		}
	case ch.from != nil:
		def = ch.from.def
	default:
		return fmt.Errorf("revision %d is not kept", ch.From)
	}
	def.RollbackOf, def.Replace, def.Restored, def.Changes, def.Added, def.Undoes = uint64(ch.From), true, false, 0, func() {}, &deploy.Undo{Revision: ch.To, Reason: why}
	def.Author, def.Message = helvetype.Author{Name: "helve"}, fmt.Sprintf("automatic rollback of revision %d", ch.To)
	return c.Deploy(c.ctx, def)
}

// noteFlappingLocked says once that replicas of the deployment are ready and end again and again.
func (d *deployment) noteFlappingLocked() {
	n := d.failures.Flapping()
	if n == 0 {
		d.flapping = false
		return
	}
	wait := planner.Delay(n)
	d.message = fmt.Sprintf("flapping: replicas have ended %d times soon after they were ready, and the next start waits %s. The last error: %s", n, wait, d.message)
	if !d.flapping {
		d.flapping = true
		d.app.c.journal.NoteWith(d.object(), string(d.shown.State), "flapping", d.message, 0, map[string]string{"rounds": fmt.Sprint(n), "wait_s": fmt.Sprint(wait.Seconds())})
	}
}

// flappingLocked is the failure of a rollout that has settled: replicas of the new revision were ready, and end again and again.
func (a *application) flappingLocked() *rollout.Failure {
	for _, name := range slices.Sorted(maps.Keys(a.deployments)) {
		if d := a.deployments[name]; d.now.revision == a.current && d.continued && d.failures.Flapping() > 0 && rollout.Of(d.now.definition.Options, 1).RollBack {
			return &rollout.Failure{Reason: "replicas_failed", Message: fmt.Sprintf("deployment %s: %s", name, d.message), Inputs: map[string]string{
				"deployment": name, "failures": fmt.Sprint(d.failures.Number()),
			}}
		}
	}
	return nil
}

// noteRolledBackLocked records that a revision was given up for the one before, and why.
func (a *application) noteRolledBackLocked(ch *change, message, reason string, inputs map[string]string) {
	all := map[string]string{"cause": reason, "from": fmt.Sprint(ch.To), "to": fmt.Sprint(ch.From)}
	maps.Copy(all, inputs)
	a.c.journal.NoteWith(helvetype.Object{Kind: helvetype.KindApplication, App: a.name}, string(a.shown.State), "rolled_back", message, 0, all)
	a.c.wg.Go(func() { // the log may be a user's, and the mutex is held
		a.c.log.Warn("a revision is rolled back", "app", a.name, "revision", ch.To, "to", ch.From, "reason", message)
	})
}

// stickLocked pauses a rollout that has failed and does not go back by itself.
func (a *application) stickLocked(why string) {
	ch := a.change
	if ch.Stuck != "" {
		return
	}
	ch.Stuck = why
	if ch.Settled() { // all replicas are new: there is nothing to pause
		a.change = nil
	} else {
		ch.Pause()
		a.c.wg.Go(func() { a.c.logStale(a.name, a.c.storeRollout(a.c.ctx, a, ch, true, ch.Step)) })
	}
	a.noteRolloutLocked("rollout_paused", "automatic_rollback is off: "+why, nil)
	a.wakeLocked()
}

// settleRolloutLocked ends the rollout of an application whose revision runs, but for the watch of its error rate.
func (a *application) settleRolloutLocked(now time.Time) {
	ch := a.change
	if ch == nil || ch.Settled() { // a node before this one has made it
		return
	}
	a.noteRolloutLocked("rollout_done", fmt.Sprintf("all replicas are of revision %d", ch.To), nil)
	if ch.limits = nil; !ch.Settle(a.changingLocked(now), now) {
		a.change = nil
		return
	}
	old, until := ch.Old()
	a.current.wrote.Watch = &store.Watch{From: uint64(ch.From), Until: until.UTC(), Old: old} // written by conclude
}

// PauseRollout stops the rollout of an application where it is, and ResumeRollout goes on with it, or ends the wait of a step. A node that is started again finds it paused.
func (c *Controller) PauseRollout(ctx context.Context, app, by string) error {
	return c.steer(ctx, app, "rollout_paused", by, func(ch *rollout.Rollout) error {
		if ch.Paused {
			return fmt.Errorf("application %q: %w: it is paused already", app, deploy.ErrNoRollout)
		}
		ch.Pause()
		return nil
	})
}

// ResumeRollout is the opposite of PauseRollout.
func (c *Controller) ResumeRollout(ctx context.Context, app, by string) error {
	return c.steer(ctx, app, "rollout_resumed", by, func(ch *rollout.Rollout) error {
		if !ch.Resume(time.Now()) {
			return fmt.Errorf("application %q: %w: it is not paused, and no step of it waits", app, deploy.ErrRollout)
		}
		return nil
	})
}

// steer changes the rollout of an application, after its record.
func (c *Controller) steer(ctx context.Context, app, reason, by string, do func(*rollout.Rollout) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errors.New("the store was not reached in time"))
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	a := c.apps[app]
	if a == nil || a.endingLocked() {
		err := c.missingLocked(app)
		c.mu.Unlock()
		return err
	}
	ch := a.change
	if ch == nil || ch.Settled() {
		c.mu.Unlock()
		return fmt.Errorf("application %q: %w", app, deploy.ErrNoRollout)
	}
	next := ch.Copy()
	err := do(next)
	w := a.current.wrote
	c.mu.Unlock()
	if err == nil {
		err = c.records.WriteRollout(ctx, app, w, next.Paused, next.Step)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.change != ch || ch.Settled() {
		return fmt.Errorf("application %q: %w", app, deploy.ErrNoRollout)
	}
	before := ch.Step
	do(ch.Rollout) //nolint:errcheck // it has gone well with the copy
	if !ch.Paused {
		for _, d := range a.deployments {
			if d.gaveUp {
				d.forgetFailuresLocked()
			}
		}
	}
	a.noteRolloutLocked(reason, "", map[string]string{"by": by})
	if ch.Step != before {
		a.noteStepLocked()
	}
	a.wakeLocked()
	return nil
}

// storeRollout writes the pause and the step of a rollout into the store.
func (c *Controller) storeRollout(ctx context.Context, a *application, ch *change, paused bool, step int) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	there, w := a.change == ch && !ch.Settled() && !a.endingLocked() && !c.handedOver, a.current.wrote
	c.mu.Unlock()
	if !there {
		return nil
	}
	return c.records.WriteRollout(ctx, a.name, w, paused, step)
}

// startFormerLocked starts a replica of the revision before, where another of that revision has ended while the application changes.
func (c *Controller) startFormerLocked(d *deployment, now time.Time) {
	e := d.former
	if e == nil {
		return
	}
	r := c.newReplicaLocked(d, c.workers.ReplicaID(d.name), now)
	r.of, r.ctx = e, e.revision.ctx
	r.order = d.formerFailures.Start()
	r.rank = d.freeRankLocked(e)
	c.beginLocked(r)
}

// noteGone keeps the last counts of a replica of a rollout.
func (r *replica) noteGoneLocked(of host.Replica) {
	if ch := r.dep.app.change; ch != nil && of != nil {
		ch.Note(r.dep.name, r.countLocked())
	}
}
