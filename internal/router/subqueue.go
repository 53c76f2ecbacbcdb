package router

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// subqueue is a queue of calls that the same replicas may serve, and picks among these replicas. While calls are
// queued, the subqueue is registered at every full gate, and a slot that one of them grants goes to the next call in
// turn: first in first out within one origin, round robin between origins. For example, with the calls a1, a2 and a3
// of the proxy and b1 of another deployment, slots go to a1, b1, a2, a3.
//
// These conditions hold whenever mu is free:
//
//   - While a call is queued, the subqueue is registered at the gate of every replica (or the gate is closed, or a grant is on
//     its way here). The gate tests for a free slot and registers in one step, so no free slot goes unnoticed.
//   - A ticket is in one place: with its owner, in the list of its origin, or assigned and about to be delivered.
//   - A grant of a replica that was removed is given back.
//
// Calls leave the queue in turn, and are delivered in the order in which they left it. A delivered call may end at
// once, and its slot then comes back as a grant within the delivery. From [maxDelivering] nested deliveries on, newly
// assigned calls are left to the deliveries under way, so that a long queue of such calls is a loop and not a
// recursion.
//
// Lock order: mu before the lock of a gate, and before admission.mu; the mu of a model's subqueue before the mu of
// the unrestricted one. No code of the caller runs with mu held.
type subqueue struct {
	// The fields up to the padding are read by every call, and written when the set or the queue changes.
	set       atomic.Pointer[[]Replica] // immutable snapshot; stored under mu
	queued    atomic.Int64              // number of tickets in lists; changed under mu
	admission *admission
	_         [cacheLine - 24]byte

	lastUsed sync.Pool // of *preference, usually one per processor

	mu           sync.Mutex
	retired      bool      // the subqueue takes no calls any more
	waiters      []*waiter // one per replica of the set; the unregistered ones come first
	unregistered int       // number of unregistered waiters
	queues       queues
	ready        queue // tickets that are assigned and not yet delivered
	delivering   int   // number of deliver calls under way, over all goroutines

	router *Router // set in the unrestricted subqueue, which reports the replica of each call with a model
	modelCalls
}

// cacheLine is the distance, in bytes, between fields that every call writes and fields that every call reads.
const cacheLine = 64

// maxDelivering bounds the stack of calls that end while they are being delivered. It also bounds the number of
// goroutines that deliver at the same time, so it must not be small; 32 nested deliveries are a few tens of kilobytes
// of stack.
const maxDelivering = 32

// waiter is the registration of a subqueue at the gate of one replica.
type waiter struct {
	queue   *subqueue
	replica Replica

	// The fields below are guarded by subqueue.mu.
	index      int // position in subqueue.waiters
	removed    bool
	registered bool // registered at its gate, or the gate is closed, or a grant is on its way
}

// newSubqueue makes a subqueue without replicas: calls wait for the first one.
func newSubqueue(a *admission) *subqueue {
	s := &subqueue{admission: a, queues: queues{byOrigin: map[string]*queue{}}}
	s.set.Store(new([]Replica))
	return s
}

// TryAcquire is [Router.TryAcquire] for calls that any replica of the set may serve.
func (s *subqueue) TryAcquire() Replica {
	for s.queued.Load() == 0 {
		set := s.set.Load()
		got := pick(*set)
		if got == nil {
			return nil
		}
		// If the set is unchanged, the slot was taken before any Update. Otherwise the caller of Update may have seen
		// a removed replica idle, and may be about to stop it.
		if now := s.set.Load(); now == set || slices.Contains(*now, got) {
			return got
		}
		got.Gate().Release(nil)
	}
	return nil
}

// Submit is [Router.Submit]. It returns false, and calls no method of w, if the subqueue was retired.
func (s *subqueue) Submit(b *call.Batch, t *Ticket, origin string, w Waiting) bool {
	t.to, t.origin, t.seq = w, origin, s.admission.seq.Add(1)
	if got := s.TryAcquire(); got != nil {
		w.Assigned(b, got)
		return true
	}
	return s.enqueue(b, t, false)
}

// Requeue is [Router.Requeue]. It returns false, and calls no method of w, if the subqueue was retired.
func (s *subqueue) Requeue(b *call.Batch, t *Ticket, origin string, w Waiting) bool {
	t.to, t.origin = w, origin
	return s.enqueue(b, t, true)
}

