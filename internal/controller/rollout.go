package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/rollout"
)

// rollOutLocked looks at the rollout of the application, and says when to look again. A rollout that has failed is ended.
func (c *Controller) rollOutLocked(a *fleet.Application, now time.Time) (wake time.Time) {
	ch := a.Change
	if ch == nil || ch.Undone || a.EndingLocked() {
		return wake
	}
	all := a.ChangingLocked(now)
	for i := range all {
		if due, _ := ch.Due(&all[i], now); due {
			ch.Sample(&all[i], a.Deployments[all[i].Name].CountsLocked(), now)
		}
	}
	d := ch.Look(all, now)
	if !maps.Equal(ch.Limits, d.Limits) { // starts that wait look again: a new replica does not wait for a deployment that may have none
		c.Readier.Tell()
	}
	ch.Limits = d.Limits
	if d.Failure == nil && ch.Settled() {
		d.Failure = a.FlappingLocked()
	}
	switch {
	case d.Failure != nil:
		c.failRolloutLocked(a, d.Failure)
	case d.Over:
		a.Change = nil
	case d.Stepped:
		a.NoteStepLocked()
	}
	if d.Stepped || d.Reached {
		c.storeRolloutLocked(a)
	}
	return d.Wake
}

// failRolloutLocked ends a rollout that has failed: the application goes back to the revision before. Without automatic_rollback the rollout is paused.
func (c *Controller) failRolloutLocked(a *fleet.Application, f *rollout.Failure) {
	ch := a.Change
	d := a.Deployments[f.Inputs["deployment"]]
	if d != nil && !rollout.Of(d.Now.Definition.Options, 1).RollBack {
		c.stickLocked(a, f.Message)
		return
	}
	failed := func() {
		if d != nil {
			d.Message = strings.TrimPrefix(f.Message, "deployment "+d.Name+": ")
			d.RolledBack = d.Message
		}
	}
	if !ch.Settled() {
		failed()
		c.failByLocked(a.Current, errors.New(f.Message), f.Reason, f.Inputs)
		return
	}
	ch.Undone = true
	id := c.noteRolledBackLocked(a, ch, f.Message, f.Reason, f.Inputs)
	c.wg.Go(func() {
		if err := c.undoChange(a.Name, ch, f.Message, id); err != nil {
			c.Log.Error("the automatic rollback has failed", "app", a.Name, "revision", ch.From, "error", err)
			c.Mu.Lock()
			defer c.Mu.Unlock()
			failed()
			a.WakeLocked()
		}
	})
}

// undoChange deploys the revision before a rollout again, which has failed after it had settled. event is the one that says so.
func (c *Controller) undoChange(app string, ch *fleet.Change, why string, event uint64) error {
	var def deploy.App
	switch {
	case c.set.Former != nil:
		var err error
		if def, err = c.set.Former(c.ctx, app, ch.From); err != nil {
			return err
		}
	case ch.Back != nil:
		def = ch.Back.Def
	default:
		return fmt.Errorf("revision %d is not kept", ch.From)
	}
	def.RollbackOf, def.Replace, def.Restored, def.Changes, def.Added, def.Undoes = uint64(ch.From), true, false, 0, func() {}, &deploy.Undo{Revision: ch.To, Reason: why, Event: event}
	def.Author, def.Message = helvetype.Author{Name: "helve"}, fmt.Sprintf("automatic rollback of revision %d", ch.To)
	return c.Deploy(c.ctx, def)
}

// noteRolledBackLocked records that a revision was given up for the one before, and why, and gives the event.
func (c *Controller) noteRolledBackLocked(a *fleet.Application, ch *fleet.Change, message, reason string, inputs map[string]string) (id uint64) {
	all := map[string]string{"cause": reason, "from": fmt.Sprint(ch.To), "to": fmt.Sprint(ch.From)}
	maps.Copy(all, inputs)
	word, cause := "rolled_back", uint64(0)
	if d := a.Deployments[inputs["deployment"]]; d != nil && reason == "replicas_failed" {
		cause = d.Causes.Failure()
	}
	if reason == superseded {
		word = superseded
	}
	id = c.Journal.NoteWith(helvetype.Object{Kind: helvetype.KindApplication, App: a.Name}, string(a.Shown.State), word, message, cause, all)
	a.GoBackLocked(id)
	if reason == superseded {
		return id
	}
	c.wg.Go(func() { // the log may be a user's, and the mutex is held
		c.Log.Warn("a revision is rolled back", "app", a.Name, "revision", ch.To, "to", ch.From, "reason", message)
	})
	return id
}

