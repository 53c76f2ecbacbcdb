package gate

import (
	"math"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Block is a gate's slots that were lent to the process in which the replica lives: calls between replicas of one process
// take them without asking the gate. The gate counts lent slots as taken, so together with its own it never admits more
// than its maximum. A block never waits: who gets no slot of it asks the gate.
//
// It keeps returned slots for the next call until it is recalled, because somebody waits at the gate, or was not used for a
// while. All methods may be called from any goroutine.
type Block struct {
	mu       sync.Mutex
	back     func(b *call.Batch, n int) // gives slots back to the gate
	idle     int
	used     int
	uses     uint64
	seen     uint64 // uses at the last Rest
	last     uint64 // number of the newest grant or recall
	recalled bool
}

// NewBlock makes an empty block; back is told what returns to the gate, without the block's lock.
func NewBlock(back func(b *call.Batch, n int)) *Block { return &Block{back: back, recalled: true} }

// Grant adds n slots. number orders grants and recalls: a grant that an already handled recall has overtaken goes straight
// back.
func (k *Block) Grant(b *call.Batch, number uint64, n int) {
	k.mu.Lock()
	if number < k.last {
		back := k.back
		k.mu.Unlock()
		back(b, n)
		return
	}
	k.last, k.recalled = number, false
	k.idle += n
	k.mu.Unlock()
}

// Recall takes the slots that nobody uses, for the caller to give back; those in use follow as they are released.
func (k *Block) Recall(number uint64) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.idle
	k.idle, k.recalled, k.last = 0, true, max(k.last, number)
	return n
}

// Rest gives idle slots back if none was used since the last Rest. true: the block is empty now.
func (k *Block) Rest() bool {
	k.mu.Lock()
	n := 0
	if k.uses == k.seen {
		n, k.idle = k.idle, 0
	}
	k.seen = k.uses
	empty, back := k.idle+k.used == 0, k.back
	k.mu.Unlock()
	if n > 0 {
		back(nil, n)
	}
	return empty
}

// TryAcquire takes a slot if one is idle.
func (k *Block) TryAcquire() bool {
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
func (k *Block) Release(b *call.Batch) {
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
	back := k.back
	k.mu.Unlock()
	back(b, 1)
}

// Abandon ends the block, because the gate is gone: nothing is taken any more, idle slots are forgotten, and the ends of
// those in use, whose number it gives, are told back.
func (k *Block) Abandon(back func(b *call.Batch, n int)) (used int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle, k.recalled, k.last, k.back = 0, true, math.MaxUint64, back
	return k.used
}

// Load is how many slots are in use.
func (k *Block) Load() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used
}

// Wait gives neither a slot nor a place.
func (*Block) Wait(Waiter) bool { return false }

// Unwait finds nobody.
func (*Block) Unwait(Waiter) bool { return false }
