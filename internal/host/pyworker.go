package host

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/pymethods"
	"github.com/helve-serve/helve/internal/pystart"
	"github.com/helve-serve/helve/internal/worker"
)

// PythonWorker has replicas of a Python deployment, each in a worker of its own.
type PythonWorker struct {
	Deployment *Deployment
	App        *App
	Python     Python
	// Env is the environment of the node, which the worker's begins with.
	Env []string

	methods atomic.Pointer[[]protocol.Method] // of the replica that was ready last; nil for none yet
	warmed  atomic.Bool                       // see Warm
}

var _ Host = (*PythonWorker)(nil)

// InProcess is false.
func (h *PythonWorker) InProcess() bool { return false }

// StartsEarly is true: an interpreter takes longer to come up than most constructors run.
func (h *PythonWorker) StartsEarly() bool { return true }

// Method describes a method as the first replica that was ready reported it. Before, an ingress sends it the whole request.
func (h *PythonWorker) Method(name string) Method {
	if m, ok := pymethods.Find(h.Methods(), name); ok {
		in := m.HTTP
		if in == "str" {
			in = "string"
		}
		return Method{In: in, Stream: m.Shape == "stream"}
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

// Start starts a worker and the replica in it.
func (h *PythonWorker) Start(ctx context.Context, l Launch) (Replica, error) {
	d := h.Deployment
	if l.Worker != nil {
		return l.Worker.resumeReplica(ctx, d, l, func(methods []protocol.Method) { h.methods.Store(&methods) })
	}
	ws := h.App.workers
	code, release, err := h.code()
	if err != nil {
		return nil, err
	}
	defer release() // the worker has read it, or has failed
	place, err := h.places()
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", d.Name, err)
	}
	env, err := h.prepare(ctx, l, place)
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", d.Name, ws.set.Secrets.Hide(err))
	}
	var holding placement.Holding
	if l.Reserve != nil {
		if holding, err = l.Reserve(ctx); err != nil {
			return nil, err
		}
	}
	of := h.launchSpec(l.ID, env, holding, place)
	defer h.App.Spares.Fill(of.spareKey()) // beside neither the start of the process nor the constructor
	done := l.Waits(WaitsForProcess)
	w, taken := h.App.Spares.Take(ctx, of.spareKey())
	if taken {
		w.employ(of)
	} else {
		w, err = ws.spawn(ctx, h.App, of)
	}
	done()
	if err != nil {
		ws.Ledger().Free(l.ID)
		return nil, fmt.Errorf("deployment %s: %w", d.Name, err)
	}
	l.In(w)
	r, err := h.start(ctx, w, l, &code)
	if err != nil {
		w.Stop(ctx)
		ws.Ledger().Free(l.ID) // of a spare process that has ended before it was given the replica
		return nil, err
	}
	return r, nil
}

// code is the code of the deployment, in a file that stays until release is called.
func (h *PythonWorker) code() (code protocol.Code, release func(), err error) {
	release = func() {}
	if code, ok := h.Python.Code[h.Deployment.Name]; ok {
		return code, release, nil
	}
	if h.Python.File != "" {
		return protocol.Code{Blob: h.Python.File, Digest: h.Python.Digest}, release, nil
	}
	ws := h.App.workers
	dir, err := ws.Dir()
	if err == nil {
		code.Blob, code.Digest, release, err = ws.code.Hold(dir, h.App.name, h.Python.Blob)
	}
	return code, release, err
}

// path says where the processes of the deployment look for modules.
func (h *PythonWorker) path(env pyenv.Place, place func(path string) string) pystart.Path {
	first := make([]string, len(h.Python.SysPath))
	for i, p := range h.Python.SysPath {
		first[i] = place(p)
	}
	return pystart.Path{First: first, Own: env.Own, Site: env.Site, Last: h.Python.Last}
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
		err = pymethods.Missing(&h.Deployment.Spec, s.Methods)
	}
	if err != nil {
		r.forget()
		return nil, err
	}
	r.healthCheck, r.readyCheck, r.routingStats, r.autoscalingStats, r.methods = s.Health, s.Ready, s.RoutingStats, s.AutoscalingStats, s.Methods
	h.methods.Store(&s.Methods)
	return r, nil
}

// launchSpec describes the start of the worker of a replica.
func (h *PythonWorker) launchSpec(replica string, env pyenv.Place, holding placement.Holding, place func(path string) string) launchSpec {
	d := h.Deployment
	p := Program{Path: env.Interpreter, Args: pystart.Args("_worker"), Dir: env.Dir, Env: h.env()}
	return launchSpec{
		name: replica, deployment: d.Name, replica: replica, program: p, holding: holding,
		extra:  append([]string{h.path(env, place).Variable(), "HELVE_LOGGING=" + string(d.Options.LoggingConfig)}, slices.Concat(h.visible(holding), pystart.Threads(worker.Variable(p.Env, pystart.ThreadsEnv), d.Options.Resources.CPUs))...),
		limits: d.Options.ProcessLimits(), after: d.Options.UnresponsiveAfter, construct: d.Options.ConstructTimeout,
	}
}
