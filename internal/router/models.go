package router

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// models knows which replicas have which models, from what they say and from where calls were sent: the second call for a
// new model follows the first although that has not loaded it yet.
type models struct {
	mu       sync.RWMutex
	has      map[Replica][]string // as the replica said
	holders  map[string][]Replica // the same the other way round, and those in expected
	place    map[Replica]int      // in the newest set
	expected map[string][]Replica // where calls for a model were sent that did not say that they have it
	expects  map[Replica]int      // how many models each is expected to load
	order    []string             // of expected, oldest first
}

// maxExpected bounds the memory of calls for models that are never loaded.
const maxExpected = 1024

// SetModels is told which models a replica has or is loading, after every change; also before it is in the set. Calls that
// wait for one of those may go there from now on.
func (r *Router) SetModels(rep Replica, ids []string) {
	changed := r.models.set(rep, ids)
	var run delivery
	r.mu.Lock()
	for _, id := range changed {
		r.settleLocked(&run, r.byModel[id])
	}
	r.mu.Unlock()
	run.deliver(nil)
}

// Forget is told that a replica is gone for good, whose models may have been told before it was in the set or after it left.
func (r *Router) Forget(rep Replica) { r.models.set(rep, nil) }

// set gives the models of which the holders may be others now.
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

// forgetLocked expects no more that rep loads the model.
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

// expect is told where a call was sent.
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

