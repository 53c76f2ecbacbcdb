package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Gate is the admission of one replica, as the router sees it; package gate has the contract. The router relies on two
// points of it: Wait takes a free slot or registers in one step, and Granted is never called with the gate's lock held.
type Gate interface {
	TryAcquire() bool
	Release(b *call.Batch)
	Load() int
	Wait(w interface{ Granted(b *call.Batch) }) bool
	Unwait(w interface{ Granted(b *call.Batch) }) bool
}

// Replica is one member of the set. The router compares replicas by identity, so an implementation is a pointer.
type Replica interface {
	ID() string
	Node() string // where it runs, for calls that would rather stay on theirs
	Gate() Gate
}

// Waiting is a call that wants a slot. It is told exactly one of the two, on the goroutine that made it possible (its
// own, within Submit, or that of whoever released a slot), without router locks. Neither may block.
type Waiting interface {
	// Assigned gives it a slot of r, which it releases at r.Gate(). It may release, submit, requeue and cancel.
	Assigned(b *call.Batch, r Replica)
	// Failed says that the call will never get one.
	Failed(b *call.Batch, cause *call.Error)
}

// Ticket is a call's place. It is embedded in the caller's struct; the zero Ticket is ready for Submit. From Submit or
// Requeue until Assigned, Failed or a successful Cancel it belongs to the router and must not be moved or submitted again.
type Ticket struct {
	to         Waiting
	origin     string
	info       *call.Info
	seq        uint64               // order of submission; 0 if there was none
	since      int64                // when a call with a model began to wait; guarded by Router.mu
	lane       atomic.Pointer[lane] // the last one it was queued in
	moving     bool                 // between two lanes; guarded by Router.mu
	queue      *queue               // where it is queued, nil elsewhere
	replica    Replica              // assigned, about to be delivered
	prev, next *Ticket
}

// lane is a queue of calls that the same replicas may serve, and the picking among those. While calls are queued the lane
// waits at every full gate, and a slot that one of them grants goes to the next call in turn: first in first out within one
// origin, round robin between origins.
//
// What holds whenever the lock is free:
//
//   - While something is queued, the lane is registered at the gate of every replica (or the gate is closed, or a grant
//     is on its way here). Registering and finding the gate full are one step of the gate, so no free slot goes unnoticed.
//   - A ticket is in one place: with its owner, in the queue of its origin, or assigned and about to be delivered.
//   - A grant of a replica that was removed is given back.
//
// Calls leave the queue in turn and are delivered in the order in which they left it. A delivered call may end at once,
// and its slot then comes back as a grant within the delivery; what this assigns is left to the deliveries that are under
// way once there are [maxDelivering] of them, so that a long queue of such calls is a loop and not a recursion.
//
// Lock order: lane.mu before the lock of a gate, and before backlog.mu; that of a model's lane before that of the lane of all
// replicas. Nothing of the caller's is called with it held.
type lane struct {
	// Read by every call, written when the set or the queue changes.
	set    atomic.Pointer[[]Replica] // immutable snapshot; stored under mu
	queued atomic.Int64              // tickets in queues; changed under mu
	shared *backlog
	_      [cacheLine - 24]byte

	near sync.Pool // of *preference, one per processor as a rule

	mu         sync.Mutex
	dead       bool      // retired: it takes no calls
	waiters    []*waiter // one per replica of the set; those that are not registered come first
	free       int       // how many those are
	queues     queues
	ready      queue // tickets that are assigned and not yet delivered
	delivering int   // frames in deliver, over all goroutines

	home *Router // of the lane of all replicas: told which call with a model got which replica
	modelQueue
}

// backlog is what the lanes of a router have in common: the order of submission, and how many calls of each origin wait.
type backlog struct {
	seq atomic.Uint64 // written by every Submit
	_   [cacheLine - 8]byte

	limit atomic.Int64 // how many calls of one origin may wait; negative: no limit

	mu       sync.Mutex
	byOrigin map[string]int
	closed   *call.Error // why nothing waits any more
}

func newBacklog() *backlog {
	s := &backlog{byOrigin: map[string]int{}}
	s.limit.Store(-1)
	return s
}

// join counts a call that is about to wait, or says that there are too many already. One that waited before may always.
func (s *backlog) join(origin string, again bool) *call.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return s.closed
	}
	if e := s.fullLocked(origin); e != nil && !again {
		return e
	}
	s.byOrigin[origin]++
	return nil
}

