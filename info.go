package helve

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
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

// Draining is closed when the drain of the replica that ctx belongs to begins: the replica is stopped, for example because a deploy replaces it
// or a smaller number of replicas is set, or its node is. It is for handlers, methods, streams and constructors of replicas, in the node and in
// workers; elsewhere it is nil, which no select takes. A stream or a WebSocket without an end can say good-bye then:
//
//	select {
//	case <-helve.Draining(ctx): // tell the client to connect again
//	case e := <-events:
//	}
//
// When the node stops, requests are served as before until [HTTPOptions].DrainDelay is over; the calls that run then, and those of a replica that is
// stopped alone, have the time of their deployment's GracefulShutdownTimeout.
func Draining(ctx context.Context) <-chan struct{} {
	return graph.Draining(ctx)
}

// Detach returns a context for calls that outlive the call of ctx. It has the values, the request id and the trace of ctx, and
// neither its deadline nor its end.
func Detach(ctx context.Context) context.Context { return call.Detach(ctx) }

// LoggerFrom returns slog.Default with the attributes app, deployment, replica and request_id of the method that received ctx. Several
// replicas of one worker share its output; the attributes tell their lines apart. Outside of methods it returns slog.Default.
func LoggerFrom(ctx context.Context) *slog.Logger {
	i := call.InfoFrom(ctx)
	if i == nil {
		return slog.Default()
	}
	return slog.Default().With("app", i.App, "deployment", i.Deployment, "replica", i.Replica, "request_id", i.Request.String())
}
