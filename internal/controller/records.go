package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// The target of an application is in the store: revisions/A/N is what was deployed, apps/A names the revision that should run, and
// scale/A/D is the number of replicas of a deployment. A deploy writes the three in one transaction before it changes anything in
// this process. For example, the second deploy of "hello", with 3 replicas of D where the first had 2, puts revisions/hello/0000000002,
// apps/hello {revision: 2} and scale/hello/D {replicas: 3}.
//
// Every write compares: it is applied only if the records are as they were when the write was decided.
//
// Operations on the target go one after the other: each holds [Controller.target] while it decides and writes. It is a channel, because a
// writer may wait for the store, and must be able to give up. It is taken before Controller.mu, and never while that is held.

// The bounds of writes.
const (
	storeTime     = 10 * time.Second // how long an operation waits for the store
	writeAttempts = 5                // how often a write is decided again after another writer was faster
	revisionsKept = 10               // the newest revisions of an application that stay in the store
)

// lockTarget waits for its turn to change the target.
func (c *Controller) lockTarget(ctx context.Context) error {
	select {
	case c.target <- struct{}{}:
		return nil
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

func (c *Controller) unlockTarget() { <-c.target }

// storing bounds the time of writes that have to be made although the caller has gone.
func storing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), storeTime, errors.New("the store was not reached in time"))
}

// write is an operation on a record, and the condition for it. The condition's key is "" for none.
type write struct {
	store.Op
	only store.Condition
}

// commit applies writes, and gives the revision of the store that each key has then. It is one transaction, unless there are
// more writes than a store takes in one, as for an application with more than 98 deployments: then the last writes are applied last.
func (c *Controller) commit(ctx context.Context, writes []write) (modified map[string]int64, err error) {
	modified = make(map[string]int64, len(writes))
	for part := range slices.Chunk(writes, store.MaxOps) {
		var t store.Txn
		for _, w := range part {
			t.Then = append(t.Then, w.Op)
			if w.only.Key != "" {
				t.If = append(t.If, w.only)
			}
		}
		revision, err := c.set.Store.Txn(ctx, t)
		if err != nil {
			return modified, err
		}
		for _, w := range part {
			modified[w.Key] = revision
		}
	}
	return modified, nil
}

// deployed has the target records that a deploy has written.
type deployed struct {
	number   int // of the revision
	before   store.Stored[store.App]
	modified int64                   // the revision of the store that wrote apps/A
	changed  map[string]changedScale // the deployments whose number of replicas the deploy has set
	scales   map[string]seenScale    // of all deployments
}

type changedScale struct {
	before   store.Stored[store.Scale] // Modified is 0 for none
	modified int64
}

// former is what is known of an application before a deploy of it.
type former struct {
	running   bool                   // it is there in this node
	number    int                    // of its last revision
	submitted map[string]int         // num_replicas in that
	scales    map[string]store.Scale // numbers of replicas, for deployments of which the store has none
}

// formerLocked is what this node knows of an application that is deployed.
func (c *Controller) formerLocked(there *application, name, identity string) (f former) {
	if there != nil {
		f = former{running: true, number: there.revisions, submitted: submitted(there.current.def.Graph), scales: map[string]store.Scale{}}
		for _, d := range there.deployments {
			f.scales[d.name] = d.scaleRecordLocked()
		}
		return f
	}
	was, ok := c.state.apps[name]
	if !ok {
		return former{}
	}
	f = former{number: was.Revision, submitted: submitted(was.Graph), scales: was.Scales}
	if was.Identity == identity { // it is the same revision again
		f.number--
	}
	return f
}

// submitted is num_replicas of each deployment of a graph.
func submitted(g spec.Graph) map[string]int {
	all := make(map[string]int, len(g.Deployments))
	for _, d := range g.Deployments {
		all[d.Name] = d.Options.Effective().NumReplicas
	}
	return all
}

// writeDeploy writes the target records of a deploy.
func (c *Controller) writeDeploy(ctx context.Context, def *App, identity string, f former) (*deployed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storeTime, errors.New("the store was not reached in time"))
	defer cancel()
	for attempt := 1; ; attempt++ {
		w, err := c.tryWriteDeploy(ctx, def, identity, f)
		if err == nil {
			return w, nil
		}
		if ctx.Err() != nil {
			return nil, call.EndOf(ctx)
		}
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict || attempt == writeAttempts {
			return nil, fmt.Errorf("application %q: its records were not written: %w", def.Graph.App, err)
		}
	}
}

