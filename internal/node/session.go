package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// session is what a connected worker or driver may do: call deployments. A driver may do more (driver.go).
type session struct {
	node   *Node
	peer   *wire.Peer
	origin string
	app    *app // a worker's; nil for a driver
	worker *workerProc
	driver *driver
	leases leases
	kept   shelf
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

// Control answers drivers; workers have little to ask.
func (s *session) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	switch op {
	case "return_block":
		return nil, s.returnBlock(body)
	case "uses":
		var u wire.Uses
		if err := json.Unmarshal(body, &u); err != nil || s.app == nil {
			return nil, call.NewError(call.BadInput, "uses: for workers, with the names of two deployments")
		}
		if d := s.node.Deployment(s.app.name, u.Deployment); d != nil && s.node.Deployment(s.app.name, u.Name) != nil {
			d.Uses(u.Name)
		}
		return nil, nil
	case "models":
		return nil, s.setModels(body)
	case "status":
		return s.node.Status(), nil
	case "ingress":
		return s.ingress(body)
	}
	if op == "release" {
		var req wire.Held
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, call.NewError(call.BadInput, "release: "+err.Error())
		}
		if h := s.take(req.Lease); h != nil {
			h.Release(nil)
		}
		return nil, nil
	}
	if s.driver != nil {
		return s.driver.control(ctx, op, body)
	}
	return nil, call.NewError(call.BadInput, fmt.Sprintf("control request %q is not for workers", op))
}

// ingress says what the ingress of an application is.
func (s *session) ingress(body json.RawMessage) (any, error) {
	var req struct {
		App string `json:"app"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, call.NewError(call.BadInput, "ingress: "+err.Error())
	}
	name, method, ok := s.node.Ingress(req.App)
	d := s.node.Deployment(req.App, name)
	if !ok || d == nil {
		return nil, call.NewError(call.DeploymentUnavailable, fmt.Sprintf("no application %q runs here", req.App))
	}
	return map[string]string{"deployment": name, "method": method, "language": d.now.Load().spec.Language}, nil
}

// Goaway from a worker: it takes no more calls, so its replicas get none. The end of its process does the rest.
func (s *session) Goaway(g wire.Goaway) {
	if s.worker != nil {
		s.worker.refuseCalls()
		s.node.wg.Go(s.worker.awaitLeft)
	}
	s.node.log.Info("worker goes away", "origin", s.origin, "reason", g.Reason, "message", g.Message)
}
