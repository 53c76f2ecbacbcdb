package router

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// models has the replicas of each model. A replica has a model if its host reports it, or if a call for the model was
// sent to it. For example, two calls for a new model come one after the other: the first goes to the replica with the
// fewest models, and the second follows it there, although the model has not loaded yet.
type models struct {
	mu       sync.RWMutex
	has      map[Replica][]string // models of each replica, as its host reports them
	holders  map[string][]Replica // replicas of each model: the inverse of has, and the replicas in expected
	place    map[Replica]int      // position of each replica in the newest set
	expected map[string][]Replica // replicas to which calls for a model were sent, and which do not report it yet
	expects  map[Replica]int      // number of models that each replica is expected to load
	order    []string             // the keys of expected, oldest first
	leaving  leaving
}

// maxExpected is the number of models that are expected. It bounds the memory of calls for models that are never
// loaded.
const maxExpected = 1024

// SetModels sets the models that a replica has or is loading. The host calls it after every change, also before the
// replica is in the set. Waiting calls for one of these models may go to the replica from now on.
func (r *Router) SetModels(rep Replica, ids []string) {
	changed := r.models.set(rep, ids)
	var run delivery
	r.mu.Lock()
	for _, id := range changed {
		r.refreshLocked(&run, r.byModel[id])
	}
	r.mu.Unlock()
	run.deliver(nil)
}

// Forget removes the models of a replica that has ended. They may have been set before it was in the set, or after it
// left.
func (r *Router) Forget(rep Replica) {
	r.models.mu.Lock()
	delete(r.models.leaving.keeps, rep)
	r.models.mu.Unlock()
	r.models.set(rep, nil)
}

// set sets the models of a replica, and returns the models whose replicas may have changed.
func (m *models) set(rep Replica, ids []string) (changed []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.has == nil {
		m.has, m.holders = map[Replica][]string{}, map[string][]Replica{}
	}
	had := m.has[rep]
	m.dropLocked(rep)
	for _, id := range had {
		if !slices.Contains(ids, id) {
			changed = append(changed, id)
		}
	}
	if len(ids) == 0 {
		return changed
	}
	m.has[rep] = slices.Clone(ids)
	for _, id := range ids {
		m.forgetLocked(id, rep)
		m.addLocked(id, rep)
		if !slices.Contains(had, id) {
			changed = append(changed, id)
		}
	}
	return changed
}

func (m *models) addLocked(id string, rep Replica) {
	m.holders[id] = append(slices.Clone(m.holders[id]), rep) // readers may hold the old slice
}

func (m *models) removeLocked(id string, rep Replica) {
	var left []Replica
	for _, h := range m.holders[id] {
		if h != rep {
			left = append(left, h)
		}
	}
	if left == nil {
		delete(m.holders, id)
	} else {
		m.holders[id] = left
	}
}

func (m *models) dropLocked(rep Replica) {
	for _, id := range m.has[rep] {
		m.removeLocked(id, rep)
	}
	delete(m.has, rep)
}

// forgetLocked ends the expectation that rep loads the model.
func (m *models) forgetLocked(id string, rep Replica) {
	i := slices.Index(m.expected[id], rep)
	if i < 0 {
		return
	}
	m.removeLocked(id, rep)
	if m.expected[id] = slices.Delete(m.expected[id], i, i+1); len(m.expected[id]) == 0 {
		delete(m.expected, id)
		m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == id })
	}
	if m.expects[rep]--; m.expects[rep] == 0 {
		delete(m.expects, rep)
	}
}

// expect notes that a call for a model was sent to a replica.
func (m *models) expect(id string, rep Replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.holders[id], rep) {
		return
	}
	if m.expected == nil {
		m.expected, m.expects = map[string][]Replica{}, map[Replica]int{}
	}
	if m.holders == nil {
		m.has, m.holders = map[Replica][]string{}, map[string][]Replica{}
	}
	if len(m.expected[id]) == 0 {
		if len(m.order) >= maxExpected {
			for oldest := m.order[0]; len(m.expected[oldest]) > 0; {
				m.forgetLocked(oldest, m.expected[oldest][0])
			}
		}
		m.order = append(m.order, id)
	}
	m.expected[id] = append(m.expected[id], rep)
	m.expects[rep]++
	m.addLocked(id, rep)
}

