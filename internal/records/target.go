// Package records writes and reads the records of the control plane: the target of applications (target.go), and the state of this node
// (recorder.go). It decides nothing beside the number of replicas that a deploy leaves or sets.
package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// The target of an application is in the store: revisions/A/N is the application as it was deployed, apps/A names the revision that should run, and
// scale/A/D is the number of replicas of a deployment. A deploy writes the three in one transaction before it changes anything in
// this process. For example, the second deploy of "hello", with 3 replicas of D where the first had 2, puts revisions/hello/0000000002,
// apps/hello {revision: 2} and scale/hello/D {replicas: 3}.
//
// Every write compares: it is applied only if the records are as they were when the write was decided.
//
// An application with more than 98 deployments needs several transactions. The first one has apps/A, with the state before, so that a node that is killed between them
// leaves a deploy that has not ended: the next node writes the numbers that are missing ([Target.complete]), goes on, and can put all back. A deploy that has failed writes
// apps/A last, for the same reason.
//
// The store of a durable node outlives it, and so does a deploy that the node was killed in: apps/A says what was there before ([store.Attempt]) until
// the deploy has ended. [Target.Stored] reads what a node before has left.
//
// Operations on the target go one after the other: each holds the lock of [Target] while it decides and writes.

// The bounds of writes.
const (
	// Timeout is how long one request waits for the store. The time in which a deploy encodes its records does not count: large user
	// configs take long on a busy machine.
	Timeout       = 10 * time.Second
	writeAttempts = 5  // how often a write is decided again after another writer was faster
	revisionsKept = 10 // the newest revisions of an application that stay in the store, if its options say no other number
)

// Target has the target records of all applications. Its methods may be called from any goroutine.
type Target struct {
	Store store.Store // see [Bound]
	Blobs store.Blobs // the parts of records that are too large for the store, and code
	Log   *slog.Logger
	// Durable says that the store outlives this process: deploys that have not ended are marked, so that another process can end them.
	Durable bool
	// Collected is called after blobs were collected, for copies of them: wanted says which are still needed. May be nil.
	Collected func(wanted func(digest string) bool) error

	turn  chan struct{} // of one: full while an operation decides and writes
	large atomic.Bool   // a record was too large for the store once

	generation atomic.Int64 // see [Target.Newest]; 0 before the first change
	settled    atomic.Int64 // see [Target.Generation]; 0 before the first change

	pinning sync.Mutex
	pins    map[string]int // see [Target.Pin]
}

// NewTarget gives each request to a store [Timeout].
func NewTarget(s store.Store, blobs store.Blobs, log *slog.Logger) *Target {
	t := &Target{Blobs: blobs, Log: log, turn: make(chan struct{}, 1), pins: map[string]int{}}
	t.Store = noting{Bound(s), t}
	return t
}

// Code are the blobs for the code of applications; nil for a store that does not outlive this process.
func (t *Target) Code() store.Blobs {
	if !t.Durable {
		return nil
	}
	return t.Blobs
}

// Lock waits for the turn of an operation. It is no mutex, because an operation may wait for the store, and others must be able to give up.
func (t *Target) Lock(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

// Unlock ends the turn. The node has taken over what the operation has written by then.
func (t *Target) Unlock() {
	t.settle()
	<-t.turn
}

// Bounded bounds the time of writes that have to be made although the caller has gone.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), Timeout, errLate)
}

// Bound gives each request to a store [Timeout]. Watches and leases are not bounded.
func Bound(s store.Store) store.Store { return bounded{s} }

type bounded struct{ store.Store }

var errLate = errors.New("the store was not reached in time")

func (b bounded) Get(ctx context.Context, key string) (record store.KV, revision int64, err error) {
	err = inTime(ctx, func(ctx context.Context) error {
		record, revision, err = b.Store.Get(ctx, key)
		return err
	})
	return record, revision, err
}

func (b bounded) List(ctx context.Context, prefix string) (records []store.KV, revision int64, err error) {
	err = inTime(ctx, func(ctx context.Context) error {
		records, revision, err = b.Store.List(ctx, prefix)
		return err
	})
	return records, revision, err
}

func (b bounded) Txn(ctx context.Context, t store.Txn) (revision int64, err error) {
	err = inTime(ctx, func(ctx context.Context) error {
		revision, err = b.Store.Txn(ctx, t)
		return err
	})
	return revision, err
}

