// Package router picks a replica for each call of a deployment, and queues calls while all replicas are full. There
// is one router per deployment and process. It has no goroutine and does no I/O; it knows replicas and their gates as
// interfaces.
//
// The hot path takes no lock. With an empty queue a call draws two replicas of an immutable snapshot, and takes a
// slot at the less loaded one (twochoices.go). A [Policy], or the affinity of a call, puts other replicas first.
//
// A call that finds no slot queues in a subqueue. There are three kinds of subqueues:
//
//   - The unrestricted one has the calls that any replica may serve. It always exists.
//   - A restricted one has the calls that a policy restricts to one set of replicas. For example, under consistent hashing the
//     sessions of one owner wait in one subqueue for its three replicas, while other sessions overtake them.
//   - The subqueue of a model has the calls that wait for the replicas with the model. One of them, the spill, waits in the
//     unrestricted one instead, so that another replica loads the model when it is worth it (models.go).
//
// A gate grants its slots to the registered subqueues in turn. For example, when a replica with one slot is in two
// subqueues with two calls each, its slot serves the first call of the one, then the first call of the other.
package router

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Policy ranks replicas for a call. Its methods are called on the goroutine of the call, concurrently, and must not
// block.
type Policy interface {
	// Rank appends to ranks the positions in set of the replicas that the call should go to, best first. A full
	// replica is passed over for the next. If only is true, the call goes to no other replica, and waits for one of
	// these. If only is false, or ranks has no position of set, the other replicas follow by power of two choices.
	// The slice set is shared and must not be changed; ranks has capacity for a few and may grow. A position outside
	// of set is ignored.
	Rank(c *call.Info, set []Replica, ranks []int) (_ []int, only bool)
}

// Router is the queue and picker of one deployment. All methods may be called from any goroutine.
type Router struct {
	unrestricted *subqueue // calls that any replica may serve
	admission    *admission
	policy       atomic.Pointer[Policy] // nil for power of two choices and the affinity of calls
	node         string
	local        atomic.Pointer[locality]
	models       models
	absence      absence

	sessions *ConsistentHash // the ring for calls with a session; without a policy they may go to any replica after its owners

	updating sync.Mutex // held by Update

	mu             sync.Mutex
	restricted     map[string]*subqueue // restricted subqueues by the positions of their replicas in the set
	byModel        map[string]*subqueue // subqueues of models by the model's id
	refreshTimer   *time.Timer          // calls refreshAll as long as byModel has a subqueue
	subqueuesInUse atomic.Int32         // number of subqueues in both maps, not reset while Update moves tickets: at 0 every waiting call is in unrestricted
	closed         *call.Error          // the error of all calls that would wait, once the router is closed
}

// New makes a router without replicas: calls wait for the first one. The parameter node is the node of the router's
// callers.
func New(node string) *Router {
	a := newAdmission()
	r := &Router{
		unrestricted: newSubqueue(a), admission: a, node: node, restricted: map[string]*subqueue{}, byModel: map[string]*subqueue{},
		sessions: NewConsistentHash(DefaultVirtualNodes, DefaultFallbacks),
	}
	r.unrestricted.router = r
	r.absence.note(true)
	return r
}

// SetPolicy replaces the policy for calls that are routed from now on; nil is power of two choices.
func (r *Router) SetPolicy(p Policy) {
	if p == nil {
		r.policy.Store(nil)
		return
	}
	r.policy.Store(&p)
}

// SetLimit sets the largest number of waiting calls of one origin (Ray Serve's max_queued_requests); negative for no
// limit. Calls that wait already stay.
func (r *Router) SetLimit(n int) { r.admission.limit.Store(int64(n)) }

// SetRefusal sets the answer of HTTP to requests that are over the limit (Ray Serve's backpressure_config).
func (r *Router) SetRefusal(of Refusal) {
	if of == (Refusal{Status: 503, RetryAfter: 1}) {
		r.admission.refusal.Store(nil)
		return
	}
	r.admission.refusal.Store(&of)
}

// Full returns the error with which a call would fail at once if it were submitted now, because too many wait. It
// returns nil for a call that would not fail, or whose affinity makes the answer unknown. A caller asks before it
// begins costly work: for example, the proxy does not read the body of a request for which the queue has no place.
// The answer may have changed when the call is submitted.
func (r *Router) Full(origin string, c *call.Info) *call.Error {
	e := r.admission.full(origin)
	if e == nil || c.Affinity != nil || r.policy.Load() != nil {
		return nil
	}
	if free := r.unrestricted.TryAcquire(); free != nil {
		free.Gate().Release(nil)
		return nil
	}
	r.admission.rejected.Add(1)
	return e
}

