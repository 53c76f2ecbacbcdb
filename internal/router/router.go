// Package router picks a replica for a call. There is one router per deployment and process; it has no goroutine and
// does no I/O: gates are joined to it by an interface.
//
// The hot path takes no lock: with nothing queued, a call draws two replicas of an immutable snapshot and takes a slot at
// the less loaded one. A [Policy], and the affinity of a call, put other replicas first. Only when that fails does the call
// queue, in a lane: one for the calls that any replica may serve, and one for each set of replicas to which a policy has
// restricted calls that had to wait. Lanes take turns at the gates they share, as the routers of different processes do.
package router

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Policy ranks replicas for a call. Its methods are called on the goroutine of the call, concurrently, and must not block.
type Policy interface {
	// Rank appends to ranks the places in set of the replicas that the call should go to, best first: a full one is passed
	// over for the next. If only is true the call goes to none but those, and waits for one of them; otherwise, and if
	// there are none in set, the rest of the set follows by power of two choices. set is shared and must not be changed; ranks
	// has room for some and may grow. A place that set does not have is passed over.
	Rank(c *call.Info, set []Replica, ranks []int) (_ []int, only bool)
}

// Router is the queue and picker of one deployment. All methods may be called from any goroutine.
type Router struct {
	any    *lane // of the calls that any replica may serve
	shared *backlog
	policy atomic.Pointer[Policy] // nil: power of two choices, and what follows
	node   string
	local  atomic.Pointer[locality]
	models models

	sessions *ConsistentHash // from which calls spill over to all

	updating sync.Mutex // one Update at a time

	mu      sync.Mutex
	lanes   map[string]*lane // by the places in the set that they are restricted to
	byModel map[string]*lane // of calls that wait for a replica with their model
	aging   *time.Timer      // looks at those, as long as there are any
	many    atomic.Int32     // 0 if there are none of both, and no ticket is between two
	closed  *call.Error      // why nothing waits any more
}

// New makes a router without replicas: calls wait for the first. node is where its callers are.
func New(node string) *Router {
	s := newBacklog()
	r := &Router{
		any: newLane(s), shared: s, node: node, lanes: map[string]*lane{}, byModel: map[string]*lane{},
		sessions: NewConsistentHash(DefaultVirtualNodes, DefaultFallbacks),
	}
	r.any.home = r
	return r
}

// SetPolicy replaces the policy, for calls that are routed from now on; nil is power of two choices.
func (r *Router) SetPolicy(p Policy) {
	if p == nil {
		r.policy.Store(nil)
		return
	}
	r.policy.Store(&p)
}

// SetLimit is how many calls of one origin may wait (the reference's max_queued_requests); negative means any number.
// Those that wait already stay.
func (r *Router) SetLimit(n int) { r.shared.limit.Store(int64(n)) }

// Full says why a call without affinity would fail at once if it were submitted now; nil if it would not, or if that cannot be
// known. It is for callers who would rather not begin what costs much: for example, the proxy does not read the body of a request
// for which the queue has no place. The answer may be another one when the call is submitted.
func (r *Router) Full(origin string, c *call.Info) *call.Error {
	e := r.shared.full(origin)
	if e == nil || c.Affinity != nil || r.policy.Load() != nil {
		return nil
	}
	if free := r.any.TryAcquire(); free != nil {
		free.Gate().Release(nil)
		return nil
	}
	return e
}

// TryAcquireNear is TryAcquire for calls without affinity that run on the caller's goroutine: it prefers the replica that
// this processor used last, as long as that is idle. Under a policy it gives nothing.
func (r *Router) TryAcquireNear() Replica {
	if r.policy.Load() != nil {
		return nil
	}
	return r.any.TryAcquireNear()
}

// TryAcquire takes a slot on the hot path; the caller releases it at the replica's gate. nil means that the call has to be
// submitted: something is queued, which it must not overtake, or the replicas that it should go to are full. Without a
// policy and affinity it takes no lock and does not allocate, and its cost does not depend on the number of replicas.
// After Update has returned it gives none of the removed replicas.
func (r *Router) TryAcquire(c *call.Info) Replica {
	if r.policy.Load() == nil {
		if c.Affinity == nil {
			return r.any.TryAcquire()
		}
		if c.Affinity.Model != "" {
			return r.tryModel(c.Affinity.Model)
		}
	}
	room := rooms.Get().(*[8]int)
	set := r.any.set.Load()
	ranks, only := r.rank(c, *set, room[:0])
	got := r.ranked(set, ranks, only && (len(ranks) > 0 || len(*set) == 0))
	rooms.Put(room)
	return got
}

// rooms are for ranks, which escape to policies.
var rooms = sync.Pool{New: func() any { return new([8]int) }} //nolint:gochecknoglobals // a pool of buffers is not state

