package deploy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
)

// Check lists what of an application is wrong that can be seen without starting anything: its route, the executables and
// directories of its workers, whose archives it reads, and its routing policies, which it makes. own starts the Go workers of this executable. Deploy looks before
// anything starts; a caller that has more to lose looks earlier: for example, a node that takes over the workers of the one before ends
// them if its application cannot be deployed.
func (def *App) Check(own host.Program) error {
	var errs []error
	if p := def.Graph.RoutePrefix; p != "" {
		if err := proxy.CheckPrefix(p); err != nil {
			errs = append(errs, err)
		}
	}
	program := own
	if def.Program != nil {
		program = *def.Program
	}
	python, inWorker := false, false
	for _, d := range def.Graph.Deployments {
		switch {
		case d.Language == "python":
			python = true
		case def.Parts[d.Import] == nil && (d.Options.Isolation == spec.Process || def.Program != nil):
			inWorker = true
		}
		if d.Language != "python" && d.Options.Resources.GPUs > 0 {
			errs = append(errs, fmt.Errorf("deployment %q: num_gpus: GPUs are given to Python deployments alone; Isolation %s with CUDA_VISIBLE_DEVICES in Env gives some to a Go worker", d.Name, spec.Process))
		}
		for _, err := range def.checkEnvironment(d) {
			errs = append(errs, fmt.Errorf("deployment %q: %w", d.Name, err))
		}
	}
	if err := kernel.Workers(); err != nil && (python || inWorker && def.Runner == nil) {
		return fmt.Errorf("application %q: %w", def.Graph.App, err)
	}
	if python {
		if _, err := exec.LookPath(def.Python.Interpreter); err != nil {
			errs = append(errs, fmt.Errorf("no Python interpreter: %w", err))
		}
		if dir := def.Python.Dir; dir != "" && def.packed(dir).Digest == "" {
			if err := isDir(dir); err != nil {
				errs = append(errs, fmt.Errorf("the directory of the Python workers: %w", err))
			}
		}
	}
	if inWorker && def.Runner == nil && program.Path != "" {
		if _, err := os.Stat(program.Path); err != nil {
			errs = append(errs, fmt.Errorf("the executable of the workers: %w", err))
		}
	}
	if def.policies == nil {
		errs = append(errs, def.makePolicies()...)
	}
	if len(errs) == 0 && def.identity == "" {
		errs = def.readArchives()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("application %q: %w", def.Graph.App, err)
	}
	return nil
}

// makePolicies makes the routing policies, which is users' code, before anything waits for it or holds a lock.
func (a *App) makePolicies() (errs []error) {
	a.policies = map[string]router.Policy{}
	for _, name := range slices.Sorted(maps.Keys(a.Policies)) {
		p, err := made(a.Policies[name])
		if err == nil && p == nil {
			err = errors.New("the function gives no policy")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deployment %q: request_router: %w", name, err))
		}
		a.policies[name] = p
	}
	return errs
}

// made calls policy on a goroutine of its own, so that a panic and a runtime.Goexit in it are errors.
func made(policy func() router.Policy) (p router.Policy, err error) {
	if e := call.Enclose(func() { p = policy() }); e != nil {
		return nil, e
	}
	return p, nil
}

func isDir(path string) error {
	st, err := os.Stat(path)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", path)
	}
	return err
}

// RouteTakenError says that the route of an application is that of another.
type RouteTakenError struct{ App, Prefix, Owner string }

func (e *RouteTakenError) Error() string {
	return fmt.Sprintf("application %q: Prefix %s is being used by application %q; give it another route_prefix, or delete that application first", e.App, e.Prefix, e.Owner)
}
