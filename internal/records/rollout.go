package records

import (
	"context"
	"errors"
	"fmt"

	"github.com/helve-serve/helve/internal/store"
)

// WriteRollout writes the pause and the step of a rollout whose deploy is w, so that the next node goes on there. It does nothing if the record is of another
// deploy by now.
func (t *Target) WriteRollout(ctx context.Context, app string, w *Deploy, paused bool, step int) error {
	for attempt := 1; ; attempt++ {
		err := t.tryWriteRollout(ctx, app, w, paused, step)
		if _, conflict := errors.AsType[*store.ConflictError](err); err == nil || !conflict || attempt == writeAttempts {
			if err != nil {
				return fmt.Errorf("application %q: the pause and the step of its rollout were not written: %w", app, err)
			}
			return nil
		}
	}
}

func (t *Target) tryWriteRollout(ctx context.Context, app string, w *Deploy, paused bool, step int) error {
	was, err := store.Get(ctx, t.Store, store.AppKey(app))
	if err != nil || was.Modified == 0 || int(was.Record.Revision) != w.Number {
		return err
	}
	next := was.Record
	if next.Paused, next.Step = paused, step; next.Paused == was.Record.Paused && next.Step == was.Record.Step {
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
