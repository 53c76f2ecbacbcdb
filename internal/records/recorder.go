package records

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
)

// Recorder writes the state of this node into the store: nodes/N, which lives as long as the node, and per replica assign/N/ID and
// replicas/N/ID. The controller changes replicas while it holds its mutex, and the store may be slow, so the records wait in a queue,
// one per key. For example, a replica that starts and is ready while the store does not answer has one record written afterwards: RUNNING.
type Recorder struct {
	store store.Store
	log   *slog.Logger
	node  string
	// incarnation is another one with each start of a node of this name.
	incarnation string

	kick  chan struct{}
	lease store.Lease // of the node's record; only Run uses it

	mu      sync.Mutex
	waiting map[string]store.Op
}

// NewRecorder makes the recorder of a node. Run it.
func NewRecorder(s store.Store, l *slog.Logger, node string) *Recorder {
	return &Recorder{
		store: s, log: l, node: node, incarnation: rand.Text(), kick: make(chan struct{}, 1), waiting: map[string]store.Op{},
	}
}

// Put writes an operation soon. It does not block.
func (r *Recorder) Put(op store.Op, err error) {
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

// messageMax bounds the message of a replica's record, in bytes.
const messageMax = 4 << 10

// ReplaceReplica writes soon the record of a replica after a change of its state or its revision, and gives it. last is the record before. The
// assignment ends when the replica is to stop, its state when it has stopped.
func (r *Recorder) ReplaceReplica(id string, a store.Assign, last store.Replica, state helvetype.ReplicaState, reason, message string) store.Replica {
	since := time.Now().UTC()
	if last.State == state {
		since = last.Since
	}
	next := store.Replica{
		App: a.App, Deployment: a.Deployment, Revision: a.Revision, Version: a.Version, State: state, Reason: reason, Message: message, Since: since,
	}
	assigned := &a
	if state == helvetype.ReplicaStopping {
		assigned = nil
	}
	r.PutReplica(id, assigned, &next)
	return next
}

// PutReplica writes soon which deployment a replica is of and its state. It deletes the record that is nil: of the assignment when the
// replica is to stop, of the state when it is gone.
func (r *Recorder) PutReplica(id string, assigned *store.Assign, state *store.Replica) {
	assignKey, stateKey := store.AssignKey(r.node, id), store.ReplicaKey(r.node, id)
	if assigned == nil {
		r.Put(store.Delete(assignKey.String()), nil)
	} else {
		r.Put(store.Encode(assignKey, *assigned))
	}
	if state == nil {
		r.Put(store.Delete(stateKey.String()), nil)
		return
	}
	s := *state
	s.Message = strings.ToValidUTF8(s.Message[:min(len(s.Message), messageMax)], "")
	r.Put(store.Encode(stateKey, s))
}

// Run writes until ctx ends, and deletes all records of the node then.
func (r *Recorder) Run(ctx context.Context) {
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
func (r *Recorder) renew(ctx context.Context) (err error) {
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
func (r *Recorder) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) > 0 {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
}

// flush writes the records that wait. Records that were not written wait on, unless there are newer ones of their keys.
func (r *Recorder) flush(ctx context.Context) error {
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
func (r *Recorder) leave(ctx context.Context) {
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
