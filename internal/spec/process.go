package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits bound a deployment's worker process; a zero field is no limit. They are no requests for placement, which the
// reference's ray_actor_options of the same names are.
type Limits struct {
	// Memory is in bytes.
	Memory int64 `json:"memory,omitempty"`
	// CPUs is how much CPU time the process gets per time: 1.5 is one and a half cores.
	CPUs float64 `json:"num_cpus,omitempty"`
	// OpenFiles is how many descriptors it may have open.
	OpenFiles int `json:"open_files,omitempty"`
}

// The least that a worker can start with. The kernel's CPU quota is at least 1 ms of 100 ms.
const (
	leastMemory    = 16 << 20
	leastCPUs      = 0.01
	leastOpenFiles = 16
)

// reserved are the prefixes of variables by which a worker knows its node.
func reserved(name string) bool {
	return slices.ContainsFunc([]string{"HELVE_SOCKET", "HELVE_WORKER", "HELVE_TOKEN", "HELVE_SYS_PATH"},
		func(p string) bool { return strings.HasPrefix(name, p) })
}

// validateProcess lists what is wrong with the options of worker processes.
func (o Options) validateProcess() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			wrong("env_vars: %q is no name of a variable", name)
		case reserved(name):
			wrong("env_vars: %s is Helve's own", name)
		case strings.ContainsRune(o.Env[name], 0):
			wrong("env_vars: the value of %s has a zero byte", name)
		}
	}
	if strings.ContainsRune(o.Dir, 0) {
		wrong("working_dir: has a zero byte")
	}
	l := o.Limits
	if l.Memory != 0 && l.Memory < leastMemory {
		wrong("limits: memory must be 0 (no limit) or at least %d bytes, is %d", leastMemory, l.Memory)
	}
	if l.CPUs != 0 && !(l.CPUs >= leastCPUs && l.CPUs <= 1<<20) {
		wrong("limits: num_cpus must be 0 (no limit) or at least %g, is %g", leastCPUs, l.CPUs)
	}
	if l.OpenFiles != 0 && l.OpenFiles < leastOpenFiles {
		wrong("limits: open_files must be 0 (no limit) or at least %d, is %d", leastOpenFiles, l.OpenFiles)
	}
	return errs
}

// NeedsProcess names the options that mean something only to a deployment with a process of its own.
func (o Options) NeedsProcess() []string {
	var names []string
	if len(o.Env) > 0 {
		names = append(names, "env_vars")
	}
	if o.Dir != "" {
		names = append(names, "working_dir")
	}
	if o.Limits != (Limits{}) {
		names = append(names, "limits")
	}
	return names
}

// GoWorker merges what the Go deployments with Isolation Process ask of the one worker process that they share: variables
// together, the one directory, and the sums of the limits that are set.
func (g Graph) GoWorker() (env map[string]string, dir string, l Limits) {
	env = map[string]string{}
	for _, d := range g.Deployments {
		if !d.inGoWorker() {
			continue
		}
		maps.Copy(env, d.Options.Env)
		if d.Options.Dir != "" {
			dir = d.Options.Dir
		}
		l.Memory += d.Options.Limits.Memory
		l.CPUs += d.Options.Limits.CPUs
		l.OpenFiles += d.Options.Limits.OpenFiles
	}
	return env, dir, l
}

func (d Deployment) inGoWorker() bool {
	return d.Language != "python" && d.Options.Isolation == Process
}

// validateWorkers lists options of processes that deployments without one have, and in what deployments that share a
// process contradict each other.
func (g Graph) validateWorkers() []error {
	var errs []error
	type value struct{ text, from string }
	const shared = "with which it shares a worker"
	var dir value
	env := map[string]value{}
	for _, d := range g.Deployments {
		o := d.Options
		if names := o.NeedsProcess(); len(names) > 0 && d.Language != "python" && o.Isolation != Process {
			errs = append(errs, fmt.Errorf("deployment %q: %s: its replicas share the node's process; set isolation to %s",
				d.Name, strings.Join(names, ", "), Process))
		}
		if !d.inGoWorker() {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(o.Env)) {
			if v, ok := env[name]; ok && v.text != o.Env[name] {
				errs = append(errs, fmt.Errorf("deployment %q: env_vars: %s is %q here and %q in deployment %q, %s",
					d.Name, name, o.Env[name], v.text, v.from, shared))
			}
			env[name] = value{o.Env[name], d.Name}
		}
		if o.Dir != "" {
			if dir.from != "" && dir.text != o.Dir {
				errs = append(errs, fmt.Errorf("deployment %q: working_dir: %q here and %q in deployment %q, %s",
					d.Name, o.Dir, dir.text, dir.from, shared))
			}
			dir = value{o.Dir, d.Name}
		}
	}
	return errs
}
