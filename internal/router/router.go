// Package router picks a replica for a call. There is one router per deployment and process; it has no goroutine and
// does no I/O: gates are joined to it by an interface.
//
// The hot path takes no lock: with nothing queued, a call draws two replicas of an immutable snapshot and takes a slot at
// the less loaded one. Only when that fails does it queue, under the router's lock: first in first out within one origin,
// round robin between origins. While calls are queued the router waits at every full gate, and a slot that one of them
// grants goes to the next call in turn.
package router

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Gate is the admission of one replica, as the router sees it; package gate has the contract.
type Gate interface {
	TryAcquire() bool
	Release(b *call.Batch)
	Load() int
	Wait(w interface{ Granted(b *call.Batch) }) bool
	Unwait(w interface{ Granted(b *call.Batch) }) bool
}

// Replica is one member of the set. It is immutable once given to [Router.Update], and compared by pointer.
type Replica struct {
	ID    string
	Gate  Gate
	Value any
}

// Waiting is a call that wants a slot.
type Waiting interface {
	// Assigned gives it a slot of r. It is called without router locks, must not block, and may come during Submit.
	Assigned(b *call.Batch, r *Replica)
	// Failed says that the call will never get one. It ends the ticket as Assigned does.
	Failed(b *call.Batch, cause *call.Error)
}

// Ticket is a call's place. It is embedded in the caller's struct; the zero Ticket is ready for Submit.
type Ticket struct {
	to         Waiting
	origin     string
	seq        uint64 // order of first submission; 0 before
	queue      *queue // where it is queued, nil elsewhere
	prev, next *Ticket
}

// queue holds the tickets of one origin, by seq.
type queue struct {
	origin     string
	head, tail *Ticket
	prev, next *queue // ring of the queues that are not empty
}

// Router is the queue and picker of one deployment. All methods may be called from any goroutine.
type Router struct {
	set    atomic.Pointer[set]
	queued atomic.Int64 // tickets in queues; changed under mu

	mu     sync.Mutex
	seq    uint64
	queues map[string]*queue
	turn   *queue // whose ticket is next; nil when nothing is queued
}

// set is an immutable snapshot.
type set struct {
	replicas []*Replica
	waiters  []*waiter // by index
	waited   int       // number of waiters that are registered at their gate; guarded by Router.mu
}

// waiter is what the router registers at a gate.
type waiter struct {
	router  *Router
	replica *Replica

	// Guarded by Router.mu.
	removed    bool
	registered bool // at its gate, or the gate is closed
}

// New makes a router without replicas: calls wait for the first.
func New() *Router {
	r := &Router{queues: map[string]*queue{}}
	r.set.Store(&set{})
	return r
}

// TryAcquire takes a slot on the hot path: nil means that the call has to be submitted. Its cost does not depend on the
// number of replicas.
func (r *Router) TryAcquire() *Replica {
	if r.queued.Load() != 0 {
		return nil
	}
	return r.set.Load().pick()
}

// pick is power of two choices: of two replicas drawn at random the less loaded one, then the other.
func (s *set) pick() *Replica {
	n := len(s.replicas)
	switch n {
	case 0:
		return nil
	case 1:
		if a := s.replicas[0]; a.Gate.TryAcquire() {
			return a
		}
		return nil
	}
	x := rand.Uint64()
	i := int(uint32(x)) * n >> 32
	j := int(x>>32) * (n - 1) >> 32
	if j >= i {
		j++
	}
	a, b := s.replicas[i], s.replicas[j]
	if b.Gate.Load() < a.Gate.Load() {
		a, b = b, a
	}
	if a.Gate.TryAcquire() {
		return a
	}
	if b.Gate.TryAcquire() {
		return b
	}
	return nil
}

// Submit gives w a slot now or later: Assigned or Failed is called exactly once, unless the ticket is cancelled.
func (r *Router) Submit(b *call.Batch, t *Ticket, origin string, w Waiting) {
	t.to, t.origin = w, origin
	if got := r.TryAcquire(); got != nil {
		w.Assigned(b, got)
		return
	}
	r.mu.Lock()
	r.seq++
	t.seq = r.seq
	r.push(t)
	r.serve(b)
}

// Requeue submits t again, at its original place: before everything of its origin that came later. A call that got its
// first slot from TryAcquire has no place yet; nothing was queued then, so it goes before all that is.
func (r *Router) Requeue(b *call.Batch, t *Ticket, origin string, w Waiting) {
	r.mu.Lock()
	t.to, t.origin = w, origin
	if t.seq == 0 {
		t.seq = 1
	}
	r.push(t)
	r.serve(b)
}

// Cancel takes t out of its queue. false: it was not queued, so Assigned has been or is being called.
func (r *Router) Cancel(t *Ticket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.queue == nil {
		return false
	}
	r.remove(t)
	return true
}

