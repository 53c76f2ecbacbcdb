package graph

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pysource"
	"github.com/helve-serve/helve/internal/spec"
)

// interpreterEnv overrides the interpreter of Python deployments.
const interpreterEnv = "HELVE_PYTHON"

// Python is the source of a deployment in Python.
type Python struct {
	// ImportPath is "module:Class".
	ImportPath string
	// Args are the arguments of the constructor.
	Args call.Args
	// Reference returns the deployment and the method of a handle or method among the arguments; ok is false for other values.
	Reference func(v any) (d *Deployment, method string, ok bool)
}

// AddPython adds a deployment whose Python is set. isolation is the option of that name.
func (a *App) AddPython(d *Deployment, isolation spec.Isolation) {
	if module, class, ok := strings.Cut(d.Python.ImportPath, ":"); !ok || module == "" || class == "" {
		_ = d.AddMistake("import path %q: must be module:Class", d.Python.ImportPath)
	}
	if d.Receiver.Kind() != reflect.Interface {
		_ = d.AddMistake("%s is not an interface; what Python implements is described by one", d.Receiver)
	}
	if isolation == spec.InNode {
		d.AddOptionMistake("isolation", "a Python deployment cannot be in the node's process")
	}
	a.deployments = append(a.deployments, d)
}

// PythonSource describes the start of the application's Python workers, with the class and the arguments of each. dir is the directory
// of the program. versions has the code version of each deployment whose module is found; the others have new code in every deploy.
func (a *App) PythonSource(dir string) (_ host.Python, versions map[string]string, _ error) {
	versions = map[string]string{}
	p := host.Python{Dir: dir, Last: []string{dir}, Code: map[string]protocol.Code{}}
	for _, d := range a.deployments {
		if d.Python == nil {
			continue
		}
		if p.Interpreter == "" {
			path, err := interpreter()
			if err != nil {
				return p, nil, fmt.Errorf("deployment %q: %w", d.Name, err)
			}
			p.Interpreter = path
		}
		args, err := d.Python.encodeArgs()
		if err != nil {
			return p, nil, fmt.Errorf("deployment %q: arguments: %w", d.Name, err)
		}
		p.Code[d.Name] = protocol.Code{Import: d.Python.ImportPath, Args: args}
		module, _, _ := strings.Cut(d.Python.ImportPath, ":")
		if digest := pysource.Digest(module, d.pythonPath(dir)); digest != "" {
			versions[d.Name] = digest
		}
	}
	return p, versions, nil
}

// pythonPath returns the directories in which a worker finds the program's own modules: its working_dir, the directories of PYTHONPATH, and
// then the program's.
func (d *Deployment) pythonPath(dir string) (dirs []string) {
	current := dir
	if d.Options.Dir != "" {
		current = d.Options.Dir
		dirs = append(dirs, current)
	}
	path, ok := d.Options.Env["PYTHONPATH"]
	if !ok {
		path = os.Getenv("PYTHONPATH")
	}
	for _, p := range filepath.SplitList(path) {
		if !filepath.IsAbs(p) {
			p = filepath.Join(current, p)
		}
		dirs = append(dirs, p)
	}
	return append(dirs, dir)
}

func interpreter() (string, error) {
	if name := os.Getenv(interpreterEnv); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("no Python interpreter: %s: %w", interpreterEnv, err)
		}
		return path, nil
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("no Python interpreter: %w (set %s)", err, interpreterEnv)
	}
	return path, nil
}

func (p *Python) encodeArgs() ([]byte, error) {
	positional := make([]any, len(p.Args.Positional))
	for i, v := range p.Args.Positional {
		positional[i] = p.withReferences(v)
	}
	named := make(map[string]any, len(p.Args.Named))
	for k, v := range p.Args.Named {
		named[k] = p.withReferences(v)
	}
	return Codec.Append(nil, call.Msgpack, []any{positional, named})
}

// withReferences replaces handles and methods by references, of which a Python worker makes DeploymentHandle objects.
func (p *Python) withReferences(v any) any {
	if d, method, ok := p.Reference(v); ok {
		return reference{d, method}
	}
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = p.withReferences(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = p.withReferences(v[k])
		}
		return out
	}
	return v
}

// reference is a handle or method among the arguments of a Python deployment.
type reference struct {
	deployment *Deployment
	method     string
}

// MarshalMsg writes the handle as the MessagePack extension 1 of docs/wire.md.
func (r reference) MarshalMsg(b []byte) ([]byte, error) {
	d := r.deployment
	if d == nil {
		return b, fmt.Errorf("a zero handle or method")
	}
	ref := struct {
		App        string `json:"app"`
		Deployment string `json:"deployment"`
		Method     string `json:"method"`
		Language   string `json:"language"`
	}{d.App.Name, d.Name, r.method, "go"}
	if d.Python != nil {
		ref.Language = "python"
	}
	data, err := json.Marshal(ref)
	if err != nil {
		return b, err
	}
	return msgp.AppendExtension(b, &msgp.RawExtension{Type: 1, Data: data})
}
