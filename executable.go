package helve

import (
	"fmt"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/graph"
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