// inTime makes a request. Its error is the cause of the end of the context, if that ended it.
func inTime(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, errLate)
	defer cancel()
	err := request(ctx)
	if err != nil && ctx.Err() != nil {
		return call.EndOf(ctx)
	}
	return err
}

// write is an operation on a record, and the condition for it. The condition's key is "" for none.
type write struct {
	store.Op
	only store.Condition
}

// commit applies writes, and gives the revision of the store that each key has then. It is one transaction, unless there are
// more writes than a store takes in one, as for an application with more than 98 deployments: then the first writes are applied first. After an error the map has the writes that
// were applied.
func (t *Target) commit(ctx context.Context, writes []write) (modified map[string]int64, err error) {
	modified = make(map[string]int64, len(writes))
	for part := range slices.Chunk(writes, store.MaxOps) {
		var txn store.Txn
		for _, w := range part {
			txn.Then = append(txn.Then, w.Op)
			if w.only.Key != "" {
				txn.If = append(txn.If, w.only)
			}
		}
		revision, err := t.Store.Txn(ctx, txn)
		if err != nil {
			return modified, err
		}
		for _, w := range part {
			modified[w.Key] = revision
		}
	}
	return modified, nil
}

// Deploy has the target records that a deploy has written.
type Deploy struct {
	Number   int              // of the revision
	Last     int              // the highest number of a revision in the store
	Modified int64            // the revision of the store that wrote apps/A
	Scales   map[string]Scale // the numbers of replicas of all deployments
	// Configs are the user configs that were set in place, by deployment, of a revision that was read from the store.
	Configs   map[string]store.Override
	overrides overrides // of the revision, as its record has them
	from      int       // the revision that ran before; 0 for none
	unended   bool      // another process has begun the deploy, and this one goes on with it
	before    store.Stored[store.App]
	changed   map[string]changedScale // the deployments whose number of replicas the deploy has set, or leaves to the autoscaler of its revision
	// Repeats is the revision that a revision that was read from the store repeats; 0 for none.
	Repeats uint64
	// Rollout is in the record of a rollout that another process has begun.
	Rollout Rollout
	// Watch is the watch after the rollout, for [Target.End], and of a revision that was read from the store; nil for none.
	Watch *store.Watch
	// Restarting are the replicas that a rolling restart is to replace: see [Target.WriteRestart].
	Restarting []string
	next       *Deploy       // the deploy that goes on from this revision, which another process has begun; nil for none
	outcomes   outcomes      // of the revisions in the store
	keep       int           // the number of revisions that stay in the store
	failed     store.Outcome // see Fail
}

// Scale is a record of the number of replicas as it was last seen.
type Scale struct {
	Record   store.Scale
	Modified int64 // the revision of the store that wrote it
}

// Unended says that another process has begun the deploy, and that its records do not say yet that it has ended.
func (w *Deploy) Unended() bool { return w.unended }

// Precedes says that the revision is one before a deploy that another process has begun and that has not ended.
func (w *Deploy) Precedes() bool { return w.next != nil }

// Set says whether the deploy, or the autoscaler of its revision, has set the number of replicas of a deployment, and now is still that number: it goes back to the number before if the
// deploy fails.
func (w *Deploy) Set(deployment string, now Scale) bool {
	c, ok := w.changed[deployment]
	return ok && c.back(now)
}

// Kept says that the deploy has left the number of replicas of a deployment to the autoscaler of its revision. That of the node may be newer than that of the store.
func (w *Deploy) Kept(deployment string) bool { return w.changed[deployment].kept }

// changedScale is a number of replicas that goes back if the deploy fails.
type changedScale struct {
	before   store.Stored[store.Scale] // Modified is 0 for none
	wrote    store.Scale               // as the deploy has left it
	modified int64
	kept     bool // the deploy has left the number, and the autoscaler of its revision may change it
}