// setReplicas sets the set of replicas. A replica may report its models before it is in the set.
func (m *models) setReplicas(set []Replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.place
	m.place = make(map[Replica]int, len(set))
	for _, rep := range set {
		if _, twice := m.place[rep]; !twice {
			m.place[rep] = len(m.place) // position in the set without doubles
		}
	}
	for rep := range before {
		if _, ok := m.place[rep]; !ok && m.leaving.keeps[rep] == nil {
			m.dropLocked(rep)
		}
	}
	for id, reps := range m.expected {
		for _, rep := range slices.Clone(reps) {
			if _, ok := m.place[rep]; !ok {
				m.forgetLocked(id, rep)
			}
		}
	}
}

// replicasOf are the replicas that have the model or are expected to load it, and get calls for it. The slice is shared and
// must not be changed. One of them may have left the set a moment before.
func (m *models) replicasOf(id string) []Replica {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, rep := range m.holders[id] {
		if !m.takesLocked(id, rep) { // for example, the replica reported a model after it had been removed
			in := slices.Clone(m.holders[id][:i])
			for _, rep := range m.holders[id][i:] {
				if m.takesLocked(id, rep) {
					in = append(in, rep)
				}
			}
			return in
		}
	}
	return m.holders[id]
}

// sampled is the number of replicas that are compared for the fewest models. In a larger set they begin at a random
// one.
const sampled = 64

