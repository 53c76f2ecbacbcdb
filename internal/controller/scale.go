package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Scale sets the number of replicas of a deployment. It returns when the number is in the store and is the controller's target; the
// replicas follow. by and why are for people who read the record. The number stays over deploys that do not change num_replicas.
func (c *Controller) Scale(ctx context.Context, app, name string, n int, by, why string) error {
	if n < 0 || n > spec.MaxReplicas {
		return call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("the number of replicas must be at least 0 and at most %d, is %d", spec.MaxReplicas, n))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errors.New("the store was not reached in time"))
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	err := c.writeScale(ctx, app, name, store.Scale{Replicas: n, By: by, Reason: why, At: time.Now().UTC()})
	c.records.Unlock()
	if err != nil {
		return err
	}
	c.file.Save() //nolint:errcheck // it is in the log
	return nil
}

func (c *Controller) writeScale(ctx context.Context, app, name string, s store.Scale) error {
	if err := c.Unscalable(app, name); err != nil {
		return err
	}
	written, err := c.records.WriteScale(ctx, app, name, s)
	if err != nil {
		c.NoteUnstored(app, err)
		return err
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.NoteScaleLocked(app, name, written) // a Status that follows has the number already
	return nil
}
