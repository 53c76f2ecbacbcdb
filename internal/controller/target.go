package controller

import (
	"context"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

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
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	err := c.records.Lock(ctx)
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
		c.records.Unlock()
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
	ctx, cancel := records.Bounded(ctx)
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
	a := store.Assign{App: r.dep.app.name, Deployment: r.dep.name, Revision: uint64(r.of.revision.number), Version: r.of.version}
	r.record = c.recorder.ReplaceReplica(r.id, a, r.record, r.state, reason, message)
}
