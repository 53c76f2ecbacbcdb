package placement

import (
	"github.com/helve-serve/helve/internal/spec"
)

// numCPUs is the option whose default counts for Python alone: a Go replica that says nothing is some goroutines of a process.
const numCPUs = "ray_actor_options.num_cpus"

// DemandOf has the amounts and labels that each replica of a deployment asks for. For example, a Python deployment without options asks for one CPU, as in Ray Serve, and a Go deployment for nothing.
func DemandOf(language string, o spec.Effective) Demand {
	r := o.Resources
	d := Demand{CPUs: AmountOf(r.CPUs), GPUs: AmountOf(r.GPUs), Memory: r.Memory, Kind: r.AcceleratorType, Labels: r.LabelSelector}
	if from := o.Sources[numCPUs]; language != "python" && (from == spec.FromDefault || from == "") {
		d.CPUs = 0
	}
	for _, a := range r.FallbackStrategy {
		d.Fallback = append(d.Fallback, a.LabelSelector)
	}
	for name, n := range r.Custom {
		if d.Custom == nil {
			d.Custom = map[string]Amount{}
		}
		d.Custom[name] = AmountOf(n)
	}
	return d
}
