package router

import (
	"math/rand/v2"
	"slices"
	"sync"
)

// models knows which replicas have which models, from what they say and from where calls were sent: the second call for a
// new model follows the first although that has not loaded it yet.
type models struct {
	mu       sync.RWMutex
	has      map[*Replica][]string // as the replica said
	holders  map[string][]*Replica // the same the other way round
	place    map[*Replica]int      // in the newest set
	expected map[string]*Replica   // where the first call for a model that nobody has was sent
	expects  map[*Replica]int      // how many models each is expected to load
	order    []string              // of expected, oldest first
}

// maxExpected bounds the memory of calls for models that are never loaded.
const maxExpected = 1024

// SetModels is told which models a replica has or is loading, after every change; also before it is in the set. Who tells
// of one that is never in it, or of one that has left it, tells at last that it has none.
func (r *Router) SetModels(rep *Replica, ids []string) { r.models.set(rep, ids) }

func (m *models) set(rep *Replica, ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.has == nil {
		m.has, m.holders = map[*Replica][]string{}, map[string][]*Replica{}
	}
	m.dropLocked(rep)
	if len(ids) == 0 {
		return
	}
	m.has[rep] = slices.Clone(ids)
	for _, id := range ids {
		m.holders[id] = append(slices.Clone(m.holders[id]), rep) // readers may hold the old slice
		m.forgetLocked(id)
	}
}

func (m *models) dropLocked(rep *Replica) {
	for _, id := range m.has[rep] {
		var left []*Replica
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
	delete(m.has, rep)
}

func (m *models) forgetLocked(id string) {
	if rep := m.expected[id]; rep != nil {
		delete(m.expected, id)
		if m.expects[rep]--; m.expects[rep] == 0 {
			delete(m.expects, rep)
		}
		m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == id })
	}
}

// expect is told where a call was sent.
func (m *models) expect(id string, rep *Replica) {
	if id == "" {
		return
	}
	m.mu.RLock()
	known := len(m.holders[id]) > 0 || m.expected[id] != nil
	m.mu.RUnlock()
	if known {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.holders[id]) > 0 || m.expected[id] != nil {
		return
	}
	if m.expected == nil {
		m.expected, m.expects = map[string]*Replica{}, map[*Replica]int{}
	}
	if len(m.order) >= maxExpected {
		m.forgetLocked(m.order[0])
	}
	m.expected[id] = rep
	m.expects[rep]++
	m.order = append(m.order, id)
}

// keep is told the new set. Of a replica that is not in it yet it may be known already what it has.
func (m *models) keep(set []*Replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.place
	m.place = make(map[*Replica]int, len(set))
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
	for id, rep := range m.expected {
		if _, ok := m.place[rep]; !ok {
			m.forgetLocked(id)
		}
	}
}

// sampled is how many replicas are compared for the fewest models; of more, that many from a random one on.
const sampled = 64

// rank puts the replicas that have the model first, the less loaded of two in front; if none has it, the one that is
// expected to, else the one with the fewest models. Calls that find those full go anywhere: a busy holder spills over.
func (m *models) rank(id string, set []*Replica, ranks []int) []int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	holders := m.holders[id]
	if len(holders) == 0 {
		if rep := m.expected[id]; rep != nil {
			holders = []*Replica{rep}
		}
	}
	if len(holders) > 0 {
		var room [8]int
		places := room[:0]
		for _, h := range holders {
			if i, ok := m.place[h]; ok && i < len(set) && set[i] == h { // the set may be older or newer
				places = append(places, i)
			}
		}
		first := two(set, places, ranks)
		for _, i := range places {
			if !slices.Contains(first[len(ranks):], i) {
				first = append(first, i)
			}
		}
		if len(first) > len(ranks) {
			return first
		}
	}
	return m.fewestLocked(set, ranks)
}

func (m *models) fewestLocked(set []*Replica, ranks []int) []int {
	if len(set) == 0 {
		return ranks
	}
	n := min(len(set), sampled)
	from := rand.IntN(len(set))
	best, least, load := -1, 0, 0
	for i := range n {
		at := (from + i) % len(set)
		count, busy := len(m.has[set[at]])+m.expects[set[at]], set[at].Gate.Load()
		if best < 0 || count < least || count == least && busy < load {
			best, least, load = at, count, busy
		}
	}
	return append(ranks, best)
}
