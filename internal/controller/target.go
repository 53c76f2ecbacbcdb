package controller

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/records"
)

// conclude ends a deploy in the store, once its revision runs or has failed. A revision that runs lets old records go; the records of a revision that has failed are put
// back, as far as no other writer has changed them since. For example, a deploy sets scale/hello/D from 2 to 3 and fails: 2 is put back, unless Scale has set 5 meanwhile.
// The records of a first deploy that has failed stay, for the status and the history of the next node. A deploy that the end of a durable node has cut off is not ended.
func (c *Controller) conclude(ctx context.Context, r *fleet.Revision, runs bool) error {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	err := c.records.Lock(ctx)
	if err == nil {
		c.Mu.Lock()
		unended := errors.Is(r.Failure, fleet.ErrNodeEnds)
		c.Mu.Unlock()
		switch {
		case runs:
			err = c.records.End(ctx, r.Def.Graph, r.Wrote)
		case unended: // its record says so to the next node
		case r.First && r.Def.KeepFailed:
			r.NoteFailure()
			err = c.records.KeepFailed(ctx, r.App.Name, r.Wrote)
		default:
			r.NoteFailure()
			err = c.undo(ctx, r.App.Name, r.Wrote)
		}
		if err == nil && !runs && r.First && !r.Def.KeepFailed {
			c.Mu.Lock()
			r.App.LeaveLocked() // before another deploy has its turn
			c.Mu.Unlock()
		}
		c.records.Unlock()
	}
	c.LogStale(r.App.Name, err)
	c.Mu.Lock()
	if r.App.Concluding == r.Concluded {
		r.App.Concluding = nil
	}
	c.Mu.Unlock()
	close(r.Concluded)
	return err
}

// withdraw takes back the records of a deploy that was not begun.
func (c *Controller) withdraw(ctx context.Context, app string, w *records.Deploy) {
	ctx, cancel := records.Bounded(ctx)
	defer cancel()
	c.LogStale(app, c.undo(ctx, app, w))
}

// undo takes back the records that a deploy has written, and takes over the numbers of replicas that are put back.
func (c *Controller) undo(ctx context.Context, app string, w *records.Deploy) error {
	written, err := c.records.Undo(ctx, app, w)
	c.Mu.Lock()
	defer c.Mu.Unlock()
	for name, s := range written {
		c.NoteScaleLocked(app, name, s)
	}
	return err
}
