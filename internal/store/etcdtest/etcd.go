// Package etcdtest runs the conformance tests of package store on etcd. It is a Go module of its own, so that etcd is not
// among the dependencies of users' programs. The adapter is here until helve start can use etcd; it then moves to
// internal/store/etcd.
package etcdtest

import (
	"context"
	"errors"
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/helve-serve/helve/internal/store"
)

// Etcd is a store in an etcd cluster, under a prefix of its own.
type Etcd struct {
	client *clientv3.Client
	prefix string
}

// New makes the store. prefix ends in a slash.
func New(client *clientv3.Client, prefix string) *Etcd { return &Etcd{client, prefix} }

// Get implements [store.Store].
func (e *Etcd) Get(ctx context.Context, key string) (store.KV, int64, error) {
	if err := store.CheckKey(key); err != nil {
		return store.KV{}, 0, err
	}
	r, err := e.client.Get(ctx, e.prefix+key)
	if err != nil {
		return store.KV{}, 0, translate(ctx, err)
	}
	if len(r.Kvs) == 0 {
		return store.KV{Key: key}, r.Header.Revision, nil
	}
	return e.record(r.Kvs[0]), r.Header.Revision, nil
}

// List implements [store.Store].
func (e *Etcd) List(ctx context.Context, prefix string) (records []store.KV, revision int64, err error) {
	r, err := e.client.Get(ctx, e.prefix+prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, translate(ctx, err)
	}
	for _, kv := range r.Kvs {
		records = append(records, e.record(kv))
	}
	return records, r.Header.Revision, nil
}

// Txn implements [store.Store]. A transaction whose conditions do not hold reads their records in the same revision.
func (e *Etcd) Txn(ctx context.Context, t store.Txn) (int64, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	var conditions []clientv3.Cmp
	var reads, writes []clientv3.Op
	for _, c := range t.If {
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(e.prefix+c.Key), "=", c.Modified))
		reads = append(reads, clientv3.OpGet(e.prefix+c.Key))
	}
	for _, op := range t.Then {
		if op.Delete {
			writes = append(writes, clientv3.OpDelete(e.prefix+op.Key))
			continue
		}
		writes = append(writes, clientv3.OpPut(e.prefix+op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
	}
	r, err := e.client.Txn(ctx).If(conditions...).Then(writes...).Else(reads...).Commit()
	if err != nil {
		return 0, translate(ctx, err)
	}
	if r.Succeeded {
		return r.Header.Revision, nil
	}
	conflict := &store.ConflictError{}
	for i, c := range t.If {
		now := store.KV{Key: c.Key}
		if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			now = e.record(kvs[0])
		}
		if now.Modified != c.Modified {
			conflict.Records = append(conflict.Records, now)
		}
	}
	return r.Header.Revision, conflict
}

// Watch implements [store.Store]. A response of etcd may have several revisions, but never a part of one.
func (e *Etcd) Watch(ctx context.Context, prefix string, from int64) iter.Seq2[store.Update, error] {
	return func(yield func(store.Update, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(store.Update{}, err)
			return
		}
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		for r := range e.client.Watch(watching, e.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(max(from, 1))) {
			if r.CompactRevision > 0 {
				yield(store.Update{}, store.ErrCompacted)
				return
			}
			if err := r.Err(); err != nil {
				yield(store.Update{}, translate(ctx, err))
				return
			}
			for len(r.Events) > 0 {
				u := store.Update{Revision: r.Events[0].Kv.ModRevision}
				for len(r.Events) > 0 && r.Events[0].Kv.ModRevision == u.Revision {
					u.Changes = append(u.Changes, store.Change{KV: e.record(r.Events[0].Kv), Deleted: r.Events[0].Type == clientv3.EventTypeDelete})
					r.Events = r.Events[1:]
				}
				if ctx.Err() != nil {
					break
				}
				if !yield(u, nil) {
					return
				}
			}
		}
		err := ctx.Err()
		if err == nil {
			err = errors.New("etcd has ended the watch")
		}
		yield(store.Update{}, err)
	}
}

// Lease implements [store.Store]. etcd counts whole seconds.
func (e *Etcd) Lease(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	if ttl <= 0 {
		return nil, &store.LimitError{Problem: "the time of a lease must be over 0, is " + ttl.String()}
	}
	r, err := e.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, translate(ctx, err)
	}
	return &lease{e.client, r.ID}, nil
}

// lease implements [store.Lease].
type lease struct {
	client *clientv3.Client
	id     clientv3.LeaseID
}

func (l *lease) ID() store.LeaseID { return store.LeaseID(l.id) }

func (l *lease) Renew(ctx context.Context) error {
	_, err := l.client.KeepAliveOnce(ctx, l.id)
	return translate(ctx, err)
}

func (l *lease) End(ctx context.Context) error {
	_, err := l.client.Revoke(ctx, l.id)
	if err = translate(ctx, err); errors.Is(err, store.ErrNoLease) {
		return nil
	}
	return err
}

func (e *Etcd) record(kv *mvccpb.KeyValue) store.KV {
	return store.KV{
		Key: string(kv.Key)[len(e.prefix):], Value: kv.Value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: store.LeaseID(kv.Lease),
	}
}

// translate gives the store's error for one of etcd's.
func translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return store.ErrNoLease
	case errors.Is(err, rpctypes.ErrCompacted):
		return store.ErrCompacted
	case ctx.Err() != nil: // etcd's client gives an error of gRPC then
		return ctx.Err()
	}
	return err
}