// keep is told the new set. Of a replica that is not in it yet it may be known already what it has.
func (m *models) keep(set []Replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.place
	m.place = make(map[Replica]int, len(set))
	for _, rep := range set {
		if _, twice := m.place[rep]; !twice {
			m.place[rep] = len(m.place) // its place in the set, which has no doubles
		}
	}
	for rep := range before {
		if _, ok := m.place[rep]; !ok {
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

// of is which replicas have the model or are expected to. It is shared and must not be changed. One of them may have left
// the set just now.
func (m *models) of(id string) []Replica {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, rep := range m.holders[id] {
		if _, ok := m.place[rep]; !ok { // it spoke after it had been removed
			in := slices.Clone(m.holders[id][:i])
			for _, rep := range m.holders[id][i:] {
				if _, ok := m.place[rep]; ok {
					in = append(in, rep)
				}
			}
			return in
		}
	}
	return m.holders[id]
}

// sampled is how many replicas are compared for the fewest models; of more, that many from a random one on.
const sampled = 64

// fewest is the replica with the fewest models, of those the least loaded one; nil without replicas.
func (m *models) fewest(set []Replica) Replica {
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

// matchingTime is how long a call waits for a replica that has its model before it goes to one that would have to load it
// (the reference's matching time). A load costs many calls' time, and puts out a model that others use: calls that spill
// over as soon as their replica is full make each other's models go, until every call is a load.
const matchingTime = time.Second

// matchingTick is how often the calls that wait for a model are looked at.
const matchingTick = matchingTime / 4

// modelQueue is what the lane of one model has beside its queue, which waits for the replicas that have the model. One call at
// a time, the scout, waits in the lane of all replicas instead: the oldest of a model that no replica has, or when it has
// waited for the matching time. Where it goes the others may follow. So the calls of a model stay in order, and however many
// wait, one replica after another begins to load it.
type modelQueue struct {
	model   string
	all     *lane   // where the scout waits
	scout   *Ticket // guarded by the model's lane.mu
	spilled int64   // when the last scout left, in the clock of call.Now; guarded by Router.mu
}

// older takes the scout out of the lane where it waits if it is before the next of this lane in order. mu is held.
func (r *lane) older() *Ticket {
	s := r.scout
	if s == nil || r.queues.turn != nil && s.seq > r.queues.turn.head.seq || !r.all.claim(s) {
		return nil
	}
	r.scout = nil
	return s
}

// claim takes t out of its queue for a slot of somebody else's.
func (r *lane) claim(t *Ticket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.queue == nil {
		return false
	}
	r.queues.remove(t)
	r.queued.Add(-1)
	return true
}

// oldest is the first of all that wait, nil if none does. mu is held.
func (r *lane) oldest() *Ticket {
	var first *Ticket
	for q := r.queues.turn; q != nil; {
		if first == nil || q.head.seq < first.seq {
			first = q.head
		}
		if q = q.next; q == r.queues.turn {
			break
		}
	}
	return first
}

// delivery are lanes with assigned calls that are to be told once Router.mu is free.
type delivery []*lane

func (d delivery) deliver(b *call.Batch) {
	for _, l := range d {
		l.mu.Lock()
		l.deliver(b)
	}
}

// tryModel takes a slot for a call with a model: of a replica that has it, or, if none has, of the one with the fewest models
// and then of any.
func (r *Router) tryModel(id string) Replica {
	if r.many.Load() != 0 {
		r.mu.Lock()
		l := r.byModel[id]
		waiting := l != nil && l.waits()
		r.mu.Unlock()
		if waiting {
			return nil
		}
	}
	set := r.any.set.Load()
	if holders := r.models.of(id); len(holders) > 0 {
		return r.oneOf(set, holders)
	}
	// One call at a time looks for a replica that is to load a model, so that the next follows it.
	for {
		r.mu.Lock()
		if holders := r.models.of(id); len(holders) > 0 {
			r.mu.Unlock()
			return r.oneOf(r.any.set.Load(), holders)
		}
		set, got := r.any.set.Load(), (Replica)(nil)
		if r.any.queued.Load() == 0 {
			if got = r.models.fewest(*set); got != nil && !got.Gate().TryAcquire() {
				got = pick(*set)
			}
		}
		stale := got != nil && r.any.set.Load() != set
		if got != nil && !stale {
			r.models.expect(id, got)
		}
		r.mu.Unlock()
		if !stale {
			return got
		}
		got.Gate().Release(nil) // others may be told, so without the lock
	}
}

// oneOf takes a slot of one of a few replicas, the less loaded one of two first.
func (r *Router) oneOf(set *[]Replica, of []Replica) Replica {
	from := 0
	if n := len(of); n > 1 {
		from = rand.IntN(n)
		if next := (from + 1) % n; of[next].Gate().Load() < of[from].Gate().Load() {
			from = next
		}
	}
	for i := range of {
		rep := of[(from+i)%len(of)]
		if !rep.Gate().TryAcquire() {
			continue
		}
		if r.stays(set, rep) {
			return rep
		}
		rep.Gate().Release(nil)
	}
	return nil
}

// stays says that rep, of which a slot was taken after set was loaded, had not been removed by then, as in lane.TryAcquire.
func (r *Router) stays(set *[]Replica, rep Replica) bool {
	now := r.any.set.Load()
	return now == set || slices.Contains(*now, rep)
}

// waits says that calls of the lane's model wait.
func (r *lane) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scout != nil || r.queues.turn != nil
}

// placeModel assigns a slot to a call with a model, or queues it with the others of its model.
func (r *Router) placeModel(b *call.Batch, t *Ticket, again bool) {
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
		l := r.modelLaneLocked(id)
		if !again || t.since == 0 {
			t.since = call.Now()
		}
		l.mu.Lock()
		e = l.queueUp(t, again)
		if e != nil && l.scout == nil && l.queues.turn == nil && len(r.models.of(id)) == 0 {
			r.any.mu.Lock()
			if r.any.queues.turn == nil {
				got = r.any.scan()
			}
			r.any.mu.Unlock()
			if got != nil {
				r.models.expect(id, got)
			}
		}
		l.mu.Unlock()
		r.settleLocked(&run, l)
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

// modelLaneLocked finds or makes the lane of a model. mu is held.
func (r *Router) modelLaneLocked(id string) *lane {
	l := r.byModel[id]
	if l == nil {
		l = newLane(r.shared)
		l.model, l.all, l.spilled = id, r.any, call.Now()-int64(matchingTime)
		r.byModel[id] = l
		r.countLocked()
		if len(r.byModel) == 1 {
			r.aging = time.AfterFunc(matchingTick, r.age)
		}
	}
	return l
}

// settleLocked gives a model's lane the replicas that have the model by now, and sends a scout if it is time. The calls that
// get a slot by that are told later, by run. mu is held.
func (r *Router) settleLocked(run *delivery, l *lane) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if holders := r.models.of(l.model); !slices.Equal(holders, *l.set.Load()) {
		l.members(holders)
	}
	l.serve()
	if l.ready.head != nil {
		*run = append(*run, l)
	}
	t := l.oldest()
	all := r.any
	before := l.scout
	switch {
	case t == nil || before != nil && before.seq <= t.seq:
		return
	case before != nil: // t came back to its place before it
		if !all.claim(before) {
			return // it has a slot
		}
		l.scout = nil
		l.push(before)
	}
	if now := call.Now(); before == nil && len(*l.set.Load()) > 0 && (now-t.since < int64(matchingTime) || now-l.spilled < int64(matchingTime)) {
		return
	}
	l.queues.remove(t)
	l.queued.Add(-1)
	l.scout = t
	all.mu.Lock()
	defer all.mu.Unlock()
	all.push(t)
	if rep := r.models.fewest(*all.set.Load()); rep != nil && all.Queued() == 1 && rep.Gate().TryAcquire() {
		all.assign(rep)
	} else {
		all.serve()
	}
	if all.ready.head != nil {
		*run = append(*run, all)
	}
}

// settle is settleLocked of the lane of a model, if there is one.
func (r *Router) settle(b *call.Batch, id string) {
	var run delivery
	r.mu.Lock()
	r.settleLocked(&run, r.byModel[id])
	r.mu.Unlock()
	run.deliver(b)
}

// sent notes that t, a call with a model from the lane of all replicas, goes to rep. settle follows.
func (r *Router) sent(t *Ticket, id string, rep Replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.models.expect(id, rep)
	if l := r.byModel[id]; l != nil {
		l.mu.Lock()
		if l.scout == t {
			l.scout, l.spilled = nil, call.Now()
		}
		l.mu.Unlock()
	}
}

// age looks at the calls that wait for a model, as long as there are any.
func (r *Router) age() {
	var run delivery
	r.mu.Lock()
	for id, l := range r.byModel {
		if l.close() {
			delete(r.byModel, id)
			continue
		}
		r.settleLocked(&run, l)
	}
	r.countLocked()
	if len(r.byModel) > 0 {
		r.aging.Reset(matchingTick)
	}
	r.mu.Unlock()
	run.deliver(nil)
}
