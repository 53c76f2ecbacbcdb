// Package gate is the admission of one replica: a gate has a number of slots, and each call that executes holds one of
// them, whichever router sent it. The package has no goroutine and does no I/O.
//
// A router that finds the gate full registers as a waiter. A slot that is released goes to the waiter that has waited
// longest, and while a waiter is registered TryAcquire takes no slot.
//
// Example: a gate has two slots, and three routers A, B and C call the replica. A and B take the slots. C finds the gate
// full and registers. A's call ends: its slot goes straight to C, which is told by Granted. A TryAcquire of B in between
// would have returned false, although a call had just ended, because C was first.
//
// SetMax changes the number of slots while calls run. More slots go to the waiters at once, in their turn. Fewer slots end
// no call: the gate is over its maximum until enough calls have ended, and a slot that is released meanwhile ceases to be,
// also if a router waits.
//
// Example: three calls run in the three slots of a gate, C waits, and SetMax(2) makes the slots fewer. The first call that
// ends leaves two calls in two slots: C goes on waiting. The second call that ends hands its slot to C. Had SetMax(4) come
// instead, it would have told C by Granted before it returned.
//
// Two invariants hold whenever the lock is free. The waiting bit is set if and only if the queue has a waiter; and while
// the bit is set, as many slots as the maximum or more are taken. So no slot is free while a router waits, and no router
// that comes later gets a slot before it.
//
// One word has the number of slots taken, the maximum, and the two bits. Every step on it sees all four at once: for
// example, a TryAcquire that has read the old maximum fails to write if SetMax came in between, and looks again. A maximum
// in a word of its own would let that TryAcquire take a slot above the new one, although calls were fewer before.
package gate

import (
	"math"
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
	state atomic.Uint64 // see the constants below

	mu        sync.Mutex // guards waiters, and every change of the maximum and the bits
	waiters   []Waiter   // in the order in which they came
	onWaiting func()     // see OnWaiting; may be nil

	onReleased atomic.Pointer[func()] // see Retire; nil for none

	// Every call writes state. The padding keeps the gates of different replicas on different cache lines (two lines,
	// because processors prefetch in pairs), so that callers on different replicas do not slow each other down.
	_ [128 - 56]byte
}

// The parts of state: the slots taken in the low bits, above them the maximum, and two bits. TryAcquire and Release take no
// lock and read state only, so state also tells them when they need the lock.
const (
	countBits        = 31
	countMask uint64 = 1<<countBits - 1

	closedBit  uint64 = 1 << 62
	waitingBit uint64 = 1 << 63 // waiters is not empty: TryAcquire takes no slot, Release grants one

	// MostSlots is the largest maximum of a gate.
	MostSlots = math.MaxInt32
)

// taken is the number of slots that are taken in a state, and limit its maximum.
func taken(s uint64) uint64 { return s & countMask }
func limit(s uint64) uint64 { return s >> countBits & countMask }

// New makes an open gate with a number of slots, 1 to MostSlots; another number is a mistake of the caller and panics.
func New(slots int) *Gate {
	g := &Gate{}
	g.state.Store(maximum(slots))
	return g
}

// maximum is a number of slots in its place in state.
func maximum(slots int) uint64 {
	if slots < 1 || slots > MostSlots {
		panic("gate: the number of slots must be from 1 to 2147483647")
	}
	return uint64(slots) << countBits
}

// OnWaiting sets the function that is called when a waiter registers and the queue was empty before. f runs on the goroutine
// that registers the waiter, without the gate's lock. OnWaiting is called before the gate is used.
func (g *Gate) OnWaiting(f func()) { g.onWaiting = f }

// Max is the number of slots that the gate has.
func (g *Gate) Max() int { return int(limit(g.state.Load())) }

// Load is the number of slots that are taken. A closed gate counts too. Load is more than Max only after SetMax has made
// the slots fewer, until enough of them are released.
func (g *Gate) Load() int { return int(taken(g.state.Load())) }

// SetMax changes the number of slots, with the bounds of New. Slots that are new go to the waiters, whose Granted is called
// before SetMax returns. Slots that are taken stay taken; see the package comment.
func (g *Gate) SetMax(slots int) {
	for _, w := range g.setMax(maximum(slots)) {
		w.Granted(nil)
	}
}

// setMax is SetMax without the calls of Granted. It returns the waiters that have a slot now, in their order.
func (g *Gate) setMax(m uint64) (granted []Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		s := g.state.Load()
		next := s&^(countMask<<countBits) | m
		n := 0
		for n < len(g.waiters) && taken(next) < limit(next) {
			n++
			next++
		}
		if n == len(g.waiters) {
			next &^= waitingBit
		}
		if g.state.CompareAndSwap(s, next) {
			granted = slices.Clone(g.waiters[:n])
			g.waiters = slices.Delete(g.waiters, 0, n)
			return granted
		}
	}
}

// TryAcquire takes a slot if one is free, no waiter is registered, and the gate is open. It takes no lock.
func (g *Gate) TryAcquire() bool {
	for {
		s := g.state.Load()
		if s >= closedBit || taken(s) >= limit(s) { // a bit is set, or the gate is full
			return false
		}
		if g.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// Release gives a slot back. The first waiter of the queue gets the slot, unless the gate is over its maximum: its Granted is
// called with b, and returns before Release does. Without waiters Release takes no lock. To release a slot that was not
// taken is a mistake of the caller and panics.
func (g *Gate) Release(b *call.Batch) {
	for {
		s := g.state.Load()
		if taken(s) == 0 {
			panic("gate: released more than was acquired")
		}
		if s&waitingBit != 0 {
			w, released := g.next()
			if w != nil {
				w.Granted(b)
			}
			if released {
				return
			}
			continue // the last waiter left after state was read, or the gate was closed
		}
		if g.state.CompareAndSwap(s, s-1) {
			if s&closedBit != 0 {
				g.released()
			}
			return
		}
	}
}

// next releases a slot for the queue. The slot stays taken, for the first waiter w, which has left the queue then; or it
// ceases to be, because the gate is over its maximum, and w is nil. released is false if the queue is empty: the slot is
// as it was.
func (g *Gate) next() (w Waiter, released bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiters) == 0 {
		return nil, false
	}
	// While the waiting bit is set, every change of state is made under the lock.
	if s := g.state.Load(); taken(s) > limit(s) {
		g.state.Store(s - 1)
		return nil, true
	}
	w = g.waiters[0]
	g.waiters = slices.Delete(g.waiters, 0, 1)
	if len(g.waiters) == 0 {
		g.state.And(^waitingBit)
	}
	return w, true
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
		case s&waitingBit == 0 && taken(s) < limit(s):
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
