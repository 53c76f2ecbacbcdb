package host

import (
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// lendEvery is after how many calls from a worker to a replica in it slots are lent: one call does not make a habit.
const lendEvery = 4

// lentSlots are the slots that a replica has lent to its own Go worker, for calls between replicas there (package gate has the
// worker's side). They are taken at the replica's gate as any slot is, so all callers together stay within its maximum. For example, of
// 8 slots 2 are taken and 3 are lent: 3 are free for callers elsewhere, and when one of those has to wait, the 3 are recalled.
type lentSlots struct {
	mu      sync.Mutex
	calls   int // from its worker since the last grant
	lent    int
	resumed int    // of the lent slots: held by calls of before a take-over
	excess  int    // calls that go on under no slot: the replica has fewer slots than under the node before
	number  uint64 // of the last grant or recall
	over    bool   // no slot is lent any more: the connection has ended
	off     bool   // the replica lends none now: it is out of routing, or stops
}

// lendSlots has the replica lend slots to its worker, and recall them when a caller waits at its gate.
func (r *workerReplica) lendSlots() {
	r.Slots().OnWaiting(func() { r.slots.recall(r, false) })
	if r.lent == nil {
		return
	}
	r.IdleWith(func() int {
		c := r.lent.Counts()
		r.slots.mu.Lock()
		defer r.slots.mu.Unlock()
		return max(r.slots.lent-r.slots.resumed-int(c.Started-c.Ended()), 0)
	})
	r.LendWith(func(caller *serving.Caller) {
		if caller.Worker == r.worker.id {
			r.slots.lend(r)
		}
	})
}

// lend is told of a call from the worker to r that found a slot at once, and lends half of the free slots now and then.
func (l *lentSlots) lend(r *workerReplica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A call under a lent slot is out of sight of another policy.
	if l.calls++; l.calls < lendEvery || l.over || l.off || r.options.Load().RequestRouter.Policy != spec.PowerOfTwo {
		return
	}
	l.calls = 0
	gate, n := r.Slots(), 0
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
		_, err := protocol.Ask(r.Done(), r.worker.peer, protocol.GrantBlock{Replica: r.ID(), Number: number, Slots: n})
		if err != nil && r.Done().Err() == nil { // the worker has ended, or does not know the request
			l.returned(r, n)
		}
	}()
}

// recall asks for all lent slots back. It does not wait. stop says that none is lent until [workerReplica.Lend].
func (l *lentSlots) recall(r *workerReplica, stop bool) {
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
		if got, err := protocol.Ask(context.Background(), r.worker.peer, protocol.RecallBlock{Replica: r.ID(), Number: number}); err == nil {
			l.returned(r, got.Slots)
		}
	}()
}

// fit recalls the slots if the replica may not lend as many under the options that it has now: it has fewer slots, or a routing policy
// under which no slot is lent. For example, a replica has lent four of its eight slots, and then has two: without the recall four calls
// would go on in the worker at a time, because a slot that a call there releases is idle there for the next.
func (l *lentSlots) fit(r *workerReplica) {
	if r.Slots().Load() > r.Slots().Max() || r.options.Load().RequestRouter.Policy != spec.PowerOfTwo {
		l.recall(r, false)
	}
}

// returned gives slots back to the gate. A worker cannot return more than it has.
func (l *lentSlots) returned(r *workerReplica, n int) {
	l.mu.Lock()
	without := min(n, l.excess)
	l.excess -= max(without, 0)
	n = min(n-without, l.lent)
	l.lent -= max(n, 0)
	l.resumed = min(l.resumed, l.lent)
	l.mu.Unlock()
	for range n {
		r.Slots().Release(nil)
	}
}

// Lend allows or ends the lending of slots.
func (r *workerReplica) Lend(on bool) {
	if !on {
		r.slots.recall(r, true)
		return
	}
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	r.slots.off = false
}

// takeOver takes n slots for calls that go on in a worker that was taken over.
func (l *lentSlots) takeOver(r *workerReplica, n int) {
	for range max(n, 0) {
		if !r.Slots().TryAcquire() { // the replica may have fewer slots than before
			l.excess = n - l.lent
			break
		}
		l.lent++
		l.resumed++
	}
}

// reclaimSlots gives back the slots of a worker whose connection has ended.
func (ws *Workers) reclaimSlots(w *Worker) {
	ws.mu.Lock()
	replicas := w.replicasLocked()
	ws.mu.Unlock()
	for _, r := range replicas {
		r.slots.mu.Lock()
		r.slots.over = true
		lent := r.slots.lent
		r.slots.mu.Unlock()
		r.slots.returned(r, lent)
	}
}

// forgetResumed gives back the slots that calls of before a take-over hold, because the worker tells the next node of them itself. The gate is
// retired. The result is their number.
func (l *lentSlots) forgetResumed(r *workerReplica) (n int) {
	l.mu.Lock()
	n = l.resumed
	l.resumed = 0
	l.lent -= n
	l.mu.Unlock()
	for range n {
		r.Slots().Release(nil)
	}
	return n
}