// ranked takes a slot of the first of ranks, places in set, that has one; for a call that may go anywhere, else of any.
func (r *Router) ranked(set *[]Replica, ranks []int, only bool) Replica {
	if only {
		if l := r.waitingIn(ranks); l != nil && l.queued.Load() > 0 {
			return nil
		}
	} else if r.any.queued.Load() > 0 {
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
		if r.stays(set, rep) {
			return rep
		}
		rep.Gate().Release(nil)
	}
	if only {
		return nil
	}
	return r.any.TryAcquire()
}

// waitingIn is the lane of the calls that are restricted to ranks, if there is one.
func (r *Router) waitingIn(ranks []int) *lane {
	if r.many.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes[laneKey(ranks)]
}

// laneKey names the set of places.
func laneKey(ranks []int) string {
	sorted := slices.Sorted(slices.Values(ranks))
	key := make([]byte, 0, 3*len(sorted))
	for _, i := range sorted {
		key = append(key, byte(i), byte(i>>8), byte(i>>16))
	}
	return string(key)
}

// Submit gives w a slot now or later: Assigned or Failed is called exactly once, perhaps before Submit returns, unless the
// ticket is cancelled. Calls of one origin that the same replicas may serve are served in the order of their Submits,
// origins in turn. Failed has reason backpressure if too many of the origin wait.
func (r *Router) Submit(b *call.Batch, t *Ticket, origin string, c *call.Info, w Waiting) {
	t.info = c
	if c.Affinity == nil && r.policy.Load() == nil {
		r.any.Submit(b, t, origin, w)
		return
	}
	t.to, t.origin, t.seq = w, origin, r.shared.seq.Add(1)
	r.place(b, t, false)
}

// Requeue is for a call whose attempt did not start: it waits again at its original place, before everything of its origin
// that was submitted later. A call that took its slot with TryAcquire and was never submitted has no place; it goes
// before all others of its origin. The caller has given the slot back, and has closed or removed a replica that would
// fail it again: the router assigns whatever has a free slot.
func (r *Router) Requeue(b *call.Batch, t *Ticket, origin string, c *call.Info, w Waiting) {
	t.info = c
	if c.Affinity == nil && r.policy.Load() == nil {
		r.any.Requeue(b, t, origin, w)
		return
	}
	t.to, t.origin = w, origin
	r.place(b, t, true)
}

// place assigns a slot, or queues the call where it has to wait. Calls that policies and affinities have a say in are queued
// with mu held, so that Cancel and Update find each in one place.
func (r *Router) place(b *call.Batch, t *Ticket, again bool) {
	if r.byItsModel(t) {
		r.placeModel(b, t, again)
		return
	}
	room := rooms.Get().(*[8]int)
	defer rooms.Put(room)
	for {
		set := r.any.set.Load()
		ranks, only := r.rank(t.info, *set, room[:0])
		only = only && (len(ranks) > 0 || len(*set) == 0)
		if got := r.ranked(set, ranks, only); got != nil {
			t.to.Assigned(b, got)
			return
		}
		r.mu.Lock()
		l := r.any
		if only {
			if r.any.set.Load() != set {
				r.mu.Unlock()
				continue // other replicas, and perhaps other ranks
			}
			l = r.laneLocked(*set, ranks)
		}
		l.mu.Lock()
		e := l.queueUp(t, again)
		r.mu.Unlock()
		if e != nil {
			l.mu.Unlock()
			t.to.Failed(b, e)
			return
		}
		l.serve()
		l.deliver(b)
		return
	}
}

// byItsModel says that where a call goes depends on its model.
func (r *Router) byItsModel(t *Ticket) bool { return t.info.Model() != "" && r.policy.Load() == nil }

// countLocked is called after a change of the lanes. mu is held.
func (r *Router) countLocked() { r.many.Store(int32(len(r.lanes) + len(r.byModel))) }

// maxLanes is how many lanes there are before empty ones are retired.
const maxLanes = 64

// laneLocked finds or makes the lane of the calls that may go to ranks of set, which is the newest, only. mu is held, and as
// long as it is, the lane is not retired.
func (r *Router) laneLocked(set []Replica, ranks []int) *lane {
	key := laneKey(ranks)
	if l := r.lanes[key]; l != nil {
		return l
	}
	if len(r.lanes) >= maxLanes {
		for k, l := range r.lanes {
			if l.close() {
				delete(r.lanes, k)
			}
		}
	}
	l := newLane(r.shared)
	members := make([]Replica, 0, len(ranks))
	for _, i := range ranks {
		if i >= 0 && i < len(set) {
			members = append(members, set[i])
		}
	}
	l.Update(nil, members)
	r.lanes[key] = l
	r.countLocked()
	return l
}

