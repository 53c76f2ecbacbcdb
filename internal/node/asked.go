package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/wire"
)

// What callers in other processes ask of a deployment beside an ordinary call (docs/wire.md): a broadcast, or a slot to be
// held and used later.

// ReserveTime is how long a slot is held for a caller that does not use it.
const ReserveTime = 10 * time.Second

// broadcasting is a broadcast whose answers travel as a stream.
type broadcasting struct {
	in    *wire.Incoming
	timer *time.Timer

	mu      sync.Mutex
	errands []*Errand
	left    int   // answers to come, and one until all were asked
	gone    error // why it was cancelled
}

// answer is told one replica's answer.
type answer struct {
	all   *broadcasting
	index int
}

// relayBroadcast asks every replica that the deployment has. b is the batch of the caller's reader.
func (d *Deployment) relayBroadcast(b *call.Batch, in *wire.Incoming) call.Canceler {
	fail := func(e *call.Error) call.Canceler {
		in.Complete(b, call.Result{Err: e.At(&in.Info)})
		return nil
	}
	if in.Items == nil {
		return fail(call.NewError(call.BadInput, "a broadcast without a window for its answers"))
	}
	targets, e := d.Targets()
	if e != nil {
		return fail(e)
	}
	type target struct {
		Replica string `json:"replica"`
		Node    string `json:"node"`
	}
	list := make([]target, len(targets))
	for i, r := range targets {
		list[i] = target{r.ID(), r.Node()}
	}
	head, err := json.Marshal(list)
	if err != nil {
		return fail(call.NewError(call.Fault, err.Error()))
	}
	if e := in.Send(b, call.Payload{Codec: call.JSON, Data: head}); e != nil {
		return fail(e)
	}
	in.Keep()
	all := &broadcasting{in: in, left: 1 + len(targets)}
	if in.Left > 0 {
		all.timer = time.AfterFunc(in.Left, func() { all.Cancel(nil, context.DeadlineExceeded) })
	}
	slots := wire.Slots(in.Encoded)
	for i, r := range targets {
		c := &call.Call{Info: in.Info, Slots: slots, Deadline: in.Deadline, Origin: in.Origin, Want: in.Want, Above: in.Above}
		c.Info.Call += uint64(i) // the calls of one broadcast are told apart in logs
		e := d.SubmitControl(r, c, &answer{all, i})
		all.mu.Lock()
		all.errands = append(all.errands, e)
		gone := all.gone
		all.mu.Unlock()
		if gone != nil {
			e.Cancel(b, gone)
		}
	}
	all.finish(b)
	return all
}

// Complete sends the answer on.
func (a *answer) Complete(b *call.Batch, r call.Result) {
	if e := a.all.in.Send(b, wire.Answer(a.index, r)); e != nil { // too large: that is its answer, and the others are not concerned
		a.all.in.Send(b, wire.Answer(a.index, call.Result{Err: e})) //nolint:errcheck // this one is small
	}
	a.all.finish(b)
}

// finish ends the stream when the last has answered and all were asked.
func (a *broadcasting) finish(b *call.Batch) {
	a.mu.Lock()
	a.left--
	over := a.left == 0
	a.mu.Unlock()
	if over {
		if a.timer != nil {
			a.timer.Stop()
		}
		a.in.Complete(b, call.Result{})
	}
}

// Cancel ends the calls that have not ended.
func (a *broadcasting) Cancel(b *call.Batch, cause error) {
	a.mu.Lock()
	errands := a.errands
	a.gone = cause
	a.mu.Unlock()
	for _, e := range errands {
		e.Cancel(b, cause)
	}
}

// reservation waits for a slot on behalf of a caller in another process.
type reservation struct {
	ticket  router.Ticket
	dep     *Deployment
	session *session
	in      *wire.Incoming
	timer   *time.Timer

	mu       sync.Mutex
	answered bool
	watch    *time.Timer // reports a cycle; nil for none
}

// reserve takes a slot for a caller in another process and holds it.
func (d *Deployment) reserve(b *call.Batch, s *session, in *wire.Incoming) call.Canceler {
	r := &reservation{dep: d, session: s, in: in}
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
func (r *reservation) Assigned(b *call.Batch, rep router.Replica) {
	id, lease := r.session.hold(r.dep, rep)
	body, err := json.Marshal(protocol.HeldSlot{Lease: id, Replica: rep.ID(), Node: rep.Node()})
	res := call.Result{Payload: call.Payload{Codec: call.JSON, Data: body}}
	if err != nil {
		res = call.Result{Err: call.NewError(call.Fault, err.Error())}
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
	replica router.Replica
	forget  *time.Timer
}

// hold makes a slot of rep a lease of this session.
func (s *session) hold(d *Deployment, rep router.Replica) (uint64, *gate.Lease) {
	lease := rep.(*Unit).gate.Lease(ReserveTime)
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[uint64]*heldSlot{}
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
func (s *session) take(id uint64) *heldSlot {
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

// releaseAll gives back what the other side held when it went.
func (s *session) releaseAll() {
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
func (d *Deployment) dispatch(b *call.Batch, s *session, in *wire.Incoming) call.Canceler {
	h := s.take(in.Lease)
	if h == nil || h.dep != d || !h.Use() {
		if h != nil {
			h.Release(b)
		}
		in.Complete(b, call.Result{Err: call.NewError(call.ReplicaUnavailable, "the selection is over; choose again").At(&in.Info)})
		return nil
	}
	if h.replica.(*Unit).Stopped() {
		h.replica.Gate().Release(b)
		in.Complete(b, call.Result{Err: call.NewError(call.ReplicaUnavailable,
			fmt.Sprintf("replica %s of the selection has stopped; choose again", h.replica.ID())).At(&in.Info)})
		return nil
	}
	if in.Above != nil && h.replica.(*Unit).instance != nil {
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