// withFewest is the replica with the fewest models, and of several such replicas the least loaded one. It is nil
// without replicas.
func (m *models) withFewest(set []Replica) Replica {
	if len(set) == 0 {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	from := rand.IntN(len(set))
	var best Replica
	least, load := 0, 0
	for i := range min(len(set), sampled) {
		rep := set[(from+i)%len(set)]
		count, busy := len(m.has[rep])+m.expects[rep], rep.Gate().Load()
		if best == nil || count < least || count == least && busy < load {
			best, least, load = rep, count, busy
		}
	}
	return best
}

// matchingTime is the time that a call waits for a replica that has its model, before it goes to a replica that has
// to load it (Ray Serve's matching time). A load costs the time of many calls, and unloads a model that other calls
// use. If calls spilled as soon as their replica is full, they would unload each other's models, until every call is
// a load.
const matchingTime = time.Second

// matchingTick is the time between two checks of the calls that wait for a model.
const matchingTick = matchingTime / 4

// modelCalls is the part of a subqueue that only the subqueues of models have. Such a subqueue waits for the replicas
// that have the model. One call at a time, the spill, waits in the unrestricted subqueue instead. It is the oldest
// call of the model, if no replica has the model, or if the call has waited for the matching time. The other calls
// may follow the spill to its replica. For example, ten calls wait for a model at one full replica: after a second
// the first of them goes to any replica with a free slot, which begins to load the model, and the other nine may go
// to both. So the calls of a model stay in order, and one replica after the other begins to load it, however many
// calls wait.
type modelCalls struct {
	model        string
	unrestricted *subqueue // where the spill waits
	spill        *Ticket   // guarded by the mu of the model's subqueue
	lastSpill    int64     // time at which the last spill left, in the clock of call.Now; guarded by Router.mu
}

// takeSpill takes the spill out of the unrestricted subqueue, if it is older than the next call of this subqueue.
// Otherwise it returns nil. mu is held.
func (s *subqueue) takeSpill() *Ticket {
	t := s.spill
	if t == nil || s.queues.turn != nil && t.seq > s.queues.turn.head.seq || !s.unrestricted.claim(t) {
		return nil
	}
	s.spill = nil
	return t
}

// claim takes t out of its list, for a slot that another subqueue has. It returns false if t is not queued.
func (s *subqueue) claim(t *Ticket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.queue == nil {
		return false
	}
	s.queues.remove(t)
	s.queued.Add(-1)
	return true
}

// oldest is the waiting call that was submitted first, or nil. mu is held.
func (s *subqueue) oldest() *Ticket {
	var first *Ticket
	for q := s.queues.turn; q != nil; {
		if first == nil || q.head.seq < first.seq {
			first = q.head
		}
		if q = q.next; q == s.queues.turn {
			break
		}
	}
	return first
}

// delivery has the subqueues whose assigned calls are delivered once Router.mu is free.
type delivery []*subqueue

func (d delivery) deliver(b *call.Batch) {
	for _, sub := range d {
		sub.mu.Lock()
		sub.deliver(b)
	}
}

// tryModel takes a slot for a call with a model. It takes it at a replica that has the model. If there is none, it
// takes it at the replica with the fewest models, or at any other.
func (r *Router) tryModel(id string) Replica {
	if r.subqueuesInUse.Load() != 0 {
		r.mu.Lock()
		sub := r.byModel[id]
		waiting := sub != nil && sub.hasCalls()
		r.mu.Unlock()
		if waiting {
			return nil
		}
	}
	set := r.unrestricted.set.Load()
	if holders := r.models.replicasOf(id); len(holders) > 0 {
		return r.acquireOneOf(set, holders, id)
	}
	// One call at a time chooses a replica for a new model, so that the next call follows it.
	for {
		r.mu.Lock()
		if holders := r.models.replicasOf(id); len(holders) > 0 {
			r.mu.Unlock()
			return r.acquireOneOf(r.unrestricted.set.Load(), holders, id)
		}
		set, got := r.unrestricted.set.Load(), (Replica)(nil)
		if r.unrestricted.queued.Load() == 0 {
			if got = r.models.withFewest(*set); got != nil && !got.Gate().TryAcquire() {
				got = pick(*set)
			}
		}
		stale := got != nil && r.unrestricted.set.Load() != set
		if got != nil && !stale {
			r.models.expect(id, got)
		}
		r.mu.Unlock()
		if !stale {
			return got
		}
		got.Gate().Release(nil) // a release may run code of waiting calls, so mu is not held
	}
}

// acquireOneOf takes a slot of one of a few replicas. The less loaded one of two is tried first, then all others.
func (r *Router) acquireOneOf(set *[]Replica, of []Replica, model string) Replica {
	from := 0
	if n := len(of); n > 1 {
		i, j := drawTwo(n)
		from, _ = lessLoaded(of, i, j)
	}
	for i := range of {
		rep := of[(from+i)%len(of)]
		if !rep.Gate().TryAcquire() {
			continue
		}
		if r.isMember(set, rep) || r.models.keeps(rep, model) {
			return rep
		}
		rep.Gate().Release(nil)
	}
	return nil
}

// isMember reports whether rep is still in the set. Its slot was taken after the set was loaded: see
// subqueue.TryAcquire.
func (r *Router) isMember(set *[]Replica, rep Replica) bool {
	now := r.unrestricted.set.Load()
	return now == set || slices.Contains(*now, rep)
}

// hasCalls reports whether calls of the subqueue's model wait.
func (s *subqueue) hasCalls() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spill != nil || s.queues.turn != nil
}

// placeModel assigns a slot to a call with a model, or queues it with the other calls of its model.
func (r *Router) placeModel(b *call.Batch, t *Ticket, requeued bool) {
	id := t.info.Model()
	got := r.tryModel(id)
	if got != nil {
		t.to.Assigned(b, got)
		return
	}
	var run delivery
	r.mu.Lock()
	e := r.closed
	if e == nil {
		sub := r.modelSubqueueLocked(id)
		if !requeued || t.since == 0 {
			t.since = call.Now()
		}
		sub.mu.Lock()
		e = sub.enqueueLocked(t, requeued)
		if e != nil && sub.spill == nil && sub.queues.turn == nil && len(r.models.replicasOf(id)) == 0 {
			r.unrestricted.mu.Lock()
			if r.unrestricted.queues.turn == nil {
				got = r.unrestricted.acquireAny()
			}
			r.unrestricted.mu.Unlock()
			if got != nil {
				r.models.expect(id, got)
			}
		}
		sub.mu.Unlock()
		r.refreshLocked(&run, sub)
	}
	r.mu.Unlock()
	run.deliver(b)
	if got != nil {
		t.to.Assigned(b, got)
		return
	}
	if e != nil {
		t.to.Failed(b, e)
	}
}