// back says whether a number goes back: unless another writer than the deploy has set it since. The autoscaler of the revision that has failed is no other writer, and a record of which only
// its memory is another one has no other number. For example, revision 1 has num_replicas 4 and revision 2 an autoscaling_config, whose autoscaler says 1 before 2 fails: 4 comes back.
// Where both revisions follow the load a number that has grown since stays: revision 1 runs 4 by its load, 2 grows to 6 and fails, and the load is there as before.
func (c changedScale) back(now Scale) bool {
	if now.Record.By == store.ByAutoscaler {
		return c.before.Modified == 0 || c.before.Record.By != store.ByAutoscaler || now.Record.Replicas <= c.before.Record.Replicas
	}
	return now.Modified == c.modified || sameNumber(now.Record, c.wrote)
}

// sameNumber says that two records have the same number, set by the same writer at the same time: the memory of the autoscaler does not count.
func sameNumber(a, b store.Scale) bool {
	return a.Replicas == b.Replicas && a.By == b.By && a.Reason == b.Reason && a.At.Equal(b.At)
}

// Former describes an application before a deploy of it.
type Former struct {
	Running   bool                   // the application is in this node
	Current   int                    // the revision that runs, if Running
	Number    int                    // of its last revision
	Submitted map[string]string      // the wishes for numbers of replicas in that: see [Submitted]
	Scales    map[string]store.Scale // numbers of replicas, for deployments of which the store has none
	Undone    int                    // the revision that an automatic rollback takes back, for the reason Why; 0 for other deploys
	Why       string
	Cleared   map[string]bool // deployments whose number of replicas is that of their options again: see [deploy.App.Cleared]
}

// Submitted is the wish for a number of replicas of each deployment of a graph: its num_replicas, or its autoscaling_config.
func Submitted(g spec.Graph) map[string]string {
	all := make(map[string]string, len(g.Deployments))
	for _, d := range g.Deployments {
		all[d.Name] = d.Options.Effective().ReplicasWish()
	}
	return all
}

// WriteDeploy writes the target records of a deploy of a revision.
func (t *Target) WriteDeploy(ctx context.Context, r store.Revision, f Former) (*Deploy, error) {
	for attempt := 1; ; attempt++ {
		w, err := t.tryWriteDeploy(ctx, r, f)
		if err == nil {
			return w, nil
		}
		if ctx.Err() != nil {
			return nil, call.EndOf(ctx)
		}
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict || attempt == writeAttempts {
			return nil, fmt.Errorf("application %q: its records were not written: %w", r.Graph.App, err)
		}
	}
}

