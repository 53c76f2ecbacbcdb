// Package gate is the admission of one replica: at most max calls execute at a time, over all callers.
//
// It has no goroutine and does no I/O. Whoever finds it full may register as a waiter; a freed slot is then granted to
// the waiter that has waited longest, and nobody takes a slot by arrival while somebody waits.
package gate

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Waiter is told that it has a slot. It is called without the gate's lock, must not block, and must either use the slot
// or release it. It has left the queue and registers again if it wants more.
type Waiter = interface{ Granted(b *call.Batch) }

// Gate admits calls to one replica. All methods may be called from any goroutine.
type Gate struct {
	max   int64
	state atomic.Int64 // slots taken, plus the bits below

	mu      sync.Mutex // guards waiters, and every change of the bits
	waiters []Waiter
}

// The high bits make the two lock-free operations see, in the one word they touch, that they must not decide alone.
const (
	waitingBit int64 = 1 << 62 // somebody is in waiters: no admission by arrival, Release grants
	closedBit  int64 = 1 << 61
	countMask        = closedBit - 1
)

// New makes a gate with max slots, at least 1.
func New(limit int) *Gate {
	if limit < 1 {
		panic("gate: max must be at least 1")
	}
	return &Gate{max: int64(limit)}
}

// Max is the number of slots.
func (g *Gate) Max() int { return int(g.max) }

// Load is the number of slots taken.
func (g *Gate) Load() int { return int(g.state.Load() & countMask) }

// TryAcquire takes a slot if one is free, nobody waits, and the gate is open.
func (g *Gate) TryAcquire() bool {
	for {
		s := g.state.Load()
		if s >= g.max { // full, or a bit is set
			return false
		}
		if g.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// Release gives a slot back. If somebody waits, it gets the slot.
func (g *Gate) Release(b *call.Batch) {
	for {
		s := g.state.Load()
		if s&countMask == 0 {
			panic("gate: released more than was acquired")
		}
		if s&waitingBit != 0 {
			if w := g.next(); w != nil {
				w.Granted(b)
				return
			}
			continue // the last waiter has just left
		}
		if g.state.CompareAndSwap(s, s-1) {
			return
		}
	}
}

// next takes the longest-waiting waiter out of the queue; the slot that is being released stays taken, for it.
func (g *Gate) next() Waiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiters) == 0 {
		return nil
	}
	w := g.waiters[0]
	g.waiters = slices.Delete(g.waiters, 0, 1)
	if len(g.waiters) == 0 {
		g.state.And(^waitingBit)
	}
	return w
}

// Wait takes a slot (true) if one is free and nobody waits; otherwise it registers w, once, and w.Granted will be called.
// At a closed gate it does neither.
func (g *Gate) Wait(w Waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.waiters, w) {
		return false
	}
	for {
		s := g.state.Load()
		switch {
		case s&closedBit != 0:
			return false
		case s&waitingBit == 0 && s&countMask < g.max:
			if g.state.CompareAndSwap(s, s+1) {
				return true
			}
		default:
			// With the bit set in the same step in which the gate was seen full, no Release can slip in between.
			if g.state.CompareAndSwap(s, s|waitingBit) {
				g.waiters = append(g.waiters, w)
				return false
			}
		}
	}
}

// Unwait takes w out of the queue, and reports whether it was there. If not, it may be about to be granted a slot.
func (g *Gate) Unwait(w Waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiters, w)
	if i < 0 {
		return false
	}
	g.waiters = slices.Delete(g.waiters, i, i+1)
	if len(g.waiters) == 0 {
		g.state.And(^waitingBit)
	}
	return true
}

// Close ends admission and drops the waiters. Slots that are held may still be released.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Or(closedBit)
	g.state.And(^waitingBit)
	g.waiters = nil
}
