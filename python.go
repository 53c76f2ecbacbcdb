package helve

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pysource"
)

// pythonEnv overrides the interpreter of Python deployments.
const pythonEnv = "HELVE_PYTHON"

type pythonSource struct {
	importPath string
	args       Args
}

// Python adds a deployment written in Python: the class at importPath ("module:Class", found where the
// interpreter looks, else from the working directory), constructed with args. Handles and methods among args arrive as DeploymentHandle objects, which is how
// Python calls Go. R is an interface whose method names are the class's, in either language's case
// (Embed and embed are one name). Each replica is a process of its own.
//
// The interpreter is $HELVE_PYTHON, else python3 of PATH; it needs the helve package.
func Python[R any](app *App, name, importPath string, args Args, opts Options) Handle[R] {
	t := reflect.TypeFor[R]()
	d := &deployment{app: app, name: name, receiver: t, options: opts, python: &pythonSource{importPath, args}}
	if module, class, ok := strings.Cut(importPath, ":"); !ok || module == "" || class == "" {
		_ = d.addError("import path %q: must be module:Class", importPath)
	}
	if t.Kind() != reflect.Interface {
		_ = d.addError("%s is not an interface; what Python implements is described by one", t)
	}
	if opts.Isolation == InNode {
		d.addOptionError("isolation", "a Python deployment cannot be in the node's process")
	}
	app.deployments = append(app.deployments, d)
	return Handle[R]{d: d}
}

func (d *deployment) bind(method string) {
	if !slices.Contains(d.bound, method) {
		d.bound = append(d.bound, method)
	}
}

// pythonSource describes the start of the application's Python workers, with the class and the arguments of each. versions has the
// code version of each deployment whose module is found; the others have new code in every deploy.
func (a *App) pythonSource(dir string) (_ host.Python, versions map[string]string, _ error) {
	versions = map[string]string{}
	p := host.Python{Dir: dir, Last: []string{dir}, Code: map[string]protocol.Code{}}
	for _, d := range a.deployments {
		if d.python == nil {
			continue
		}
		if p.Interpreter == "" {
			path, err := interpreter()
			if err != nil {
				return p, nil, fmt.Errorf("deployment %q: %w", d.name, err)
			}
			p.Interpreter = path
		}
		args, err := a.encodeArgs(d.python.args)
		if err != nil {
			return p, nil, fmt.Errorf("deployment %q: arguments: %w", d.name, err)
		}
		p.Code[d.name] = protocol.Code{Import: d.python.importPath, Args: args}
		module, _, _ := strings.Cut(d.python.importPath, ":")
		if digest := pysource.Digest(module, d.pythonPath(dir)); digest != "" {
			versions[d.name] = digest
		}
	}
	return p, versions, nil
}

// pythonPath are the directories in which a worker finds the program's own modules: those of PYTHONPATH, and then its directory.
func (d *deployment) pythonPath(dir string) (dirs []string) {
	last := []string{dir}
	if d.options.Dir != "" {
		last = []string{d.options.Dir, dir}
	}
	path, ok := d.options.Env["PYTHONPATH"]
	if !ok {
		path = os.Getenv("PYTHONPATH")
	}
	for _, p := range filepath.SplitList(path) {
		if !filepath.IsAbs(p) {
			p = filepath.Join(last[0], p)
		}
		dirs = append(dirs, p)
	}
	return append(dirs, last...)
}

func interpreter() (string, error) {
	if name := os.Getenv(pythonEnv); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("no Python interpreter: %s: %w", pythonEnv, err)
		}
		return path, nil
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("no Python interpreter: %w (set %s)", err, pythonEnv)
	}
	return path, nil
}

func (a *App) encodeArgs(args Args) ([]byte, error) {
	positional := make([]any, len(args.Positional))
	for i, v := range args.Positional {
		positional[i] = withRefs(v)
	}
	named := make(map[string]any, len(args.Named))
	for k, v := range args.Named {
		named[k] = withRefs(v)
	}
	return theCodec.Append(nil, call.Msgpack, []any{positional, named})
}

// withRefs replaces handles and methods by references, of which a Python worker makes DeploymentHandle objects.
func withRefs(v any) any {
	switch v := v.(type) {
	case Target:
		return handleRef{v}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withRefs(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = withRefs(v[k])
		}
		return out
	}
	return v
}

type handleRef struct{ t Target }

// MarshalMsg writes the handle as the MessagePack extension 1 of docs/wire.md.
func (r handleRef) MarshalMsg(b []byte) ([]byte, error) {
	d := r.t.target()
	if d == nil {
		return b, fmt.Errorf("a zero handle or method")
	}
	ref := struct {
		App        string `json:"app"`
		Deployment string `json:"deployment"`
		Method     string `json:"method"`
		Language   string `json:"language"`
	}{d.app.name, d.name, "", "go"}
	if d.python != nil {
		ref.Language = "python"
	}
	if m, ok := r.t.(interface{ bound() *binding }); ok {
		ref.Method = m.bound().name
	}
	data, err := json.Marshal(ref)
	if err != nil {
		return b, err
	}
	return msgp.AppendExtension(b, &msgp.RawExtension{Type: 1, Data: data})
}

// handleTo checks that R fits a deployment that was found by name.
func handleTo[R any](d *deployment) (Handle[R], error) {
	t := reflect.TypeFor[R]()
	switch {
	case t == d.receiver || t.Kind() == reflect.Interface && t.NumMethod() == 0:
		return Handle[R]{d: d}, nil
	case t.Kind() == reflect.Interface && d.python == nil && !d.receiver.Implements(t):
		return Handle[R]{}, fmt.Errorf("deployment %q is %s, which does not implement %s", d.name, d.receiver, t)
	case t.Kind() != reflect.Interface:
		return Handle[R]{}, fmt.Errorf("deployment %q is %s, not %s", d.name, d.receiver, t)
	}
	return Handle[R]{d: d}, nil
}