func (c *Controller) tryWriteDeploy(ctx context.Context, def *App, identity string, f former) (*deployed, error) {
	name := def.Graph.App
	before, err := store.Get(ctx, c.set.Store, store.AppKey(name))
	if err != nil {
		return nil, err
	}
	if before.Modified != 0 && !f.running {
		if err := c.readFormer(ctx, name, before.Record.Revision, &f); err != nil {
			return nil, err
		}
	}
	w := &deployed{number: f.number + 1, before: before, changed: map[string]changedScale{}, scales: map[string]seenScale{}}
	there, _, err := c.set.Store.List(ctx, store.Scales(name).String())
	if err != nil {
		return nil, err
	}
	var writes []write
	for _, d := range def.Graph.Deployments {
		ws, err := w.scale(name, d, f, there)
		if err != nil {
			return nil, err
		}
		writes = append(writes, ws...)
	}
	revision, blob, err := c.revisionRecord(def, identity, w.number)
	if err != nil {
		return nil, err
	}
	app, err := store.Encode(store.AppKey(name), store.App{Revision: uint64(w.number)})
	if err != nil {
		return nil, err
	}
	writes = append(writes, write{revision, store.Condition{Key: revision.Key}}, write{app, store.Unchanged(before.KV)})
	modified, err := c.commit(ctx, writes)
	if err != nil {
		if blob {
			c.set.Blobs.Delete(revision.Key)
		}
		return nil, err
	}
	w.modified = modified[app.Key]
	for _, d := range def.Graph.Deployments {
		if m := modified[store.ScaleKey(name, d.Name).String()]; m != 0 {
			s := w.scales[d.Name]
			s.modified = m
			w.scales[d.Name] = s
			if ch, ok := w.changed[d.Name]; ok {
				ch.modified = m
				w.changed[d.Name] = ch
			}
		}
	}
	return w, nil
}

// readFormer completes what is known of an application with the records that the store has of it: a node that ran before has written them.
func (c *Controller) readFormer(ctx context.Context, app string, current uint64, f *former) error {
	kvs, _, err := c.set.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return err
	}
	for _, kv := range kvs {
		key, err := store.ParseKey(kv.Key)
		if err != nil {
			c.log.Warn("a record is not known", "error", err)
			continue
		}
		f.number = max(f.number, int(key.Revision))
		if key.Revision != current {
			continue
		}
		if g, err := c.graphOf(kv); err != nil {
			c.log.Warn("the revision before cannot be read: numbers of replicas are those of the deploy", "error", err)
		} else {
			f.submitted = submitted(g)
		}
	}
	return nil
}

// graphOf is the graph of a revision's record.
func (c *Controller) graphOf(kv store.KV) (g spec.Graph, err error) {
	r, err := store.Decode[store.Revision](kv)
	if err != nil || r.GraphDigest == "" {
		return r.Graph, err
	}
	b, err := c.set.Blobs.Get(kv.Key, r.GraphDigest)
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	return g, err
}

// scale decides the number of replicas of a deployment. It is num_replicas if that was another one in the deploy before; else it stays
// what it is. For example, D was deployed with 2 replicas and scaled to 5: a deploy with 2 leaves 5, and a deploy with 3 sets 3.
func (w *deployed) scale(app string, d spec.Deployment, f former, there []store.KV) ([]write, error) {
	key := store.ScaleKey(app, d.Name)
	var was store.Stored[store.Scale]
	readable := false
	if i := slices.IndexFunc(there, func(kv store.KV) bool { return kv.Key == key.String() }); i >= 0 {
		record, err := store.Decode[store.Scale](there[i])
		was, readable = store.Stored[store.Scale]{KV: there[i], Record: record}, err == nil
	}
	n := d.Options.Effective().NumReplicas
	next := store.Scale{Replicas: n, By: "deploy", Reason: fmt.Sprintf("num_replicas of revision %d", w.number), At: time.Now().UTC()}
	if last, ok := f.submitted[d.Name]; ok && last == n {
		if readable {
			w.scales[d.Name] = seenScale{was.Record, was.Modified}
			return nil, nil
		}
		if s, ok := f.scales[d.Name]; ok {
			next = s
		}
	}
	was.Key = key.String()
	op, err := store.Encode(key, next)
	if err != nil {
		return nil, err
	}
	w.scales[d.Name] = seenScale{record: next}
	w.changed[d.Name] = changedScale{before: was}
	return []write{{op, store.Unchanged(was.KV)}}, nil
}

// revisionRecord is the record of a revision. blob: its graph is too large for a record, and was put beside it.
func (c *Controller) revisionRecord(def *App, identity string, number int) (op store.Op, blob bool, err error) {
	key := store.RevisionKey(def.Graph.App, uint64(number))
	r := store.Revision{Graph: def.Graph, From: c.origin(def), At: time.Now().UTC()}
	if identity != "" {
		r.Code = []string{identity}
	}
	if op, err = store.Encode(key, r); err != nil || len(op.Value) <= store.MaxValue {
		return op, false, err
	}
	b, err := json.Marshal(def.Graph)
	if err != nil {
		return op, false, err
	}
	r.Graph, r.GraphDigest = spec.Graph{}, c.set.Blobs.Put(key.String(), b)
	op, err = store.Encode(key, r)
	return op, true, err
}

// origin says where an application was deployed from: host and directory.
func (c *Controller) origin(def *App) string {
	dir := c.set.Program.Dir
	if def.Python.Dir != "" {
		dir = def.Python.Dir
	} else if def.Program != nil {
		dir = def.Program.Dir
	}
	host, err := os.Hostname()
	if err != nil {
		return dir
	}
	return host + ":" + dir
}