// superseded is the cause, and the event, of a deploy whose place another one has taken.
const superseded = "superseded"

// stickLocked pauses a rollout that has failed and does not go back by itself.
func (c *Controller) stickLocked(a *fleet.Application, why string) {
	ch := a.Change
	if ch.Stuck != "" {
		return
	}
	ch.Stuck = why
	if ch.Settled() { // all replicas are new: there is nothing to pause
		a.Change = nil
	} else {
		ch.Pause(time.Now())
		select {
		case <-a.Current.Stuck: // it was resumed, and has failed again
		default:
			close(a.Current.Stuck)
		}
		c.storeRolloutLocked(a)
	}
	a.NoteRolloutLocked("rollout_paused", "automatic_rollback is off: "+why, nil)
	a.WakeLocked()
}

// PauseRollout stops the rollout of an application where it is, and ResumeRollout goes on with it, or ends the wait of a step. A node that is started again finds it paused.
func (c *Controller) PauseRollout(ctx context.Context, app, by string) error {
	return c.steer(ctx, app, "rollout_paused", by, func(ch *rollout.Rollout) error {
		if ch.Paused {
			return fmt.Errorf("application %q: %w: it is paused already", app, deploy.ErrNoRollout)
		}
		ch.Pause(time.Now())
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
	c.Mu.Lock()
	a := c.Apps[app]
	if a == nil || a.EndingLocked() {
		err := c.MissingLocked(app)
		c.Mu.Unlock()
		return err
	}
	ch := a.Change
	if ch == nil || ch.Settled() {
		c.Mu.Unlock()
		return fmt.Errorf("application %q: %w", app, deploy.ErrNoRollout)
	}
	next := ch.Copy()
	err := do(next)
	w := a.Current.Wrote
	c.Mu.Unlock()
	if err == nil {
		err = c.records.WriteRollout(ctx, app, w, farOf(next))
	}
	if err != nil {
		return err
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if a.Change != ch || ch.Settled() {
		return fmt.Errorf("application %q: %w", app, deploy.ErrNoRollout)
	}
	before := ch.Step
	do(ch.Rollout) //nolint:errcheck // it has gone well with the copy
	if !ch.Paused {
		for _, d := range a.Deployments {
			if d.GaveUp {
				d.ForgetFailuresLocked()
			}
		}
	}
	a.NoteRolloutLocked(reason, "", map[string]string{"by": by})
	if ch.Step != before {
		a.NoteStepLocked()
	}
	if !ch.Paused {
		c.rollOutLocked(a, time.Now()) // the status that follows says whether the rollout goes on or waits at a step
	}
	a.WakeLocked()
	return nil
}

// farOf is how far a rollout is, for the next node.
func farOf(r *rollout.Rollout) records.Rollout {
	return records.Rollout{Paused: r.Paused, Step: r.Step, Since: r.Since()}
}

// storeRolloutLocked has a goroutine write how far the rollout of an application is.
func (c *Controller) storeRolloutLocked(a *fleet.Application) {
	ch := a.Change
	c.wg.Go(func() { c.LogStale(a.Name, c.storeRollout(c.ctx, a, ch)) })
}

// storeRollout writes how far a rollout is into the store.
func (c *Controller) storeRollout(ctx context.Context, a *fleet.Application, ch *fleet.Change) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.Mu.Lock()
	there, w, far := a.Change == ch && !ch.Settled() && !a.EndingLocked() && !c.HandedOver, a.Current.Wrote, farOf(ch.Rollout)
	c.Mu.Unlock()
	if !there {
		return nil
	}
	return c.records.WriteRollout(ctx, a.Name, w, far)
}

// startFormerLocked starts a replica of the revision before, where another of that revision has ended while the application changes.
func (c *Controller) startFormerLocked(d *fleet.Deployment, now time.Time) {
	e := d.Former
	if e == nil {
		return
	}
	r := c.NewReplicaLocked(d, c.workers.ReplicaID(d.Name), now)
	r.Of, r.Ctx = e, e.Revision.Ctx
	r.Order = d.FormerFailures.Start()
	r.Rank = d.FreeRankLocked(e)
	c.beginLocked(r)
}
