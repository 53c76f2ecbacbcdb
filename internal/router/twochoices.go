package router

import "math/rand/v2"

// Power of two choices: a call goes to the less loaded one of two replicas drawn at random. For example, of the loads 0, 1, 5
// and 9 a draw of the last two sends the call to 5. The choice costs the same for any number of replicas, it needs no state
// that callers share, and loads stay close to each other. A scan for the least loaded replica costs a read of every gate,
// and sends the calls of many routers to the same replica.

// pick takes a slot at the less loaded one of two replicas drawn at random, or at the other one. It returns nil if both are
// full, or if set is empty.
func pick(set []Replica) Replica {
	switch len(set) {
	case 0:
		return nil
	case 1:
		if a := set[0]; a.Gate().TryAcquire() {
			return a
		}
		return nil
	}
	i, j := drawTwo(len(set))
	i, j = lessLoaded(set, i, j)
	if a := set[i]; a.Gate().TryAcquire() {
		return a
	}
	if b := set[j]; b.Gate().TryAcquire() {
		return b
	}
	return nil
}

// drawTwo draws two different numbers below n, which is at least 2, from one random number.
func drawTwo(n int) (i, j int) {
	m, x := uint64(n), rand.Uint64()
	a := x >> 32 * m >> 32
	b := x & (1<<32 - 1) * (m - 1) >> 32
	if b >= a {
		b++
	}
	return int(a), int(b)
}

// lessLoaded orders two positions in set by the load of their replicas, the lower load first.
func lessLoaded(set []Replica, i, j int) (int, int) {
	if set[j].Gate().Load() < set[i].Gate().Load() {
		return j, i
	}
	return i, j
}

// preference is the replica that a processor used last.
type preference struct {
	set       *[]Replica // the set in which it was chosen
	replica   Replica
	remaining int // number of calls until a new draw
}

// stickiness is the number of calls of a processor that go to one idle replica before there is a new draw. The new
// draw gives all replicas a part of a single caller's calls.
const stickiness = 64

// TryAcquireRecent is [Router.TryAcquireRecent]. Power of two choices alone makes every processor write to the memory
// of every replica: two callers then had 0.6 of the throughput of two processors.
func (s *subqueue) TryAcquireRecent() Replica {
	if s.queued.Load() != 0 {
		return nil
	}
	p, _ := s.lastUsed.Get().(*preference)
	if p == nil {
		p = &preference{}
	}
	set, got := s.set.Load(), p.replica
	p.remaining--
	if p.remaining < 0 || p.set != set || got.Gate().Load() != 0 || !got.Gate().TryAcquire() {
		if got = s.TryAcquire(); got != nil {
			p.set, p.replica, p.remaining = set, got, stickiness // if the set has changed by now, the next call draws anew
		} else {
			p.remaining = 0
		}
	} else if s.set.Load() != set { // as in TryAcquire
		got.Gate().Release(nil)
		p.remaining = 0
		got = s.TryAcquire()
	}
	s.lastUsed.Put(p)
	return got
}
