package control

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/protocol"
)

// forGo are the keys of an application's runtime_env that a Go worker has: the others are about Python's packages and modules.
var forGo = []string{"env_vars", "working_dir"}

// parts are the Go applications that the deployments of one Python application come from, by the import paths that Python gave. Two import paths
// may name one application: for example, exec:/rank is exec:/rank#rank if the executable has no other application.
type parts map[string]*deploy.Part

// load looks into an executable, once for each import path. The result from is the import path with the application's name, so that all
// deployments of one application of an executable share a worker.
func (ps parts) load(ctx context.Context, n Node, of *protocol.GoDeployment, dir string) (p *deploy.Part, from string, err error) {
	given := build.Scheme + of.Build + "#" + of.App
	if p = ps[given]; p == nil {
		if p, err = n.LoadPart(ctx, of.Build, of.App, build.Command{Dir: dir}); err != nil {
			return nil, "", err
		}
	}
	from = build.Scheme + of.Build + "#" + p.Graph.App
	if same := ps[from]; same != nil {
		p = same
	}
	ps[given], ps[from] = p, p
	return p, from, nil
}

// addPart adds a deployment of a Go build to a Python application.
func addPart(ctx context.Context, n Node, ps parts, app *deploy.App, a protocol.PythonApp, s protocol.PythonDeployment) error {
	p, from, err := ps.load(ctx, n, s.Go, a.Dir)
	if err != nil {
		return err
	}
	environment, err := only(a.RuntimeEnv, forGo)
	if err != nil {
		return err
	}
	options, err := deploy.UnderApplication(environment, s.Options)
	if err != nil {
		return err
	}
	return app.AddPart(from, p, deploy.Bound{Name: s.Name, Class: s.Go.Class, Uses: s.Uses, Options: options, Arguments: s.Go.Args})
}

// only is an object of JSON with some of its keys; nil for none of them.
func only(object json.RawMessage, keys []string) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if len(object) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	some := map[string]json.RawMessage{}
	for _, k := range keys {
		if v, ok := all[k]; ok {
			some[k] = v
		}
	}
	if len(some) == 0 {
		return nil, nil
	}
	return json.Marshal(some)
}
