package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
)

// session is what a connected worker or driver may do: call deployments. A driver may do more (driver.go).
type session struct {
	node    *Node
	peer    *wire.Peer
	control protocol.Table
	origin  string
	app     *app // a worker's; nil for a driver
	worker  *workerProc
	driver  *driver
	leases  leases
	kept    shelf
	// referenceOver is the size in bytes over which results are kept here for the other side unless it says otherwise; 0: none.
	referenceOver int
}

// target is where a declared route leads. The deployment is looked up again when an application was deleted, so that a
// route outlives a redeploy.
type target struct {
	*call.Place             // replaced, not written to: calls refer to it
	found       *Deployment // only the connection's reader touches these
}

// Route remembers a route; whether it leads anywhere is seen when it is called.
func (s *session) Route(r wire.Route) any {
	t := &target{Place: &call.Place{App: r.App, Deployment: r.Deployment, Method: r.Method}}
	if t.App == "" && s.app != nil {
		t.App = s.app.name
	}
	return t
}

// Call relays a call to its deployment.
func (s *session) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	if in.Mode == call.Fetch {
		return s.fetch(b, in)
	}
	if failure := s.referring(in); failure != nil {
		in.Complete(b, call.Result{Err: failure})
		return nil
	}
	t, _ := in.Route.(*target)
	if t == nil {
		in.Complete(b, call.Result{Err: call.NewError(call.Fault, "a call on a route that was never declared")})
		return nil
	}
	if t.found == nil || t.found.down.Load() != nil {
		if t.found = s.node.Deployment(t.App, t.Deployment); t.found == nil {
			in.Complete(b, call.Result{Err: call.NewError(call.DeploymentUnavailable,
				fmt.Sprintf("no deployment %q in application %q", t.Deployment, t.App))})
			return nil
		}
	}
	if home := t.found.now.Load().def.Home; t.Home != home { // methods in this process find their application by it
		t.Place = &call.Place{App: t.App, Deployment: t.Deployment, Method: t.Method, Home: home}
	}
	in.Info.Place, in.Origin = t.Place, s.origin
	if in.Above != nil {
		in.Above.From = s
	}
	switch {
	case in.Mode == call.Broadcast:
		return t.found.relayBroadcast(b, in)
	case in.Mode == call.Reserve:
		return t.found.reserve(b, s, in)
	case in.Lease != 0:
		return t.found.dispatch(b, s, in)
	}
	return t.found.relay(b, s, in)
}

// operations are the control requests that a worker may send, or a driver, which may send more.
func (s *session) operations() protocol.Table {
	handlers := []protocol.Handler{
		protocol.On(s.returnBlock), protocol.On(s.uses), protocol.On(s.setModels), protocol.On(s.status), protocol.On(s.ingress),
		protocol.On(s.release),
	}
	if s.driver == nil {
		return protocol.NewTable("workers", handlers...)
	}
	return protocol.NewTable("drivers", append(handlers, s.driver.operations()...)...)
}

// Control answers a control request of the other side.
func (s *session) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	return s.control.Serve(ctx, op, body)
}

// uses notes an edge of the graph that the graph does not say.
func (s *session) uses(_ context.Context, u protocol.Uses) (done protocol.Done, err error) {
	if s.app == nil {
		return done, call.NewError(call.BadInput, "uses: is for workers")
	}
	if d := s.node.Deployment(s.app.name, u.Deployment); d != nil && s.node.Deployment(s.app.name, u.Name) != nil {
		d.Uses(u.Name)
	}
	return done, nil
}

func (s *session) status(context.Context, protocol.Status) (helvetype.Status, error) {
	return s.node.Status(), nil
}

// release gives a slot back that the other side holds.
func (s *session) release(_ context.Context, r protocol.Release) (done protocol.Done, err error) {
	if h := s.take(r.Lease); h != nil {
		h.Release(nil)
	}
	return done, nil
}

// ingress says what the ingress of an application is.
func (s *session) ingress(_ context.Context, req protocol.Ingress) (in protocol.IngressMethod, err error) {
	name, method, ok := s.node.Ingress(req.App)
	d := s.node.Deployment(req.App, name)
	if !ok || d == nil {
		return in, call.NewError(call.DeploymentUnavailable, fmt.Sprintf("no application %q runs here", req.App))
	}
	return protocol.IngressMethod{Deployment: name, Method: method, Language: d.now.Load().spec.Language}, nil
}

// Goaway from a worker: it takes no more calls, so its replicas get none. The end of its process does the rest.
func (s *session) Goaway(g wire.Goaway) {
	if s.worker != nil {
		s.worker.refuseCalls()
		s.node.wg.Go(s.worker.awaitLeft)
	}
	s.node.log.Info("worker goes away", "origin", s.origin, "reason", g.Reason, "message", g.Message)
}