// enqueue queues t, and delivers the calls that have a slot by that. It returns false if the subqueue was retired.
func (s *subqueue) enqueue(b *call.Batch, t *Ticket, requeued bool) bool {
	s.mu.Lock()
	if s.retired {
		s.mu.Unlock()
		return false
	}
	if e := s.enqueueLocked(t, requeued); e != nil {
		s.mu.Unlock()
		t.to.Failed(b, e)
		return true
	}
	s.serve()
	s.deliver(b)
	return true
}

// enqueueLocked queues t. If too many calls of its origin wait, t gets a free slot or the error. The caller holds mu,
// and calls serve and deliver afterwards.
func (s *subqueue) enqueueLocked(t *Ticket, requeued bool) *call.Error {
	e := s.admission.join(t.origin, requeued)
	if e == nil {
		s.push(t)
		return nil
	}
	if s.queues.turn == nil {
		if rep := s.acquireAny(); rep != nil { // a free replica that was not drawn
			t.replica = rep
			s.ready.insert(t, s.ready.tail)
			return nil
		}
	}
	return e
}

// retire ends the subqueue. It returns the waiting calls in turn; they still count as waiting.
func (s *subqueue) retire() []*Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	for _, w := range s.waiters {
		w.removed = true
		w.replica.Gate().Unwait(w) // false if a grant is on its way: Granted will give it back
	}
	s.waiters, s.unregistered = nil, 0
	s.set.Store(new([]Replica))
	s.spill = nil
	return s.takeAll() // an assigned call is delivered by the goroutine that assigned it
}

// closeIfEmpty retires the subqueue if no call waits in it.
func (s *subqueue) closeIfEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = s.queues.turn == nil && s.ready.head == nil && s.spill == nil
	return s.retired
}

// takeAll empties the lists and returns their calls in turn. mu is held.
func (s *subqueue) takeAll() (all []*Ticket) {
	for s.queues.turn != nil {
		t := s.queues.pop()
		s.queued.Add(-1)
		all = append(all, t)
	}
	return all
}

// Cancel is [Router.Cancel] for a call that was queued here.
func (s *subqueue) Cancel(t *Ticket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.queue == nil {
		return false
	}
	s.remove(t)
	return true
}

// Update is [Router.Update] for the subqueue's own set.
func (s *subqueue) Update(b *call.Batch, replicas []Replica) {
	s.mu.Lock()
	s.setReplicas(replicas)
	s.serve()
	s.deliver(b)
}

// setReplicas sets the replicas. The caller holds mu, and calls serve before it unlocks.
func (s *subqueue) setReplicas(replicas []Replica) {
	old := make(map[Replica]*waiter, len(s.waiters))
	for _, w := range s.waiters {
		old[w.replica] = w
		w.removed = true // until it is found in the new set
	}
	set := make([]Replica, 0, len(replicas))
	waiters := make([]*waiter, 0, len(replicas))
	for _, rep := range replicas {
		w := old[rep]
		switch {
		case w == nil:
			w = &waiter{queue: s, replica: rep}
			old[rep] = w
		case w.removed:
			w.removed = false
		default:
			continue // the replica occurs twice
		}
		set, waiters = append(set, rep), append(waiters, w)
	}
	for _, w := range s.waiters {
		if w.removed {
			w.replica.Gate().Unwait(w) // false if a grant is on its way: Granted will give it back
		}
	}
	s.waiters, s.unregistered = waiters, 0
	for i, w := range waiters {
		w.index = i
		if !w.registered {
			s.swap(w, s.unregistered)
			s.unregistered++
		}
	}
	s.set.Store(&set)
}

// Queued is the number of waiting calls.
func (s *subqueue) Queued() int { return int(s.queued.Load()) }

// Replicas is the current set, in the order of Update. It is shared and must not be changed.
func (s *subqueue) Replicas() []Replica { return *s.set.Load() }

