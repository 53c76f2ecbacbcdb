// Package session is the node's side of a connected worker or driver: the routes that it declares, its calls, the slots and
// results that it holds, and its control requests.
package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/wire"
)

// Node is the node as a session asks for it. Its methods may be called from any goroutine.
type Node interface {
	// Deployment finds a deployment that is there now; nil if there is none.
	Deployment(app, name string) *serving.Deployment
	// Ingress names the ingress of an application, or a deployment of it where that is not "", with its language; ok is false if there is none.
	Ingress(app, deployment string) (in protocol.IngressMethod, ok bool)
	Status() helvetype.Status
}

// Worker is the worker of a session, as its owner has it: package host.
type Worker interface {
	ID() string
	App() string
	SetModels(replica string, ids []string)
	ReturnSlots(replica string, n int)
	// Faults notes that n calls under slots that were lent to a replica have failed for a reason of the system.
	Faults(replica string, n int, text string)
	Leave(g wire.Goaway)
}

// Settings are the arguments of [New].
type Settings struct {
	Node    Node
	Results *Results
	Origin  string // its calls have a queue of their own
	// Worker is set for the session of a worker. Secondary says that the connection is not the worker's first one: its calls get no
	// lent slots, and its end is not the worker's.
	Worker    Worker
	Secondary bool
	// Former says that the other side is the node before this one, which passes its late calls on.
	Former bool
	// Driver answers the requests that only drivers may make; nil for a worker.
	Driver func(ctx context.Context, op string, body json.RawMessage) (any, error)
	// Metrics takes the metrics that the program on the other side has defined; nil: they are not kept.
	Metrics *telemetry.UserSource
	// Trace takes the records of a worker, and the spans of a driver; nil: they are not kept.
	Trace *trace.Recorder
	// ReferenceOver is the size in bytes over which results are kept here for the other side unless it says otherwise; 0 keeps no result.
	ReferenceOver int
}

// Session is one connection. It implements [wire.Server] and [wire.Orderer].
type Session struct {
	set    Settings
	caller serving.Caller
	kept   resultTable
	table  protocol.Table
}

var _ interface {
	wire.Server
	wire.Orderer
} = (*Session)(nil)

// New makes a session, whose peer comes with Attach.
func New(set Settings) *Session {
	s := &Session{set: set}
	s.caller.Origin, s.caller.Former = set.Origin, set.Former
	side := "drivers"
	if w := set.Worker; w != nil {
		side, s.caller.App = "workers", w.App()
		if !set.Secondary {
			s.caller.Worker = w.ID()
		}
	}
	s.table = protocol.NewTable(side,
		protocol.On(s.returnBlock), protocol.On(s.faults), protocol.On(s.uses), protocol.On(s.models), protocol.On(s.metrics), protocol.On(s.spans), protocol.On(s.status), protocol.On(s.ingress), protocol.On(s.release))
	return s
}

// Attach sets the peer. It is called before the first frame is read.
func (s *Session) Attach(p *wire.Peer) { s.caller.Peer = p }

// Close gives back the slots and results that the other side held. It is called when the connection has ended.
func (s *Session) Close() {
	s.caller.ReleaseAll()
	s.dropAll()
	if s.set.Metrics != nil {
		s.set.Metrics.Close()
	}
}

// target is where a declared route leads. The deployment is looked up again when an application was deleted, so that a
// route outlives a redeploy.
type target struct {
	*call.Place                     // replaced, not written to: calls refer to it
	found       *serving.Deployment // only the connection's reader touches these
}

// Route remembers a route; whether it leads anywhere is seen when it is called.
func (s *Session) Route(r wire.Route) any {
	t := &target{Place: &call.Place{App: r.App, Deployment: r.Deployment, Method: r.Method}}
	if t.App == "" {
		t.App = s.caller.App
	}
	return t
}

// Call passes a call to its deployment.
func (s *Session) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	if in.Mode == call.Fetch {
		return s.fetch(b, in)
	}
	if failure := s.resolve(in); failure != nil {
		in.Complete(b, call.Result{Err: failure})
		return nil
	}
	t, _ := in.Route.(*target)
	if t == nil {
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonInternal, "a call on a route that was never declared")})
		return nil
	}
	if t.found == nil || t.found.Down() {
		if t.found = s.set.Node.Deployment(t.App, t.Deployment); t.found == nil {
			in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonDeploymentUnavailable,
				fmt.Sprintf("no deployment %q in application %q", t.Deployment, t.App))})
			return nil
		}
	}
	if home := t.found.Home(); t.Home != home { // methods in this process find their application by it
		t.Place = &call.Place{App: t.App, Deployment: t.Deployment, Method: t.Method, Home: home}
	}
	in.Info.Place = t.Place
	return t.found.Serve(b, &s.caller, in)
}

