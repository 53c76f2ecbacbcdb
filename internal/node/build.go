package node

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/spec"
)

// Load looks into an executable with Go applications and gives what [Node.Deploy] takes to run one of them in workers of
// that executable. app is the application's name, "" for the only one in it.
func (n *Node) Load(ctx context.Context, path, app string, c build.Command) (App, error) {
	b, err := build.Open(path)
	if err != nil {
		return App{}, err
	}
	c.Env = withoutWorkerEnv(c.Env)
	g, err := b.Describe(ctx, app, c)
	if err != nil {
		return App{}, err
	}
	if g.Ingress != nil && g.Ingress.Kind == spec.IngressHTTP {
		return App{}, fmt.Errorf("%s: deployment %s: ingress: an http.Handler runs only in its own executable, not in a worker of this node",
			b.Path, g.Ingress.Deployment)
	}
	for _, d := range g.Deployments {
		if d.Language == "python" {
			return App{}, fmt.Errorf("%s: deployment %s: a Python deployment runs only under its application's own executable, not under this node",
				b.Path, d.Name)
		}
		if r := d.Options.RequestRouter; r != nil && r.Policy == spec.Custom {
			return App{}, fmt.Errorf("%s: deployment %s: routing: a policy of the application's own code runs only in its own executable, not in this node",
				b.Path, d.Name)
		}
	}
	n.mu.Lock()
	err = n.listenLocked()
	n.mu.Unlock()
	if err != nil {
		return App{}, err
	}
	kept, err := b.Keep(filepath.Dir(n.socket.Path()))
	if err != nil {
		return App{}, fmt.Errorf("%s cannot be kept: %w", b.Path, err)
	}
	return App{Graph: g, Program: &Program{Path: kept, Args: c.Args, Env: c.Env, Dir: c.Dir}}, nil
}