func (t *Target) tryWriteDeploy(ctx context.Context, r store.Revision, f Former) (*Deploy, error) {
	name, g := r.Graph.App, r.Graph
	before, err := store.Get(ctx, t.Store, store.AppKey(name))
	if err != nil {
		return nil, err
	}
	if f.Running && before.Record.Attempt != nil && int(before.Record.Revision) != f.Current {
		if before, err = t.undoAttempt(ctx, name); err != nil {
			return nil, err
		}
	}
	_, failed := firstFailed(before.Record)
	switch {
	case f.Running:
		before.Record.Attempt = nil // the revision before runs, whatever its deploy has left
	case before.Modified == 0 || failed: // no revision ran; revisions may be left of a delete that the node was killed in: their numbers are taken
		numbers, err := t.Revisions(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(numbers) > 0 {
			f.Number = max(f.Number, slices.Max(numbers))
		}
	default:
		f.Current = int(before.Record.Revision)
		if err := t.readFormer(ctx, name, before.Record.Revision, &f); err != nil {
			return nil, err
		}
	}
	if r.RollbackOf != 0 {
		f.Submitted = Submitted(g)
	}
	w := &Deploy{Number: f.Number + 1, Last: f.Number + 1, from: f.Current, before: before, changed: map[string]changedScale{}, Scales: map[string]Scale{}}
	w.outcomes, w.keep = before.Record.Outcomes, r.Keep
	if f.Undone != 0 {
		w.outcomes = w.outcomes.with(f.Undone, store.Outcome{State: store.Failed, Reason: f.Why, At: time.Now().UTC()})
	}
	there, _, err := t.Store.List(ctx, store.Scales(name).String())
	if err != nil {
		return nil, err
	}
	var writes []write
	for _, d := range g.Deployments {
		ws, err := w.scale(name, d, r.ExternalScaler, f, there)
		if err != nil {
			return nil, err
		}
		writes = append(writes, ws...)
	}
	r.Before = uint64(f.Current)
	revision, err := t.revisionRecord(ctx, r, w.Number)
	if err != nil {
		return nil, err
	}
	w.Restarting = before.Record.Restarting
	record := store.App{Revision: uint64(w.Number), Before: uint64(f.Current), Outcomes: w.outcomes, Restarting: w.Restarting}
	if t.Durable {
		record.Attempt = w.change()
	}
	app, err := t.appRecord(ctx, name, record)
	if err != nil {
		return nil, err
	}
	writes = slices.Concat([]write{{app, store.Unchanged(before.KV)}, {revision, store.Condition{Key: revision.Key}}}, writes)
	modified, err := t.commit(ctx, writes)
	if err != nil && modified[app.Key] == 0 {
		return nil, err
	}
	w.Modified = modified[app.Key]
	for _, d := range g.Deployments {
		if m := modified[store.ScaleKey(name, d.Name).String()]; m != 0 {
			s := w.Scales[d.Name]
			s.Modified = m
			w.Scales[d.Name] = s
			if ch, ok := w.changed[d.Name]; ok {
				ch.modified = m
				w.changed[d.Name] = ch
			}
		}
	}
	if err != nil { // between two transactions
		maps.DeleteFunc(w.changed, func(_ string, ch changedScale) bool { return ch.modified == 0 })
		w.Fail("", err.Error(), false)
		_, undone := t.Undo(ctx, name, w)
		return nil, errors.Join(err, undone)
	}
	return w, nil
}

// undoAttempt takes the records of a deploy back that has not ended, and gives the record of the application as it is then. For example, the node before was
// killed while it changed from revision 1 to 2; in this node 1 runs, and another deploy comes before the one of 2 goes on: it would else take 2 for the
// revision to go back to.
func (t *Target) undoAttempt(ctx context.Context, app string) (before store.Stored[store.App], err error) {
	all, err := t.Stored(ctx)
	for _, s := range all {
		if s.App == app && s.Deploy.Unended() {
			_, err = t.Undo(ctx, app, s.Deploy)
		}
	}
	if err != nil {
		return before, err
	}
	return store.Get(ctx, t.Store, store.AppKey(app))
}

// change describes the deploy for another process that has to end it.
func (w *Deploy) change() *store.Attempt {
	c := &store.Attempt{Overrides: w.before.Record.Overrides}
	for name, ch := range w.changed {
		of := &c.Scales
		if ch.kept {
			of = &c.Kept
		}
		if *of == nil {
			*of = map[string]*store.Scale{}
		}
		if (*of)[name] = nil; ch.before.Modified != 0 {
			(*of)[name] = &ch.before.Record
		}
	}
	return c
}

// readFormer completes the description of an application with the records that the store has of it: a node that ran before has written them.
func (t *Target) readFormer(ctx context.Context, app string, current uint64, f *Former) error {
	kvs, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return err
	}
	for _, kv := range kvs {
		key, err := store.ParseKey(kv.Key)
		if err != nil {
			t.Log.Warn("a record is not known", "error", err)
			continue
		}
		f.Number = max(f.Number, int(key.Revision))
		if key.Revision != current {
			continue
		}
		if g, err := t.graphOf(kv); err != nil {
			t.Log.Warn("the revision before cannot be read: numbers of replicas are those of the deploy", "error", err)
		} else {
			f.Submitted = Submitted(g)
		}
	}
	return nil
}

// graphOf is the graph of a revision's record.
func (t *Target) graphOf(kv store.KV) (g spec.Graph, err error) {
	r, err := store.Decode[store.Revision](kv)
	if err != nil {
		return g, err
	}
	return t.graph(r)
}

// graph is the graph of a record, which is in a blob if it is large.
func (t *Target) graph(r store.Revision) (g spec.Graph, err error) {
	if r.GraphDigest == "" {
		return r.Graph, nil
	}
	b, err := store.ReadBlob(t.Blobs, r.GraphDigest)
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	return g, err
}