// TryAcquireRecent is TryAcquire for calls without affinity that run on the caller's goroutine. It prefers the replica
// that this processor used last, as long as that is idle: no other choice is better then. It returns nil under a
// policy.
func (r *Router) TryAcquireRecent() Replica {
	if r.policy.Load() != nil {
		return nil
	}
	return r.unrestricted.TryAcquireRecent()
}

// TryAcquire takes a slot on the hot path; the caller releases it at the replica's gate. It returns nil if the call
// has to be submitted: either calls are queued, which it must not overtake, or the replicas that it should go to are
// full. Without a policy and affinity it takes no lock and does not allocate, and its cost does not depend on the
// number of replicas. After Update has returned, it takes no slot of a removed replica.
func (r *Router) TryAcquire(c *call.Info) Replica {
	if r.policy.Load() == nil {
		if c.Affinity == nil {
			return r.unrestricted.TryAcquire()
		}
		if c.Affinity.Model != "" {
			return r.tryModel(c.Affinity.Model)
		}
	}
	room := rankBuffers.Get().(*[8]int)
	set := r.unrestricted.set.Load()
	ranks, only := r.rank(c, *set, room[:0])
	got := r.acquireRanked(set, ranks, only && (len(ranks) > 0 || len(*set) == 0))
	rankBuffers.Put(room)
	return got
}

// rankBuffers are for ranks, which escape to policies.
var rankBuffers = sync.Pool{New: func() any { return new([8]int) }} //nolint:gochecknoglobals // a pool of buffers is not state

// acquireRanked takes a slot of the first replica of ranks that has one. If only is false, it takes a slot of any
// other replica after that.
func (r *Router) acquireRanked(set *[]Replica, ranks []int, only bool) Replica {
	if only {
		if sub := r.restrictedTo(ranks); sub != nil && sub.queued.Load() > 0 {
			return nil
		}
	} else if r.unrestricted.queued.Load() > 0 {
		return nil
	}
	for _, i := range ranks {
		if i < 0 || i >= len(*set) {
			continue
		}
		rep := (*set)[i]
		if !rep.Gate().TryAcquire() {
			continue
		}
		if r.isMember(set, rep) {
			return rep
		}
		rep.Gate().Release(nil)
	}
	if only {
		return nil
	}
	return r.unrestricted.TryAcquire()
}

// restrictedTo is the subqueue of the calls that are restricted to ranks, or nil.
func (r *Router) restrictedTo(ranks []int) *subqueue {
	if r.subqueuesInUse.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restricted[subqueueKey(ranks)]
}

// subqueueKey is the same for all orders of the same positions.
func subqueueKey(ranks []int) string {
	sorted := slices.Sorted(slices.Values(ranks))
	key := make([]byte, 0, 3*len(sorted))
	for _, i := range sorted {
		key = append(key, byte(i), byte(i>>8), byte(i>>16))
	}
	return string(key)
}

// Submit gets a slot for w, now or later. It calls Assigned or Failed of w exactly once, perhaps before Submit
// returns, unless the ticket is cancelled. Calls of one origin that the same replicas may serve are served in the
// order of their Submits, and origins in turn. Failed has reason backpressure if too many calls of the origin wait.
func (r *Router) Submit(b *call.Batch, t *Ticket, origin string, c *call.Info, w Waiting) {
	t.info = c
	if c.Affinity == nil && r.policy.Load() == nil {
		r.unrestricted.Submit(b, t, origin, w)
		return
	}
	t.to, t.origin, t.seq = w, origin, r.admission.seq.Add(1)
	r.place(b, t, false)
}

// Requeue queues a call whose attempt did not start. It waits again at its original place, before all calls of its
// origin that were submitted later. A call that took its slot with TryAcquire and was never submitted has no place;
// it goes before all others of its origin. The caller has to give the slot back before, and to close or remove a
// replica that would fail the call again: the router assigns any replica with a free slot.
func (r *Router) Requeue(b *call.Batch, t *Ticket, origin string, c *call.Info, w Waiting) {
	t.info = c
	if c.Affinity == nil && r.policy.Load() == nil {
		r.unrestricted.Requeue(b, t, origin, w)
		return
	}
	t.to, t.origin = w, origin
	r.place(b, t, true)
}

