package gate

import (
	"math"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// LocalSlots are slots of a gate that the node has lent to the worker in which the replica lives. A call between two replicas
// of the worker takes one of them without asking the node. The gate counts lent slots as taken, so that the calls inside and
// outside of the worker together are never more than the gate has slots. LocalSlots has no queue: a caller that finds no idle
// slot sends its call to the node.
//
// A slot that is released stays in the worker for the next call. It returns to the gate when the node recalls the slots,
// because a call waits at the gate, or when no call has used the slots for some time.
//
// Example: a replica has eight slots, and the node lends four to the worker. Calls inside of the worker run in two of
// them. A call from outside finds the gate full, with its four other slots taken; the node recalls the lent ones. Recall
// gives back the two idle slots at once, and each of the other two returns when its call ends.
//
// Methods may be called from any goroutine.
type LocalSlots struct {
	mu         sync.Mutex
	giveBack   func(b *call.Batch, n int) // gives n slots back to the gate
	idle       int                        // slots that no call uses
	used       int                        // slots that calls use
	uses       uint64                     // calls that ever got a slot
	usesBefore uint64                     // uses at the last ReturnIdle
	lastNumber uint64                     // number of the newest grant or recall
	recalled   bool                       // slots in use return to the gate when they are released
}

// NewLocalSlots makes LocalSlots without a slot. giveBack is called with the number of slots that return to the gate, without
// the lock of LocalSlots.
func NewLocalSlots(giveBack func(b *call.Batch, n int)) *LocalSlots {
	return &LocalSlots{giveBack: giveBack, recalled: true}
}

// Grant adds n slots. The node numbers its grants and recalls, because a worker may handle them in another order. For
// example, the node sends grant 1 and then recall 2, and the worker handles the recall first: the slots of grant 1 go
// straight back.
func (s *LocalSlots) Grant(b *call.Batch, number uint64, n int) {
	s.mu.Lock()
	if number < s.lastNumber {
		back := s.giveBack
		s.mu.Unlock()
		back(b, n)
		return
	}
	s.lastNumber, s.recalled = number, false
	s.idle += n
	s.mu.Unlock()
}

// Recall takes out the idle slots, for the caller to give back to the gate. The result is their number. Slots in use
// return as they are released.
func (s *LocalSlots) Recall(number uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.idle
	s.idle, s.recalled, s.lastNumber = 0, true, max(s.lastNumber, number)
	return n
}

// ReturnIdle gives the idle slots back to the gate if no call has got a slot since the last ReturnIdle. The result is true
// if no slots are left, neither idle nor in use.
func (s *LocalSlots) ReturnIdle() bool {
	s.mu.Lock()
	n := 0
	if s.uses == s.usesBefore {
		n, s.idle = s.idle, 0
	}
	s.usesBefore = s.uses
	empty, back := s.idle+s.used == 0, s.giveBack
	s.mu.Unlock()
	if n > 0 {
		back(nil, n)
	}
	return empty
}

// TryAcquire takes a slot if one is idle, and returns false otherwise.
func (s *LocalSlots) TryAcquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == 0 {
		return false
	}
	s.idle--
	s.used++
	s.uses++
	return true
}

// Release ends the use of a slot. A slot that was not taken is a mistake of the caller and panics.
func (s *LocalSlots) Release(b *call.Batch) {
	s.mu.Lock()
	if s.used == 0 {
		s.mu.Unlock()
		panic("gate: more local slots are released than were acquired")
	}
	s.used--
	if !s.recalled {
		s.idle++
		s.mu.Unlock()
		return
	}
	back := s.giveBack
	s.mu.Unlock()
	back(b, 1)
}

// Abandon ends the use of the slots because the node with the gate is gone. TryAcquire returns false from then on, and idle
// slots are forgotten. giveBack replaces the function that NewLocalSlots was given, and is called as calls that run release
// their slots. The result is the number of these calls.
func (s *LocalSlots) Abandon(giveBack func(b *call.Batch, n int)) (used int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle, s.recalled, s.lastNumber, s.giveBack = 0, true, math.MaxUint64, giveBack
	return s.used
}

// Load is the number of slots in use.
func (s *LocalSlots) Load() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Wait is there because callers use LocalSlots as a gate: it takes no slot and registers no waiter.
func (*LocalSlots) Wait(Waiter) bool { return false }

// Unwait returns false: no waiter is ever registered.
func (*LocalSlots) Unwait(Waiter) bool { return false }