// scale decides the number of replicas of a deployment. It is num_replicas if that was another one in the deploy before; else it stays
// the same. For example, D was deployed with 2 replicas and scaled to 5: a deploy with 2 leaves 5, and a deploy with 3 sets 3. A deploy that clears the 5 sets 2.
//
// A deployment with an autoscaling_config keeps its number too, unless the config is another one with initial_replicas above it: a node whose autoscaler runs brings the number between the bounds. For
// example, D runs 5 replicas by its load: a deploy that changes max_replicas from 10 to 8 leaves 5, also with initial_replicas of 2, because the load needs the 5, and with initial_replicas of 6 there are 6. Where an external scaler is enabled a number that was set stays whatever the deploy says.
func (w *Deploy) scale(app string, d spec.Deployment, external bool, f Former, there []store.KV) ([]write, error) {
	key := store.ScaleKey(app, d.Name)
	var was store.Stored[store.Scale]
	readable := false
	if i := slices.IndexFunc(there, func(kv store.KV) bool { return kv.Key == key.String() }); i >= 0 {
		record, err := store.Decode[store.Scale](there[i])
		was, readable = store.Stored[store.Scale]{KV: there[i], Record: record}, err == nil
	}
	o := d.Options.Effective()
	next := store.Scale{Replicas: o.StartReplicas(), By: ByDeploy, Reason: setBy(w.Number), At: time.Now().UTC()}
	last, ok := f.Submitted[d.Name]
	fixed := !o.Autoscaled() && was.Record.By == store.ByAutoscaler // for example, a rollback to a revision without an autoscaler
	loaded := readable && o.Autoscaled() && was.Record.By == store.ByAutoscaler && was.Record.Replicas > next.Replicas
	if ok && !fixed && !f.Cleared[d.Name] && (last == o.ReplicasWish() || o.KeepsReplicas() || loaded || external && was.Record.By != ByDeploy) {
		if readable {
			if w.Scales[d.Name] = (Scale{was.Record, was.Modified}); o.Autoscaled() {
				w.changed[d.Name] = changedScale{before: was, wrote: was.Record, modified: was.Modified, kept: true}
			}
			return nil, nil
		}
		if s, ok := f.Scales[d.Name]; ok {
			next = s
		}
	}
	was.Key = key.String()
	op, err := store.Encode(key, next)
	if err != nil {
		return nil, err
	}
	unchanged := store.Unchanged(was.KV)
	if !readable { // there is no number to put back
		was.Modified = 0
	}
	w.Scales[d.Name] = Scale{Record: next}
	w.changed[d.Name] = changedScale{before: was, wrote: next}
	return []write{{op, unchanged}}, nil
}

// SetNumber is the number of replicas that an operator has set for a deployment, by Scale; false if the number is that of its options or of its autoscaler.
func (t *Target) SetNumber(ctx context.Context, app, deployment string) (n int, set bool, err error) {
	s, err := store.Get(ctx, t.Store, store.ScaleKey(app, deployment))
	return s.Record.Replicas, err == nil && s.Modified != 0 && s.Record.By != ByDeploy && s.Record.By != store.ByAutoscaler, err
}

// ByDeploy is the author of numbers of replicas that are num_replicas of a revision.
const ByDeploy = "deploy"

// setBy is the reason of such a number.
func setBy(revision int) string { return fmt.Sprintf("num_replicas of revision %d", revision) }

// revisionRecord is the record of a revision. A graph that is too large for a record is put beside it.
func (t *Target) revisionRecord(ctx context.Context, r store.Revision, number int) (op store.Op, err error) {
	key := store.RevisionKey(r.Graph.App, uint64(number))
	r.At = time.Now().UTC()
	if op, err = store.Encode(key, r); err != nil || len(op.Value) <= store.MaxValue {
		return op, err
	}
	b, err := json.Marshal(r.Graph)
	if err != nil {
		return op, err
	}
	r.Graph = spec.Graph{}
	t.large.Store(true)
	if r.GraphDigest, err = store.PutBlob(ctx, t.Blobs, b); err != nil {
		return op, err
	}
	return store.Encode(key, r)
}