// place assigns a slot, or queues the call where it has to wait. Calls with a policy or an affinity are queued with
// mu held, so that Cancel and Update find each in one place.
func (r *Router) place(b *call.Batch, t *Ticket, requeued bool) {
	if r.routedByModel(t) {
		r.placeModel(b, t, requeued)
		return
	}
	room := rankBuffers.Get().(*[8]int)
	defer rankBuffers.Put(room)
	for {
		set := r.unrestricted.set.Load()
		ranks, only := r.rank(t.info, *set, room[:0])
		only = only && (len(ranks) > 0 || len(*set) == 0)
		if got := r.acquireRanked(set, ranks, only); got != nil {
			t.to.Assigned(b, got)
			return
		}
		r.mu.Lock()
		sub := r.unrestricted
		if only {
			if r.unrestricted.set.Load() != set {
				r.mu.Unlock()
				continue // there are other replicas, and perhaps other ranks
			}
			sub = r.restrictedLocked(*set, ranks)
		}
		sub.mu.Lock()
		e := sub.enqueueLocked(t, requeued)
		r.mu.Unlock()
		if e != nil {
			sub.mu.Unlock()
			t.to.Failed(b, e)
			return
		}
		sub.serve()
		sub.deliver(b)
		return
	}
}

// routedByModel reports whether the replica of a call depends on its model.
func (r *Router) routedByModel(t *Ticket) bool { return t.info.Model() != "" && r.policy.Load() == nil }

// countSubqueuesLocked must be called after a change of the maps of subqueues. mu is held.
func (r *Router) countSubqueuesLocked() {
	r.subqueuesInUse.Store(int32(len(r.restricted) + len(r.byModel)))
}

// maxSubqueues is the number of restricted subqueues from which on empty ones are retired.
const maxSubqueues = 64

// restrictedLocked finds or makes the subqueue of the calls that are restricted to ranks. The slice set is the newest
// set. mu is held, and as long as it is, the subqueue is not retired.
func (r *Router) restrictedLocked(set []Replica, ranks []int) *subqueue {
	key := subqueueKey(ranks)
	if sub := r.restricted[key]; sub != nil {
		return sub
	}
	if len(r.restricted) >= maxSubqueues {
		for k, sub := range r.restricted {
			if sub.closeIfEmpty() {
				delete(r.restricted, k)
			}
		}
	}
	sub := newSubqueue(r.admission)
	members := make([]Replica, 0, len(ranks))
	for _, i := range ranks {
		if i >= 0 && i < len(set) {
			members = append(members, set[i])
		}
	}
	sub.Update(nil, members)
	r.restricted[key] = sub
	r.countSubqueuesLocked()
	return sub
}

// Cancel takes t out of its queue. If it returns true, neither Assigned nor Failed will be called. If it returns
// false, t was not queued: one of the two has been or is about to be called, or t was never submitted. The cost does
// not depend on the length of the queue.
func (r *Router) Cancel(t *Ticket) bool {
	if r.subqueuesInUse.Load() == 0 && r.policy.Load() == nil {
		return r.unrestricted.Cancel(t)
	}
	r.mu.Lock() // no call moves between subqueues meanwhile
	defer r.mu.Unlock()
	if t.moving {
		t.moving = false
		return true
	}
	sub := t.subqueue.Load()
	if sub == nil || !sub.Cancel(t) {
		return false
	}
	if m := r.byModel[t.info.Model()]; m != nil && sub == r.unrestricted {
		m.mu.Lock()
		if m.spill == t {
			m.spill = nil
			r.refreshTimer.Reset(0) // the model's next call becomes its spill
		}
		m.mu.Unlock()
	}
	return true
}

// Update sets the replicas. The slice is copied, and a replica that occurs twice counts once. Queued calls stay
// queued, and get the free slots of new replicas. A replica that is left out gets no new calls: a slot that its gate
// grants later is given back. Calls that hold a slot of it, or were assigned one just before, keep it.
func (r *Router) Update(b *call.Batch, replicas []Replica) {
	r.updating.Lock()
	defer r.updating.Unlock()
	r.absence.note(len(replicas) == 0) // before the first call that waits has a slot
	r.models.setReplicas(replicas)
	var moved []*Ticket
	var run delivery
	if r.policy.Load() != nil { // the policy may rank the new set differently
		r.mu.Lock()
		moved = r.takeModelsLocked()
		r.unrestricted.mu.Lock()
		moved = append(moved, r.unrestricted.takeAll()...)
		r.unrestricted.mu.Unlock()
		for _, t := range moved {
			t.moving = true
		}
		r.mu.Unlock()
	}
	r.unrestricted.Update(b, replicas)
	r.mu.Lock()
	for k, sub := range r.restricted {
		for _, t := range sub.retire() {
			t.moving = true
			moved = append(moved, t)
		}
		delete(r.restricted, k)
	}
	for _, sub := range r.byModel {
		r.refreshLocked(&run, sub)
	}
	r.mu.Unlock()
	run.deliver(b)
	r.move(b, moved)
}

