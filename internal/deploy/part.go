package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/spec"
)

// Part is a build of which an application has some deployments, beside those of its own. For example, a Python program deploys the
// application "shop" of a Python class and of the deployment Ranker, which the application "rank" of the executable ./ranker has. A Go worker of
// that executable builds "rank", and hosts Ranker under the name of "shop".
type Part struct {
	// Graph is the application as its executable describes it.
	Graph spec.Graph
	// Program starts the worker.
	Program host.Program
	// Build is the executable.
	Build build.Build
}

// Bound is a deployment of a [Part] as an application has it.
type Bound struct {
	// Name is its name in the application, and Class the one in the build.
	Name, Class string
	// Uses are the deployments whose handles are among its arguments.
	Uses []string
	// Options are the options that the application sets, by the names of Python. They go over the options in Go.
	Options json.RawMessage
	// Arguments are as in [protocol.Code].
	Arguments []byte
}

// AddPart adds a deployment of a build. from is the import path of the build.
func (a *App) AddPart(from string, p *Part, b Bound) error {
	d, err := p.find(b.Class)
	if err != nil {
		return err
	}
	d.Name, d.Import, d.Class = b.Name, from, b.Class
	d.Uses = append(slices.Clone(d.Uses), b.Uses...)
	slices.Sort(d.Uses)
	d.Uses = slices.Compact(d.Uses)
	if len(b.Options) > 0 {
		if d.Options, err = d.Options.Merge(b.Options, spec.FromCode); err != nil {
			return err
		}
	}
	d.Options.Isolation = spec.Process
	if a.Parts == nil {
		a.Parts, a.Arguments = map[string]*Part{}, map[string][]byte{}
	}
	a.Parts[from] = p
	if b.Arguments != nil {
		a.Arguments[b.Name] = b.Arguments
	}
	a.Graph.Deployments = append(a.Graph.Deployments, d)
	if in := a.Graph.Ingress; in != nil && in.Deployment == b.Name && p.Graph.Ingress != nil && p.Graph.Ingress.Deployment == b.Class {
		in.Method, in.Kind = p.Graph.Ingress.Method, p.Graph.Ingress.Kind
		a.Graph.IngressOptions = p.Graph.IngressOptions
	}
	return nil
}

// AddUsed adds the deployments of builds that the deployments of builds use in their own program. They have their names and options of Go, and an
// application has each of them once. For example, Ranker uses Scorer: two deployments of Ranker share one Scorer.
func (a *App) AddUsed() (errs []error) {
	for i := 0; i < len(a.Graph.Deployments); i++ { // the list grows meanwhile
		d := a.Graph.Deployments[i]
		p := a.Parts[d.Import]
		if p == nil {
			continue
		}
		of, err := p.find(d.Class)
		if err != nil { // AddPart has looked
			return append(errs, err)
		}
		for _, u := range of.Uses {
			at := slices.IndexFunc(a.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == u })
			switch {
			case at < 0:
				if err := a.AddPart(d.Import, p, Bound{Name: u, Class: u}); err != nil {
					errs = append(errs, spec.InDeployment(u, err)...)
				}
			case a.Graph.Deployments[at].Import != d.Import || a.Graph.Deployments[at].Class != u:
				errs = append(errs, spec.InDeployment(d.Name, fmt.Errorf(
					"its program uses the deployment %s of %s, and the application has another deployment of that name; give that one another name", u, d.Import))...)
			}
		}
	}
	return errs
}

// find is a deployment of the build. An error lists the deployments there are.
func (p *Part) find(class string) (spec.Deployment, error) {
	var names []string
	for _, d := range p.Graph.Deployments {
		if d.Name == class {
			if d.Language == "python" {
				return d, fmt.Errorf("%s is a deployment in Python: bind its class in this program", class)
			}
			if d.Options.RequestRouter.Policy == spec.Custom {
				return d, errors.New("its routing policy is code of the build, which runs only in the build's own node")
			}
			return d, nil
		}
		names = append(names, d.Name)
	}
	return spec.Deployment{}, fmt.Errorf("application %s of %s has no deployment %q; it has %s%s", p.Graph.App, p.Build.Path, class, strings.Join(names, ", "), nearest.Question(class, names))
}
