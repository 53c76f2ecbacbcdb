package router

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// rank returns the ranks that the policy gives the replicas of set, or without a policy the affinity of the call. See
// [Policy].
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
		return r.preferLocal(set, ranks), false
	}
	return ranks, false
}

// locality has the positions of the replicas in a set that are on the router's own node.
type locality struct {
	of     *Replica // the set's first element, which identifies the set: each set has a slice of its own
	places []int
}

// preferLocal ranks two replicas of the router's own node first, the less loaded one in front.
func (r *Router) preferLocal(set []Replica, ranks []int) []int {
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
	switch n := len(l.places); n {
	case 0:
		return ranks
	case 1:
		return append(ranks, l.places[0])
	default:
		i, j := drawTwo(n)
		i, j = lessLoaded(set, l.places[i], l.places[j])
		return append(ranks, i, j)
	}
}

// RoundRobin gives every call the next replica in turn, and the ones after it while that is full. It looks at nothing
// else.
type RoundRobin struct{ cursor atomic.Uint64 }

// NewRoundRobin starts at a random replica, so that the routers of many processes do not move in step.
func NewRoundRobin() *RoundRobin {
	p := &RoundRobin{}
	p.cursor.Store(uint64(rand.Uint32()))
	return p
}

// aheadInTurn is the number of replicas that a call tries in order. After them it takes any, so that the cost of a
// call does not grow with the number of replicas.
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

// ConsistentHash sends the calls of one session to one replica, its owner, and while that is full to a few replicas
// that follow it on a hash ring. If all of these are full, the call waits for one of them, and goes to no other.
// Calls without a session go anywhere. When a replica comes or goes, only the sessions that it owns move. For
// example, with 2 fallbacks a session has three replicas of a hundred, and 99 of 100 sessions keep their owner when
// one replica ends.
type ConsistentHash struct {
	virtual, fallbacks int
	ring               atomic.Pointer[ring]
}

// Ray Serve's defaults.
const (
	DefaultVirtualNodes = 100
	DefaultFallbacks    = 2
)

// NewConsistentHash makes a policy with a number of points (virtual nodes) on the ring for each replica, at least 1,
// and a number of fallbacks for each session, at least 0.
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
	of     *Replica // identifies the set, as in locality
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