// fullLocked says that as many calls of an origin wait as may.
func (s *backlog) fullLocked(origin string) *call.Error {
	n := s.byOrigin[origin]
	if limit := int(s.limit.Load()); limit >= 0 && n >= limit {
		return call.NewError(call.Backpressure, fmt.Sprintf( // the reference's text, which its users match on
			"Request dropped due to backpressure (num_queued_requests=%d, max_queued_requests=%d).", n, limit))
	}
	return nil
}

// full is what join would say now.
func (s *backlog) full(origin string) *call.Error {
	if s.limit.Load() < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fullLocked(origin)
}

func (s *backlog) leave(origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.byOrigin[origin] - 1; n > 0 {
		s.byOrigin[origin] = n
	} else {
		delete(s.byOrigin, origin)
	}
}

// cacheLine keeps what every call writes away from what every call reads.
const cacheLine = 64

// maxDelivering bounds the stack of calls that end while they are being delivered. It also bounds how many goroutines
// deliver at the same time, so it must not be small; 32 nested deliveries are a few tens of kilobytes of stack.
const maxDelivering = 32

// waiter is what the router registers at a gate.
type waiter struct {
	router  *lane
	replica Replica

	// Guarded by lane.mu.
	index      int // in lane.waiters
	removed    bool
	registered bool // at its gate, or the gate is closed, or a grant is on its way
}

// newLane makes a lane without replicas: calls wait for the first.
func newLane(shared *backlog) *lane {
	r := &lane{shared: shared, queues: queues{byOrigin: map[string]*queue{}}}
	r.set.Store(new([]Replica))
	return r
}

// TryAcquire takes a slot on the hot path; the caller releases it at the replica's gate. nil means that the call has to be
// submitted: something is queued, which it must not overtake, or the replicas drawn are full. It takes no lock and does
// not allocate, and its cost does not depend on the number of replicas. After Update has returned it gives none of the
// removed replicas.
func (r *lane) TryAcquire() Replica {
	for r.queued.Load() == 0 {
		set := r.set.Load()
		got := pick(*set)
		if got == nil {
			return nil
		}
		// If the set is still the same then the slot was taken before any Update. Otherwise somebody may already have seen
		// a removed replica idle and be about to stop it.
		if now := r.set.Load(); now == set || slices.Contains(*now, got) {
			return got
		}
		got.Gate().Release(nil)
	}
	return nil
}

// preference is the replica that a processor used last.
type preference struct {
	set     *[]Replica // in which it was chosen
	replica Replica
	left    int // calls until a new draw
}

// stickiness is how many calls of a processor may go to one idle replica before there is a new draw, so that all get
// their share of a single caller's calls.
const stickiness = 64

// TryAcquireNear is TryAcquire for calls that run on the caller's goroutine: it prefers the replica that this processor
// used last, as long as that is idle, which no other choice could better. Power of two choices alone has every processor
// write to every replica's words: two callers then scaled to 0.6 of what two cores give.
func (r *lane) TryAcquireNear() Replica {
	if r.queued.Load() != 0 {
		return nil
	}
	p, _ := r.near.Get().(*preference)
	if p == nil {
		p = &preference{}
	}
	set, got := r.set.Load(), p.replica
	p.left--
	if p.left < 0 || p.set != set || got.Gate().Load() != 0 || !got.Gate().TryAcquire() {
		if got = r.TryAcquire(); got != nil {
			p.set, p.replica, p.left = set, got, stickiness // if set is old by now, the next call draws anew
		} else {
			p.left = 0
		}
	} else if r.set.Load() != set { // as in TryAcquire
		got.Gate().Release(nil)
		p.left = 0
		got = r.TryAcquire()
	}
	r.near.Put(p)
	return got
}

// pick is power of two choices: of two replicas drawn at random the less loaded one, then the other.
func pick(set []Replica) Replica {
	n := uint64(len(set))
	switch n {
	case 0:
		return nil
	case 1:
		if a := set[0]; a.Gate().TryAcquire() {
			return a
		}
		return nil
	}
	x := rand.Uint64()
	i := x >> 32 * n >> 32
	j := x & (1<<32 - 1) * (n - 1) >> 32
	if j >= i {
		j++
	}
	a, b := set[i], set[j]
	if b.Gate().Load() < a.Gate().Load() {
		a, b = b, a
	}
	if a.Gate().TryAcquire() {
		return a
	}
	if b.Gate().TryAcquire() {
		return b
	}
	return nil
}

