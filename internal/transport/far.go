package transport

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// waiter is what a router registers at a gate (router.Gate).
type waiter = interface{ Granted(b *call.Batch) }

// Far is a replica in another node: the gate of it that a router asks, and the transport that its calls take. The gate that
// decides is in the other node, and admits over all routers strictly; Far says here what is known of it.
//
// A call takes a slot by arrival where the gate is not known to be full: it sets out at once, and is rejected if that was wrong;
// its result is then NotStarted and Rejected, and it queues again at its place. While the gate is known to be full Far waits at it
// for the routers that wait here, and each slot that the gate keeps for it is granted to the next of them. A slot that none needs
// goes back.
//
// Slots are not tied to who took them, as at any gate. Who has one starts a call or releases it at once, because what was taken by
// arrival is not kept by the gate, and what was kept only for a while. A slot whose call has set out with [Far.Start] is released
// after the call's end was told. All methods may be called from any goroutine.
type Far struct {
	Member wire.Member // as its node described it

	n      *Neighbour
	number uint32
	load   atomic.Int64 // taken slots, as far as known
	ways   Ways

	mu       sync.Mutex
	closed   bool
	told     int      // taken slots, as the gate said last
	free     int      // slots that a router took by arrival, and whose call has not set out
	kept     []uint64 // slots that were kept and granted, and whose call has not set out
	asking   int      // calls that have set out without a slot that was kept, and were not answered
	ended    int      // calls whose end was told, and whose slot was not released
	waiters  []waiter // the longest waiting first
	seen     uint64   // slots that were ever kept
	upto     uint64   // of these the gate believes that so many are of use
	most     uint64   // and may ever have believed
	reports  uint64   // how often it was told so
	guarding int      // callers that look, when they are done, whether the gate must be told something
}

// Load is the number of slots that are taken, as far as is known here, with those of calls that are on their way.
func (f *Far) Load() int { return int(f.load.Load()) }

// changedLocked is called after changes of what Load says.
func (f *Far) changedLocked() { f.load.Store(int64(f.told + f.free + f.asking)) }

// roomLocked says whether a call may try to take a slot by arrival: as far as is known one is free and nobody waits.
func (f *Far) roomLocked() bool {
	return !f.closed && len(f.waiters) == 0 && f.upto <= f.seen && f.told+f.free+f.asking < f.Member.Slots
}

// TryAcquire takes a slot if, as far as is known, one is free and nobody waits.
func (f *Far) TryAcquire() bool {
	if f.load.Load() >= int64(f.Member.Slots) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tryLocked()
}

func (f *Far) tryLocked() bool {
	if !f.roomLocked() {
		return false
	}
	f.free++
	f.changedLocked()
	return true
}

// Wait takes a slot as TryAcquire does, or registers w: w.Granted is called for the first slot that the gate keeps and that is
// w's turn, on a reader goroutine. If w has a method Wants() int it says how many slots are of use, else one is. Once the replica
// is gone w gets neither a slot nor a place.
func (f *Far) Wait(w interface{ Granted(b *call.Batch) }) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || slices.Contains(f.waiters, w) {
		return false
	}
	if f.tryLocked() {
		return true
	}
	f.waiters = append(f.waiters, w)
	if f.tellLocked() {
		f.n.peer.SentSoon() // the router has a lock
	}
	return false
}

// Unwait takes w out of the queue, and reports whether it was there. If not, w.Granted may be on its way.
func (f *Far) Unwait(w interface{ Granted(b *call.Batch) }) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.waiters, w)
	if i < 0 {
		return false
	}
	f.waiters = slices.Delete(f.waiters, i, i+1)
	if f.tellLocked() {
		f.n.peer.SentSoon()
	}
	return true
}

// Release gives a slot back: of a call that has ended, or of one that will not set out.
func (f *Far) Release(b *call.Batch) {
	f.mu.Lock()
	sent := false
	switch n := len(f.kept); {
	case f.ended > 0:
		f.ended--
	case f.free > 0: // rather than one that is kept, which somebody else may need
		f.free--
		f.changedLocked()
	case n > 0:
		id := f.kept[n-1]
		f.kept = f.kept[:n-1]
		if sent = !f.closed; sent {
			f.n.peer.Return(f.number, id, f.reportLocked())
		}
	default:
		f.mu.Unlock()
		panic("transport: released more than was acquired")
	}
	sent = f.tellLocked() || sent
	f.mu.Unlock()
	if sent {
		f.n.peer.Sent(b)
	}
}

// reportLocked is what the next frame to the gate says of what waits here.
func (f *Far) reportLocked() uint64 {
	wants := 0
	for _, w := range f.waiters {
		if s, ok := w.(interface{ Wants() int }); ok {
			wants += max(s.Wants(), 1)
		} else {
			wants++
		}
	}
	f.upto = f.seen + uint64(wants)
	f.most = max(f.most, f.upto+1) // and one more, of a call that it rejects
	f.reports++
	return f.upto
}

// tellLocked tells the gate, if it does not know, that calls wait here, or that none does any more. It says whether a frame was
// queued. What changes while somebody guards is told by him, if not by a call that sets out meanwhile.
func (f *Far) tellLocked() bool {
	if f.closed || f.guarding > 0 || len(f.waiters) > 0 == (f.upto > f.seen) {
		return false
	}
	f.n.peer.Want(f.number, f.reportLocked())
	return true
}

