package serving

import (
	"encoding/binary"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
)

// Caller is a connected worker or driver as the data plane sees it: a process that calls deployments. The owner of the
// connection sets the fields before it reads the first frame.
type Caller struct {
	Peer   *wire.Peer
	Origin string // the calls of one origin have a queue of their own
	App    string // a worker's application; "" for a driver
	Worker string // a worker's id; "" for a driver, and for a connection on which a worker lends no slots
	Former bool   // the node before this one, which passes its late calls on

	leases leases
}

// Serve passes a call of the caller to the deployment: a call, a broadcast, a wish for a slot, or a call with a slot that the
// caller holds. b is the batch of the caller's reader. The result ends the call; nil if it has ended already.
func (d *Deployment) Serve(b *call.Batch, s *Caller, in *wire.Incoming) call.Canceler {
	in.Origin = s.Origin
	if in.Info.Depth == 0 && !s.Former && (in.Info.Trace == ([16]byte{}) || in.Open) { // else its caller has decided, or the node before
		d.Trace.Decide(&in.Info)
		if in.Info.Sampled {
			in.MarkSampled()
		}
	}
	if in.Above != nil {
		in.Above.From = s
		in.Info.Parent, in.From = s.parent(&in.Call)
	}
	switch {
	case !s.Former && fromNodeOnly(&in.Call), in.Exchange != nil:
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonBadInput, "only a node sends HTTP to replicas")})
		return nil
	case in.Mode == call.Broadcast:
		return d.relayBroadcast(b, in)
	case in.Mode == call.Reserve:
		return d.reserve(b, s, in)
	case in.Lease != 0:
		return d.dispatch(b, s, in)
	}
	return d.relay(b, s, in)
}

// parent is the id of the call whose method has made the call, for lists and traces: of the nearest one that this node knows. The span above the call is that call too, or one of user code inside of it,
// which may come later or not at all; it stands for a caller that has ended. For example, a method of a Python worker makes a call in a span "rank": the span above is "rank", and the parent is the method's call.
// from is the deployment of the method, which may be of a call that the node does not see.
func (s *Caller) parent(c *call.Call) (id uint64, from call.Caller) {
	if len(c.Above.Hops) > 0 {
		from = call.Caller{App: s.App, Deployment: deploymentOf(c.Above.Hops[0].Replica)}
	}
	if c.Above.Frame == 0 {
		return 0, from
	}
	var of *call.Call
	switch sink := s.Peer.Outgoing(c.Above.Frame).(type) {
	case *Flight:
		of = sink.call
	case *ControlCall:
		of = sink.call
	default:
		return binary.BigEndian.Uint64(c.Info.Span[:]), from
	}
	if p := of.Info.Place; p != nil && from == (call.Caller{}) {
		from = call.Caller{App: p.App, Deployment: p.Deployment}
	}
	return of.Info.Call, from
}

// deploymentOf is the deployment of a replica by its id. The name may have a # itself.
func deploymentOf(replica string) string {
	return replica[:max(0, strings.LastIndexByte(replica, '#'))]
}

// proxyOrigin is the origin of calls of the ingress.
const proxyOrigin = "proxy"

// callerOf is where a call comes from; the kind is 0 where that is not known.
func callerOf(c *call.Call) telemetry.Caller {
	switch {
	case c.From != (call.Caller{}):
		return telemetry.Caller{Kind: telemetry.FromDeployment, App: c.From.App, Deployment: c.From.Deployment}
	case c.Info.Above == nil && c.Above != nil: // the method has returned, and the node knows it no more
		if s, ok := c.Above.From.(*Caller); ok && s.App != "" {
			return telemetry.Caller{}
		}
	case c.Origin == router.FormerNode:
		return telemetry.Caller{}
	case c.Origin == proxyOrigin:
		return telemetry.Caller{Kind: telemetry.FromHTTP}
	}
	return instance.CallerOf(&c.Info)
}

// noteCaller counts a call to another process that has ended.
func (d *Deployment) noteCaller(c *call.Call, e *call.Error) {
	d.callers.End(callerOf(c), e != nil && e.Reason != helvetype.ReasonCancelled)
}

// AddCallers adds the calls by where they come from to those of a map, without calls of replicas that count these themselves ([Base.AddCallers]), but with the waits of all.
func (d *Deployment) AddCallers(all map[telemetry.Caller]telemetry.CallerCounts) {
	d.callers.AddTo(all)
}

// fromNodeOnly reports whether a call carries HTTP: an exchange, or the head of the request of an ingress method. Workers and drivers must not send
// either: for example, a replica that trusts the address of its client ([call.HTTPRequest]) must be able to take it for the proxy's word.
func fromNodeOnly(c *call.Call) bool { return c.Exchange != nil || call.RemoteHTTPOf(c) != nil }

// Release gives back a slot that the caller holds, if it does.
func (s *Caller) Release(lease uint64) {
	if h := s.take(lease); h != nil {
		h.Release(nil)
	}
}
