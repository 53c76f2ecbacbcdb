package guest

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/exchange"
	"github.com/helve-serve/helve/internal/wire"
)

// link is the worker's time with one node: the connection, and the memory that both share. A worker has two links while its node hands over to the
// next one: on the former link the calls go on that the former node has slots for, and all else goes over the other.
//
// Example: a worker executes two calls when its node hands over. It dials the next node and tells it of two slots that are taken. The next call of a
// handle goes to the next node. The two calls end on the former link, which the former node closes then.
//
// It implements [wire.Server].
type link struct {
	guest  *Guest
	peer   atomic.Pointer[wire.Peer] // nil before the opening
	memory *memory                   // nil for none; set before the peer

	left chan struct{} // closed when the node has handed over; Guest.handing is held
	next *link         // set before left is closed
}

func newLink(g *Guest) *link { return &link{guest: g, left: make(chan struct{})} }

// handedOver says that the node has handed over to the next one.
func (l *link) handedOver() bool {
	select {
	case <-l.left:
		return true
	default:
		return false
	}
}

// serve reads the connection until it ends, and gives the reason.
func (l *link) serve() error {
	err := l.peer.Load().Serve()
	l.memory.close() // views into it stay valid
	g := l.guest
	g.handing.Lock()
	defer g.handing.Unlock()
	if !l.handedOver() { // its replicas are taken over by the next node: reconnect
		return err
	}
	for _, h := range g.hosted() {
		if s := h.sessionWith(l); s != nil {
			s.end()
		}
	}
	return err
}

// linkKey is the key of the link in the context of a control request.
type linkKey struct{}

func linkOf(ctx context.Context) *link {
	l, _ := ctx.Value(linkKey{}).(*link)
	return l
}

// Control answers a control request of the node. Errors that the application has registered travel with the reply.
func (l *link) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	return l.guest.answer(context.WithValue(ctx, linkKey{}, l), op, body)
}

// Route finds the replica that a route of the node leads to.
func (l *link) Route(r wire.Route) any {
	g := l.guest
	g.mu.Lock()
	h := g.replicas[r.Replica]
	g.mu.Unlock()
	rt := &route{replica: h}
	if h != nil {
		rt.place = call.Place{App: h.instance.Class.App, Deployment: h.instance.Class.Deployment, Method: r.Method, Home: g.set.Home, Link: l.peer.Load()}
	}
	return rt
}

// route leads to a method of a replica. replica is nil if the worker does not have it.
type route struct {
	replica *hosted
	place   call.Place
}

// Call runs a method of a hosted replica on a goroutine of its own.
func (l *link) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	r, _ := in.Route.(*route)
	if r == nil || r.replica == nil {
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the replica is not in this worker")})
		return nil
	}
	in.Keep()
	if in.Mode != call.Broadcast { // a broadcast holds no slot
		if s := r.replica.sessionWith(l); s != nil {
			s.running.Add(1)
			in.OnEnd = s
		}
	}
	in.Info.Place, in.Info.Replica, in.Info.Frame = &r.place, r.replica.instance.ID, in.ID()
	if h := call.RemoteHTTPOf(&in.Call); h != nil {
		place := r.place
		place.Prefix = h.Prefix()
		in.Info.Place = &place
	}
	if in.Exchange != nil {
		return exchange.Serve(b, in, r.replica.instance)
	}
	return r.replica.local.Start(b, &in.Call, in)
}

// Goaway ends the worker. The node sends it when it has stopped the replicas.
func (l *link) Goaway(wire.Goaway) {
	g := l.guest
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	l.peer.Load().Close(wire.ErrClosed)
}
