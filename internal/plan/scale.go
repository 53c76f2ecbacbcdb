package plan

import (
	"cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/spec"
)

// at is the number at a target capacity.
func (s Scale) at(capacity *float64) int {
	if s.ByLoad {
		return s.Replicas
	}
	return autoscale.Share(s.Replicas, capacity)
}

// next is the number of replicas after the change, at the target capacity. It is num_replicas if that is another one than before, or if the change clears the number that an operator has set; else the number that is wanted now. An autoscaler keeps the
// number too, within its bounds, unless its config has changed and has initial_replicas. For example, a deployment runs 5 replicas by its load: a plan with max_replicas: 4 has 4, and one with
// max_replicas: 8 has 5.
func (in Input) next(d spec.Deployment, before map[string]spec.Deployment) int {
	o := d.Options.Effective()
	now, scaled := in.Scales[d.Name]
	was, there := before[d.Name]
	wish := there && was.Options.Effective().ReplicasWish() == o.ReplicasWish()
	external := in.After.Options.Effective().ExternalScaler && now.By != "deploy"
	loaded := o.Autoscaled() && now.ByLoad && now.Replicas > o.StartReplicas() // the load needs more than initial_replicas
	if in.Cleared[d.Name] || !scaled || !there || !(in.Rollback || wish || o.KeepsReplicas() || loaded || external) || now.ByLoad && !o.Autoscaled() {
		now = Scale{Replicas: o.StartReplicas()}
	}
	if back, ok := in.Returns[d.Name]; ok && in.Rollback && (o.Autoscaled() || !back.ByLoad) {
		now = back
	}
	n := now.at(in.Capacity.Then)
	if b := bounds(o, in.Capacity.Then, in.Capacity.Rises); b != nil {
		if c := in.Capacity; c.Rises && c.Now != nil && c.Then != nil && *c.Then > *c.Now {
			n = max(n, autoscale.Share(o.StartReplicas(), c.Then)) // once: see autoscale.Facts.Warm
		}
		n = min(max(n, b.Least), b.Most)
	}
	return n
}

// bounds are the bounds of an autoscaler at a target capacity; nil without an autoscaler.
func bounds(o spec.Effective, capacity *float64, rising bool) *helvetype.ReplicaBounds {
	if !o.Autoscaled() {
		return nil
	}
	c, err := autoscale.Parse(o.AutoscalingConfig)
	if err != nil {
		return nil // a config that the deploy refuses
	}
	var b helvetype.ReplicaBounds
	b.Least, b.Most = autoscale.Bounds(c, capacity, rising)
	return &b
}

// scaling has the autoscaler of a deployment before and after the change; nil for a deployment that never has one.
func (in Input) scaling(name string, was, is spec.Deployment, there, stays bool) *helvetype.AutoscalerPlan {
	var p helvetype.AutoscalerPlan
	if there {
		p.Before = bounds(was.Options.Effective(), in.Capacity.Now, in.Capacity.Rising)
	}
	if stays {
		p.After = bounds(is.Options.Effective(), in.Capacity.Then, in.Capacity.Rises)
	}
	if p.Before == nil && p.After == nil {
		return nil
	}
	if o := is.Options; stays && o.Sources[autoscaling] == spec.FromOverride && o.Sources[number] != "" {
		p.Replaces, p.ReplacesFrom = o.Effective().NumReplicas, string(o.Sources[number])
	}
	if s := in.Scales[name]; there && s.ByLoad {
		p.Decision = s.Reason
	}
	return &p
}

// number is the name of the option of a number of replicas.
const number = "num_replicas"

// startFrom is the source of the number of replicas with which a deployment starts, see [spec.Effective.StartReplicas]. For example, the code has num_replicas and an operator has set
// autoscaling_config.max_replicas: the source is the override.
func startFrom(o spec.Options) spec.Source {
	if o.Effective().Autoscaled() {
		return o.Sources[autoscaling]
	}
	return cmp.Or(o.Sources[number], spec.FromDefault)
}