// modelSubqueueLocked finds or makes the subqueue of a model. mu is held.
func (r *Router) modelSubqueueLocked(id string) *subqueue {
	sub := r.byModel[id]
	if sub == nil {
		sub = newSubqueue(r.admission)
		sub.model, sub.unrestricted, sub.lastSpill = id, r.unrestricted, call.Now()-int64(matchingTime)
		r.byModel[id] = sub
		r.countSubqueuesLocked()
		if len(r.byModel) == 1 {
			r.refreshTimer = time.AfterFunc(matchingTick, r.refreshAll)
		}
	}
	return sub
}

// refreshLocked sets the replicas of a model's subqueue to the replicas that have the model now, and sends a spill if
// it is time. The calls that get a slot by that are delivered later, by run. mu is held.
func (r *Router) refreshLocked(run *delivery, sub *subqueue) {
	if sub == nil {
		return
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if holders := r.models.replicasOf(sub.model); !slices.Equal(holders, *sub.set.Load()) {
		sub.setReplicas(holders)
	}
	sub.serve()
	if sub.ready.head != nil {
		*run = append(*run, sub)
	}
	t := sub.oldest()
	all := r.unrestricted
	before := sub.spill
	switch {
	case t == nil || before != nil && before.seq <= t.seq:
		return
	case before != nil: // t was requeued at a place before the spill
		if !all.claim(before) {
			return // the spill has a slot
		}
		sub.spill = nil
		sub.push(before)
	}
	if now := call.Now(); before == nil && len(*sub.set.Load()) > 0 && (now-t.since < int64(matchingTime) || now-sub.lastSpill < int64(matchingTime)) {
		return
	}
	sub.queues.remove(t)
	sub.queued.Add(-1)
	sub.spill = t
	all.mu.Lock()
	defer all.mu.Unlock()
	all.push(t)
	if rep := r.models.withFewest(*all.set.Load()); rep != nil && all.Queued() == 1 && rep.Gate().TryAcquire() {
		all.assign(rep)
	} else {
		all.serve()
	}
	if all.ready.head != nil {
		*run = append(*run, all)
	}
}

// refresh is refreshLocked of the subqueue of a model, if there is one.
func (r *Router) refresh(b *call.Batch, id string) {
	var run delivery
	r.mu.Lock()
	r.refreshLocked(&run, r.byModel[id])
	r.mu.Unlock()
	run.deliver(b)
}

// noteSent notes that t, a call with a model from the unrestricted subqueue, goes to rep. The caller calls refresh
// afterwards.
func (r *Router) noteSent(t *Ticket, id string, rep Replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.models.expect(id, rep)
	if sub := r.byModel[id]; sub != nil {
		sub.mu.Lock()
		if sub.spill == t {
			sub.spill, sub.lastSpill = nil, call.Now()
		}
		sub.mu.Unlock()
	}
}

// refreshAll checks the calls that wait for a model, and sets the timer again as long as there are any.
func (r *Router) refreshAll() {
	var run delivery
	r.mu.Lock()
	for id, sub := range r.byModel {
		if sub.closeIfEmpty() {
			delete(r.byModel, id)
			continue
		}
		r.refreshLocked(&run, sub)
	}
	r.countSubqueuesLocked()
	if len(r.byModel) > 0 {
		r.refreshTimer.Reset(matchingTick)
	}
	r.mu.Unlock()
	run.deliver(nil)
}