// Control answers a request.
func (s *Session) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	if s.set.Driver != nil && !s.table.Has(op) {
		return s.set.Driver(ctx, op, body)
	}
	return s.table.Serve(ctx, op, body)
}

// InOrder names the requests that are answered before the next frame of the connection. The report of a replica on its models stands before the end of the
// call that has loaded one, and the next call of that caller must go to the replica that has the model. A slot that a caller gives back must be free for
// the next call that it makes: with one slot, and a queue for one call, the second call from then on would be refused.
func (s *Session) InOrder(op string) bool {
	return op == protocol.Models{}.Op() || op == protocol.Release{}.Op()
}

func (s *Session) returnBlock(_ context.Context, r protocol.ReturnBlock) (protocol.Done, error) {
	if s.set.Worker != nil {
		s.set.Worker.ReturnSlots(r.Replica, r.Slots)
	}
	return protocol.Done{}, nil
}

func (s *Session) faults(_ context.Context, r protocol.Faults) (protocol.Done, error) {
	if s.set.Worker != nil {
		s.set.Worker.Faults(r.Replica, r.Calls, r.Error)
	}
	return protocol.Done{}, nil
}

func (s *Session) uses(_ context.Context, r protocol.Uses) (protocol.Done, error) {
	n, app := s.set.Node, s.caller.App
	if app == "" {
		return protocol.Done{}, call.NewError(helvetype.ReasonBadInput, "uses: for workers, with the names of two deployments")
	}
	if d := n.Deployment(app, r.Deployment); d != nil && n.Deployment(app, r.Name) != nil {
		d.Uses(r.Name)
	}
	return protocol.Done{}, nil
}

func (s *Session) models(_ context.Context, r protocol.Models) (protocol.Done, error) {
	if s.set.Worker != nil {
		s.set.Worker.SetModels(r.Replica, r.Models)
	}
	return protocol.Done{}, nil
}

func (s *Session) metrics(_ context.Context, r protocol.Metrics) (protocol.Done, error) {
	if s.set.Metrics == nil {
		return protocol.Done{}, nil
	}
	if err := s.set.Metrics.Report(r.Number, r.Metrics); err != nil {
		return protocol.Done{}, call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	return protocol.Done{}, nil
}

func (s *Session) spans(_ context.Context, r protocol.Spans) (protocol.Done, error) {
	if err := s.set.Trace.Report(r.Spans); err != nil {
		return protocol.Done{}, call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	return protocol.Done{}, nil
}

func (s *Session) status(context.Context, protocol.Status) (helvetype.Status, error) {
	return s.set.Node.Status(), nil
}

func (s *Session) release(_ context.Context, r protocol.Release) (protocol.Done, error) {
	s.caller.Release(r.Lease)
	return protocol.Done{}, nil
}

// ingress names the ingress of an application, or one of its deployments. The texts of its errors begin with phrases that users of Ray Serve match on.
func (s *Session) ingress(_ context.Context, r protocol.Ingress) (protocol.IngressMethod, error) {
	if in, ok := s.set.Node.Ingress(r.App, r.Deployment); ok && in.Language != "" {
		return in, nil
	}
	apps := s.set.Node.Status().Applications
	maps.DeleteFunc(apps, func(name string, _ helvetype.ApplicationStatus) bool { return strings.HasPrefix(name, spec.HiddenApps) })
	app, known := apps[r.App]
	var text string
	if r.Deployment == "" {
		text = fmt.Sprintf("Application '%s' does not exist. The node runs %s.", r.App, list(apps, "no application"))
	} else {
		text = fmt.Sprintf("Deployment(name='%s', app='%s') does not exist. ", r.Deployment, r.App)
		if known {
			text += fmt.Sprintf("Application '%s' has %s.", r.App, list(app.Deployments, "no deployment"))
		} else {
			text += fmt.Sprintf("The node runs %s.", list(apps, "no application"))
		}
	}
	return protocol.IngressMethod{}, call.NewError(helvetype.ReasonDeploymentUnavailable, text)
}

// list has the keys of a map in order; none stands for no key.
func list[V any](m map[string]V, none string) string {
	if len(m) == 0 {
		return none
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// Goaway is the announcement of a worker that it takes no more calls, so that its replicas get none. The end of its process does the
// rest.
func (s *Session) Goaway(g wire.Goaway) {
	if s.set.Worker != nil && !s.set.Secondary {
		s.set.Worker.Leave(g)
	}
}
