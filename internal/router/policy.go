package router

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// rank is what the policy, or else the affinity of a call, says of set.
func (r *Router) rank(c *call.Info, set []Replica, ranks []int) (_ []int, only bool) {
	if p := r.policy.Load(); p != nil {
		before := len(ranks)
		ranks, only = (*p).Rank(c, set, ranks)
		if only && len(set) > 0 && !slices.ContainsFunc(ranks, func(i int) bool { return i >= 0 && i < len(set) }) {
			return ranks[:min(before, len(ranks))], false // to wait for a replica that does not exist is to wait for ever
		}
		return ranks, only
	}
	a := c.Affinity
	switch {
	case a == nil || len(set) == 0:
		return ranks, false
	case a.Model != "":
		return ranks, false // see tryModel
	case a.Session != "":
		return r.sessions.find(a.Session, set, ranks), false
	case a.Local:
		return r.nearby(set, ranks), false
	}
	return ranks, false
}

// locality is which places of a set are on the router's node.
type locality struct {
	of     *Replica // the set's first element, which tells sets apart: each has a slice of its own
	places []int
}

// nearby puts two replicas of the router's own node first, the less loaded one in front.
func (r *Router) nearby(set []Replica, ranks []int) []int {
	l := r.local.Load()
	if l == nil || l.of != &set[0] {
		l = &locality{of: &set[0]}
		for i, rep := range set {
			if rep.Node() == r.node {
				l.places = append(l.places, i)
			}
		}
		r.local.Store(l)
	}
	return two(set, l.places, ranks)
}

// two draws two of places, the less loaded one first.
func two(set []Replica, places, ranks []int) []int {
	switch n := len(places); n {
	case 0:
		return ranks
	case 1:
		return append(ranks, places[0])
	default:
		i, j := rand.IntN(n), rand.IntN(n-1)
		if j >= i {
			j++
		}
		a, b := places[i], places[j]
		if set[b].Gate().Load() < set[a].Gate().Load() {
			a, b = b, a
		}
		return append(ranks, a, b)
	}
}

// RoundRobin gives every call the next replica in turn; when that is full the ones after it. It looks at nothing else.
type RoundRobin struct{ cursor atomic.Uint64 }

// NewRoundRobin starts at a random replica, so that the routers of many processes do not move in step.
func NewRoundRobin() *RoundRobin {
	p := &RoundRobin{}
	p.cursor.Store(uint64(rand.Uint32()))
	return p
}

// aheadInTurn is how many replicas a call tries in order; after those it takes any, so that the cost of a call does not
// grow with their number.
const aheadInTurn = 8

// Rank implements [Policy].
func (p *RoundRobin) Rank(_ *call.Info, set []Replica, ranks []int) ([]int, bool) {
	if len(set) == 0 {
		return ranks, false
	}
	at := p.cursor.Add(1)
	for i := range uint64(min(aheadInTurn, len(set))) {
		ranks = append(ranks, int((at+i)%uint64(len(set))))
	}
	return ranks, false
}

// ConsistentHash sends the calls of one session to one replica, and when that is full to a few that follow it on the ring,
// and waits for one of those: no other gets them. Calls without a session go anywhere. When replicas come and go only the
// sessions of those move.
type ConsistentHash struct {
	virtual, fallbacks int
	ring               atomic.Pointer[ring]
}

// The reference's defaults.
const (
	DefaultVirtualNodes = 100
	DefaultFallbacks    = 2
)

// NewConsistentHash has virtual nodes on the ring per replica, at least 1, and fallbacks, at least 0, to a session.
func NewConsistentHash(virtual, fallbacks int) *ConsistentHash {
	return &ConsistentHash{virtual: virtual, fallbacks: fallbacks}
}

// Rank implements [Policy].
func (p *ConsistentHash) Rank(c *call.Info, set []Replica, ranks []int) ([]int, bool) {
	if c.Affinity == nil || c.Affinity.Session == "" {
		return ranks, false
	}
	return p.find(c.Affinity.Session, set, ranks), true
}

func (p *ConsistentHash) find(session string, set []Replica, ranks []int) []int {
	if len(set) == 0 {
		return ranks
	}
	r := p.ring.Load()
	if r == nil || r.of != &set[0] {
		r = newRing(set, p.virtual)
		p.ring.Store(r)
	}
	return r.find(session, min(1+p.fallbacks, len(set)), ranks)
}

// ring is the hash ring of one set.
type ring struct {
	of     *Replica // as in locality
	points []point
}

type point struct {
	hash  uint64
	place int32
}

func newRing(set []Replica, virtual int) *ring {
	r := &ring{of: &set[0], points: make([]point, 0, len(set)*virtual)}
	for i, rep := range set {
		var key []byte
		for v := range virtual {
			key = binary.LittleEndian.AppendUint32(append(key[:0], rep.ID()...), uint32(v))
			r.points = append(r.points, point{hash(key), int32(i)})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return int(a.place - b.place)
	})
	return r
}

// find appends the n different replicas that follow key on the ring, the owner first.
func (r *ring) find(key string, n int, ranks []int) []int {
	h := hash([]byte(key))
	at, _ := slices.BinarySearchFunc(r.points, h, func(p point, h uint64) int {
		if p.hash < h {
			return -1
		}
		return 1 // never 0: the first point at or after h
	})
	first := len(ranks)
	for i := 0; len(ranks)-first < n && i < len(r.points); i++ {
		place := int(r.points[(at+i)%len(r.points)].place)
		if !slices.Contains(ranks[first:], place) {
			ranks = append(ranks, place)
		}
	}
	return ranks
}

// hash is FNV-1a with the finish of SplitMix64, which spreads keys that differ in their last bytes only. It is the same in
// every process, so that routers agree on the owner of a session.
func hash(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
