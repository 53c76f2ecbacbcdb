package guest

import (
	"context"

	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
)

// Peer is the connection to the node of now.
func (g *Guest) Peer() *wire.Peer { return g.peer.Load() }

// Port makes a port to a deployment of the worker's application, for which the node may lend slots. python selects how Go values become its
// arguments.
func (g *Guest) Port(app, deployment string, python bool) *port.Port {
	p := g.PortTo(app, deployment, python)
	g.mu.Lock()
	g.ports = append(g.ports, p)
	g.mu.Unlock()
	return p
}

// PortTo makes a port to a deployment that the application of the worker does not have. Its calls go through the node: the node lends slots for
// the worker's own deployments alone.
func (g *Guest) PortTo(app, deployment string, python bool) *port.Port {
	return port.New(g, port.Target{App: app, Deployment: deployment, Python: python}, g.codec)
}

// Describe asks the node for the language and the methods of a deployment.
func (g *Guest) Describe(ctx context.Context, app, deployment string) (protocol.IngressMethod, error) {
	return protocol.Ask(ctx, g.peer.Load(), protocol.Ingress{App: app, Deployment: deployment})
}
