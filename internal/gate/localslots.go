package gate

import (
	"math"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// LocalSlots is a gate's slots that were lent to the process in which the replica lives: calls between replicas of one process
// take them without asking the gate. The gate counts lent slots as taken, so together with its own it never admits more
// than its maximum. A block never waits: who gets no slot of it asks the gate.
//
// It keeps returned slots for the next call until it is recalled, because somebody waits at the gate, or was not used for a
// while. All methods may be called from any goroutine.
type LocalSlots struct {
	mu         sync.Mutex
	giveBack   func(b *call.Batch, n int) // gives slots back to the gate
	idle       int
	used       int
	uses       uint64
	usesBefore uint64 // uses at the last Rest
	lastNumber uint64 // number of the newest grant or recall
	recalled   bool
}

// NewLocalSlots makes an empty block; back is told what returns to the gate, without the block's lock.
func NewLocalSlots(back func(b *call.Batch, n int)) *LocalSlots {
	return &LocalSlots{giveBack: back, recalled: true}
}

// Grant adds n slots. number orders grants and recalls: a grant that an already handled recall has overtaken goes straight
// back.
func (k *LocalSlots) Grant(b *call.Batch, number uint64, n int) {
	k.mu.Lock()
	if number < k.lastNumber {
		back := k.giveBack
		k.mu.Unlock()
		back(b, n)
		return
	}
	k.lastNumber, k.recalled = number, false
	k.idle += n
	k.mu.Unlock()
}

// Recall takes the slots that nobody uses, for the caller to give back; those in use follow as they are released.
func (k *LocalSlots) Recall(number uint64) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.idle
	k.idle, k.recalled, k.lastNumber = 0, true, max(k.lastNumber, number)
	return n
}

// ReturnIdle gives idle slots back if none was used since the last Rest. true: the block is empty now.
func (k *LocalSlots) ReturnIdle() bool {
	k.mu.Lock()
	n := 0
	if k.uses == k.usesBefore {
		n, k.idle = k.idle, 0
	}
	k.usesBefore = k.uses
	empty, back := k.idle+k.used == 0, k.giveBack
	k.mu.Unlock()
	if n > 0 {
		back(nil, n)
	}
	return empty
}

// TryAcquire takes a slot if one is idle.
func (k *LocalSlots) TryAcquire() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.idle == 0 {
		return false
	}
	k.idle--
	k.used++
	k.uses++
	return true
}

// Release ends the use of a slot.
func (k *LocalSlots) Release(b *call.Batch) {
	k.mu.Lock()
	if k.used == 0 {
		k.mu.Unlock()
		panic("gate: a block released more than was acquired")
	}
	k.used--
	if !k.recalled {
		k.idle++
		k.mu.Unlock()
		return
	}
	back := k.giveBack
	k.mu.Unlock()
	back(b, 1)
}

// Abandon ends the block, because the gate is gone: nothing is taken any more, idle slots are forgotten, and the ends of
// those in use, whose number it gives, are told back.
func (k *LocalSlots) Abandon(back func(b *call.Batch, n int)) (used int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle, k.recalled, k.lastNumber, k.giveBack = 0, true, math.MaxUint64, back
	return k.used
}

// Load is how many slots are in use.
func (k *LocalSlots) Load() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used
}

// Wait gives neither a slot nor a place.
func (*LocalSlots) Wait(Waiter) bool { return false }

// Unwait finds nobody.
func (*LocalSlots) Unwait(Waiter) bool { return false }
