// Package lending lends slots of a replica to the Go worker that the replica is in. Calls between replicas of one worker then run there without a frame; package gate has
// the side of the worker.
package lending

import (
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
)

// lendEvery is after how many calls from a worker to a replica in it slots are lent: one call does not make a habit.
const lendEvery = 4

// Slots are the slots that a replica has lent to its own Go worker, for calls between replicas there. The slots are taken at the replica's gate as any slot is, so all callers
// together stay within its maximum. For example, of 8 slots 2 are taken and 3 are lent: 3 are free for callers elsewhere, and when one of those has to wait, the 3 are recalled.
// The methods may be called from any goroutine, after Init.
type Slots struct {
	of    *serving.Base
	peer  *wire.Peer
	lends func() bool // the options of the replica let it lend slots

	mu      sync.Mutex
	calls   int // from its worker since the last grant
	lent    int
	resumed int    // of the lent slots: held by calls of before a take-over
	excess  int    // calls that go on under no slot: the replica has fewer slots than under the node before
	number  uint64 // of the last grant or recall
	over    bool   // no slot is lent any more: the connection has ended
	off     bool   // the replica lends none now: it is out of routing, or stops
}

// Init begins with a replica that has lent no slot. peer is the connection of its worker. lends says whether the options of the replica let it lend slots: calls under a lent
// slot are out of sight of routing policies other than the power of two choices.
func (l *Slots) Init(of *serving.Base, peer *wire.Peer, lends func() bool) {
	l.of, l.peer, l.lends = of, peer, lends
}

// Begin has the replica lend slots to its worker, whose id is given, and recall them when a caller waits at its gate. calls counts the calls under lent slots; nil: the replica
// lends none.
func (l *Slots) Begin(worker string, calls *telemetry.Lent) {
	l.of.Slots().OnWaiting(func() { l.recall(false) })
	if calls == nil {
		return
	}
	l.of.IdleWith(func() int {
		c := calls.Counts()
		l.mu.Lock()
		defer l.mu.Unlock()
		return max(l.lent-l.resumed-int(c.Started-c.Ended()), 0)
	})
	l.of.LendWith(func(caller *serving.Caller) {
		if caller.Worker == worker {
			l.lend()
		}
	})
}

// lend is told of a call from the worker to the replica that found a slot at once, and lends half of the free slots now and then.
func (l *Slots) lend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls++; l.calls < lendEvery || l.over || l.off || !l.lends() {
		return
	}
	l.calls = 0
	gate, n := l.of.Slots(), 0
	for range (gate.Max() - gate.Load() + 1) / 2 {
		if !gate.TryAcquire() { // also while a caller waits
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
	go func() { // the goroutine ends with the connection
		_, err := protocol.Ask(l.of.Done(), l.peer, protocol.GrantBlock{Replica: l.of.ID(), Number: number, Slots: n})
		if err != nil && l.of.Done().Err() == nil { // the worker has ended, or does not know the request
			l.Returned(n)
		}
	}()
}

// recall asks for all lent slots back. It does not wait. stop says that none is lent until [Slots.Lend].
func (l *Slots) recall(stop bool) {
	l.mu.Lock()
	l.off = l.off || stop
	l.calls = -lendEvery * lendEvery // a worker whose slots were in the way does not get some again soon
	lent := l.lent
	l.number++
	number := l.number
	l.mu.Unlock()
	if lent == 0 {
		return
	}
	go func() { // the goroutine ends with the connection
		if got, err := protocol.Ask(context.Background(), l.peer, protocol.RecallBlock{Replica: l.of.ID(), Number: number}); err == nil {
			l.Returned(got.Slots)
		}
	}()
}

// Fit recalls the slots if the replica may not lend as many under the options that it has now: it has fewer slots, or a routing policy
// under which no slot is lent. For example, a replica has lent four of its eight slots, and then has two: without the recall four calls
// would go on in the worker at a time, because a slot that a call there releases is idle there for the next.
func (l *Slots) Fit() {
	if l.of.Slots().Load() > l.of.Slots().Max() || !l.lends() {
		l.recall(false)
	}
}

// Returned gives slots back to the gate. A worker cannot return more than it has.
func (l *Slots) Returned(n int) {
	l.mu.Lock()
	without := min(n, l.excess)
	l.excess -= max(without, 0)
	n = min(n-without, l.lent)
	l.lent -= max(n, 0)
	l.resumed = min(l.resumed, l.lent)
	l.mu.Unlock()
	for range n {
		l.of.Slots().Release(nil)
	}
}

// Lend allows or ends the lending of slots. Lend(false) asks for the lent slots back, and does not wait for them.
func (l *Slots) Lend(on bool) {
	if !on {
		l.recall(true)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
}

// TakeOver takes n slots for calls that go on in a worker that was taken over.
func (l *Slots) TakeOver(n int) {
	for range max(n, 0) {
		if !l.of.Slots().TryAcquire() { // the replica may have fewer slots than before
			l.excess = n - l.lent
			break
		}
		l.lent++
		l.resumed++
	}
}

// End gives back the slots of a worker whose connection has ended. No slot is lent any more.
func (l *Slots) End() {
	l.mu.Lock()
	l.over = true
	lent := l.lent
	l.mu.Unlock()
	l.Returned(lent)
}

// ForgetResumed gives back the slots that calls of before a take-over hold, because the worker tells the next node of them itself. The gate is
// retired. The result is their number.
func (l *Slots) ForgetResumed() (n int) {
	l.mu.Lock()
	n = l.resumed
	l.resumed = 0
	l.lent -= n
	l.mu.Unlock()
	for range n {
		l.of.Slots().Release(nil)
	}
	return n
}
