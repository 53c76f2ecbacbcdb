package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/helve-serve/helve/internal/store"
)

// A user config that was set in place ([Target.WriteConfig]) is in the record apps/A, as an override of the revision that runs. A deploy writes the record
// without overrides: its revision has the user configs of the deploy. The overrides of the revision before are in
// the attempt of the deploy, and are put back with that revision. For example, D was deployed with the config "a" and has "b" in place. A deploy with "a"
// gives D "a"; if the deploy fails, D has "b" again, also if the node is killed in between.

// overrides are the options of an application that were set in place, by deployment, as a record has them.
type overrides = map[string]json.RawMessage

// replaced gives overrides with another one of a deployment. An empty one is taken out.
func replaced(all overrides, deployment string, o store.Override) (overrides, error) {
	next := maps.Clone(all)
	delete(next, deployment)
	if reflect.ValueOf(o).IsZero() {
		return next, nil
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = overrides{}
	}
	next[deployment] = raw
	return next, nil
}

// InPlace is the override of a deployment that has a user config, and perhaps a trial. It is empty if the config is the submitted one.
func InPlace(config, submitted, trial json.RawMessage) (o store.Override) {
	if o.Trial = trial; string(config) != string(submitted) {
		o.UserConfig = config
	}
	return o
}

// WriteConfig writes the user config that a deployment has in place, in the revision of a number; an empty override for the config that the revision was
// submitted with. now has the records of the revision that runs or is being deployed. It must be called with the turn of an operation.
//
// The record has no place for another revision than the present one and, until the deploy has ended, the one before: the config of an older one is dropped.
func (t *Target) WriteConfig(ctx context.Context, app, deployment string, number int, now *Deploy, o store.Override) error {
	for attempt := 1; ; attempt++ {
		err := t.tryWriteConfig(ctx, app, deployment, number, now, o)
		if err == nil {
			return now.noteConfig(deployment, number, o)
		}
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict || attempt == writeAttempts {
			return fmt.Errorf("the user config of %s/%s was not written: %w", app, deployment, err)
		}
	}
}

func (t *Target) tryWriteConfig(ctx context.Context, app, deployment string, number int, now *Deploy, o store.Override) error {
	was, err := store.Get(ctx, t.Store, store.AppKey(app))
	if err != nil || was.Modified == 0 { // the application was deleted meanwhile
		return err
	}
	next := was.Record
	switch {
	case number == int(next.Revision):
		next.Overrides, err = replaced(next.Overrides, deployment, o)
	case number == int(next.Before) && next.Attempt != nil:
		before := *next.Attempt
		before.Overrides, err = replaced(before.Overrides, deployment, o)
		next.Attempt = &before
	default:
		return nil
	}
	if err != nil {
		return err
	}
	op, err := t.appRecord(ctx, app, next)
	if err != nil {
		return err
	}
	revision, err := t.Store.Txn(ctx, store.Txn{If: []store.Condition{store.Unchanged(was.KV)}, Then: []store.Op{op}})
	if err == nil {
		now.wrote(was.Modified, revision)
	}
	return err
}

// wrote notes that the record of the application was written again, for a deploy and its next one.
func (w *Deploy) wrote(was, now int64) {
	for ; w != nil; w = w.next {
		if w.Modified == was {
			w.Modified = now
		}
	}
}

// noteConfig keeps an override for the end of the deploy, which writes the record again.
func (w *Deploy) noteConfig(deployment string, number int, o store.Override) (err error) {
	for ; w != nil && err == nil; w = w.next {
		switch number {
		case w.Number:
			w.overrides, err = replaced(w.overrides, deployment, o)
		case w.from:
			w.before.Record.Overrides, err = replaced(w.before.Record.Overrides, deployment, o)
		}
	}
	return err
}

// asideMin is the size of an override that is put beside a record that is too large.
const asideMin = 1 << 10

// appRecord is the record of an application. Overrides that are too large for it are put beside it.
func (t *Target) appRecord(ctx context.Context, app string, a store.App) (op store.Op, err error) {
	key := store.AppKey(app)
	if op, err = store.Encode(key, a); err != nil || len(op.Value) <= store.MaxValue {
		return op, err
	}
	if a.Overrides, err = t.putAside(ctx, a.Overrides); err != nil {
		return op, err
	}
	if a.Attempt != nil {
		before := *a.Attempt
		if before.Overrides, err = t.putAside(ctx, before.Overrides); err != nil {
			return op, err
		}
		a.Attempt = &before
	}
	return store.Encode(key, a)
}

func (t *Target) putAside(ctx context.Context, all overrides) (overrides, error) {
	next := maps.Clone(all)
	for name, raw := range all {
		if len(raw) < asideMin {
			continue
		}
		t.large.Store(true)
		digest, err := store.PutBlob(ctx, t.Blobs, raw)
		if err != nil {
			return nil, err
		}
		if next[name], err = json.Marshal(store.Override{Digest: digest}); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// configs reads overrides, from the record and from the blobs beside it. Overrides that cannot be read are left out, and are in the error.
func (t *Target) configs(app string, all overrides) (read map[string]store.Override, bad error) {
	for name, raw := range all {
		o, err := t.override(raw)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("the user config of %s/%s: %w", app, name, err))
			continue
		}
		if read == nil {
			read = map[string]store.Override{}
		}
		read[name] = o
	}
	return read, bad
}

func (t *Target) override(raw json.RawMessage) (o store.Override, err error) {
	if err = json.Unmarshal(raw, &o); err != nil || o.Digest == "" {
		return o, err
	}
	b, err := store.ReadBlob(t.Blobs, o.Digest)
	if err != nil {
		return o, err
	}
	o = store.Override{}
	return o, json.Unmarshal(b, &o)
}
