package helve

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
)

// SelectionTime is how long a [Selection] keeps its slot.
const SelectionTime = serving.ReserveTime

// Selection is a slot of a replica that was chosen and not used yet. It is given back with Release, by itself when the
// context of its Choose ends, and after [SelectionTime]. Its methods may be called from any goroutine.
type Selection struct {
	d           *deployment
	slot        serving.Replica
	lease       *gate.Lease // nil for a fake, and in a worker
	remoteLease uint64      // in a worker, the number that the node gave to the lease
	stop        func() bool // ends the watch over the context
	used        func() bool // whether this is the second dispatch
}

// selected is a chosen replica; the node holds a slot of it for this process.
type selected struct {
	serving.Base
	id, node string
}

func (s *selected) ID() string        { return s.id }
func (s *selected) Node() string      { return s.node }
func (s *selected) Gate() router.Gate { return open{} }

func (s *selected) Instance() *instance.Instance   { return nil }
func (s *selected) Transport() transport.Transport { return nil }

// Replica is the id of the chosen replica.
func (s *Selection) Replica() string { return s.slot.ID() }

// Node is where it runs.
func (s *Selection) Node() string { return s.slot.Node() }

// Release gives the slot back if it was not used. It may be called any number of times.
func (s *Selection) Release() {
	s.stop()
	s.release()
}

func (s *Selection) release() {
	switch {
	case s.lease != nil:
		s.lease.Release(nil)
	case s.remoteLease != 0 && !s.used():
		s.d.port.Load().Release(s.remoteLease)
	}
}

// Choose waits for a slot as a call does, with the handle's options, and reserves it: the caller may look at the replica
// before it sends a call there with [Method.Dispatch]. It counts against MaxOngoingRequests until it is used or given
// back, and against MaxQueuedRequests while it waits.
func (m Method[In, Out]) Choose(ctx context.Context) (*Selection, error) {
	b := m.m
	if b == nil || b.err != nil {
		return nil, public(b.failure(ctx))
	}
	var i call.Info
	b.fill(ctx, &i)
	i.Link = call.Awaited
	if ctx.Err() != nil {
		return nil, public(call.FromContext(ctx).At(&i))
	}
	s := &Selection{d: b.d, used: once(), stop: func() bool { return true }}
	d := b.d.serving()
	switch {
	case b.fake != nil:
		s.slot = b.fake
		return s, nil
	case d == nil && b.d.port.Load() != nil:
		return s.reserve(ctx, b.untyped(ctx, i, None{}), &b.binding)
	case d == nil:
		return nil, public(notRunning().At(&i))
	}
	r, e := d.Acquire(ctx, &i, origin(ctx))
	if e != nil {
		return nil, public(e)
	}
	s.slot, s.lease = r, serving.BaseOf(r).Slots().Lease(SelectionTime)
	if ctx.Done() != nil {
		s.stop = call.AfterFunc(ctx, s.release)
	}
	return s, nil
}

// reserve is Choose in a worker, where the node holds the slot.
func (s *Selection) reserve(ctx context.Context, c *call.Call, b *binding) (*Selection, error) {
	c.Mode = call.Reserve
	w := call.NewWaiter()
	p, e := w.Wait(ctx, b.submit(c, w))
	if e != nil {
		return nil, public(b.arrived(e))
	}
	var held protocol.HeldSlot
	if err := json.Unmarshal(p.Data, &held); err != nil {
		return nil, public(call.NewError(call.Fault, "choose: "+err.Error()).At(&c.Info))
	}
	s.slot, s.remoteLease = &selected{id: held.Replica, node: held.Node}, held.Lease
	if ctx.Done() != nil {
		s.stop = call.AfterFunc(ctx, s.release)
	}
	return s, nil
}

// once gives a function that is false the first time, and true from then on.
func once() func() bool {
	first := make(chan struct{}, 1)
	first <- struct{}{}
	return func() bool {
		select {
		case <-first:
			return false
		default:
			return true
		}
	}
}

// Dispatch is [Method.Remote] to the chosen replica, with its slot; the method may be another one of the deployment than
// Choose was called on. A selection can be dispatched once. A second dispatch, and a selection of another deployment, is an error
// with reason bad_input. If the selection is over, or its replica has stopped, the reason is replica_unavailable: choose again.
func (m Method[In, Out]) Dispatch(ctx context.Context, s *Selection, in In) *Response[Out] {
	r := m.prepare(ctx)
	if r.ended {
		return &r.Response
	}
	fail := func(reason helvetype.Reason, format string, args ...any) *Response[Out] {
		r.end(call.NewError(reason, fmt.Sprintf(format, args...)).At(&r.info), nil)
		return &r.Response
	}
	switch {
	case s == nil:
		return fail(BadInput, "Dispatch: the selection is nil")
	case s.d != m.m.d:
		return fail(BadInput, "Dispatch: the selection is of deployment %q", s.d.name)
	case s.used():
		return fail(BadInput, "Dispatch: the selection was dispatched before")
	}
	s.stop()
	switch {
	case s.remoteLease != 0:
		c := m.m.untyped(ctx, r.info, in)
		c.Lease = s.remoteLease
		r.carry(m.m.submit(c, r))
	case s.lease == nil:
		r.in = in
		r.start(s.slot, m.m.fake.replica)
	case !s.lease.Use():
		return fail(ReplicaUnavailable, "Dispatch: the selection of replica %s is over; choose again", s.slot.ID())
	case serving.BaseOf(s.slot).Closed():
		s.slot.Gate().Release(nil)
		return fail(ReplicaUnavailable, "Dispatch: replica %s has stopped; choose again", s.slot.ID())
	default:
		r.in = in
		r.sendTo(m.m.d.dep.Load(), s.slot, true)
	}
	r.watch(ctx)
	return &r.Response
}
