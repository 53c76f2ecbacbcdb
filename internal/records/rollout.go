package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// Rollout is how far a rollout is, for the next node.
type Rollout struct {
	Paused bool
	Step   int       // from 1
	Since  time.Time // when it was paused, or its step began to wait; zero while it does neither
}

// WriteRollout writes how far a rollout is whose deploy is w, so that the next node goes on there. It does nothing if the record is of another deploy by now.
func (t *Target) WriteRollout(ctx context.Context, app string, w *Deploy, r Rollout) error {
	return t.change(ctx, app, w, "the pause and the step of its rollout", func(a *store.App) (changes bool) {
		changes = a.Paused != r.Paused || a.Step != r.Step || !a.Since.Equal(r.Since)
		a.Paused, a.Step, a.Since = r.Paused, r.Step, r.Since.UTC()
		return changes
	})
}

// WriteRestart writes the ids of the replicas that a rolling restart is to replace, so that the next node goes on with it. w has the records of the revision that
// runs. It must be called with the turn of an operation.
func (t *Target) WriteRestart(ctx context.Context, app string, w *Deploy, ids []string) error {
	err := t.change(ctx, app, w, "its restart", func(a *store.App) bool {
		a.Restarting = ids
		return true
	})
	if err == nil {
		w.Restarting = ids // the end of the deploy writes the record again
	}
	return err
}

// change changes the record of an application. It does nothing if the record is of another deploy than w by now, or if do returns false. The error names the part of the record.
func (t *Target) change(ctx context.Context, app string, w *Deploy, part string, do func(*store.App) bool) error {
	for attempt := 1; ; attempt++ {
		err := t.tryChange(ctx, app, w, do)
		if _, conflict := errors.AsType[*store.ConflictError](err); err == nil || !conflict || attempt == writeAttempts {
			if err != nil {
				return fmt.Errorf("application %q: %s: not written: %w", app, part, err)
			}
			return nil
		}
	}
}

func (t *Target) tryChange(ctx context.Context, app string, w *Deploy, do func(*store.App) bool) error {
	was, err := store.Get(ctx, t.Store, store.AppKey(app))
	if err != nil || was.Modified == 0 || int(was.Record.Revision) != w.Number {
		return err
	}
	next := was.Record
	if !do(&next) {
		return nil
	}
	op, err := t.appRecord(ctx, app, next)
	if err != nil {
		return err
	}
	revision, err := t.Store.Txn(ctx, store.Txn{If: []store.Condition{store.Unchanged(was.KV)}, Then: []store.Op{op}})
	if err == nil {
		w.wrote(was.Modified, revision)
	}
	return err
}
