package spec

import (
	"fmt"
	"maps"
	"slices"
)

// processOptions are the options that are set and mean something only to a deployment with a process of its own.
func (o Options) processOptions() []label {
	var of []label
	for _, row := range optionTable {
		if row.process && row.source(&o, o.Sources) != FromDefault {
			of = append(of, row.label)
		}
	}
	return of
}

// NeedsProcess gives the paths of these options.
func (o Options) NeedsProcess() []string {
	var paths []string
	for _, l := range o.processOptions() {
		paths = append(paths, l.path)
	}
	return paths
}

// GoWorker merges what the Go deployments with Isolation Process ask of the one worker process that they share: variables
// together, the one directory, and the sums of the limits that are set. Deployments of one build share a process: from is their Import. For
// example, an application with two deployments of exec:a and one of exec:b has two processes.
func (g Graph) GoWorker(from string) (env map[string]string, dir string, l Limits) {
	env = map[string]string{}
	for _, d := range g.Deployments {
		if !d.inGoWorker() || d.Import != from {
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

// ProcessLimits are the limits of the process of a Python replica. With limits.from_resources memory and CPUs that are not set are what the replica asks for: for example, with a num_cpus of 2, a memory of 4 GiB
// and limits of {"from_resources": true, "num_cpus": 3} the process may have 4 GiB and 3 CPUs.
func (e Effective) ProcessLimits() Limits {
	l := e.Limits
	if !l.FromResources {
		return l
	}
	if l.Memory == 0 {
		l.Memory = e.Resources.Memory
	}
	if l.CPUs == 0 {
		l.CPUs = e.Resources.CPUs
	}
	return l
}

// checkFromResources says why limits cannot be those of the resources.
func (o Options) checkFromResources() error {
	if !o.Limits.FromResources {
		return nil
	}
	l := o.Effective().ProcessLimits()
	wrong := func(text string, of ...label) error {
		return &Mistake{options: append(of, labelAt("limits.from_resources")), text: text}
	}
	switch memory, cpus := labelAt("ray_actor_options.memory"), labelAt("ray_actor_options.num_cpus"); {
	case l.Memory == 0 && l.CPUs == 0:
		return wrong("the replicas ask for no memory and no CPUs; give memory or num_cpus to ray_actor_options", memory, cpus)
	case l.Memory > 0 && l.Memory < leastMemory:
		return wrong(fmt.Sprintf("no worker starts with %d bytes of memory; ask for at least %d, or give another limit to limits.memory", l.Memory, leastMemory), memory)
	case l.CPUs > 0 && l.CPUs < leastCPUs:
		return wrong(fmt.Sprintf("no worker starts with %v CPUs; ask for at least %v, or give another limit to limits.num_cpus", l.CPUs, leastCPUs), cpus)
	}
	return nil
}

func (d Deployment) inGoWorker() bool {
	return d.Language != "python" && d.Options.Isolation == Process
}

// validateWorkers lists options of processes that deployments without one have, and contradictions between deployments that
// share a process.
func (g Graph) validateWorkers() []error {
	var errs []error
	wrong := func(d Deployment, of []label, format string, args ...any) {
		errs = append(errs, &Mistake{deployment: d.Name, options: of, text: fmt.Sprintf(format, args...)})
	}
	variables, directory := []label{labelAt("runtime_env.env_vars")}, []label{labelAt("runtime_env.working_dir")}
	type value struct{ text, from string }
	const shared = "with which it shares a worker"
	dirs, envs := map[string]value{}, map[string]map[string]value{}
	for _, d := range g.Deployments {
		o, dir, env := d.Options, dirs[d.Import], envs[d.Import]
		if env == nil {
			env = map[string]value{}
			envs[d.Import] = env
		}
		if of := o.processOptions(); len(of) > 0 && d.Language != "python" && o.Isolation != Process {
			wrong(d, of, "its replicas share the node's process; set isolation to %s", Process)
		}
		if !d.inGoWorker() {
			continue
		}
		if o.Limits.FromResources {
			wrong(d, []label{labelAt("limits.from_resources")}, "its replicas, whose number changes, share a worker; set limits.memory and limits.num_cpus")
		}
		for _, name := range slices.Sorted(maps.Keys(o.Env)) {
			if v, ok := env[name]; ok && v.text != o.Env[name] {
				wrong(d, variables, "%s is %q here and %q in deployment %q, %s", name, o.Env[name], v.text, v.from, shared)
			}
			env[name] = value{o.Env[name], d.Name}
		}
		if o.Dir != "" {
			if dir.from != "" && dir.text != o.Dir {
				wrong(d, directory, "%q here and %q in deployment %q, %s", o.Dir, dir.text, dir.from, shared)
			}
			dirs[d.Import] = value{o.Dir, d.Name}
		}
	}
	return errs
}
