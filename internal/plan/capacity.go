package plan

import (
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/spec"
)

// ByCapacity are the deployments whose number of replicas or bounds change by the target capacity alone: Before and After are the same version. For example, an application has 2 replicas, and the file
// of another one has target_capacity: 0: its change is from 2 to 0.
func (in Input) ByCapacity() (all []helvetype.CapacityChange) {
	before := byName(in.Before)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		d := before[name]
		c := helvetype.CapacityChange{App: in.App, Deployment: name, Wanted: in.wanted(d), Next: in.next(d, before), Autoscaler: in.scaling(name, d, d, true, true)}
		a := c.Autoscaler
		if !in.Capacity.Same() && (c.Wanted != c.Next || a != nil && a.Before != nil && a.After != nil && *a.Before != *a.After) {
			all = append(all, c)
		}
	}
	return all
}

// Same says that the target capacity stays as it is.
func (c Capacity) Same() bool {
	return c.Now == c.Then || c.Now != nil && c.Then != nil && *c.Now == *c.Then
}

// wanted is the number of replicas of a deployment that is wanted now.
func (in Input) wanted(d spec.Deployment) int {
	if s, ok := in.Scales[d.Name]; ok {
		return s.at(in.Capacity.Now)
	}
	return autoscale.Share(d.Options.Effective().StartReplicas(), in.Capacity.Now)
}
