// Package gate is the admission of one replica: at most max calls execute at a time, over all callers.
//
// It has no goroutine and does no I/O. Whoever finds it full may register as a waiter; a freed slot is then granted to
// the waiter that has waited longest, and nobody takes a slot by arrival while somebody waits.
//
// What holds between any two steps: the waiting bit is set if and only if somebody is in the queue (while mu is free),
// and while it is set every slot is taken. A slot can therefore neither be free while somebody waits, nor be lost to
// somebody who comes later.
package gate

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Waiter is told that it has a slot. It is called on the goroutine that released the slot, without the gate's lock, must
// not block, and must either use the slot or release it. It has left the queue and registers again if it wants more.
// Waiters are compared with ==.
type Waiter = interface{ Granted(b *call.Batch) }

// Gate admits calls to one replica. All methods may be called from any goroutine. Slots are not tied to who took them:
// any holder may release, exactly once per slot.
type Gate struct {
	max   int64
	state atomic.Int64 // slots taken, plus the bits below

	mu        sync.Mutex // guards waiters, and every change of the bits
	waiters   []Waiter   // the longest waiting first
	onWaiting func()     // told when somebody begins to wait where nobody did; nil for none

	// Every call writes state. Without the padding the gates of different replicas would share cache lines (which
	// processors also prefetch in pairs), and callers on different replicas would slow each other down.
	_ [128 - 56]byte
}

// The high bits make the two lock-free operations see, in the one word they touch, that they must not decide alone.
const (
	waitingBit int64 = 1 << 62 // somebody is in waiters: no admission by arrival, Release grants
	closedBit  int64 = 1 << 61
	countMask        = closedBit - 1
)

// New makes an open gate with slots slots, at least 1; fewer is a mistake of the caller and panics.
func New(slots int) *Gate {
	if slots < 1 {
		panic("gate: at least one slot is needed")
	}
	return &Gate{max: int64(slots)}
}

// OnWaiting has f called whenever somebody begins to wait at a gate where nobody waited, on that goroutine and without
// the gate's lock. It is set before the gate is used.
func (g *Gate) OnWaiting(f func()) { g.onWaiting = f }

// Max is the number of slots.
func (g *Gate) Max() int { return int(g.max) }

// Load is the number of slots taken, of a closed gate too. It is never more than Max.
func (g *Gate) Load() int { return int(g.state.Load() & countMask) }

// TryAcquire takes a slot if one is free, nobody waits, and the gate is open. It takes no lock.
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

// Release gives a slot back. If somebody waits, the one that has waited longest gets it, and is told before Release
// returns; b is passed on to it. Without waiters it takes no lock. Releasing a slot that was not taken panics.
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
			continue // the last waiter has just left, or the gate was closed
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

// Wait takes a slot (true) if one is free and nobody waits; otherwise it registers w, and w.Granted is called for the
// first slot that is w's turn. The two are one step: no slot is freed unnoticed in between. If w is registered already
// it keeps its place (false). At a closed gate w gets neither a slot nor a place (false).
func (g *Gate) Wait(w Waiter) bool {
	got, first := g.wait(w)
	if first && g.onWaiting != nil {
		g.onWaiting()
	}
	return got
}

// wait is Wait, and says whether w is the first that waits.
func (g *Gate) wait(w Waiter) (got, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.waiters, w) {
		return false, false
	}
	for {
		s := g.state.Load()
		switch {
		case s&closedBit != 0:
			return false, false
		case s&waitingBit == 0 && s&countMask < g.max:
			if g.state.CompareAndSwap(s, s+1) {
				return true, false
			}
		default:
			// With the bit set in the same step in which the gate was seen full, no Release can slip in between.
			if g.state.CompareAndSwap(s, s|waitingBit) {
				g.waiters = append(g.waiters, w)
				return false, len(g.waiters) == 1
			}
		}
	}
}

// Unwait takes w out of the queue, and reports whether it was there. If not, w.Granted may be on its way.
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

// Close ends admission for good and drops the waiters without telling them. Slots that are held are released as before.
// A second Close does nothing.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Or(closedBit)
	g.state.And(^waitingBit)
	g.waiters = nil
}
