package host

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// prepare makes the runtime_env of the deployment: it unpacks archives and installs packages, unless that was done before. No time limit of
// the replica runs meanwhile. For example, torch takes two minutes to install, once, and construct_timeout_s is 30: the replica
// starts after the two minutes.
func (h *PythonWorker) prepare(ctx context.Context, l Launch, place func(path string) string) (pyenv.Place, error) {
	o := h.Deployment.Options
	env, err := h.App.workers.set.Secrets.Environ(spec.WithoutReserved(h.env()))
	if err != nil {
		return pyenv.Place{}, err
	}
	r := pyenv.Runtime{
		Request: pyenv.Request{
			Interpreter: h.Python.Interpreter, Packages: o.Pip.Packages, Options: o.Pip.InstallOptions, PipVersion: o.Pip.Version, Check: o.Pip.Check,
			Env: env, Dir: h.dir(place),
		},
		WorkingDir: place(o.Dir),
	}
	for _, m := range o.PyModules {
		r.PyModules = append(r.PyModules, place(m))
	}
	if r.Empty() {
		return r.Place(), nil
	}
	cache, err := h.App.workers.pyenvs()
	if err != nil {
		return pyenv.Place{}, err
	}
	return cache.Prepare(ctx, r, func() (done func()) { return l.installs(o.Pip.Packages) })
}

// env is the environment of the worker, but for what the node adds.
func (h *PythonWorker) env() []string {
	return worker.WithVariables(worker.WithVariables(h.Env, h.Python.Env), h.Deployment.Options.Env)
}

// installs tells the owner of the replica that it waits for packages, until done is called.
func (l Launch) installs(packages []string) (done func()) {
	what, begin := pyenv.Describe(packages), time.Now()
	waited := l.Waits("pip to install " + what)
	l.note("packages_installing", "pip installs "+what)
	return func() {
		waited()
		l.note("packages_installed", fmt.Sprintf("pip has ended after %s: %s", time.Since(begin).Round(100*time.Millisecond), what))
	}
}

func (l Launch) note(reason, message string) {
	if l.Note != nil {
		l.Note(reason, message)
	}
}

// pyenvs is the user's cache of environments and archives.
func (ws *Workers) pyenvs() (*pyenv.Cache, error) {
	return ws.cache.Get(func(name string) string { return worker.Variable(ws.set.Program.Env, name) })
}

// visible is the variable by which a worker knows its GPUs; nil leaves the node's as it is. On a node with GPUs a replica that asks for none
// sees none, as in Ray: it would else use the memory of a GPU that another replica holds. A CUDA_VISIBLE_DEVICES in its env_vars is the
// user's word, and counts.
func (h *PythonWorker) visible(of placement.Holding) []string {
	_, stated := h.Deployment.Options.Env[devices.Visible]
	if len(h.App.workers.Ledger().Node().Devices) == 0 || len(of.Devices) == 0 && stated {
		return nil
	}
	return []string{devices.Visible + "=" + strings.Join(of.Devices, ",")}
}

// Ledger has the resources of the node, and the replicas that hold them.
func (ws *Workers) Ledger() *ledger.Ledger { return ws.set.Ledger }

// release takes back the holding of the replica of a worker whose process is gone.
func (w *Worker) release() {
	w.workers.mu.Lock()
	holder := w.holding.Holder
	w.workers.mu.Unlock()
	w.workers.set.Ledger.Free(holder)
}