// Cancel takes t out of its queue. true: neither Assigned nor Failed will be called. false: it was not queued, so one of
// them has been or is about to be called, or it was never submitted. Its cost does not depend on the queue.
func (r *Router) Cancel(t *Ticket) bool {
	if r.many.Load() == 0 && r.policy.Load() == nil {
		return r.any.Cancel(t)
	}
	r.mu.Lock() // nothing moves between lanes
	defer r.mu.Unlock()
	if t.moving {
		t.moving = false
		return true
	}
	l := t.lane.Load()
	if l == nil || !l.Cancel(t) {
		return false
	}
	if m := r.byModel[t.info.Model()]; m != nil && l == r.any {
		m.mu.Lock()
		if m.scout == t {
			m.scout = nil
			r.aging.Reset(0) // the next in order goes in its stead
		}
		m.mu.Unlock()
	}
	return true
}

// Update sets the replicas; the slice is copied, and a replica that occurs twice counts once. Queued calls stay queued,
// and are assigned to what is free. A replica that is left out gets no new calls: a slot that one of its gate's grants
// brings is given back. Calls that hold a slot of it, or were assigned one just before, keep it.
func (r *Router) Update(b *call.Batch, replicas []Replica) {
	r.updating.Lock()
	defer r.updating.Unlock()
	r.models.keep(replicas)
	var moved []*Ticket
	var run delivery
	if r.policy.Load() != nil { // what it says of those may be different now
		r.mu.Lock()
		moved = r.takeModelsLocked()
		r.any.mu.Lock()
		moved = append(moved, r.any.takeAll()...)
		r.any.mu.Unlock()
		for _, t := range moved {
			t.moving = true
		}
		r.mu.Unlock()
	}
	r.any.Update(b, replicas)
	r.mu.Lock()
	for k, l := range r.lanes {
		for _, t := range l.retire() {
			t.moving = true
			moved = append(moved, t)
		}
		delete(r.lanes, k)
	}
	for _, l := range r.byModel {
		r.settleLocked(&run, l)
	}
	r.mu.Unlock()
	run.deliver(b)
	r.move(b, moved)
}

// takeModelsLocked retires the lanes of models. Their scouts are left where they wait. mu is held.
func (r *Router) takeModelsLocked() (all []*Ticket) {
	for id, l := range r.byModel {
		all = append(all, l.retire()...)
		delete(r.byModel, id)
	}
	return all
}

// move queues the calls of retired lanes where they have to wait now, at their places.
func (r *Router) move(b *call.Batch, moved []*Ticket) {
	slices.SortFunc(moved, inOrder)
	set := *r.any.set.Load()
	to := make([][]int, len(moved)) // nil: anywhere
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
		r.shared.leave(t.origin)
		if !t.moving { // cancelled
			continue
		}
		t.moving = false
		if r.closed != nil {
			failed = append(failed, t)
			continue
		}
		l := r.any
		switch {
		case to[i] != nil:
			l = r.laneLocked(set, to[i])
		case r.byItsModel(t):
			l = r.modelLaneLocked(t.info.Model())
		}
		l.mu.Lock()                   // a lane that is in the map, or the one that is always there, is not dead
		r.shared.join(t.origin, true) //nolint:errcheck // it waited before; Close takes it out if it comes in between
		l.push(t)
		l.mu.Unlock()
		if !slices.Contains(touched, l) {
			touched = append(touched, l)
		}
	}
	r.countLocked()
	cause := r.closed
	for _, l := range touched {
		if l.model != "" {
			r.settleLocked(&run, l)
		}
	}
	r.mu.Unlock()
	for _, t := range failed {
		t.to.Failed(b, cause)
	}
	run.deliver(b)
	for _, l := range touched {
		l.mu.Lock()
		l.serve()
		l.deliver(b)
	}
}

// Close ends every call that waits with cause, and every one that would have to wait from now on. Calls that find a slot
// still get it.
func (r *Router) Close(cause *call.Error) {
	r.mu.Lock()
	if r.closed == nil { // what Update has between two lanes ends with this too
		r.closed = cause
	}
	r.shared.mu.Lock()
	r.shared.closed = r.closed
	r.shared.mu.Unlock()
	all := r.takeModelsLocked()
	for _, l := range r.lanes {
		l.mu.Lock()
		all = append(all, l.takeAll()...)
		l.mu.Unlock()
	}
	r.any.mu.Lock()
	all = append(all, r.any.takeAll()...)
	r.any.mu.Unlock()
	r.mu.Unlock()
	slices.SortFunc(all, inOrder)
	for _, t := range all {
		r.shared.leave(t.origin)
		t.to.Failed(nil, cause)
	}
}

func inOrder(x, y *Ticket) int { return cmp.Compare(x.seq, y.seq) }

// Queued is the number of calls that wait.
func (r *Router) Queued() int {
	n := r.any.Queued()
	if r.many.Load() > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, l := range r.lanes {
			n += l.Queued()
		}
		for _, l := range r.byModel {
			n += l.Queued()
		}
	}
	return n
}

// Replicas is the current set, in the order of Update. It is shared and must not be changed.
func (r *Router) Replicas() []Replica { return r.any.Replicas() }
