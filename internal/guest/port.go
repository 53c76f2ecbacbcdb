package guest

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Port sends the calls of the worker's handles to one deployment. Calls go through the node, except where the node has lent
// slots of a replica in this worker (TryAcquire).
type Port struct {
	guest           *Guest
	app, deployment string
	python          bool // the deployment is written in Python

	routes transport.RouteCache
	local  atomic.Pointer[[]serving.Replica] // replicas in this worker for which the node has lent slots
	turn   atomic.Uint32                     // counts calls, so that each begins with another replica
	uses   sync.Map                          // name of a deployment -> true, if the node has been told
}

// TryAcquire takes a slot of a replica in this process, if the node has lent some and one is free. The caller runs the
// method itself and releases the slot at the replica's gate.
func (p *Port) TryAcquire() serving.Replica {
	local := p.local.Load()
	if local == nil || len(*local) == 0 {
		return nil
	}
	set := *local
	first := int(p.turn.Add(1))
	for i := range set {
		if r := set[(first+i)%len(set)]; r.Gate().TryAcquire() {
			return r
		}
	}
	return nil
}

// Port makes a port to a deployment. python selects how Go values become its arguments.
func (g *Guest) Port(app, deployment string, python bool) *Port {
	p := &Port{guest: g, app: app, deployment: deployment, python: python}
	g.mu.Lock()
	g.ports = append(g.ports, p)
	g.mu.Unlock()
	return p
}

// Uses reports to the node that a replica of the deployment asked for a handle to another deployment, an edge that the graph
// does not have. It does not wait, and reports each name once.
func (p *Port) Uses(name string) {
	if _, reported := p.uses.LoadOrStore(name, true); reported {
		return
	}
	go protocol.Ask(context.Background(), p.guest.peer.Load(), protocol.Uses{Deployment: p.deployment, Name: name}) //nolint:errcheck // the edge is only shown to people; a node that has gone shows nothing
}

// Submit sends a call to the node, which queues and routes it.
func (p *Port) Submit(b *call.Batch, c *call.Call, sink call.Sink) call.Canceler {
	peer := p.guest.peer.Load()
	bound, e := p.routes.Get(peer, wire.Route{App: p.app, Deployment: p.deployment, Method: c.Info.Method})
	if e != nil {
		sink.Complete(b, call.Result{Err: e.At(&c.Info)})
		return noCancel{}
	}
	f := &nodeCall{sink: sink, call: c, port: p}
	h := transport.Send(bound, p.guest.codec, p.python, b, c, f)
	f.mu.Lock()
	f.handle = h
	cause := f.cause
	f.mu.Unlock()
	if cause != nil { // the call was cancelled before its handle was set
		h.Cancel(b, cause)
	}
	return f
}

// Release gives back a slot that a call in the mode Reserve got. It does not wait.
func (p *Port) Release(lease uint64) {
	go protocol.Ask(context.Background(), p.guest.peer.Load(), protocol.Release{Lease: lease}) //nolint:errcheck // a node that has gone has no slots
}

// noCancel is the handle of a call that was not sent.
type noCancel struct{}

func (noCancel) Cancel(*call.Batch, error) {}

// nodeCall is one call to the node. It answers its caller once: at the END of the call or when the caller cancels it,
// whichever comes first.
type nodeCall struct {
	sink call.Sink
	call *call.Call
	port *Port

	mu       sync.Mutex
	answered bool
	cause    error // why it was cancelled; nil if it was not
	handle   transport.Handle
}

func (f *nodeCall) Complete(b *call.Batch, r call.Result) {
	f.mu.Lock()
	answered := f.answered
	f.answered = true
	f.mu.Unlock()
	if answered {
		r.Release()
		if f.call.Mode == call.Reserve && r.Err == nil { // the caller that wanted the slot has gone
			var held protocol.HeldSlot
			if json.Unmarshal(r.Data, &held) == nil {
				f.port.Release(held.Lease)
			}
		}
		return
	}
	if r.Err != nil {
		r.Err = r.Err.At(&f.call.Info)
	}
	r.Fit(f.sink)
	f.sink.Complete(b, r)
}

// TakesParts marks a sink that takes results in parts.
func (f *nodeCall) TakesParts() {}

func (f *nodeCall) Cancel(b *call.Batch, cause error) {
	f.mu.Lock()
	answered, h := f.answered, f.handle
	f.answered, f.cause = true, cause
	f.mu.Unlock()
	if answered {
		return
	}
	f.sink.Complete(b, call.Result{Err: call.FromCause(cause).At(&f.call.Info)})
	h.Cancel(b, cause)
}
