package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/wire"
)

// ReserveTime is how long a slot is held for a caller that does not use it.
const ReserveTime = 10 * time.Second

// reservation waits for a slot on behalf of a caller in another process.
type reservation struct {
	ticket router.Ticket
	dep    *Deployment
	caller *Caller
	in     *wire.Incoming
	timer  *time.Timer

	mu       sync.Mutex
	answered bool
	watch    *time.Timer // reports a cycle; nil for none
}

// reserve takes a slot for a caller in another process and holds it.
func (d *Deployment) reserve(b *call.Batch, s *Caller, in *wire.Incoming) call.Canceler {
	r := &reservation{dep: d, caller: s, in: in}
	if e := d.refuses(&in.Info); e != nil {
		r.answer(b, call.Result{Err: e})
		return nil
	}
	in.Keep()
	if in.Left > 0 {
		r.mu.Lock() // the timer may fire before it is assigned
		r.timer = time.AfterFunc(in.Left, func() { r.Cancel(nil, context.DeadlineExceeded) })
		r.mu.Unlock()
	}
	in.Info.Above = ancestors(&in.Call)
	d.Router.Submit(b, &r.ticket, in.Origin, &in.Info, r)
	d.noteUnserved()
	if in.Info.Above != nil {
		r.suspect(b)
	}
	r.mu.Lock()
	gone := r.answered
	r.mu.Unlock()
	if gone { // cancelled on its way into the queue
		d.Router.Cancel(&r.ticket)
	}
	return r
}

// suspect is [Flight.suspect] for a reservation.
func (r *reservation) suspect(b *call.Batch) {
	cycle, hopeless := r.dep.cycle(&r.in.Info)
	if hopeless {
		r.Cancel(b, cycle)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cycle != nil && !r.answered {
		r.watch = r.dep.reportLater(cycle)
	}
}

// answer tells the caller, once.
func (r *reservation) answer(b *call.Batch, res call.Result) bool {
	r.mu.Lock()
	answered, timers := r.answered, [...]*time.Timer{r.timer, r.watch}
	r.answered = true
	r.mu.Unlock()
	if answered {
		return false
	}
	for _, t := range timers {
		if t != nil {
			t.Stop()
		}
	}
	if res.Err != nil {
		res.Err = res.Err.At(&r.in.Info)
	}
	r.in.Complete(b, res)
	return true
}

// Assigned has a slot, which is held from now on.
func (r *reservation) Assigned(b *call.Batch, got router.Replica) {
	rep := replicaOf(got)
	id, lease := r.caller.hold(r.dep, rep)
	body, err := json.Marshal(protocol.HeldSlot{Lease: id, Replica: rep.ID(), Node: rep.Node()})
	res := call.Result{Payload: call.Payload{Codec: call.JSON, Data: body}}
	if err != nil {
		res = call.Result{Err: call.NewError(helvetype.ReasonInternal, err.Error())}
	}
	if !r.answer(b, res) || err != nil {
		lease.Release(b)
	}
}

// Failed is told that the deployment is gone.
func (r *reservation) Failed(b *call.Batch, cause *call.Error) { r.answer(b, call.Result{Err: cause}) }

// Cancel ends the wait.
func (r *reservation) Cancel(b *call.Batch, cause error) {
	if r.answer(b, call.Result{Err: call.FromCause(cause)}) {
		r.dep.Router.Cancel(&r.ticket)
	}
}

// leases are the slots that a connected worker or driver holds.
type leases struct {
	mu   sync.Mutex
	last uint64
	held map[uint64]*heldSlot
	over bool
}

type heldSlot struct {
	*gate.Lease
	dep     *Deployment
	replica Replica
	forget  *time.Timer
}

// hold makes a slot of rep a lease of this session.
func (s *Caller) hold(d *Deployment, rep Replica) (uint64, *gate.Lease) {
	lease := rep.base().gate.Lease(ReserveTime)
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[uint64]*heldSlot{}
		// The numbers of a session begin anywhere, so that a number of a node that has gone does not name a slot of the next node.
		l.last = rand.Uint64N(1 << 52) // other languages read it as a number of JSON
	}
	l.last++
	id := l.last
	h := &heldSlot{Lease: lease, dep: d, replica: rep}
	l.held[id] = h
	if l.over { // the other side has gone
		lease.Release(nil)
	}
	h.forget = time.AfterFunc(2*ReserveTime, func() { s.take(id) })
	return id, lease
}

// take removes a lease; nil if it is not known.
func (s *Caller) take(id uint64) *heldSlot {
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[id]
	delete(l.held, id)
	if h != nil {
		h.forget.Stop()
	}
	return h
}

// ReleaseAll gives back the slots that the other side held when it went.
func (s *Caller) ReleaseAll() {
	l := &s.leases
	l.mu.Lock()
	held := l.held
	l.held, l.over = nil, true
	l.mu.Unlock()
	for _, h := range held {
		h.forget.Stop()
		h.Release(nil)
	}
}

// dispatch sends a call with a slot that the caller holds.
func (d *Deployment) dispatch(b *call.Batch, s *Caller, in *wire.Incoming) call.Canceler {
	h := s.take(in.Lease)
	if h == nil || h.dep != d || !h.Use() {
		if h != nil {
			h.Release(b)
		}
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the selection is over; choose again").At(&in.Info)})
		return nil
	}
	if h.replica.base().Closed() {
		h.replica.Gate().Release(b)
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable,
			fmt.Sprintf("replica %s of the selection has stopped; choose again", h.replica.ID())).At(&in.Info)})
		return nil
	}
	if in.Above != nil && Local(h.replica) {
		in.Info.Above = ancestors(&in.Call)
	}
	f := &Flight{dep: d, call: &in.Call, sink: in, in: in, pinned: true}
	f.expireAfter(in.Left)
	if len(in.Encoded.Shared) > 0 {
		f.keep()
	}
	f.Assigned(b, h.replica)
	return f
}
