package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// GoWorker has replicas of Go deployments in the one Go worker of their application that has their key: see [App].
type GoWorker struct {
	Deployment *Deployment
	App        *App
	// Graph is the whole application. Built is the application that the worker builds where that is another one, because the application has the
	// deployment from a build; nil for Graph. Program is how the process of the worker is started.
	Graph, Built *spec.Graph
	Program      Program
	// Args are the arguments that the deployment was bound with, as in [protocol.Code]; nil for none.
	Args []byte
	// Shared are the deployments that share the process, this one too.
	Shared []*Deployment
	// Runner runs the worker on a goroutine of this process; nil starts a process.
	Runner Runner

	keyOnce sync.Once
	key     string
}

var _ Host = (*GoWorker)(nil)

// InProcess is false.
func (h *GoWorker) InProcess() bool { return false }

// StartsEarly is false: the process is up before most constructors.
func (h *GoWorker) StartsEarly() bool { return false }

// Method describes a method by the class of the deployment, or by the description of its application.
func (h *GoWorker) Method(name string) Method {
	if h.Deployment.Class != nil {
		return h.Deployment.MethodOfClass(name)
	}
	for _, m := range h.Deployment.Spec.Methods {
		if m.Name == name {
			return Method{In: m.InKind}
		}
	}
	return Method{In: "json"}
}

// Methods are the methods of the description.
func (h *GoWorker) Methods() []protocol.Method { return Described(h.Deployment) }

// MethodOfClass describes a method by the class of the deployment, which this process has.
func (d *Deployment) MethodOfClass(name string) Method {
	if m, failure := d.Class.Lookup(name); failure == nil {
		return Method{In: m.InKind()}
	}
	return Method{In: "json"}
}

// Described are the methods of a deployment in Go, by the description of its application.
func Described(d *Deployment) (all []protocol.Method) {
	for _, m := range d.Spec.Methods {
		all = append(all, protocol.Method{Name: m.Name, Shape: m.Shape, HTTP: m.InKind})
	}
	return all
}

// Adopt gives a replica in the worker the options of this deployment.
func (h *GoWorker) Adopt(r Replica) {
	if r, ok := r.(*workerReplica); ok {
		r.adopt(h.Deployment)
	}
}

// built is the application that the worker builds.
func (h *GoWorker) built() *spec.Graph {
	if h.Built != nil {
		return h.Built
	}
	return h.Graph
}

// Key says how the process is started: the executable, arguments, environment, directory and limits, and the application that it
// builds. Two Go deployments with equal keys share a worker.
//
// The key is made once, because the executable may be replaced later. For example, a developer compiles a program again while it runs:
// a replica that starts after that goes into the worker in which the others are.
func (h *GoWorker) Key() string {
	h.keyOnce.Do(func() { h.key = h.makeKey() })
	return h.key
}

func (h *GoWorker) makeKey() string {
	env, dir, limits := h.Graph.GoWorker(h.Deployment.Spec.Import)
	p := h.Program
	if h.Runner != nil { // of this process, which may build another application under the same name
		return fmt.Sprintf("runner %p", h.Graph)
	}
	b, err := json.Marshal([]any{h.built().Digest(), p.Path, worker.Fingerprint(p.Path), p.Args, p.Dir, env, dir, limits})
	if err != nil { // strings and numbers always marshal, but for limits that are no numbers
		return fmt.Sprintf("%p", h)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Start starts a replica in the worker, which it starts if need be.
func (h *GoWorker) Start(ctx context.Context, l Launch) (Replica, error) {
	if l.Worker != nil {
		return l.Worker.resumeReplica(ctx, h.Deployment, l, nil)
	}
	done := l.Waits(WaitsForProcess)
	w, err := h.App.goWorker(ctx, h.Key(), func() (*Worker, error) { return h.App.workers.spawn(ctx, h.App, h.launchSpec()) })
	done()
	if err != nil {
		return nil, err
	}
	l.In(w)
	r, err := w.newReplica(h.Deployment, l, false)
	if err != nil {
		return nil, err
	}
	r.slots.Begin(w.id, r.lent)
	var code *protocol.Code
	if class := h.Deployment.Spec.Class; class != "" {
		code = &protocol.Code{Import: class, Args: h.Args}
	}
	s, err := r.construct(ctx, code)
	if err != nil {
		r.forget()
		return nil, err
	}
	r.healthCheck, r.readyCheck, r.routingStats, r.autoscalingStats = s.Health, s.Ready, s.RoutingStats, s.AutoscalingStats
	return r, nil
}

// launchSpec joins the wishes of the deployments that share the worker.
func (h *GoWorker) launchSpec() launchSpec {
	env, dir, limits := h.Graph.GoWorker(h.Deployment.Spec.Import)
	s := launchSpec{name: h.Deployment.App, key: h.Key(), graph: h.built(), program: h.Program, runner: h.Runner, limits: limits}
	s.extra = []string{"HELVE_WORKER=" + h.built().App}
	if h.Built != nil {
		s.extra = append(s.extra, "HELVE_WORKER_AS="+h.Deployment.App)
	}
	if dir != "" {
		s.program.Dir = dir
	}
	s.program.Env = worker.WithVariables(s.program.Env, env)
	if limits.Memory > 0 && worker.Variable(s.program.Env, "GOMEMLIMIT") == "" {
		// Else the collector lets the heap double past the limit before it works harder.
		s.extra = append(s.extra, "GOMEMLIMIT="+strconv.FormatInt(limits.Memory/10*9, 10))
	}
	if limits.CPUs > 0 && worker.Variable(s.program.Env, "GOMAXPROCS") == "" {
		// Without a cgroup this is all that bounds the CPUs; with one the runtime has no more threads than it can use in a period.
		s.extra = append(s.extra, "GOMAXPROCS="+strconv.Itoa(int(math.Ceil(limits.CPUs))))
	}
	for _, d := range h.Shared {
		s.construct = max(s.construct, d.Options.ConstructTimeout)
		if s.after == 0 || d.Options.UnresponsiveAfter < s.after {
			s.after = d.Options.UnresponsiveAfter
		}
	}
	return s
}