// unguard ends what was begun with guarding++.
func (f *Far) unguard(b *call.Batch) {
	f.mu.Lock()
	f.guarding--
	sent := f.tellLocked()
	f.mu.Unlock()
	if sent {
		f.n.peer.Sent(b)
	}
}

// slot is told that the gate keeps one.
func (f *Far) slot(b *call.Batch, id uint64, load int) error {
	f.mu.Lock()
	if f.seen++; f.seen > f.most {
		f.mu.Unlock()
		return fmt.Errorf("%d slots of replica %s, of which at most %d were wanted", f.seen, f.Member.Replica, f.most)
	}
	f.loadLocked(load)
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	if len(f.waiters) == 0 {
		f.n.peer.Return(f.number, id, f.reportLocked())
		f.mu.Unlock()
		f.n.peer.Sent(b)
		return nil
	}
	w := f.waiters[0]
	f.waiters = slices.Delete(f.waiters, 0, 1)
	f.kept = append(f.kept, id)
	f.guarding++
	f.mu.Unlock()
	w.Granted(b)
	f.unguard(b)
	return nil
}

func (f *Far) setLoad(load int) {
	f.mu.Lock()
	f.loadLocked(load)
	f.mu.Unlock()
}

func (f *Far) loadLocked(load int) {
	f.told = load
	f.changedLocked()
}

// close ends admission for good and drops the waiters without telling them. Slots that are held are released as before.
func (f *Far) close() {
	f.mu.Lock()
	f.closed = true
	f.waiters = nil
	f.mu.Unlock()
}

// Keeps is true: a call that is rejected goes elsewhere, with its arguments.
func (*Far) Keeps() bool { return true }

// Start sends a call, which has a slot of this gate. Go values are encoded here, on the caller's goroutine. Of a result that
// says Lost nobody knows whether the call has run.
func (f *Far) Start(b *call.Batch, c *call.Call, sink call.Sink) Handle {
	way, e := f.ways.To(f.n.peer, wire.Route{App: f.Member.App, Deployment: f.Member.Deployment, Method: c.Info.Method})
	if e != nil {
		sink.Complete(b, call.Result{Err: e})
		return Handle{}
	}
	return Handle{peer: f.n.peer, id: send(departure{f, way}, f.n.codec, f.Member.Language == "python", b, c, sink)}
}

// departure sends what is encoded.
type departure struct {
	far *Far
	way *wire.Way
}

func (d departure) Start(b *call.Batch, c *call.Call, left time.Duration, sink call.Sink) (id uint64) {
	f := d.far
	v := &voyage{far: f, sink: sink}
	f.mu.Lock()
	a := wire.Arrival{Replica: f.number}
	switch {
	case len(f.kept) > 0:
		a.Slot = f.kept[0]
		f.kept = f.kept[1:]
	case f.free > 0:
		f.free--
		f.asking++
		v.asks = true
	default:
		f.mu.Unlock()
		panic("transport: a call without a slot")
	}
	before := f.upto
	a.Upto = f.reportLocked()
	v.report = f.reports
	// Under the lock, so that what is said of what waits is said in order.
	id, failed := f.n.peer.Depart(a, d.way, c, left, v)
	if failed != nil {
		f.upto = before
		if v.asks {
			f.asking--
			f.free++
		} else {
			f.kept = slices.Insert(f.kept, 0, a.Slot)
		}
	}
	f.mu.Unlock()
	if failed == nil {
		f.n.peer.Sent(b)
		return id
	}
	if failed.NotStarted {
		f.close()
	}
	sink.Complete(b, *failed)
	return 0
}

// voyage is a call on its way: a [wire.Departure].
type voyage struct {
	far    *Far
	sink   call.Sink
	report uint64 // the one that set out with it

	asks bool // counts as asking; guarded by Far.mu
}

func (v *voyage) answeredLocked() {
	if v.asks {
		v.asks = false
		v.far.asking--
	}
}

// Accepted is told that the call has a slot.
func (v *voyage) Accepted(load int) {
	f := v.far
	f.mu.Lock()
	v.answeredLocked()
	f.loadLocked(load)
	f.mu.Unlock()
}

// Rejected is told that it has none. Where it waits again the gate need not be told: it counts it as waiting.
func (v *voyage) Rejected(b *call.Batch, load int, gone bool) {
	f := v.far
	if gone {
		f.close()
	}
	f.mu.Lock()
	v.answeredLocked()
	f.loadLocked(load)
	if v.report == f.reports {
		f.upto++
	}
	f.ended++
	f.guarding++
	f.mu.Unlock()
	text := "the replica had no free slot"
	if gone {
		text = "the replica takes no more calls"
	}
	v.sink.Complete(b, call.Result{Err: call.NewError(call.ReplicaUnavailable, text), NotStarted: true, Rejected: !gone})
	f.unguard(b)
}

// Load is told the load at the call's end.
func (v *voyage) Load(load int) { v.far.setLoad(load) }

// Complete is told the end.
func (v *voyage) Complete(b *call.Batch, r call.Result) {
	f := v.far
	f.mu.Lock()
	v.answeredLocked()
	f.ended++
	f.changedLocked()
	f.mu.Unlock()
	v.sink.Complete(b, r)
}