// Submit gives w a slot now or later: Assigned or Failed is called exactly once, perhaps before Submit returns, unless the
// ticket is cancelled. Calls of one origin are served in the order of their Submits, origins in turn. false: the lane was
// retired, and nothing is called.
func (r *lane) Submit(b *call.Batch, t *Ticket, origin string, w Waiting) bool {
	t.to, t.origin, t.seq = w, origin, r.shared.seq.Add(1)
	if got := r.TryAcquire(); got != nil {
		w.Assigned(b, got)
		return true
	}
	return r.enter(b, t, false)
}

// Requeue is for a call whose attempt did not start: it waits again at its original place, before everything of its origin
// that was submitted later. A call that took its slot with TryAcquire and was never submitted has no place; it goes
// before all others of its origin. The caller has given the slot back, and has closed or removed a replica that would
// fail it again: the lane assigns whatever has a free slot.
func (r *lane) Requeue(b *call.Batch, t *Ticket, origin string, w Waiting) bool {
	t.to, t.origin = w, origin
	return r.enter(b, t, true)
}

// enter queues t.
func (r *lane) enter(b *call.Batch, t *Ticket, again bool) bool {
	r.mu.Lock()
	if r.dead {
		r.mu.Unlock()
		return false
	}
	if e := r.queueUp(t, again); e != nil {
		r.mu.Unlock()
		t.to.Failed(b, e)
		return true
	}
	r.serve()
	r.deliver(b)
	return true
}

// queueUp puts t in its queue, unless there are too many of its origin: then it has a slot at once or not at all. Whoever calls
// it calls serve and deliver. mu is held.
func (r *lane) queueUp(t *Ticket, again bool) *call.Error {
	e := r.shared.join(t.origin, again)
	if e == nil {
		r.push(t)
		return nil
	}
	if r.queues.turn == nil {
		if rep := r.scan(); rep != nil { // which was not drawn
			t.replica = rep
			r.ready.insert(t, r.ready.tail)
			return nil
		}
	}
	return e
}

// retire ends the lane, in which nothing is served any more, and gives the calls that waited in it, in turn, still counted as waiting.
func (r *lane) retire() []*Ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = true
	for _, w := range r.waiters {
		w.removed = true
		w.replica.Gate().Unwait(w) // false if a grant is on its way: Granted will give it back
	}
	r.waiters, r.free = nil, 0
	r.set.Store(new([]Replica))
	r.scout = nil
	return r.takeAll() // what is assigned already is delivered by whoever assigned it
}

// close retires the lane if nothing waits in it.
func (r *lane) close() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = r.queues.turn == nil && r.ready.head == nil && r.scout == nil
	return r.dead
}

// takeAll empties the queues. mu is held.
func (r *lane) takeAll() (all []*Ticket) {
	for r.queues.turn != nil {
		t := r.queues.pop()
		r.queued.Add(-1)
		all = append(all, t)
	}
	return all
}

// Cancel takes t out of its queue. true: neither Assigned nor Failed will be called. false: it was not queued, so one of
// them has been or is about to be called, or it was never submitted. Its cost does not depend on the queue.
func (r *lane) Cancel(t *Ticket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.queue == nil {
		return false
	}
	r.remove(t)
	return true
}

// Update sets the replicas; the slice is copied, and a replica that occurs twice counts once. Queued calls stay queued,
// and are assigned to what is free. A replica that is left out gets no new calls: a slot that one of its gate's grants
// brings is given back. Calls that hold a slot of it, or were assigned one just before, keep it.
func (r *lane) Update(b *call.Batch, replicas []Replica) {
	r.mu.Lock()
	r.members(replicas)
	r.serve()
	r.deliver(b)
}

// members sets the replicas. Whoever calls it calls serve before the lock is free. mu is held.
func (r *lane) members(replicas []Replica) {
	old := make(map[Replica]*waiter, len(r.waiters))
	for _, w := range r.waiters {
		old[w.replica] = w
		w.removed = true // until it is found in the new set
	}
	set := make([]Replica, 0, len(replicas))
	waiters := make([]*waiter, 0, len(replicas))
	for _, rep := range replicas {
		w := old[rep]
		switch {
		case w == nil:
			w = &waiter{router: r, replica: rep}
			old[rep] = w
		case w.removed:
			w.removed = false
		default:
			continue // twice
		}
		set, waiters = append(set, rep), append(waiters, w)
	}
	for _, w := range r.waiters {
		if w.removed {
			w.replica.Gate().Unwait(w) // false if a grant is on its way: Granted will give it back
		}
	}
	r.waiters, r.free = waiters, 0
	for i, w := range waiters {
		w.index = i
		if !w.registered {
			r.swap(w, r.free)
			r.free++
		}
	}
	r.set.Store(&set)
}

