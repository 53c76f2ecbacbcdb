package guest

import (
	"context"

	"github.com/helve-serve/helve/internal/protocol"
)

// Describe asks the node for the language and the methods of a deployment.
func (g *Guest) Describe(ctx context.Context, app, deployment string) (protocol.IngressMethod, error) {
	return protocol.Ask(ctx, g.peer.Load(), protocol.Ingress{App: app, Deployment: deployment})
}

// PortTo makes a port to a deployment that the application of the worker does not have. Its calls go through the node: the node lends slots for
// the worker's own deployments alone.
func (g *Guest) PortTo(app, deployment string, python bool) *Port {
	return &Port{guest: g, app: app, deployment: deployment, python: python}
}
