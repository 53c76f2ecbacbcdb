package controller

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// formerLocked describes an application, before it is deployed, by the state of this node.
func (c *Controller) formerLocked(there *application, name, identity string) (f records.Former) {
	if there != nil {
		f = records.Former{Running: true, Current: there.current.number, Number: there.revisions, Submitted: records.Submitted(there.current.def.Graph), Scales: map[string]store.Scale{}}
		for _, d := range there.deployments {
			f.Scales[d.name] = d.scaleRecordLocked()
		}
		return f
	}
	return c.before.Former(name, identity)
}

// conclude ends a deploy in the store, once its revision runs or has failed. A revision that runs lets old records go; the records of a revision that has failed are put
// back, as far as no other writer has changed them since. For example, a deploy sets scale/hello/D from 2 to 3 and fails: 2 is put back, unless Scale has set 5 meanwhile.
func (c *Controller) conclude(ctx context.Context, r *revision, runs bool) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	err := c.records.Lock(ctx)
	if err == nil {
		if runs {
			err = c.records.End(ctx, r.def.Graph, r.wrote)
		} else {
			r.noteFailure()
			err = c.undo(ctx, r.app.name, r.wrote)
		}
		if err == nil && !runs && r.first && !r.def.KeepFailed {
			c.mu.Lock()
			r.app.leaveLocked() // before another deploy has its turn
			c.mu.Unlock()
		}
		c.records.Unlock()
	}
	c.logStale(r.app.name, err)
	c.mu.Lock()
	if r.app.concluding == r.concluded {
		r.app.concluding = nil
	}
	c.mu.Unlock()
	close(r.concluded)
	return err
}

// noteFailure puts the failure of a revision into its records, for the history.
func (r *revision) noteFailure() {
	r.app.c.mu.Lock()
	defer r.app.c.mu.Unlock()
	if r.failure != nil {
		r.wrote.Fail(r.failure.Error(), errors.Is(r.failure, deploy.ErrSuperseded))
	}
}

// withdraw takes back the records of a deploy that was not begun.
func (c *Controller) withdraw(ctx context.Context, app string, w *records.Deploy) {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	c.logStale(app, c.undo(ctx, app, w))
}

func (c *Controller) logStale(app string, err error) {
	if err != nil {
		c.log.Error("the records of an application are not up to date", "app", app, "error", err)
	}
}

// undo takes back the records that a deploy has written, and takes over the numbers of replicas that are put back.
func (c *Controller) undo(ctx context.Context, app string, w *records.Deploy) error {
	written, err := c.records.Undo(ctx, app, w)
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
