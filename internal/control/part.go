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

// addPart adds a deployment of a Go build to a Python application.
func addPart(ctx context.Context, n Node, app *deploy.App, a protocol.PythonApp, s protocol.PythonDeployment) error {
	from := build.Scheme + s.Go.Build + "#" + s.Go.App
	p := app.Parts[from]
	if p == nil {
		var err error
		if p, err = n.LoadPart(ctx, s.Go.Build, s.Go.App, build.Command{Dir: a.Dir}); err != nil {
			return err
		}
	}
	environment, err := only(a.RuntimeEnv, forGo)
	if err != nil {
		return err
	}
	options, err := underApplication(environment, s.Options)
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