// takeModelsLocked retires the subqueues of models. Their spills stay where they wait. mu is held.
func (r *Router) takeModelsLocked() (all []*Ticket) {
	for id, sub := range r.byModel {
		all = append(all, sub.retire()...)
		delete(r.byModel, id)
	}
	return all
}

// move queues the calls of retired subqueues where they have to wait now, at their original places.
func (r *Router) move(b *call.Batch, moved []*Ticket) {
	slices.SortFunc(moved, bySeq)
	set := *r.unrestricted.set.Load()
	to := make([][]int, len(moved)) // nil for a call that any replica may serve
	for i, t := range moved {
		ranks, only := r.rank(t.info, set, nil)
		if only && (len(ranks) > 0 || len(set) == 0) {
			to[i] = append([]int{}, ranks...)
		}
	}
	var touched, run delivery
	var failed []*Ticket
	r.mu.Lock()
	for i, t := range moved {
		r.admission.leave(t.origin)
		if !t.moving { // the call was cancelled
			continue
		}
		t.moving = false
		if r.closed != nil {
			failed = append(failed, t)
			continue
		}
		sub := r.unrestricted
		switch {
		case to[i] != nil:
			sub = r.restrictedLocked(set, to[i])
		case r.routedByModel(t):
			sub = r.modelSubqueueLocked(t.info.Model())
		}
		sub.mu.Lock()                    // a subqueue in a map, and the unrestricted one, are never retired
		r.admission.join(t.origin, true) // the call waited before; Close takes it out if it comes in between
		sub.push(t)
		sub.mu.Unlock()
		if !slices.Contains(touched, sub) {
			touched = append(touched, sub)
		}
	}
	r.countSubqueuesLocked()
	cause := r.closed
	for _, sub := range touched {
		if sub.model != "" {
			r.refreshLocked(&run, sub)
		}
	}
	r.mu.Unlock()
	for _, t := range failed {
		t.to.Failed(b, cause)
	}
	run.deliver(b)
	for _, sub := range touched {
		sub.mu.Lock()
		sub.serve()
		sub.deliver(b)
	}
}

// Close ends every waiting call with cause, and from now on every call that would have to wait. A call that finds a
// free slot still gets it.
func (r *Router) Close(cause *call.Error) {
	r.mu.Lock()
	if r.closed == nil { // calls that Update moves between two subqueues end with this error too
		r.closed = cause
	}
	r.admission.mu.Lock()
	r.admission.closed = r.closed
	r.admission.mu.Unlock()
	all := r.takeModelsLocked()
	for _, sub := range r.restricted {
		sub.mu.Lock()
		all = append(all, sub.takeAll()...)
		sub.mu.Unlock()
	}
	r.unrestricted.mu.Lock()
	all = append(all, r.unrestricted.takeAll()...)
	r.unrestricted.mu.Unlock()
	r.mu.Unlock()
	slices.SortFunc(all, bySeq)
	for _, t := range all {
		r.admission.leave(t.origin)
		t.to.Failed(nil, cause)
	}
}

func bySeq(x, y *Ticket) int { return cmp.Compare(x.seq, y.seq) }

// Waits has the times that calls waited for a slot, of those that were queued. A call that finds a slot at once is not in it.
func (r *Router) Waits() telemetry.DurationCounts { return r.admission.waits.Counts() }

// Without is how much of the time between two [call.Now] had no replica. It knows the newest absences only.
func (r *Router) Without(from, to int64) time.Duration { return r.absence.in(from, to) }

// Rejected is the number of calls that have failed because too many of their origin waited.
func (r *Router) Rejected() uint64 { return r.admission.rejected.Load() }

// QueuedByOrigin is the number of waiting calls of each origin that has any.
func (r *Router) QueuedByOrigin() map[string]int { return r.admission.waiting() }

// Queued is the number of waiting calls.
func (r *Router) Queued() int {
	n := r.unrestricted.Queued()
	if r.subqueuesInUse.Load() > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, sub := range r.restricted {
			n += sub.Queued()
		}
		for _, sub := range r.byModel {
			n += sub.Queued()
		}
	}
	return n
}

// Replicas is the current set, in the order of Update. It is shared and must not be changed.
func (r *Router) Replicas() []Replica { return r.unrestricted.Replicas() }