// Granted takes a slot of the waiter's replica from its gate, for the next call in turn.
func (w *waiter) Granted(b *call.Batch) {
	s := w.queue
	s.mu.Lock()
	w.registered = false
	if !w.removed {
		s.swap(w, s.unregistered)
		s.unregistered++
	}
	if w.removed || s.queues.turn == nil {
		s.mu.Unlock()
		w.replica.Gate().Release(b)
		return
	}
	s.assign(w.replica)
	for s.queues.turn != nil && s.acquireOrWait(w) { // another slot may have become free while w was not registered
		s.assign(w.replica)
	}
	s.deliver(b)
}

// serve assigns free slots to queued calls until the slots or the calls are used up. In the first case the subqueue
// is registered at every gate afterwards. mu is held.
func (s *subqueue) serve() {
	for s.queues.turn != nil {
		rep := s.acquireOrRegister()
		if rep == nil {
			return
		}
		s.assign(rep)
	}
}

// acquireOrRegister takes a slot at any gate that has one, or registers at all gates. mu is held.
func (s *subqueue) acquireOrRegister() Replica {
	// To register in the first round would be correct too. But a call that finds a slot at the second gate would
	// leave a registration at the first, and each of these would send a grant through the lock for nothing.
	if rep := s.acquireAny(); rep != nil {
		return rep
	}
	for s.unregistered > 0 {
		if w := s.waiters[s.unregistered-1]; s.acquireOrWait(w) {
			return w.replica
		}
	}
	return nil
}

// acquireAny takes a slot at any gate that has one. mu is held.
func (s *subqueue) acquireAny() Replica {
	if s.unregistered == 0 { // all gates are full: the usual case of a call that joins a queue
		return nil
	}
	if rep := pick(*s.set.Load()); rep != nil {
		return rep
	}
	from := rand.IntN(s.unregistered) // a random start prefers no replica
	for i := range s.unregistered {
		if w := s.waiters[(from+i)%s.unregistered]; w.replica.Gate().TryAcquire() {
			return w.replica
		}
	}
	return nil
}

// acquireOrWait takes a slot at w's gate and returns true, or registers w there. mu is held, w is in the set and not
// registered.
func (s *subqueue) acquireOrWait(w *waiter) bool {
	if w.replica.Gate().Wait(w) {
		return true
	}
	w.registered = true
	s.unregistered--
	s.swap(w, s.unregistered)
	return false
}

// swap moves w to position i of waiters.
func (s *subqueue) swap(w *waiter, i int) {
	other := s.waiters[i]
	s.waiters[i], s.waiters[w.index] = w, other
	w.index, other.index = i, w.index
}

// assign gives a slot of rep to the next call in turn. The caller holds mu, and calls deliver before it unlocks.
func (s *subqueue) assign(rep Replica) {
	t := s.takeSpill()
	if t == nil {
		t = s.queues.pop()
		s.queued.Add(-1)
	}
	s.admission.leave(t.origin)
	s.admission.waits.Observe(time.Duration(call.Now() - t.queuedAt))
	t.replica = rep
	s.ready.insert(t, s.ready.tail)
}

// deliver calls Assigned of the assigned calls, in order. It is entered with mu held and returns with mu unlocked.
//
// If maxDelivering calls of deliver are under way, the assigned calls are left to them: each of them looks again
// before it returns.
func (s *subqueue) deliver(b *call.Batch) {
	if s.delivering < maxDelivering {
		s.delivering++
		for s.ready.head != nil {
			t := s.ready.head
			s.ready.unlink(t)
			to, rep, model := t.to, t.replica, ""
			t.replica = nil
			s.mu.Unlock()
			if s.router != nil && t.info != nil {
				if model = t.info.Model(); model != "" {
					s.router.noteSent(t, model, rep)
				}
			}
			to.Assigned(b, rep) // t belongs to the caller again
			if model != "" {
				s.router.refresh(b, model)
			}
			s.mu.Lock()
		}
		s.delivering--
	}
	s.mu.Unlock()
}

func (s *subqueue) push(t *Ticket) {
	if t.queuedAt == 0 {
		t.queuedAt = call.Now()
	}
	if t.queue != nil || t.replica != nil {
		panic("router: the ticket is in use")
	}
	t.subqueue.Store(s)
	s.queues.push(t)
	s.queued.Add(1)
}

func (s *subqueue) remove(t *Ticket) {
	s.queues.remove(t)
	s.queued.Add(-1)
	s.admission.leave(t.origin)
}
