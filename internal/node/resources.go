package node

import (
	"maps"
	"os"

	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/placement"
)

// resources are the amounts that were stated of the node, and the GPUs of the machine.
func resources(s Settings) placement.Node {
	env := s.Program.Env
	if env == nil {
		env = os.Environ()
	}
	root := os.DirFS("/")
	names, err := devices.Find(root, env)
	if err != nil {
		s.Logger.Error("the node goes on without GPUs", "error", err)
	}
	n := placement.Unstated("", names...)
	stated, err := devices.ReadStated(env)
	if err != nil {
		s.Logger.Error("the node goes on without the amounts that were stated of it", "error", err)
	}
	if stated.CPUs != nil {
		n.CPUs = placement.AmountOf(*stated.CPUs)
	}
	if stated.Memory != nil {
		n.Memory = *stated.Memory
	}
	if stated.Custom != nil {
		n.AnyCustom, n.Custom = false, map[string]placement.Amount{}
		for name, amount := range stated.Custom {
			n.Custom[name] = placement.AmountOf(amount)
		}
	}
	n.Kind, n.Labels = devices.Kind(root), maps.Clone(stated.Labels)
	if kind := n.Labels[devices.KindLabel]; kind != "" {
		n.Kind = kind
	} else if n.Kind != "" && len(names) > 0 {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[devices.KindLabel] = n.Kind
	}
	return n
}
