package records

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// outcomes are those of the revisions of an application. The zero value has none.
type outcomes map[uint64]store.Outcome

// with is a copy with another outcome of a revision.
func (all outcomes) with(number int, o store.Outcome) outcomes {
	next := maps.Clone(all)
	if next == nil {
		next = outcomes{}
	}
	next[uint64(number)] = o
	return next
}

// Fail says why the deploy has failed, for the record that [Target.PutBack] writes. superseded says that another deploy has taken its place.
func (w *Deploy) Fail(reason string, superseded bool) {
	w.failed = store.Outcome{State: store.Failed, Reason: reason}
	if superseded {
		w.failed.State = store.Superseded
	}
}

func (w *Deploy) failure() store.Outcome {
	o := w.failed
	if o.State == "" {
		o.State = store.Failed
	}
	o.At = time.Now().UTC()
	const most = 2 << 10 // the whole text is in the events
	if len(o.Reason) > most {
		o.Reason = o.Reason[:most] + " ..."
	}
	return o
}

// Numbered is a revision of an application in the store.
type Numbered struct {
	Number  int
	Record  store.Revision
	Outcome store.Outcome // zero for none
	Err     error         // why the record cannot be read; the rest is zero then
}

// History are the revisions of an application that the store has, the newest first, with its record. Graphs that are beside their records are read.
func (t *Target) History(ctx context.Context, app string) (now store.App, all []Numbered, err error) {
	record, err := store.Get(ctx, t.Store, store.AppKey(app))
	if err != nil {
		return now, nil, err
	}
	kvs, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return now, nil, err
	}
	for _, kv := range slices.Backward(kvs) {
		key, err := store.ParseKey(kv.Key)
		if err != nil {
			continue
		}
		n := Numbered{Number: int(key.Revision), Outcome: record.Record.Outcomes[key.Revision]}
		if n.Record, n.Err = store.Decode[store.Revision](kv); n.Err == nil {
			n.Record.Graph, n.Err = t.graph(n.Record)
		}
		all = append(all, n)
	}
	return record.Record, all, nil
}

// Configs are the user configs of the present revision of an application that were set in place, by deployment.
func (t *Target) Configs(app string, now store.App) map[string]store.Override {
	all, err := t.configs(app, now.Overrides)
	if err != nil {
		t.Log.Warn("a user config that was set in place cannot be read", "app", app, "error", err)
	}
	return all
}
