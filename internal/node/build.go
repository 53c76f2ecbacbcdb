package node

import (
	"context"
	"fmt"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

// LoadPart looks into an executable with Go applications for deployments that another application takes from the application app in it; "" is the
// only one. The executable is not kept yet.
func (n *Node) LoadPart(ctx context.Context, path, app string, c build.Command) (*deploy.Part, error) {
	b, err := build.Open(path)
	if err != nil {
		return nil, err
	}
	own := c.Env // the worker has it over the node's environment of its start, which the store must not have: it may have secrets
	c.Env = append(spec.WithoutReserved(n.set.Program.Env), c.Env...)
	g, err := b.DescribePart(ctx, app, c)
	if err != nil {
		return nil, call.Guard(err)
	}
	return &deploy.Part{Graph: g, Program: host.Program{Path: b.Path, Args: c.Args, Env: own, Dir: c.Dir}, Build: b}, nil
}

// LoadBuild is [Load] for an executable that a driver names.
func (n *Node) LoadBuild(ctx context.Context, path, app string, c build.Command) (deploy.App, error) {
	return Load(ctx, path, app, c)
}

// Load looks into an executable with Go applications and gives the application for Deploy of the controller that runs one of them in workers of
// that executable. app is the application's name, "" for the only one in it. The executable is not kept yet.
func Load(ctx context.Context, path, app string, c build.Command) (deploy.App, error) {
	b, err := build.Open(path)
	if err != nil {
		return deploy.App{}, err
	}
	c.Env = spec.WithoutReserved(c.Env)
	g, err := b.Describe(ctx, app, c)
	if err != nil {
		return deploy.App{}, call.Guard(err) // of the caller's context, perhaps
	}
	for _, d := range g.Deployments {
		if d.Language == "python" {
			return deploy.App{}, fmt.Errorf("%s: deployment %s: a Python deployment runs only under its application's own executable, not under this node",
				b.Path, d.Name)
		}
		if d.Options.RequestRouter.Policy == spec.Custom {
			return deploy.App{}, fmt.Errorf("%s: deployment %s: routing: a policy of the application's own code runs only in its own executable, not in this node",
				b.Path, d.Name)
		}
	}
	return deploy.App{Graph: g, Program: &host.Program{Path: b.Path, Args: c.Args, Env: c.Env, Dir: c.Dir}, Build: &b}, nil
}
