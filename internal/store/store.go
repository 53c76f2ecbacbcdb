// Package store keeps the records of the control plane: the wanted applications and their revisions, the numbers of
// replicas, the nodes, and the replicas on each node. [Store] is the interface, [Memory] its implementation in the memory of one process, and package
// storetest the tests that every implementation passes. etcd is the other implementation (etcdtest, a module of its own).
//
// A store has one revision, a number that each transaction with an effect raises by one. A reader lists the records it needs
// and watches from the next revision on, so it misses no change and sees each once:
//
//	records, revision, err := s.List(ctx, "replicas/")
//	...
//	for update, err := range s.Watch(ctx, "replicas/", revision+1) {
//		if errors.Is(err, store.ErrCompacted) {
//			// The watch was behind for too long: list again.
//		}
//		...
//	}
//
// A writer compares. For example, two controllers both read apps/hello at revision 7 and both write it under the condition
// that its revision is still 7: one of them gets a [ConflictError], reads again and decides again.
//
// Records are small (the limits below are etcd's, rounded down) and change when something is deployed, scaled, starts or
// ends. Numbers that change with traffic are in package telemetry, and large things are blobs outside the store.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of all implementations. etcd's own defaults are 1.5 MiB for a request and 128 operations.
const (
	MaxKey      = 1 << 10   // bytes of a key
	MaxValue    = 256 << 10 // bytes of a value
	MaxOps      = 100       // operations of a transaction, and as many conditions
	MaxTxnBytes = 1 << 20   // bytes of the keys and values of a transaction
)

// Store keeps records under keys. Its methods may be called from any goroutine. An error that is none of this package's says
// that the store was not reached in time: a transaction may then have been applied or not.
type Store interface {
	// Get gives the record of a key. Modified is 0 in the record of a key that does not exist. revision is the store's.
	Get(ctx context.Context, key string) (record KV, revision int64, err error)

	// List gives the records whose keys begin with prefix, in the order of the keys, as they were at revision.
	List(ctx context.Context, prefix string) (records []KV, revision int64, err error)

	// Txn applies a transaction as a whole, or nothing of it if one of its conditions does not hold: then the error is a
	// [ConflictError]. revision is the store's after it. A transaction that changes nothing does not raise the revision.
	Txn(ctx context.Context, t Txn) (revision int64, err error)

	// Watch gives the changes of keys with a prefix, in order, beginning with those of the revision from, which is 1 or
	// more. Each update has all changes of one revision. It gives [ErrCompacted] if the store does not have that revision
	// any more, and the context's error when ctx ends; then it is over. A watch that is not read holds nothing up.
	Watch(ctx context.Context, prefix string, from int64) iter.Seq2[Update, error]

	// Lease makes a lease, which ends by itself when it is not renewed for ttl. The records that were put under it end with
	// it, in one revision. An implementation may round ttl up to seconds.
	Lease(ctx context.Context, ttl time.Duration) (Lease, error)
}

// Lease keeps records alive as long as their writer is. Example: a node puts nodes/N under a lease of ten seconds and renews
// it every three. When the machine loses power the record is deleted ten seconds later, and the controller's watch sees that.
type Lease interface {
	ID() LeaseID
	// Renew starts the time anew. It gives [ErrNoLease] when the lease has ended.
	Renew(ctx context.Context) error
	// End ends the lease and deletes its records at once. Ending an ended lease is no error.
	End(ctx context.Context) error
}

// LeaseID names a lease in a store. 0 is none.
type LeaseID int64

// KV is a record as the store has it.
type KV struct {
	Key   string
	Value []byte
	// Created and Modified are the revisions that created the record and that changed it last. A record that is deleted and
	// made again is a new one.
	Created, Modified int64
	Lease             LeaseID
}

// Update has the changes of one revision.
type Update struct {
	Revision int64
	Changes  []Change
}

// Change is a record that was put or deleted. A deleted one has its key only, and the revision of the deletion in Modified.
type Change struct {
	KV
	Deleted bool
}

// Txn is a transaction.
type Txn struct {
	If   []Condition // all must hold; each key once
	Then []Op        // each key once
}

// Condition holds if the record has not changed since the revision Modified. With 0 it holds if there is no record.
type Condition struct {
	Key      string
	Modified int64
}

// Op puts or deletes a record. [Put] and [Delete] make it.
type Op struct {
	Key    string
	Value  []byte
	Lease  LeaseID // of a put; 0 for a record that lives until it is deleted
	Delete bool
}

// Put is the operation that writes a record.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete is the operation that deletes a record. Deleting a record that is not there changes nothing.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Unchanged is the condition that a record is as it was read. The record of a key that did not exist must still not exist.
func Unchanged(record KV) Condition { return Condition{record.Key, record.Modified} }

// ErrCompacted says that the store does not have the revision that a watch wants any more. Its reader lists again.
var ErrCompacted = errors.New("the store does not have this revision any more")

// ErrNoLease says that a lease has ended.
var ErrNoLease = errors.New("the lease has ended")

// ConflictError says that conditions of a transaction did not hold.
type ConflictError struct {
	// Records are the records that had changed, as they are now. Modified is 0 for a record that is gone.
	Records []KV
}

func (e *ConflictError) Error() string {
	parts := make([]string, len(e.Records))
	for i, r := range e.Records {
		if parts[i] = fmt.Sprintf("%s has changed (revision %d)", r.Key, r.Modified); r.Modified == 0 {
			parts[i] = r.Key + " does not exist"
		}
	}
	return "the transaction was not applied: " + strings.Join(parts, ", ")
}

// LimitError says that a request is over a limit of the store, or malformed.
type LimitError struct{ Problem string }

func (e *LimitError) Error() string { return "store: " + e.Problem }

// Check gives a [LimitError] for a transaction that no store takes. Implementations call it first.
func (t Txn) Check() error {
	if len(t.If) > MaxOps || len(t.Then) > MaxOps {
		return &LimitError{fmt.Sprintf("a transaction of %d conditions and %d operations; at most %d of each are possible", len(t.If), len(t.Then), MaxOps)}
	}
	total := 0
	seen := make(map[string]bool, max(len(t.If), len(t.Then)))
	for _, c := range t.If {
		if err := CheckKey(c.Key); err != nil {
			return err
		}
		if seen[c.Key] {
			return &LimitError{fmt.Sprintf("two conditions for the key %q", c.Key)}
		}
		seen[c.Key] = true
		total += len(c.Key)
	}
	clear(seen)
	for _, op := range t.Then {
		if err := CheckKey(op.Key); err != nil {
			return err
		}
		switch {
		case seen[op.Key]:
			return &LimitError{fmt.Sprintf("two operations on the key %q", op.Key)}
		case len(op.Value) > MaxValue:
			return &LimitError{fmt.Sprintf("the value of %q has %d bytes; at most %d are possible", op.Key, len(op.Value), MaxValue)}
		}
		seen[op.Key] = true
		total += len(op.Key) + len(op.Value)
	}
	if total > MaxTxnBytes {
		return &LimitError{fmt.Sprintf("a transaction of %d bytes; at most %d are possible", total, MaxTxnBytes)}
	}
	return nil
}

// CheckKey gives a [LimitError] for a key that no store takes.
func CheckKey(key string) error {
	switch {
	case key == "":
		return &LimitError{"a key is empty"}
	case len(key) > MaxKey:
		return &LimitError{fmt.Sprintf("the key %q... has %d bytes; at most %d are possible", key[:60], len(key), MaxKey)}
	case !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0:
		return &LimitError{fmt.Sprintf("the key %q is not UTF-8 without zero bytes", key)}
	}
	return nil
}
