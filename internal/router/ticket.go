package router

import (
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Gate is the admission of one replica, as the router sees it; package gate has the contract. The router relies on
// two points of it. Wait takes a free slot or registers in one step, so no slot becomes free between the two. Granted
// is never called with the gate's lock held.
type Gate interface {
	TryAcquire() bool
	Release(b *call.Batch)
	Load() int
	Wait(w interface{ Granted(b *call.Batch) }) bool
	Unwait(w interface{ Granted(b *call.Batch) }) bool
}

// Replica is one member of the router's set. The router compares replicas by identity, so an implementation is a
// pointer.
type Replica interface {
	ID() string
	Node() string // the node it runs on; a call may prefer its own
	Gate() Gate
}

// Waiting is a call that wants a slot. The router calls exactly one of its methods, once, without router locks. It
// calls it on the goroutine that made the outcome possible: the one in Submit, or the one that released a slot.
// Neither method may block.
type Waiting interface {
	// Assigned gives the call a slot of r. The call has to release it at r.Gate(). It may release, submit, requeue
	// and cancel within Assigned.
	Assigned(b *call.Batch, r Replica)
	// Failed says that the call will never get a slot, and why.
	Failed(b *call.Batch, cause *call.Error)
}

// Ticket is a call's place in the queue. It is embedded in the caller's struct; the zero Ticket is ready for Submit.
// From Submit or Requeue until Assigned, Failed or a successful Cancel it belongs to the router, and must not be
// moved or submitted again.
type Ticket struct {
	to         Waiting
	origin     string
	info       *call.Info
	seq        uint64                   // order of submission; 0 if it was never submitted
	since      int64                    // time at which a call with a model began to wait; guarded by Router.mu
	queuedAt   int64                    // time at which it was queued first, by call.Now; for lists of waiting calls
	subqueue   atomic.Pointer[subqueue] // the subqueue in which it was queued last
	moving     bool                     // between two subqueues; guarded by Router.mu
	queue      *queue                   // the list in which it is queued, else nil
	replica    Replica                  // the replica of an assigned call until it is delivered
	prev, next *Ticket
}
