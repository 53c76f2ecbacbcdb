package controller

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// Target has the records of the applications.
func (c *Controller) Target() *records.Target { return c.records }

// ForgetFormer drops the applications of the node before that are not wanted: see [takeover.Before.ForgetLocked].
func (c *Controller) ForgetFormer(wanted func(app string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before.ForgetLocked(wanted)
	c.file.Change()
}

// Resume makes a revision the target whose records w a node before this one has written. It does nothing if another deploy, or a delete, has changed the records since. The
// start of a def that is Restored is never given up, and Resume does not wait for it. For another def Resume is as Deploy is: the node before had begun to deploy it.
func (c *Controller) Resume(ctx context.Context, def deploy.App, w *records.Deploy) error {
	r, err := c.resume(ctx, def, w)
	switch {
	case r == nil:
		return err
	case !def.Restored:
		return c.finish(ctx, r)
	}
	c.wg.Go(func() {
		select {
		case <-r.settled:
			c.publish()   //nolint:errcheck // the node before had the same routes
			c.file.Save() //nolint:errcheck // it is in the log
			if w.Unended() {
				c.conclude(ctx, r, true) //nolint:errcheck // it is in the log
			}
		case <-r.ctx.Done():
		}
	})
	return nil
}

func (c *Controller) resume(ctx context.Context, def deploy.App, w *records.Deploy) (*revision, error) {
	if err := c.records.Lock(ctx); err != nil {
		return nil, err
	}
	defer c.records.Unlock()
	name := def.Graph.App
	record, _, err := c.records.Store.Get(ctx, store.AppKey(name).String())
	if err != nil || record.Modified != w.Modified {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil, deploy.ErrClosing
	}
	c.scales.Hold(name)
	defer c.writtenLocked()
	return c.addLocked(def, def.Identity(c.set.Program), c.apps[name], w), nil
}

// AwaitTakenOver waits until each replica of the node before is in service again, or lost, or ctx ends.
func (c *Controller) AwaitTakenOver(ctx context.Context) {
	c.readier.Until(ctx, &c.mu, func() bool {
		for r := range c.replicasLocked {
			if r.state == helvetype.ReplicaRecovering {
				return false
			}
		}
		return true
	})
	c.publish() //nolint:errcheck // the node before had the same routes
}

// Deployed is the application as it is deployed now, and, if this process keeps its code, as a revision has it.
func (c *Controller) Deployed(app string, revision int) (now deploy.App, then *deploy.App, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if a == nil || a.endingLocked() {
		return now, nil, false
	}
	if def, kept := a.defs[revision]; kept {
		then = &def
	}
	now = a.current.def
	now.Number, now.Changes = a.current.number, 0
	return now, then, true
}

// NoteUnstored records that the store has refused a change of an application.
func (c *Controller) NoteUnstored(app string, err error) { c.journal.NoteUnstored(app, err) }
