package helve

import (
	"context"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/proxy"
)

// Replica names the replica that runs a method.
type Replica struct {
	// App, Deployment and ID are the names of the application and of the deployment, and the id of the replica.
	App, Deployment, ID string
}

// ReplicaFrom is the replica whose method received ctx; zero outside of methods.
func ReplicaFrom(ctx context.Context) Replica {
	if i := call.InfoFrom(ctx); i != nil {
		return Replica{i.App, i.Deployment, i.Replica}
	}
	return Replica{}
}

// RequestIDFrom is the id of the request that ctx belongs to: one id for all calls of a composition. "" outside of methods.
func RequestIDFrom(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil {
		return i.Request.String()
	}
	return ""
}

// ModelIDFrom is the model id of the call that ctx belongs to, "" if it has none.
func ModelIDFrom(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil {
		return i.Model()
	}
	return ""
}

// SessionIDFrom is the session id of the call that ctx belongs to, "" if it has none.
func SessionIDFrom(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil && i.Affinity != nil {
		return i.Affinity.Session
	}
	return ""
}

// RoutePrefixFrom is the [App.RoutePrefix] of the application, in the context of a request or call that came by HTTP; "" elsewhere. A
// handler needs it for the links in its pages; paths in Location get it by themselves ([HTTP]).
func RoutePrefixFrom(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil && i.Place != nil {
		return i.Prefix
	}
	return ""
}

// Draining is closed when the node begins to drain, in the context of a request to a handler or of a call that came by HTTP and runs in the node's
// process; elsewhere it is nil, which no select takes. A stream or a WebSocket without an end can say good-bye then:
//
//	select {
//	case <-helve.Draining(ctx): // tell the client to connect again
//	case e := <-events:
//	}
//
// Requests are served as before until [HTTPOptions].DrainDelay is over, and those that run then have the time of the deployments'
// GracefulShutdownTimeout.
func Draining(ctx context.Context) <-chan struct{} { return proxy.Draining(ctx) }

// Detach returns a context for calls that outlive the call of ctx. It has the values, the request id and the trace of ctx, and
// neither its deadline nor its end.
func Detach(ctx context.Context) context.Context { return call.Detach(ctx) }