// Update sets the replicas. Queued calls stay queued, and are assigned to what is free.
func (r *Router) Update(b *call.Batch, replicas []*Replica) {
	r.mu.Lock()
	old := r.set.Load()
	kept := make(map[*Replica]*waiter, len(old.replicas))
	for i, rep := range old.replicas {
		kept[rep] = old.waiters[i]
	}
	s := &set{replicas: append([]*Replica(nil), replicas...), waiters: make([]*waiter, len(replicas))}
	for i, rep := range replicas {
		w := kept[rep]
		if w == nil {
			w = &waiter{router: r, replica: rep}
		}
		delete(kept, rep)
		s.waiters[i] = w
		if w.registered {
			s.waited++
		}
	}
	for rep, w := range kept {
		w.removed = true // a grant that is under way gives its slot back
		rep.Gate.Unwait(w)
	}
	r.set.Store(s)
	r.serve(b)
}

// Fail ends every queued call with cause.
func (r *Router) Fail(cause *call.Error) {
	r.mu.Lock()
	var all []*Ticket
	for r.turn != nil {
		t := r.turn.head
		r.remove(t)
		all = append(all, t)
	}
	r.mu.Unlock()
	for _, t := range all {
		t.to.Failed(nil, cause)
	}
}

// Queued is the number of calls that wait.
func (r *Router) Queued() int { return int(r.queued.Load()) }

// Replicas is the current set; it must not be changed.
func (r *Router) Replicas() []*Replica { return r.set.Load().replicas }

// Granted has a slot of the waiter's replica.
func (w *waiter) Granted(b *call.Batch) {
	r := w.router
	r.mu.Lock()
	if w.registered && !w.removed {
		r.set.Load().waited--
	}
	w.registered = false
	if w.removed || r.turn == nil {
		r.mu.Unlock()
		w.replica.Gate.Release(b)
		return
	}
	t := r.pop()
	if r.turn == nil {
		r.mu.Unlock()
	} else {
		// More calls wait. Wait may find another slot free by now.
		if r.wait(w) {
			next := r.pop()
			r.mu.Unlock()
			t.to.Assigned(b, w.replica)
			next.to.Assigned(b, w.replica)
			r.mu.Lock()
			r.serve(b)
			return
		}
		r.mu.Unlock()
	}
	t.to.Assigned(b, w.replica)
}

// assignment is a ticket that left its queue with a slot.
type assignment struct {
	t *Ticket
	r *Replica
}

// serve gives free slots to queued calls until either is used up, and then waits at every gate. It is entered with mu
// held and leaves it released. Assigned is called without the lock, after the queue is in order.
func (r *Router) serve(b *call.Batch) {
	var few [4]assignment
	got := few[:0]
	s := r.set.Load()
	for r.turn != nil {
		rep := s.pick()
		if rep == nil && s.waited < len(s.waiters) {
			// Two draws were full. The others are asked one by one; those that are full too are waited at from now on, so
			// that the next call to come here while all are full asks none.
			for _, w := range s.waiters {
				if !w.registered && r.wait(w) {
					rep = w.replica
					break
				}
			}
		}
		if rep == nil {
			break
		}
		got = append(got, assignment{r.pop(), rep})
	}
	r.mu.Unlock()
	for _, a := range got {
		a.t.to.Assigned(b, a.r)
	}
}

// wait takes a slot at w's gate (true), or registers w there.
func (r *Router) wait(w *waiter) bool {
	if w.replica.Gate.Wait(w) {
		return true
	}
	w.registered = true
	r.set.Load().waited++
	return false
}

func (r *Router) push(t *Ticket) {
	q := r.queues[t.origin]
	if q == nil {
		q = &queue{origin: t.origin}
		r.queues[t.origin] = q
		if r.turn == nil {
			q.prev, q.next = q, q
			r.turn = q
		} else { // last in turn
			q.prev, q.next = r.turn.prev, r.turn
			q.prev.next, q.next.prev = q, q
		}
	}
	after := q.tail
	for after != nil && after.seq > t.seq {
		after = after.prev
	}
	t.queue, t.prev = q, after
	if after == nil {
		t.next, q.head = q.head, t
	} else {
		t.next, after.next = after.next, t
	}
	if t.next == nil {
		q.tail = t
	} else {
		t.next.prev = t
	}
	r.queued.Add(1)
}

// pop takes the first ticket of the origin whose turn it is, and gives the turn to the next origin.
func (r *Router) pop() *Ticket {
	q := r.turn
	t := q.head
	r.turn = q.next
	r.remove(t)
	return t
}

func (r *Router) remove(t *Ticket) {
	q := t.queue
	if t.prev == nil {
		q.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.queue, t.prev, t.next = nil, nil, nil
	r.queued.Add(-1)
	if q.head != nil {
		return
	}
	delete(r.queues, q.origin)
	if q.next == q {
		r.turn = nil
		return
	}
	q.prev.next, q.next.prev = q.next, q.prev
	if r.turn == q {
		r.turn = q.next
	}
}
