package controller

import (
	"context"
	"errors"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// Target has the records of the applications.
func (c *Controller) Target() *records.Target { return c.records }

// ForgetFormer drops the applications of the node before that are not wanted: see [takeover.Before.ForgetLocked].
func (c *Controller) ForgetFormer(wanted func(app string) bool) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.Before.ForgetLocked(wanted)
	c.file.Change()
}

// Resume makes a revision the target whose records w a node before this one has written. It does nothing if another deploy, or a delete, has changed the records since. The
// start of a def that is Restored is never given up, and Resume does not wait for it. For another def Resume is as Deploy is: the node before had begun to deploy it.
func (c *Controller) Resume(ctx context.Context, def deploy.App, w *records.Deploy) error {
	r, err := c.resume(ctx, def, w, nil)
	switch {
	case r == nil:
		return err
	case !def.Restored:
		return c.finish(ctx, r)
	}
	c.wg.Go(func() {
		select {
		case <-r.Settled:
			c.publish()   //nolint:errcheck // the node before had the same routes
			c.file.Save() //nolint:errcheck // it is in the log
			if w.Unended() {
				c.conclude(ctx, r, true) //nolint:errcheck // it is in the log
			}
		case <-r.Ctx.Done():
		}
	})
	return nil
}

// ShowFailed puts an application into the status whose first deploy has failed in a node before this one, with the reason o: DEPLOY_FAILED, without any replica. It is not
// started again, because a deploy has told its operator that it does not run; the next deploy starts it. It does nothing if another deploy, or a delete, has changed the
// records w since.
func (c *Controller) ShowFailed(ctx context.Context, def deploy.App, w *records.Deploy, o store.Outcome) error {
	def.Restored, def.KeepFailed = false, true
	r, err := c.resume(ctx, def, w, func(r *fleet.Revision) {
		if d := r.App.Deployments[o.Deployment]; d != nil {
			d.GaveUp, d.Message, d.LastErr = true, o.Reason, errors.New(o.Reason)
		}
		r.At = def.At
		c.failLocked(r, errors.New(o.Reason))
		r.App.Concluding = nil
		close(r.Concluded)
	})
	if r != nil {
		c.keep(ctx, r.App)
	}
	return err
}

// resume makes a revision the target. then is called before anything of it can start; nil for nothing.
func (c *Controller) resume(ctx context.Context, def deploy.App, w *records.Deploy, then func(*fleet.Revision)) (*fleet.Revision, error) {
	if err := c.records.Lock(ctx); err != nil {
		return nil, err
	}
	defer c.records.Unlock()
	name := def.Graph.App
	record, _, err := c.records.Store.Get(ctx, store.AppKey(name).String())
	if err != nil || record.Modified != w.Modified {
		return nil, err
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if c.Shut {
		return nil, deploy.ErrClosing
	}
	c.Scales.Hold(name)
	defer c.WrittenLocked()
	r := c.addLocked(def, def.Identity(c.set.Program), c.Apps[name], w)
	if n, why := w.RolledBack(); n != 0 && def.Restored {
		r.App.RolledBack, r.App.StartError = strconv.Itoa(n), why
	}
	if then != nil {
		then(r)
	}
	return r, nil
}

// AwaitTakenOver waits until each replica of the node before is in service again, or lost, or ctx ends.
func (c *Controller) AwaitTakenOver(ctx context.Context) {
	c.Readier.Until(ctx, &c.Mu, func() bool {
		for r := range c.ReplicasLocked {
			if r.State == helvetype.ReplicaRecovering {
				return false
			}
		}
		return true
	})
	c.publish() //nolint:errcheck // the node before had the same routes
}
