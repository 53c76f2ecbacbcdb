// Package port sends the calls of a process's handles to a node: the calls of a Go worker (package guest), and the calls of a program
// that has attached to a node (package attach). A port leads to one deployment. The node queues and routes each call.
//
// A connection may end while calls are under way. For example, a program has sent two calls when its node is killed: the kernel has taken the
// first, and the second is still in the buffer of the connection. A worker has no other node at once, and both calls fail. An attached program
// has a [Successor]: the second call goes to the next node, as if it had been made a little later, and the first one fails, because it may have
// run.
package port

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Node is the connection to the node.
type Node interface {
	// Peer is the connection to use now, which may have ended. It is nil if there is none; only a [Successor] has none.
	Peer() *wire.Peer
}

// Successor is a [Node] whose connection another one follows.
type Successor interface {
	Node
	// Next calls then once: with the connection after the ended one, or with a failure if no connection came in time. It may do so before it
	// returns. ended is nil if there was no connection.
	Next(ended *wire.Peer, then func(next *wire.Peer, failure *call.Error))
	// Lost is the failure of a call that was under way when its connection ended.
	Lost() *call.Error
}

// Target is the deployment that a port leads to.
type Target struct {
	App, Deployment string
	// Python says that the deployment is written in Python: a struct becomes keyword arguments.
	Python bool
}

// Port sends the calls of handles to one deployment. Calls go to the node, except where the node has lent slots of a replica in this process
// ([Port.TryAcquire]).
type Port struct {
	target Target
	node   Node
	next   Successor // nil: a call whose connection has ended fails
	codec  *codec.Codec

	routes transport.RouteCache
	local  atomic.Pointer[[]serving.Replica] // replicas in this process for which the node has lent slots
	turn   atomic.Uint32                     // counts calls, so that each begins with another replica
	uses   sync.Map                          // name of a deployment -> true, if the node has been told
}

// New makes a port. c encodes the arguments of its calls.
func New(n Node, t Target, c *codec.Codec) *Port {
	p := &Port{target: t, node: n, codec: c}
	p.next, _ = n.(Successor)
	return p
}

// Target is the deployment that the port leads to.
func (p *Port) Target() Target { return p.target }

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

// Lend offers lent slots of a replica in this process to callers. Lend and Withdraw are not called at the same time.
func (p *Port) Lend(r serving.Replica) {
	var next []serving.Replica
	if local := p.local.Load(); local != nil {
		if slices.Contains(*local, r) {
			return
		}
		next = append(next, *local...)
	}
	next = append(next, r)
	p.local.Store(&next)
}

// Withdraw hides a replica from callers in this process.
func (p *Port) Withdraw(r serving.Replica) {
	if local := p.local.Load(); local != nil {
		next := slices.DeleteFunc(slices.Clone(*local), func(other serving.Replica) bool { return other == r })
		p.local.Store(&next)
	}
}

// Uses reports to the node that a replica of the deployment asked for a handle to another deployment, an edge that the graph
// does not have. It does not wait, and reports each name once.
func (p *Port) Uses(name string) {
	if _, reported := p.uses.LoadOrStore(name, true); reported {
		return
	}
	p.tell(protocol.Uses{Deployment: p.target.Deployment, Name: name}) // a lost report only hides the edge from people
}

// Release gives back a slot that a call in the mode Reserve got. It does not wait. A node that has gone has no slots.
func (p *Port) Release(lease uint64) { p.tell(protocol.Release{Lease: lease}) }

// tell sends a request whose reply has no use.
func (p *Port) tell(r protocol.Request[protocol.Done]) {
	if peer := p.node.Peer(); peer != nil {
		go protocol.Ask(context.Background(), peer, r) //nolint:errcheck // see the callers
	}
}

// Submit sends a call to the node, which queues and routes it.
func (p *Port) Submit(b *call.Batch, c *call.Call, sink call.Sink) call.Canceler {
	f := &nodeCall{sink: sink, call: c, port: p}
	if peer := p.node.Peer(); peer != nil {
		f.send(b, peer)
	} else {
		f.wait(nil)
	}
	return f
}

// nodeCall is one call to the node. It answers its caller once: at the END of the call or when the caller cancels it,
// whichever comes first.
type nodeCall struct {
	sink call.Sink
	call *call.Call
	port *Port
	peer *wire.Peer // that the call was sent over last; only Complete reads it, which follows send

	mu       sync.Mutex
	answered bool
	repeated bool   // the call has run before, perhaps; only Complete uses it
	attempt  uint32 // how often the call was sent
	cause    error  // why it was cancelled; nil if it was not
	handle   transport.Handle
}

// send sends the call over a connection, the first or a later one.
func (f *nodeCall) send(b *call.Batch, peer *wire.Peer) {
	p := f.port
	bound, e := p.routes.Get(peer, wire.Route{App: p.target.App, Deployment: p.target.Deployment, Method: f.call.Info.Method})
	f.mu.Lock()
	f.attempt++
	attempt, answered := f.attempt, f.answered
	f.mu.Unlock()
	switch {
	case answered: // cancelled while it waited for a connection
		return
	case e != nil:
		f.answer(b, call.Result{Err: e})
		return
	}
	f.peer = peer
	forgetOthers(&f.call.Info, peer)
	h := transport.Send(bound, p.codec, p.target.Python, b, f.call, f)
	f.mu.Lock()
	var cause error
	if f.attempt == attempt { // else the connection ended meanwhile, and the call has gone over the next one
		f.handle, cause = h, f.cause
	}
	f.mu.Unlock()
	if cause != nil { // the call was cancelled before its handle was set
		h.Cancel(b, cause)
	}
}

// forgetOthers takes the calls above a call away if they came over another connection, whose node alone knows their frames. For example, a worker
// executes a call of a node that has handed over, and makes another call, which goes to the next node.
func forgetOthers(i *call.Info, peer *wire.Peer) {
	for up := i.Above; up != nil; up = up.Above {
		if up.Frame == 0 {
			continue
		}
		if up.Place != nil && up.Place.Link != nil && up.Place.Link != any(peer) {
			i.Above = nil
		}
		return
	}
}

// wait sends the call over the connection after the ended one.
func (f *nodeCall) wait(ended *wire.Peer) {
	f.port.next.Next(ended, func(next *wire.Peer, failure *call.Error) {
		if failure != nil {
			f.answer(nil, call.Result{Err: failure})
			return
		}
		f.send(nil, next)
	})
}

// again says whether a call whose connection has ended is sent over the next one: a call that has not been started, and, once, an idempotent
// call. A call with a slot that its own node holds goes to no other, and neither does a stream, whose first items may have been read.
func (f *nodeCall) again(r *call.Result) bool {
	c := f.call
	switch {
	case c.Lease != 0:
		return false
	case r.NotStarted:
		return true
	}
	repeatable := c.Items == nil && !f.repeated && (c.Mode == call.Reserve || c.Options != nil && c.Options.Idempotent)
	f.repeated = repeatable
	return repeatable
}

// Complete takes the end of the call.
func (f *nodeCall) Complete(b *call.Batch, r call.Result) {
	if next := f.port.next; next != nil && (r.NotStarted || r.Lost) {
		if f.again(&r) {
			f.wait(f.peer)
			return
		}
		if r.Lost {
			r.Err = next.Lost()
		}
	}
	f.answer(b, r)
}

// answer tells the caller, unless it has cancelled the call.
func (f *nodeCall) answer(b *call.Batch, r call.Result) {
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

// Cancel ends the call for its caller at once, and asks the node to end it.
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