// PutBack writes the records that a failed deploy has changed as they were before, and gives the numbers of replicas that it has written.
// Records that another writer has changed since stay.
func (t *Target) PutBack(ctx context.Context, app string, w *Deploy) (written map[string]Scale, err error) {
	record := w.before.Record
	record.Outcomes = w.outcomes.with(w.Number, w.failure())
	if was, ok := w.before.Record.Outcomes[record.Revision]; ok { // an automatic rollback that has failed, too: the revision that it would have taken back runs on
		record.Outcomes[record.Revision] = was
	} else if record.Outcomes[record.Revision].State == store.Failed { // a node before this one has begun it
		record.Outcomes[record.Revision] = store.Outcome{State: store.Ran, At: time.Now().UTC()}
	}
	revisions, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return nil, err
	}
	writes := w.oldest(app, revisions, record.Outcomes)
	drops := len(writes) > 0
	op, err := t.appRecord(ctx, app, record)
	if err != nil {
		return nil, err
	}
	scales, _, err := t.Store.List(ctx, store.Scales(app).String())
	if err != nil {
		return nil, err
	}
	back := map[string]store.Scale{}
	for name, ch := range w.changed {
		key := store.ScaleKey(app, name)
		now := scaleIn(scales, key.String())
		if !ch.back(now) || ch.kept && sameNumber(now.Record, ch.before.Record) {
			continue
		}
		scale := store.Delete(key.String())
		if ch.before.Modified != 0 {
			s := ch.before.Record
			s.Reason, s.At = fmt.Sprintf("revision %d failed to start", w.Number), time.Now().UTC()
			if scale, err = store.Encode(key, s); err != nil {
				return nil, err
			}
			back[name] = s
		}
		writes = append(writes, write{scale, store.Condition{Key: scale.Key, Modified: now.Modified}})
	}
	writes = append(writes, write{op, store.Condition{Key: op.Key, Modified: w.Modified}})
	all := map[string]int64{}
	for {
		modified, err := t.commit(ctx, writes)
		maps.Copy(all, modified)
		writes = slices.DeleteFunc(writes, func(w write) bool { return modified[w.Key] != 0 })
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if err == nil {
			written = map[string]Scale{}
			for name, s := range back {
				if m := all[store.ScaleKey(app, name).String()]; m != 0 {
					written[name] = Scale{s, m}
				}
			}
			if drops && (t.Durable || t.large.Load()) {
				err = t.Collect(ctx)
			}
			return written, err
		} else if !ok {
			return nil, err
		}
		writes = slices.DeleteFunc(writes, func(w write) bool { // another writer was there since
			return slices.ContainsFunc(conflict.Records, func(kv store.KV) bool { return kv.Key == w.Key })
		})
	}
}

// scaleIn is the number with a key among records; zero for none. Of one that cannot be read only Modified is set.
func scaleIn(kvs []store.KV, key string) (s Scale) {
	if i := slices.IndexFunc(kvs, func(kv store.KV) bool { return kv.Key == key }); i >= 0 {
		s.Modified = kvs[i].Modified
		s.Record, _ = store.Decode[store.Scale](kvs[i]) //nolint:errcheck // it counts as another writer's
	}
	return s
}

// End ends a deploy whose revision runs: it notes that, and deletes the oldest revisions and the numbers of deployments that the application does not have any
// more.
func (t *Target) End(ctx context.Context, g spec.Graph, w *Deploy) error {
	app := g.App
	ctx = endingDeploy(ctx)
	revisions, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return err
	}
	record := store.App{Revision: uint64(w.Number), Before: uint64(w.from), Overrides: w.overrides, Outcomes: w.outcomes.with(w.Number, store.Outcome{State: store.Ran, At: time.Now().UTC()})}
	record.Watch, record.Restarting = w.Watch, w.Restarting
	writes := w.oldest(app, revisions, record.Outcomes)
	op, err := t.appRecord(ctx, app, record)
	if err != nil {
		return err
	}
	writes = append(writes, write{op, store.Condition{Key: op.Key, Modified: w.Modified}})
	scales, _, err := t.Store.List(ctx, store.Scales(app).String())
	if err != nil {
		return err
	}
	for _, kv := range scales {
		if key, err := store.ParseKey(kv.Key); err == nil && !slices.ContainsFunc(g.Deployments, func(d spec.Deployment) bool { return d.Name == key.Deployment }) {
			writes = append(writes, write{Op: store.Delete(kv.Key)})
		}
	}
	modified, err := t.commitDeletes(ctx, writes)
	if m := modified[op.Key]; m != 0 {
		w.wrote(w.Modified, m)
		w.outcomes = record.Outcomes
	}
	return err
}

