package helve

import (
	"fmt"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/spec"
)

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
		a.g.External = &graph.External{Path: path, Application: name, Args: args}
		return a, nil
	}
}

// Python adds a deployment written in Python: the class at importPath ("module:Class", found where the
// interpreter looks, else from the working directory), constructed with args. Handles and methods among args arrive as DeploymentHandle objects, which is how
// Python calls Go. R is an interface whose method names are the class's, in either language's case
// (Embed and embed are one name). Each replica is a process of its own.
//
// The interpreter is $HELVE_PYTHON, else python3 of PATH; it needs the helve package.
func Python[R any](app *App, name, importPath string, args Args, opts Options) Handle[R] {
	d := vertex[R](app, name, opts)
	d.Python = &graph.Python{ImportPath: importPath, Args: call.Args(args), Reference: reference}
	app.g.AddPython(d, spec.Isolation(opts.Isolation))
	return Handle[R]{d: d}
}

// reference finds the deployment and the method of a handle or method among the arguments of a deployment in Python.
func reference(v any) (d *graph.Deployment, method string, ok bool) {
	t, ok := v.(Target)
	if !ok {
		return nil, "", false
	}
	u := use(t)
	if u.Binding != nil {
		method = u.Binding.Name
	}
	return u.Deployment, method, true
}
