package client

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
)

// Selection is a slot of a chosen replica, held for one call. [Binding.Choose] makes it. Where the slot is held depends on the process:
// in a node a lease of the replica's gate, in a worker a lease that the node holds and knows by a number, and of a [Fake] nothing.
type Selection struct {
	Deployment *graph.Deployment
	Replica    serving.Replica

	lease       *gate.Lease // nil for a fake, and in a worker
	remoteLease uint64      // in a worker, the number that the node gave to the lease
	stop        func() bool // ends the watch over the context
	used        atomic.Bool // the selection was dispatched, or in a worker given back
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

// Choose waits for a slot as a call does and reserves it until ctx ends, for serving.ReserveTime at most.
func (b *Binding) Choose(ctx context.Context) (*Selection, *call.Error) {
	var i call.Info
	b.Fill(ctx, &i)
	i.Link = call.Awaited
	if ctx.Err() != nil {
		return nil, call.FromContext(ctx).At(&i)
	}
	s := &Selection{Deployment: b.Deployment}
	d := b.Deployment.Current()
	switch {
	case b.Fake != nil:
		s.Replica = b.Fake
		return s, nil
	case d == nil && b.Deployment.Port.Load() != nil:
		c := b.Call(ctx, i, call.Empty{})
		if e := s.reserve(ctx, c, b); e != nil {
			return nil, e
		}
	case d == nil:
		return nil, NotRunning().At(&i)
	default:
		r, e := d.Acquire(ctx, &i, Origin(ctx))
		if e != nil {
			return nil, e
		}
		s.Replica, s.lease = r, serving.BaseOf(r).Slots().Lease(serving.ReserveTime)
	}
	if ctx.Done() != nil {
		s.stop = call.AfterFunc(ctx, s.release)
	}
	return s, nil
}

// reserve asks the node for a slot, which the node holds.
func (s *Selection) reserve(ctx context.Context, c *call.Call, b *Binding) *call.Error {
	c.Mode = call.Reserve
	w := call.NewWaiter()
	p, e := w.Wait(ctx, b.Submit(c, w))
	if e != nil {
		return b.Restore(e)
	}
	var held protocol.HeldSlot
	if err := json.Unmarshal(p.Data, &held); err != nil {
		return call.NewError(helvetype.ReasonInternal, "choose: "+err.Error()).At(&c.Info)
	}
	s.Replica, s.remoteLease = &selected{id: held.Replica, node: held.Node}, held.Lease
	return nil
}

// Release gives the slot back if it was not used. It may be called any number of times.
func (s *Selection) Release() {
	s.unwatch()
	s.release()
}

// unwatch ends the watch over the context.
func (s *Selection) unwatch() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *Selection) release() {
	switch {
	case s.lease != nil:
		s.lease.Release(nil)
	case s.remoteLease != 0 && !s.used.Swap(true):
		s.Deployment.Port.Load().Release(s.remoteLease)
	}
}
