package helve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/spec"
)

// external is an application whose code is in another executable.
type external struct {
	path, app string
	args      []string
}

// Executable is a Build for an application of another executable, which need not contain the caller's code: importPath is
// "exec:PATH#APPLICATION", where the name may be left out if the executable contains one application. Its replicas run in
// workers of that executable, started with args and this process's environment and directory. The executable is copied
// when it is deployed, so its file may be replaced; deploying it again changes to the new one ([System.Deploy]).
//
// Handles to it are made by name or with interfaces ([System.Ingress], [HandleOf], [MethodNamed]).
func Executable(importPath string, args ...string) Build {
	return func() (*App, error) {
		path, name, ok := build.ParseImportPath(importPath)
		if !ok {
			return nil, fmt.Errorf("import path %q: must be exec:PATH#APPLICATION", importPath)
		}
		a := NewApp(name)
		a.external = &external{path, name, args}
		return a, nil
	}
}

// load asks the executable for the graph, and makes the application that handles refer to.
func (s *System) load(ctx context.Context, x *external) (*App, deploy.App, error) {
	def, err := node.Load(ctx, x.path, x.app, build.Command{Args: x.args, Env: os.Environ(), Dir: s.dir})
	if err != nil {
		return nil, def, err
	}
	a := &App{name: def.Graph.App, prefix: def.Graph.RoutePrefix, sealed: true}
	for _, d := range def.Graph.Deployments {
		a.deployments = append(a.deployments, &deployment{app: a, name: d.Name})
	}
	return a, def, nil
}

// describe answers a node that asks this executable for the graph of one of its applications.
func describe(name string, builds []Build) error {
	fd, err := strconv.Atoi(os.Getenv(build.DescribeFD))
	if err != nil {
		return fmt.Errorf("%s is not set", build.DescribeFD)
	}
	w := os.NewFile(uintptr(fd), "description")
	defer w.Close()
	var graphs []spec.Graph
	var names []string
	var mistakes []error
	var wrong error
	for _, b := range builds {
		app, graph, err := buildApp(b)
		if app == nil {
			mistakes = append(mistakes, err)
			continue
		}
		names = append(names, app.name)
		if app.name != name && name != build.Only {
			continue
		}
		graphs, wrong = append(graphs, graph), errors.Join(wrong, err)
	}
	switch {
	case len(graphs) == 1 && wrong != nil:
		return wrong
	case len(graphs) == 1:
		body, err := json.Marshal(graphs[0])
		if err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	case len(graphs) > 1:
		return fmt.Errorf("which application? exec:PATH#APPLICATION; it contains %q", names)
	}
	switch {
	case len(mistakes) > 0:
	case len(names) == 0:
		return errors.New("this executable contains no application")
	default:
		return fmt.Errorf("no application %q in this executable, it contains %q", name, names)
	}
	return errors.Join(mistakes...)
}
