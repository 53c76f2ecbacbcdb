package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Follow calls set for each number of replicas in the store, and for each change, until ctx ends. It calls forget for a record that was
// deleted, with its key and the revision of the store that deleted it. Records that cannot be read are logged and change nothing.
func (t *Target) Follow(ctx context.Context, set func(app, deployment string, s Scale), forget func(key string, modified int64)) {
	for {
		err := t.follow(ctx, set, forget)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrCompacted) { // the watch was behind: the list has the newest records
			continue
		}
		t.Log.Error("the store cannot be watched", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func (t *Target) follow(ctx context.Context, set func(app, deployment string, s Scale), forget func(key string, modified int64)) error {
	prefix := store.Scales("").String()
	there, revision, err := t.Store.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, kv := range there {
		t.read(kv, set)
	}
	for update, err := range t.Store.Watch(ctx, prefix, revision+1) {
		if err != nil {
			return err
		}
		for _, change := range update.Changes {
			if change.Deleted {
				forget(change.Key, change.Modified)
			} else {
				t.read(change.KV, set)
			}
		}
	}
	return errors.New("the watch has ended")
}

// read calls set for the number of a record.
func (t *Target) read(kv store.KV, set func(app, deployment string, s Scale)) {
	key, err := store.ParseKey(kv.Key)
	var s store.Scale
	if err == nil {
		s, err = store.Decode[store.Scale](kv)
	}
	if err == nil && s.Replicas > spec.MaxReplicas {
		err = fmt.Errorf("record %s: %d replicas are more than %d", kv.Key, s.Replicas, spec.MaxReplicas)
	}
	if err != nil {
		t.Log.Warn("a number of replicas cannot be read; it stays as it is", "error", err)
		return
	}
	set(key.App, key.Deployment, Scale{s, kv.Modified})
}
