// Package gate is the admission of one replica: a gate has a fixed number of slots, and each call that executes holds one
// of them, whichever router sent it. The package has no goroutine and does no I/O.
//
// A router that finds the gate full registers as a waiter. A slot that is released goes to the waiter that has waited
// longest, and while a waiter is registered TryAcquire takes no slot.
//
// Example: a gate has two slots, and three routers A, B and C call the replica. A and B take the slots. C finds the gate
// full and registers. A's call ends: its slot goes straight to C, which is told by Granted. A TryAcquire of B in between
// would have returned false, although a call had just ended, because C was first.
//
// Two invariants hold whenever the lock is free. The waiting bit is set if and only if the queue has a waiter; and while
// the bit is set, every slot is taken. So no slot is free while a router waits, and no router that comes later gets a
// slot before it.
package gate

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Waiter is a router in the queue of a gate. Granted gives it a slot, which it must use or release. The gate calls Granted
// on the goroutine that released the slot and without its lock; Granted must not block. The waiter has left the queue
// by then, and registers again if it needs another slot. Waiters are compared with ==.
type Waiter = interface{ Granted(b *call.Batch) }

// Gate admits calls to one replica. All methods may be called from any goroutine. A slot does not know its holder: any
// goroutine may release it, exactly once per slot.
type Gate struct {
	max   int64
	state atomic.Int64 // slots taken, plus the bits below

	mu        sync.Mutex // guards waiters, and every change of the bits
	waiters   []Waiter   // in the order in which they came
	onWaiting func()     // see OnWaiting; may be nil

	// Every call writes state. The padding keeps the gates of different replicas on different cache lines (two lines,
	// because processors prefetch in pairs), so that callers on different replicas do not slow each other down.
	_ [128 - 56]byte
}

// The high bits of state. TryAcquire and Release take no lock and read state only, so state also tells them when they
// need the lock.
const (
	waitingBit int64 = 1 << 62 // waiters is not empty: TryAcquire takes no slot, Release grants one
	closedBit  int64 = 1 << 61
	countMask        = closedBit - 1
)

// New makes an open gate with a number of slots, at least 1; fewer is a mistake of the caller and panics.
func New(slots int) *Gate {
	if slots < 1 {
		panic("gate: at least one slot is needed")
	}
	return &Gate{max: int64(slots)}
}

// OnWaiting sets the function that is called when a waiter registers and the queue was empty before. f runs on the goroutine
// that registers the waiter, without the gate's lock. OnWaiting is called before the gate is used.
func (g *Gate) OnWaiting(f func()) { g.onWaiting = f }

// Max is the number of slots that the gate has.
func (g *Gate) Max() int { return int(g.max) }

// Load is the number of slots that are taken. A closed gate counts too. Load is never more than Max.
func (g *Gate) Load() int { return int(g.state.Load() & countMask) }

// TryAcquire takes a slot if one is free, no waiter is registered, and the gate is open. It takes no lock.
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

// Release gives a slot back. The first waiter of the queue gets the slot: its Granted is called with b, and returns before
// Release does. Without waiters Release takes no lock. To release a slot that was not taken is a mistake of the caller and
// panics.
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
			continue // the last waiter left after state was read, or the gate was closed
		}
		if g.state.CompareAndSwap(s, s-1) {
			return
		}
	}
}

// next takes the first waiter out of the queue. The slot that is being released stays taken, for this waiter. The result is
// nil if the queue is empty.
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

// Wait takes a slot, or registers w as a waiter, in one step: no slot that is released in between is missed. The result is
// true if w has a slot now, which is so if one was free and the queue was empty. Otherwise the result is false, and
// w.Granted gives w the slot when its turn has come. A waiter that is registered already keeps its place. At a closed gate
// the result is false, and w is not registered.
func (g *Gate) Wait(w Waiter) bool {
	got, first := g.wait(w)
	if first && g.onWaiting != nil {
		g.onWaiting()
	}
	return got
}

// wait is Wait without the call of onWaiting. first is true if w is now the only waiter.
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
			// The bit is set in the same step in which the gate is seen full, so that no Release comes in between.
			if g.state.CompareAndSwap(s, s|waitingBit) {
				g.waiters = append(g.waiters, w)
				return false, len(g.waiters) == 1
			}
		}
	}
}

// Unwait takes w out of the queue. The result is false if w was not there; w.Granted may have been called, or may be about
// to be.
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

// Close ends admission for good. Waiters are forgotten, and their Granted is not called. Slots that are held are released
// as before. A second Close does nothing.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Or(closedBit)
	g.state.And(^waitingBit)
	g.waiters = nil
}
