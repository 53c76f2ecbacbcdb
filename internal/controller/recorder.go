package controller

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/store"
)

// The node's record ends leaseTime after the last renewal: the time after which other nodes take this one for gone.
const (
	leaseTime  = 10 * time.Second
	renewEvery = 3 * time.Second
	leaveTime  = 2 * time.Second // how long the end of a node waits for the store
	messageMax = 4 << 10         // bytes of the message of a replica's record
)

// recorder writes what this node has into the store: nodes/N, which lives as long as the node, and per replica assign/N/ID and
// replicas/N/ID. The controller changes replicas while it holds its mutex, and the store may be slow, so the records wait in a queue,
// one per key. For example, a replica that starts and is ready while the store does not answer has one record written afterwards: RUNNING.
type recorder struct {
	store store.Store
	log   *slog.Logger
	node  string
	// incarnation is another one with each start of a node of this name.
	incarnation string

	kick  chan struct{}
	lease store.Lease // of the node's record; only run uses it

	mu      sync.Mutex
	waiting map[string]store.Op
}

func newRecorder(s store.Store, l *slog.Logger, node string) *recorder {
	return &recorder{
		store: s, log: l, node: node, incarnation: rand.Text(), kick: make(chan struct{}, 1), waiting: map[string]store.Op{},
	}
}

// put writes an operation soon. It does not block.
func (r *recorder) put(op store.Op, err error) {
	if err != nil { // a mistake in the program
		r.log.Error("a record was not made", "error", err)
		return
	}
	r.mu.Lock()
	r.waiting[op.Key] = op
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and deletes all records of the node then.
func (r *recorder) run(ctx context.Context) {
	defer r.leave(ctx)
	timer := time.NewTimer(0) // the first lease
	defer timer.Stop()
	for {
		var err error
		select {
		case <-timer.C:
			err = r.renew(ctx)
			timer.Reset(renewEvery)
		case <-r.kick:
			err = r.flush(ctx)
		case <-ctx.Done():
			return
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("the records of this node are not up to date", "error", err)
		}
	}
}

// renew keeps the node's record alive, and makes it where it is missing: at first, and after a time in which the process did not run.
func (r *recorder) renew(ctx context.Context) (err error) {
	defer r.again()
	if r.lease != nil && r.lease.Renew(ctx) == nil {
		return nil
	}
	if r.lease, err = r.store.Lease(ctx, leaseTime); err != nil {
		r.lease = nil
		return err
	}
	op, err := store.Encode(store.NodeKey(r.node), store.Node{Incarnation: r.incarnation, Address: r.node, State: store.NodeReady})
	if err != nil {
		return err
	}
	op.Lease = r.lease.ID()
	_, err = r.store.Txn(ctx, store.Txn{Then: []store.Op{op}})
	if err != nil {
		r.lease = nil // the next renewal makes the record
	}
	return err
}

// again lets records be written that a failure has left.
func (r *recorder) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) > 0 {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
}

// flush writes the records that wait. Those that were not written wait on, unless there are newer ones of their keys.
func (r *recorder) flush(ctx context.Context) error {
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = map[string]store.Op{}
	r.mu.Unlock()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(waiting)), store.MaxOps) {
		var t store.Txn
		for _, key := range part {
			t.Then = append(t.Then, waiting[key])
		}
		if _, err := r.store.Txn(ctx, t); err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			maps.Copy(waiting, r.waiting)
			r.waiting = waiting
			return err
		}
		for _, key := range part {
			delete(waiting, key)
		}
	}
	return nil
}

// leave deletes the records of the node, which ends in order.
func (r *recorder) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if r.lease != nil {
		if err := r.lease.End(ctx); err != nil {
			r.log.Error("the record of this node was not deleted", "error", err)
		}
	}
	var ops []store.Op
	for _, prefix := range []string{store.Assigns(r.node).String(), store.Replicas(r.node).String()} {
		kvs, _, err := r.store.List(ctx, prefix)
		if err != nil {
			r.log.Error("the records of this node were not deleted", "error", err)
			return
		}
		for _, kv := range kvs {
			ops = append(ops, store.Delete(kv.Key))
		}
	}
	for part := range slices.Chunk(ops, store.MaxOps) {
		if _, err := r.store.Txn(ctx, store.Txn{Then: part}); err != nil {
			r.log.Error("the records of this node were not deleted", "error", err)
			return
		}
	}
}

// recordLocked writes the records of a replica, after a change of its state or its revision. A replica without a state is gone. The
// assignment ends when the replica is to stop, its state when it has stopped.
func (r *replica) recordLocked(reason, message string) {
	c := r.dep.app.c
	assign, state := store.AssignKey(c.set.Node, r.id), store.ReplicaKey(c.set.Node, r.id)
	if r.state == "" {
		c.recorder.put(store.Delete(assign.String()), nil)
		c.recorder.put(store.Delete(state.String()), nil)
		return
	}
	a := store.Assign{App: r.dep.app.name, Deployment: r.dep.name, Revision: uint64(r.of.revision.number), Version: r.of.version}
	if r.state == helvetype.ReplicaStopping {
		c.recorder.put(store.Delete(assign.String()), nil)
	} else {
		c.recorder.put(store.Encode(assign, a))
	}
	since := time.Now().UTC()
	if r.record.State == r.state {
		since = r.record.Since
	}
	r.record = store.Replica{
		App: a.App, Deployment: a.Deployment, Revision: a.Revision, Version: a.Version, State: r.state, Reason: reason,
		Message: strings.ToValidUTF8(message[:min(len(message), messageMax)], ""), Since: since,
	}
	c.recorder.put(store.Encode(state, r.record))
}
