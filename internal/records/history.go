package records

import (
	"cmp"
	"context"
	"errors"
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

// Fail says why the deploy has failed, for the record that [Target.PutBack] or [Target.KeepFailed] writes. deployment is the name of the deployment that was given up; "" for none. superseded
// says that another deploy has taken its place.
func (w *Deploy) Fail(deployment, reason string, superseded bool) {
	w.failed = store.Outcome{State: store.Failed, Reason: reason, Deployment: deployment}
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

// firstFailed says that the application has never run: its first deploy has failed, and its record stays for people ([Target.KeepFailed]).
func firstFailed(a store.App) (o store.Outcome, failed bool) {
	o = a.Outcomes[a.Revision]
	return o, a.Attempt == nil && (o.State == store.Failed || o.State == store.Superseded)
}

// Failed says that the deploy was the first of its application and has failed, and why. Such an application is not to be started.
func (w *Deploy) Failed() (o store.Outcome, failed bool) {
	if w.unended {
		return o, false
	}
	return firstFailed(w.before.Record)
}

// RolledBack is the newest deploy of an application, if it has failed and the revision of w serves on, or serves again: the number of its revision, and the reason; 0 for none. For example,
// revision 3 runs and the start of 4 was given up: it is 4. Or too many calls of 3 have failed, and 4 repeats 2 because of that: it is 3. A node that is started again shows it.
func (w *Deploy) RolledBack() (number int, reason string) {
	return rolledBack(store.App{Revision: uint64(w.Number), Before: uint64(w.from), Outcomes: w.outcomes}, w.Repeats != 0)
}

// rolledBack is [Deploy.RolledBack] of a record. repeats says that its revision repeats another one.
func rolledBack(a store.App, repeats bool) (number int, reason string) {
	newest := a.Revision
	for n := range a.Outcomes {
		newest = max(newest, n)
	}
	if newest == a.Revision && repeats {
		newest = a.Before
	}
	if o := a.Outcomes[newest]; newest != a.Revision && o.State == store.Failed {
		return int(newest), o.Reason
	}
	return 0, ""
}

// Before is the revision to which a rollback goes that names none; 0 for none. It is the newest revision that ran and differs from the present one. After a deploy that went back by itself it is
// the revision that serves, which is never passed by. For example, 2 and 3 ran: the revision before 3 is 2. Then 4 failed, also if 5 repeats 3 because of that: it is 3.
func (t *Target) Before(ctx context.Context, app string, now store.App) int {
	repeats := uint64(0)
	if present, err := store.Get(ctx, t.Store, store.RevisionKey(app, now.Revision)); err == nil {
		repeats = present.Record.RollbackOf
	}
	if failed, _ := rolledBack(now, repeats != 0); failed != 0 {
		return int(cmp.Or(repeats, now.Revision))
	}
	best := uint64(0)
	for number, o := range now.Outcomes {
		if o.State == store.Ran && number < now.Revision && number != repeats {
			best = max(best, number)
		}
	}
	if best == 0 && now.Outcomes[now.Before].State == "" { // the records of an older program have no outcomes
		best = now.Before
	}
	return int(best)
}

// KeepFailed notes in the store that the first deploy of an application has failed. Its records stay, so that its status and history say so also after a restart of the
// node. It does nothing if the records are of another deploy by now, or gone. The oldest revisions go, as they do when a deploy ends well: for example, a program deploys an
// application that cannot start once a minute, and 10 revisions of it are kept.
func (t *Target) KeepFailed(ctx context.Context, app string, w *Deploy) error {
	record := store.App{Revision: uint64(w.Number), Outcomes: w.outcomes.with(w.Number, w.failure())}
	revisions, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return err
	}
	writes := w.oldest(app, revisions, record.Outcomes)
	op, err := t.appRecord(ctx, app, record)
	if err != nil {
		return err
	}
	modified, err := t.commitDeletes(ctx, append([]write{{op, store.Condition{Key: op.Key, Modified: w.Modified}}}, writes...))
	if _, other := errors.AsType[*store.ConflictError](err); other {
		return nil
	}
	if m := modified[op.Key]; m != 0 {
		w.wrote(w.Modified, m)
		w.outcomes = record.Outcomes
	}
	return err
}

// oldest deletes the revisions of an application that are more than it keeps, and takes their outcomes out: first the oldest that have never run, then the oldest of the others, because
// an operator goes back to these. For example, of three revisions that are kept 1 and 2 ran, and 3 and 4 failed: 3 goes. The revision of the deploy and the revision before stay.
func (w *Deploy) oldest(app string, revisions []store.KV, outcomes map[uint64]store.Outcome) (writes []write) {
	more := len(revisions) - cmp.Or(w.keep, revisionsKept)
	for _, good := range []bool{false, true} {
		for _, kv := range revisions {
			key, err := store.ParseKey(kv.Key)
			never := outcomes[key.Revision].State == store.Failed || outcomes[key.Revision].State == store.Superseded
			if more <= 0 || err != nil || never == good || key.Revision == uint64(w.Number) || key.Revision == uint64(w.from) {
				continue
			}
			writes, more = append(writes, write{Op: store.Delete(kv.Key)}), more-1
			defer delete(outcomes, key.Revision)
		}
	}
	return writes
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