// Delete deletes the target of an application. written is the revision of the store that wrote apps/A; 0 for any.
func (t *Target) Delete(ctx context.Context, app string, written int64) error {
	record, _, err := t.Store.Get(ctx, store.AppKey(app).String())
	if err != nil || written != 0 && record.Modified != written { // the records are of another deploy
		return err
	}
	writes := []write{{store.Delete(record.Key), store.Unchanged(record)}}
	for _, prefix := range []string{store.Revisions(app).String(), store.Scales(app).String()} {
		kvs, _, err := t.Store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			writes = append(writes, write{Op: store.Delete(kv.Key)})
		}
	}
	_, err = t.commitDeletes(ctx, writes)
	return err
}

// Undo takes the records of a deploy back that was not begun, or that has failed: those of a new application are deleted, the others are put back as
// they were. It gives the numbers of replicas that it has written.
func (t *Target) Undo(ctx context.Context, app string, w *Deploy) (written map[string]Scale, err error) {
	if w.before.Modified == 0 {
		return nil, t.Delete(ctx, app, w.Modified)
	}
	return t.PutBack(ctx, app, w)
}

// commitDeletes deletes records, and the blobs that only they needed. It gives the revision of the store that each key has then.
func (t *Target) commitDeletes(ctx context.Context, writes []write) (modified map[string]int64, err error) {
	if modified, err = t.commit(ctx, writes); err != nil {
		return modified, err
	}
	deletes := func(w write) bool { return w.Op.Delete && strings.HasPrefix(w.Key, store.Revisions("").String()) }
	if (t.Durable || t.large.Load()) && slices.ContainsFunc(writes, deletes) {
		return modified, t.Collect(ctx)
	}
	return modified, nil
}

// Collect removes the blobs that no record needs. It must be called with the turn of an operation. A record that cannot be read may need
// any of them: then nothing is removed.
func (t *Target) Collect(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, prefix := range []string{store.Revisions("").String(), store.Apps().String()} {
		kvs, _, err := t.Store.List(ctx, prefix)
		for _, kv := range kvs {
			digests, bad := store.BlobsOf(kv)
			for _, digest := range digests {
				wanted[digest] = true
			}
			err = errors.Join(err, bad)
		}
		if err != nil {
			return fmt.Errorf("blobs that no revision needs are not removed: %w", err)
		}
	}
	needed := func(digest string) bool { return wanted[digest] || t.pinned(digest) }
	removed, err := t.Blobs.Collect(needed)
	if t.Collected != nil {
		err = errors.Join(err, t.Collected(needed))
	}
	if removed > 0 {
		t.Log.Info("blobs that no revision needs any more were removed", "blobs", removed)
	}
	return err
}

// Pin keeps blobs, until the function is called. A deploy pins the blobs that its record will name: for example, it may wait for minutes until the
// application of its name has been deleted.
func (t *Target) Pin(digests []string) (unpin func()) {
	change := func(by int) {
		t.pinning.Lock()
		defer t.pinning.Unlock()
		for _, digest := range digests {
			if t.pins[digest] += by; t.pins[digest] == 0 {
				delete(t.pins, digest)
			}
		}
	}
	change(1)
	return func() { change(-1) }
}

func (t *Target) pinned(digest string) bool {
	t.pinning.Lock()
	defer t.pinning.Unlock()
	return t.pins[digest] > 0
}

// WriteScale replaces the number of replicas of a deployment.
func (t *Target) WriteScale(ctx context.Context, app, deployment string, s store.Scale) (Scale, error) {
	written, err := t.writeScale(ctx, app, deployment, s)
	switch {
	case err == nil:
		return written, nil
	case ctx.Err() != nil:
		return Scale{}, call.EndOf(ctx)
	}
	return Scale{}, fmt.Errorf("the number of replicas of %s/%s was not written: %w", app, deployment, err)
}

func (t *Target) writeScale(ctx context.Context, app, deployment string, s store.Scale) (Scale, error) {
	op, err := store.Encode(store.ScaleKey(app, deployment), s)
	if err != nil {
		return Scale{}, err
	}
	for attempt := 1; ; attempt++ {
		was, _, err := t.Store.Get(ctx, op.Key)
		if err != nil {
			return Scale{}, err
		}
		revision, err := t.Store.Txn(ctx, store.Txn{If: []store.Condition{store.Unchanged(was)}, Then: []store.Op{op}})
		if err == nil {
			return Scale{s, revision}, nil
		}
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict || attempt == writeAttempts {
			return Scale{}, err
		}
	}
}
