package deploy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/spec"
)

// CheckRoom says which deployments of the application want more than the node would have if nothing else ran there. The number of replicas is that of the options: a deployment
// that is scaled to more later has replicas that wait. Replicas over max_replicas_per_node wait without a place and are not counted: for
// example, 4 replicas of one GPU with a max_replicas_per_node of 1 fit on a node with one GPU.
func (a *App) CheckRoom(on placement.Node) error {
	var errs []error
	space, held := placement.NewSpace(&on), []placement.Holding{}
	for _, d := range a.Graph.Deployments {
		o := d.Options.Effective()
		wrong := func(err error) { errs = append(errs, fmt.Errorf("deployment %q: ray_actor_options: %w", d.Name, err)) }
		if err := placement.CheckGPUs(o.Resources.GPUs); err != nil {
			wrong(fmt.Errorf("num_gpus: %w", err))
			continue
		}
		demand, name := placement.DemandOf(d.Language, o), a.Graph.App+"/"+d.Name
		replicas := placement.Placeable(o.StartReplicas(), o.MaxReplicasPerNode)
		for i := range replicas {
			if e := space.Short(name, &demand, held); e != nil {
				wrong(fmt.Errorf("replica %d of %d %w", i+1, replicas, e))
				break
			}
			devices, _ := space.Fit(name, &demand)
			h := placement.HoldingOf(fmt.Sprintf("%s#%d", d.Name, i+1), name, demand, devices)
			if space.Add(h); !demand.Zero() {
				held = append(held, h)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("application %q: %w", a.Graph.App, err)
	}
	return nil
}

// Excess says what the replicas of a deployment ask for that the machine does not have, a sentence for each. Amounts that `helve start` has stated are left out, because replicas wait for these. A deployment with one CPU asks for
// none: that is the number of programs that say nothing.
func Excess(m devices.Machine, on placement.Node, o spec.Effective, replicas int) (sentences []string) {
	var asked devices.Asked
	if on.Memory < 0 {
		asked.Memory = o.Resources.Memory
	}
	if on.AnyCustom {
		asked.Custom = o.Resources.Custom
	}
	if on.CPUs == placement.All && o.Resources.CPUs != 1 {
		asked.CPUs = o.Resources.CPUs
	}
	return m.Exceeds(asked, replicas)
}

// Resources are the amounts that a replica of a Python deployment asks for, by Ray's names: CPU, GPU, memory, and the names of custom resources.
func Resources(d *host.Deployment) map[string]float64 {
	all := map[string]float64{}
	if d.Spec.Language != "python" {
		return all
	}
	r := d.Options.Resources
	maps.Copy(all, r.Custom)
	for name, amount := range map[string]float64{
		"CPU": r.CPUs, "GPU": r.GPUs, "memory": float64(r.Memory), "object_store_memory": float64(r.ObjectStoreMemory),
	} {
		if amount > 0 {
			all[name] = amount
		}
	}
	return all
}

// checkEnvironment lists the mistakes of a runtime_env that can be seen before anything starts: places that nodes do not fetch from, and files and
// directories that are not there. A path that is packed is in the node's hands, and may be gone.
func (def *App) checkEnvironment(d spec.Deployment) (errs []error) {
	o := d.Options
	if o.Dir != "" && def.packed(o.Dir).Digest == "" {
		check := isDir
		if d.Language == "python" {
			check = func(path string) error { return checkPlace(path, false) }
		}
		if err := check(o.Dir); err != nil {
			errs = append(errs, fmt.Errorf("working_dir: %w", err))
		}
	}
	for _, m := range o.PyModules {
		if def.packed(m).Digest != "" {
			continue
		}
		if err := checkPlace(m, true); err != nil {
			errs = append(errs, fmt.Errorf("py_modules: %w", err))
		}
	}
	return errs
}

// checkPlace says what is wrong with a directory or archive. A module may be a file of Python too.
func checkPlace(path string, module bool) error {
	if scheme, _, remote := strings.Cut(path, "://"); remote {
		return fmt.Errorf("%s: nodes fetch nothing from %s://; copy it to this machine and give the path", path, scheme)
	}
	if pyenv.IsArchive(path) || module && strings.HasSuffix(path, ".py") {
		st, err := os.Stat(path)
		if err == nil && !st.Mode().IsRegular() && pyenv.IsArchive(path) {
			err = fmt.Errorf("%s is no file", path)
		}
		return err
	}
	return isDir(path)
}

// readArchives notes the digests of the archives of the runtime_envs: an archive that is built again under its name is other code. An archive may
// be large, and its disk slow, so it is read before anything waits for the application or holds a lock.
func (a *App) readArchives() (errs []error) {
	a.archives = map[string][]string{}
	for _, d := range a.Graph.Deployments {
		for _, path := range append([]string{d.Options.Dir}, d.Options.PyModules...) {
			if d.Language != "python" || !pyenv.IsArchive(path) {
				continue
			}
			digest := a.packed(path).Digest
			if digest == "" {
				var err error
				if digest, err = pyenv.FileDigest(path); err != nil {
					errs = append(errs, fmt.Errorf("deployment %q: %w", d.Name, err))
				}
			}
			a.archives[d.Name] = append(a.archives[d.Name], digest)
		}
	}
	return errs
}

// packed is a path of the program that is packed, without a digest for another path.
func (a *App) packed(path string) host.Packed {
	for _, p := range a.Python.Packed {
		if p.Path == path {
			return p
		}
	}
	return host.Packed{}
}
