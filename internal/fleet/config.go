package fleet

import (
	"encoding/json"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/userconfig"
)

// NewConfigLocked gives a user config its number.
func (d *Deployment) NewConfigLocked(value json.RawMessage) userconfig.Config {
	d.configs++
	return userconfig.Config{Value: value, Number: d.configs}
}

// DefinedLocked are the deployments of the application as its revision has them, each with the user config that was set in place since as an override.
func (a *Application) DefinedLocked() []spec.Deployment {
	all := slices.Clone(a.Current.Def.Graph.Deployments)
	for i, s := range all {
		d := a.Deployments[s.Name]
		if d == nil || d.Now.Revision != a.Current {
			continue
		}
		config := d.Now.Config.Next().Value
		if spec.ConfigDigest(config) == spec.ConfigDigest(s.Options.UserConfig) {
			continue
		}
		if layer, err := json.Marshal(map[string]json.RawMessage{"user_config": config}); err == nil {
			all[i].Options, _ = s.Options.Merge(layer, spec.FromOverride) //nolint:errcheck // it is in use
		}
	}
	return all
}

// MayConfigureLocked says that one more replica may be given a user config. Replicas are given it in waves, so that never all of them are busy with it; a
// rollout with steps, or that is paused, bounds the number too. For example, of 10 replicas two are given it at a time.
func (d *Deployment) MayConfigureLocked(number int) bool {
	changing, have := 0, 0
	for _, r := range d.Replicas {
		if r.Changing != nil {
			changing++
		} else if r.Of == d.Now && r.Config == number && r.State == helvetype.ReplicaRunning {
			have++
		}
	}
	if ch := d.App.Change; ch != nil && !ch.Settled() && d.Former != nil && d.Former.Version == d.Now.Version {
		if most, ok := ch.Limits[d.Name]; ok && have+changing >= most {
			return false
		}
	}
	return changing < d.WaveLocked()
}

// WaveLocked is the number of replicas that are given a user config at a time.
func (d *Deployment) WaveLocked() int {
	b := d.boundsLocked()
	return max(min(max(b.Surge, b.Unavailable), len(d.Replicas)-1), 1)
}

// RestoredLocked says that an application that went back to the revision before serves as it did: no replica of another revision runs, none is missing, and each that runs has the user
// config of its revision. A deployment whose replicas fail to start again is not waited for.
func (a *Application) RestoredLocked() bool {
	for _, d := range a.Deployments {
		ready := 0
		for _, r := range d.Replicas {
			switch {
			case d.Failures.Number() > 0:
			case r.State == helvetype.ReplicaRunning && (r.Of != d.Now || r.Changing != nil || r.Config != d.Now.Config.Current.Number):
				return false
			case r.TakesLocked():
				ready++
			}
		}
		if !d.Dropped && ready < d.placeableLocked() && d.Failures.Number() == 0 {
			return false
		}
	}
	return true
}
