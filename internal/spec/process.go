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
