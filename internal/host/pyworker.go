package host

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pyenv"
)

// PythonWorker has replicas of a Python deployment, each in a worker of its own.
type PythonWorker struct {
	Deployment *Deployment
	App        *App
	Python     Python
	// Env is the environment of the node, which the worker's begins with.
	Env []string

	methods atomic.Pointer[[]protocol.Method] // of the replica that was ready last; nil for none yet
}

var _ Host = (*PythonWorker)(nil)

// InProcess is false.
func (h *PythonWorker) InProcess() bool { return false }

// StartsEarly is true: an interpreter takes longer to come up than most constructors run.
func (h *PythonWorker) StartsEarly() bool { return true }

// Method describes a method as the first replica that was ready reported it. Before, an ingress sends it the whole request.
func (h *PythonWorker) Method(name string) Method {
	if name == "" {
		name = "__call__"
	}
	all := h.Methods()
	if found, ok := codec.MatchName(name, methodNames(all)); ok {
		for _, m := range all {
			if m.Name == found {
				in := m.HTTP
				if in == "str" {
					in = "string"
				}
				return Method{In: in, Stream: m.Shape == "stream"}
			}
		}
	}
	return Method{In: "request"}
}

// Methods are the methods of the class, as the replica that was ready last reported them.
func (h *PythonWorker) Methods() []protocol.Method {
	if p := h.methods.Load(); p != nil {
		return *p
	}
	return nil
}

// Adopt gives a replica the options of this deployment. The methods of the replica are the methods of its class, for Method.
func (h *PythonWorker) Adopt(r Replica) {
	if r, ok := r.(*workerReplica); ok {
		r.adopt(h.Deployment)
		h.methods.CompareAndSwap(nil, &r.methods)
	}
}

func methodNames(all []protocol.Method) []string {
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.Name
	}
	return names
}

// sysPath says where a Python worker looks for modules: in the directories of First, then where its own interpreter looks, then in
// those of Last. The directories of Own come before all of these but the library, and those of Site before other directories of packages.
// For example, a working_dir and the directory of the driver's script both have model.py: the one in the working_dir is imported. An
// asyncio.py there is not.
type sysPath struct {
	First []string `json:"first"`
	Own   []string `json:"own"`
	Site  []string `json:"site"`
	Last  []string `json:"last"`
}

// pythonMain is the program of a Python worker. Its first import comes after the current directory, which Python puts in front of
// everything else, is out of the way: a user who can write there could replace any module of the library. For example, a program is
// started in a folder of downloads.
// The directories of the deployment's own come when helve is imported: a helve.py in a working_dir is not taken for it.
const pythonMain = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import json, os
path = json.loads(os.environ["HELVE_SYS_PATH"])
order = [*(path["first"] or ()), *sys.path, *(path["last"] or ())]
library = [p for p in order if p.startswith(os.path.dirname(os.__file__)) and not p.endswith("-packages")]
if path["site"]:
    order = [*(p for p in order if not p.endswith("-packages")), *path["site"], *order]
sys.path[:] = dict.fromkeys(order)
from helve._worker import main
if path["own"]:
    sys.path[:] = dict.fromkeys([*library, *path["own"], *order])
main()
`

// Start starts a worker and the replica in it.
func (h *PythonWorker) Start(ctx context.Context, l Launch) (Replica, error) {
	d := h.Deployment
	if l.Worker != nil {
		return l.Worker.resumeReplica(ctx, d, l, func(methods []protocol.Method) { h.methods.Store(&methods) })
	}
	ws := h.App.workers
	code, ok := h.Python.Code[d.Name]
	if !ok && h.Python.File != "" {
		code, ok = protocol.Code{Blob: h.Python.File, Digest: h.Python.Digest}, true
	}
	if !ok {
		dir, err := ws.Dir()
		if err != nil {
			return nil, err
		}
		path, digest, release, err := ws.code.Hold(dir, h.App.name, h.Python.Blob)
		if err != nil {
			return nil, err
		}
		defer release() // the worker has read it, or has failed
		code = protocol.Code{Blob: path, Digest: digest}
	}
	place, err := h.places()
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", d.Name, err)
	}
	env, err := h.prepare(ctx, l, place)
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", d.Name, ws.set.Secrets.Hide(err))
	}
	gpus, err := h.take(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("deployment %s: a replica %w", d.Name, err)
	}
	of, err := h.launchSpec(l.ID, env, gpus, place)
	if err != nil {
		ws.Devices().Free(l.ID)
		return nil, err
	}
	done := l.Waits(WaitsForProcess)
	w, err := ws.spawn(ctx, h.App, of)
	done()
	if err != nil {
		ws.Devices().Free(l.ID)
		return nil, fmt.Errorf("deployment %s: %w", d.Name, err)
	}
	l.In(w)
	r, err := h.start(ctx, w, l, &code)
	if err != nil {
		w.Stop(ctx)
		return nil, err
	}
	return r, nil
}

func (h *PythonWorker) start(ctx context.Context, w *Worker, l Launch, code *protocol.Code) (*workerReplica, error) {
	done := l.Waits(WaitsForUses)
	err := l.AwaitUses(ctx)
	done()
	if err != nil {
		return nil, err
	}
	r, err := w.newReplica(h.Deployment, l, true)
	if err != nil {
		return nil, err
	}
	s, err := r.construct(ctx, code)
	if err == nil {
		err = h.checkMethods(s.Methods)
	}
	if err != nil {
		r.forget()
		return nil, err
	}
	r.healthCheck, r.readyCheck, r.routingStats, r.methods = s.Health, s.Ready, s.RoutingStats, s.Methods
	h.methods.Store(&s.Methods)
	return r, nil
}

// launchSpec describes the start of the worker of a replica.
func (h *PythonWorker) launchSpec(replica string, env pyenv.Place, gpus devices.Holding, place func(path string) string) (launchSpec, error) {
	d := h.Deployment
	first := make([]string, len(h.Python.SysPath))
	for i, p := range h.Python.SysPath {
		first[i] = place(p)
	}
	path, err := json.Marshal(sysPath{first, env.Own, env.Site, h.Python.Last})
	if err != nil {
		return launchSpec{}, err
	}
	p := Program{Path: env.Interpreter, Args: []string{"-c", pythonMain}, Dir: env.Dir, Env: h.env()}
	return launchSpec{
		name: replica, deployment: d.Name, replica: replica, program: p, devices: gpus,
		extra:  append([]string{"HELVE_SYS_PATH=" + string(path), "HELVE_LOGGING=" + string(d.Options.LoggingConfig)}, h.visible(gpus)...),
		limits: d.Options.Limits, after: d.Options.UnresponsiveAfter, construct: d.Options.ConstructTimeout,
	}, nil
}

// checkMethods sees that the methods that the graph binds are there.
func (h *PythonWorker) checkMethods(have []protocol.Method) error {
	names := methodNames(have)
	for _, m := range h.Deployment.Spec.Methods {
		if _, ok := codec.MatchName(m.Name, names); !ok {
			return fmt.Errorf("deployment %s: the Python class %s has no method %s; it has %s",
				h.Deployment.Name, h.Deployment.Spec.Import, codec.SnakeCase(m.Name), strings.Join(names, ", "))
		}
	}
	return nil
}
