package node

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// Load looks into an executable with Go applications and gives what [Node.Deploy] takes to run one of them in workers of
// that executable. app is the application's name, "" for the only one in it. Nothing is kept yet.
func Load(ctx context.Context, path, app string, c build.Command) (App, error) {
	b, err := build.Open(path)
	if err != nil {
		return App{}, err
	}
	c.Env = withoutWorkerEnv(c.Env)
	g, err := b.Describe(ctx, app, c)
	if err != nil {
		return App{}, call.Guard(err) // of the caller's context, perhaps
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
		if d.Options.RequestRouter.Policy == spec.Custom {
			return App{}, fmt.Errorf("%s: deployment %s: routing: a policy of the application's own code runs only in its own executable, not in this node",
				b.Path, d.Name)
		}
	}
	return App{Graph: g, Program: &Program{Path: b.Path, Args: c.Args, Env: c.Env, Dir: c.Dir}, build: &b}, nil
}

// keep copies the executable of an application into the node's private directory, so that its file may be replaced.
func (n *Node) keep(def *App) error {
	if def.build == nil {
		return nil
	}
	n.mu.Lock()
	err := n.listenLocked()
	n.mu.Unlock()
	if err != nil {
		return err
	}
	kept, err := def.build.Keep(filepath.Dir(n.socket.Path()))
	if err != nil {
		return fmt.Errorf("%s cannot be kept: %w", def.build.Path, err)
	}
	p := *def.Program
	p.Path = kept
	def.Program, def.build = &p, nil
	return nil
}