// conclude ends a deploy in the store, once its revision runs or has failed. If it runs, records go that nothing needs any more;
// else the records are put back as they were, as far as no other writer has changed them since. For example, a deploy sets scale/hello/D from 2 to 3
// and fails: 2 is put back, unless it was scaled to 5 meanwhile.
func (c *Controller) conclude(ctx context.Context, r *revision, runs bool) {
	a := r.app
	ctx, cancel := storing(ctx)
	defer cancel()
	err := c.lockTarget(ctx)
	if err == nil {
		switch {
		case runs:
			err = c.trim(ctx, r)
		case r.first:
			if err = c.deleteRecords(ctx, a.name, r.wrote.modified); err == nil {
				c.mu.Lock()
				a.leaveLocked() // before another deploy has its turn
				c.mu.Unlock()
			}
		default:
			err = c.putBack(ctx, a.name, r.wrote)
		}
		c.unlockTarget()
	}
	if err != nil {
		c.log.Error("the records of an application are not up to date", "app", a.name, "error", err)
	}
	c.mu.Lock()
	if a.concluding == r.concluded {
		a.concluding = nil
	}
	c.mu.Unlock()
	close(r.concluded)
}

// withdraw takes back the records of a deploy that was not begun.
func (c *Controller) withdraw(ctx context.Context, app string, first bool, w *deployed) {
	ctx, cancel := storing(ctx)
	defer cancel()
	undo := func() error { return c.putBack(ctx, app, w) }
	if first {
		undo = func() error { return c.deleteRecords(ctx, app, w.modified) }
	}
	if err := undo(); err != nil {
		c.log.Error("the records of an application are not up to date", "app", app, "error", err)
	}
}

// putBack writes the records that a failed deploy has changed as they were before.
func (c *Controller) putBack(ctx context.Context, app string, w *deployed) error {
	op, err := store.Encode(store.AppKey(app), w.before.Record)
	if err != nil {
		return err
	}
	writes := []write{{op, store.Condition{Key: op.Key, Modified: w.modified}}}
	back := map[string]store.Scale{}
	for name, ch := range w.changed {
		key := store.ScaleKey(app, name)
		op := store.Delete(key.String())
		if ch.before.Modified != 0 {
			s := ch.before.Record
			s.Reason, s.At = fmt.Sprintf("revision %d failed to start", w.number), time.Now().UTC()
			if op, err = store.Encode(key, s); err != nil {
				return err
			}
			back[name] = s
		}
		writes = append(writes, write{op, store.Condition{Key: op.Key, Modified: ch.modified}})
	}
	for {
		modified, err := c.commit(ctx, writes)
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			for name, s := range back {
				if m := modified[store.ScaleKey(app, name).String()]; m != 0 {
					c.noteScaleLocked(app, name, seenScale{s, m})
				}
			}
			return nil
		} else if !ok {
			return err
		}
		writes = slices.DeleteFunc(writes, func(w write) bool { // another writer was there since
			return slices.ContainsFunc(conflict.Records, func(kv store.KV) bool { return kv.Key == w.Key })
		})
	}
}

// trim deletes the oldest revisions, and the numbers of deployments that the application does not have any more.
func (c *Controller) trim(ctx context.Context, r *revision) error {
	app := r.app.name
	var writes []write
	revisions, _, err := c.set.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return err
	}
	for _, kv := range revisions[:max(len(revisions)-revisionsKept, 0)] {
		if kv.Key != store.RevisionKey(app, uint64(r.number)).String() {
			writes = append(writes, write{Op: store.Delete(kv.Key)})
		}
	}
	scales, _, err := c.set.Store.List(ctx, store.Scales(app).String())
	if err != nil {
		return err
	}
	for _, kv := range scales {
		if key, err := store.ParseKey(kv.Key); err == nil && !slices.ContainsFunc(r.def.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == key.Deployment }) {
			writes = append(writes, write{Op: store.Delete(kv.Key)})
		}
	}
	return c.commitDeletes(ctx, writes)
}

// deleteRecords deletes the target of an application. written is the revision of the store that wrote apps/A; 0 for any.
func (c *Controller) deleteRecords(ctx context.Context, app string, written int64) error {
	record, _, err := c.set.Store.Get(ctx, store.AppKey(app).String())
	if err != nil || written != 0 && record.Modified != written { // the records are of another deploy
		return err
	}
	writes := []write{{store.Delete(record.Key), store.Unchanged(record)}}
	for _, prefix := range []string{store.Revisions(app).String(), store.Scales(app).String()} {
		kvs, _, err := c.set.Store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			writes = append(writes, write{Op: store.Delete(kv.Key)})
		}
	}
	return c.commitDeletes(ctx, writes)
}

func (c *Controller) commitDeletes(ctx context.Context, writes []write) error {
	if _, err := c.commit(ctx, writes); err != nil {
		return err
	}
	for _, w := range writes {
		c.set.Blobs.Delete(w.Key)
	}
	return nil
}
