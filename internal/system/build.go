package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/spec"
)

// Build makes an application. It is called in the node and again in every worker.
type Build func() (*graph.App, error)

// built calls a Build. A panic in it is an error, with the stack, which is shown nowhere else.
func built(build Build) (app *graph.App, err error) {
	if build == nil {
		return nil, errors.New("the Build function is nil")
	}
	defer func() {
		if v := recover(); v != nil {
			e := call.Recovered(v)
			app, err = nil, fmt.Errorf("%w\n%s", e, e.Traceback)
		}
	}()
	app, err = build()
	return app, call.Guard(err)
}

// complete calls a Build and completes its graph. part says that the application needs no ingress: [graph.App].Part.
func complete(build Build, part bool) (*graph.App, spec.Graph, error) {
	app, err := built(build)
	if app != nil {
		app.Part = part
	}
	return sealed(app, err)
}

// sealed checks the result of a Build and completes its graph.
func sealed(app *graph.App, err error) (*graph.App, spec.Graph, error) {
	if err != nil {
		return nil, spec.Graph{}, fmt.Errorf("build: %w", err)
	}
	if app == nil {
		return nil, spec.Graph{}, errors.New("build: no application and no error")
	}
	g, err := app.Seal()
	return app, g, err
}

// describe answers a node that asks this executable for the graph of one of its applications.
func describe(name string, builds []Build) error {
	fd, err := strconv.Atoi(os.Getenv(build.DescribeFD))
	if err != nil {
		return fmt.Errorf("%s is not set", build.DescribeFD)
	}
	w := os.NewFile(uintptr(fd), "description")
	defer w.Close()
	g, err := described(name, builds)
	if err != nil {
		return err
	}
	body, err := json.Marshal(g)
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// described returns the graph of the application of that name, or of the only one if the name is build.Only.
func described(name string, builds []Build) (spec.Graph, error) {
	var graphs []spec.Graph
	var names []string
	var mistakes []error
	var wrong error
	part := os.Getenv(build.DescribePart) != ""
	for _, b := range builds {
		app, g, err := complete(b, part)
		if app == nil {
			mistakes = append(mistakes, err)
			continue
		}
		names = append(names, app.Name)
		if app.Name != name && name != build.Only {
			continue
		}
		graphs, wrong = append(graphs, g), errors.Join(wrong, err)
	}
	switch {
	case len(graphs) == 1:
		return graphs[0], wrong
	case len(graphs) > 1 && part:
		return spec.Graph{}, fmt.Errorf("which application? give its name as app; the executable contains %q", names)
	case len(graphs) > 1:
		return spec.Graph{}, fmt.Errorf("which application? exec:PATH#APPLICATION; it contains %q", names)
	case len(mistakes) > 0:
		return spec.Graph{}, errors.Join(mistakes...)
	case len(names) == 0:
		return spec.Graph{}, errors.New("this executable contains no application")
	}
	return spec.Graph{}, fmt.Errorf("no application %q in this executable, it contains %q", name, names)
}
