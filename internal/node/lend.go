package node

import (
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// Slots of a replica that are lent to its own Go worker, for calls between replicas there (gate.LocalSlots is the other side).
// They are taken at the replica's gate as any slot is, so all callers together stay within its maximum.

// lendEvery is after how many calls from a worker to a replica in it slots are lent: one call does not make a habit.
const lendEvery = 4

// loan is what one replica has lent.
type loan struct {
	mu     sync.Mutex
	calls  int    // from its worker since the last grant
	lent   int    // slots
	excess int    // calls that go on under no slot: their replica has fewer slots than under the node before
	number uint64 // of the last grant or recall
	over   bool   // nothing is lent any more
}

// lend is told of a call from worker w to u that found a slot at once, and lends half of what is free now and then.
func (u *Unit) lend(w *workerProc) {
	if u.worker != w || u.placement != inGoWorker || u.options.RequestRouter.Policy != spec.PowerOfTwo {
		return
	}
	l := &u.loan
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls++; l.calls < lendEvery || l.over {
		return
	}
	l.calls = 0
	n := 0
	for range (u.gate.Max() - u.gate.Load() + 1) / 2 {
		if !u.gate.TryAcquire() { // also while somebody waits
			break
		}
		n++
	}
	if n == 0 {
		return
	}
	l.lent += n
	l.number++
	number := l.number
	go func() {
		_, err := protocol.Ask(u.ctx, w.peer, protocol.GrantBlock{Replica: u.id, Number: number, Slots: n})
		if err != nil && context.Cause(u.ctx) == nil { // it has ended, or does not know the request
			u.returned(n)
		}
	}()
}

// recall asks for everything back that is lent. It does not wait. For good: nothing is lent from now on.
func (u *Unit) recall(forGood bool) {
	l := &u.loan
	l.mu.Lock()
	l.over = l.over || forGood
	l.calls = -lendEvery * lendEvery // who was in the way is not soon again
	lent := l.lent
	l.number++
	number := l.number
	l.mu.Unlock()
	if lent == 0 {
		return
	}
	go func() {
		got, err := protocol.Ask(context.Background(), u.worker.peer, protocol.RecallBlock{Replica: u.id, Number: number})
		if err == nil {
			u.returned(got.Slots)
		}
	}()
}

// returned gives slots back to the gate. A worker cannot return more than it has.
func (u *Unit) returned(n int) {
	l := &u.loan
	l.mu.Lock()
	without := min(n, l.excess)
	l.excess -= max(without, 0)
	n = min(n-without, l.lent)
	l.lent -= max(n, 0)
	l.mu.Unlock()
	for range n {
		u.gate.Release(nil)
	}
}

// unlend gives back what a worker held that has gone.
func (n *Node) unlend(w *workerProc) {
	n.mu.Lock()
	units := w.unitsLocked()
	n.mu.Unlock()
	for _, u := range units {
		u.loan.mu.Lock()
		u.loan.over = true
		lent := u.loan.lent
		u.loan.mu.Unlock()
		u.returned(lent)
	}
}

// returnBlock is a worker's.
func (s *session) returnBlock(_ context.Context, k protocol.ReturnBlock) (done protocol.Done, err error) {
	s.node.mu.Lock()
	u := s.node.unitLocked(k.Replica)
	mine := u != nil && u.worker != nil && u.worker.peer == s.peer
	s.node.mu.Unlock()
	if mine {
		u.returned(k.Slots)
	}
	return done, nil
}