// Queued is the number of calls that wait.
func (r *lane) Queued() int { return int(r.queued.Load()) }

// Replicas is the current set, in the order of Update. It is shared and must not be changed.
func (r *lane) Replicas() []Replica { return *r.set.Load() }

// Granted has a slot of the waiter's replica.
func (w *waiter) Granted(b *call.Batch) {
	r := w.router
	r.mu.Lock()
	w.registered = false
	if !w.removed {
		r.swap(w, r.free)
		r.free++
	}
	if w.removed || r.queues.turn == nil {
		r.mu.Unlock()
		w.replica.Gate().Release(b)
		return
	}
	r.assign(w.replica)
	for r.queues.turn != nil && r.wait(w) { // another slot may have become free while w was not registered
		r.assign(w.replica)
	}
	r.deliver(b)
}

// serve assigns free slots to queued calls until either is used up; then the router is registered at every gate. mu is held.
func (r *lane) serve() {
	for r.queues.turn != nil {
		rep := r.take()
		if rep == nil {
			return
		}
		r.assign(rep)
	}
}

// take takes a slot at any gate that has one, or registers at all of them. mu is held.
func (r *lane) take() Replica {
	// Registering on the first round would be correct too, but leaves the router registered at many gates for the sake of a
	// call that found a slot at the next one, and every one of them would send a grant through the lock for nothing.
	if rep := r.scan(); rep != nil {
		return rep
	}
	for r.free > 0 {
		if w := r.waiters[r.free-1]; r.wait(w) {
			return w.replica
		}
	}
	return nil
}

// scan takes a slot at any gate that has one. mu is held.
func (r *lane) scan() Replica {
	if r.free == 0 { // all are full: the usual case of a call that joins a queue
		return nil
	}
	if rep := pick(*r.set.Load()); rep != nil {
		return rep
	}
	from := rand.IntN(r.free) // so that the first is not preferred
	for i := range r.free {
		if w := r.waiters[(from+i)%r.free]; w.replica.Gate().TryAcquire() {
			return w.replica
		}
	}
	return nil
}

// wait takes a slot at w's gate (true), or registers w there. mu is held, w is in the set and not registered.
func (r *lane) wait(w *waiter) bool {
	if w.replica.Gate().Wait(w) {
		return true
	}
	w.registered = true
	r.free--
	r.swap(w, r.free)
	return false
}

// swap moves w to place i of waiters.
func (r *lane) swap(w *waiter, i int) {
	other := r.waiters[i]
	r.waiters[i], r.waiters[w.index] = w, other
	w.index, other.index = i, w.index
}

// assign gives a slot of rep to the next call in turn. Whoever calls it calls deliver before the lock is free. mu is held.
func (r *lane) assign(rep Replica) {
	t := r.older()
	if t == nil {
		t = r.queues.pop()
		r.queued.Add(-1)
	}
	r.shared.leave(t.origin)
	t.replica = rep
	r.ready.insert(t, r.ready.tail)
}

// deliver tells assigned calls, in order. It is entered with mu held and leaves it free.
//
// A frame that finds maxDelivering others leaves its assignments to them: each of those looks again before it ends.
func (r *lane) deliver(b *call.Batch) {
	if r.delivering < maxDelivering {
		r.delivering++
		for r.ready.head != nil {
			t := r.ready.head
			r.ready.unlink(t)
			to, rep, model := t.to, t.replica, ""
			t.replica = nil
			r.mu.Unlock()
			if r.home != nil && t.info != nil {
				if model = t.info.Model(); model != "" {
					r.home.sent(t, model, rep)
				}
			}
			to.Assigned(b, rep) // t is the caller's again
			if model != "" {
				r.home.settle(b, model)
			}
			r.mu.Lock()
		}
		r.delivering--
	}
	r.mu.Unlock()
}

func (r *lane) push(t *Ticket) {
	if t.queue != nil || t.replica != nil {
		panic("router: the ticket is in use")
	}
	t.lane.Store(r)
	r.queues.push(t)
	r.queued.Add(1)
}

func (r *lane) remove(t *Ticket) {
	r.queues.remove(t)
	r.queued.Add(-1)
	r.shared.leave(t.origin)
}
