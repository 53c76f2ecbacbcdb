package controller

import (
	"context"
	"errors"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// Operations on the target go one after the other: each holds [Controller.target] while it decides and writes. It is a channel, because a
// writer may wait for the store, and must be able to give up. It is taken before Controller.mu, and never while that is held.

// lockTarget waits for its turn to change the target.
func (c *Controller) lockTarget(ctx context.Context) error {
	select {
	case c.target <- struct{}{}:
		return nil
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

func (c *Controller) unlockTarget() { <-c.target }

// storing bounds the time of writes that have to be made although the caller has gone.
func storing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), records.Timeout, errors.New("the store was not reached in time"))
}

// formerLocked describes an application, before it is deployed, by the state of this node.
func (c *Controller) formerLocked(there *application, name, identity string) (f records.Former) {
	if there != nil {
		f = records.Former{Running: true, Number: there.revisions, Submitted: records.Submitted(there.current.def.Graph), Scales: map[string]store.Scale{}}
		for _, d := range there.deployments {
			f.Scales[d.name] = d.scaleRecordLocked()
		}
		return f
	}
	was, ok := c.before[name]
	if !ok {
		return records.Former{}
	}
	f = records.Former{Number: was.Revision, Submitted: records.Submitted(was.Graph), Scales: was.Scales}
	if was.Identity == identity { // the same revision again
		f.Number--
	}
	return f
}

// conclude ends a deploy in the store, once its revision runs or has failed. A revision that runs lets old records go; the records of a
// revision that has failed are put back, as far as no other writer has changed them since. For example, a deploy sets scale/hello/D from
// 2 to 3 and fails: 2 is put back, unless Scale has set 5 meanwhile.
func (c *Controller) conclude(ctx context.Context, r *revision, runs bool) {
	a := r.app
	ctx, cancel := storing(ctx)
	defer cancel()
	err := c.lockTarget(ctx)
	if err == nil {
		switch {
		case runs:
			err = c.records.Trim(ctx, r.def.Graph, r.number)
		case r.first:
			if err = c.records.Delete(ctx, a.name, r.wrote.Modified); err == nil {
				c.mu.Lock()
				if !r.def.KeepFailed {
					a.leaveLocked() // before another deploy has its turn
				}
				c.mu.Unlock()
			}
		default:
			err = c.putBack(ctx, a.name, r.wrote)
		}
		c.unlockTarget()
	}
	if err != nil {
		c.log.Error("the records of an application are not up to date", "app", a.name, "error", err)
	}
	c.mu.Lock()
	if a.concluding == r.concluded {
		a.concluding = nil
	}
	c.mu.Unlock()
	close(r.concluded)
}

// withdraw takes back the records of a deploy that was not begun.
func (c *Controller) withdraw(ctx context.Context, app string, first bool, w *records.Deploy) {
	ctx, cancel := storing(ctx)
	defer cancel()
	undo := func() error { return c.putBack(ctx, app, w) }
	if first {
		undo = func() error { return c.records.Delete(ctx, app, w.Modified) }
	}
	if err := undo(); err != nil {
		c.log.Error("the records of an application are not up to date", "app", app, "error", err)
	}
}

// putBack writes the records that a failed deploy has changed as they were before.
func (c *Controller) putBack(ctx context.Context, app string, w *records.Deploy) error {
	written, err := c.records.PutBack(ctx, app, w)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range written {
		c.noteScaleLocked(app, name, s)
	}
	return err
}

// recordLocked writes the records of a replica, after a change of its state or its revision. A replica without a state is gone. The
// assignment ends when the replica is to stop, its state when it has stopped.
func (r *replica) recordLocked(reason, message string) {
	c := r.dep.app.c
	if r.state == "" {
		c.recorder.PutReplica(r.id, nil, nil)
		return
	}
	a := &store.Assign{App: r.dep.app.name, Deployment: r.dep.name, Revision: uint64(r.of.revision.number), Version: r.of.version}
	since := time.Now().UTC()
	if r.record.State == r.state {
		since = r.record.Since
	}
	r.record = store.Replica{
		App: a.App, Deployment: a.Deployment, Revision: a.Revision, Version: a.Version, State: r.state, Reason: reason, Message: message, Since: since,
	}
	if r.state == helvetype.ReplicaStopping {
		a = nil
	}
	c.recorder.PutReplica(r.id, a, &r.record)
}
