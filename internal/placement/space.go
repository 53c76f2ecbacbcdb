package placement

import (
	"maps"
	"slices"
)

// Space has the free resources of one node. It is used by one goroutine at a time.
type Space struct {
	node   *Node
	cpus   Amount // held
	memory int64
	custom map[string]Amount
	used   map[string]Amount // of a device
	counts map[string]int    // replicas by deployment
	all    int
}

// NewSpace is a node on which nothing runs.
func NewSpace(node *Node) *Space {
	return &Space{node: node, custom: map[string]Amount{}, used: map[string]Amount{}, counts: map[string]int{}}
}

// Clone is a copy that changes apart.
func (s *Space) Clone() *Space {
	c := *s
	c.custom, c.used, c.counts = maps.Clone(s.custom), maps.Clone(s.used), maps.Clone(s.counts)
	return &c
}

// Add notes the holding of a replica. It may be more than the node has: a replica that runs is not ended because less was stated since.
func (s *Space) Add(h Holding) { s.count(h, 1) }

// Remove gives back the holding of a replica.
func (s *Space) Remove(h Holding) { s.count(h, -1) }

func (s *Space) count(h Holding, sign int) {
	s.all += sign
	if s.counts[h.Deployment] += sign; s.counts[h.Deployment] == 0 {
		delete(s.counts, h.Deployment)
	}
	by := Amount(sign)
	s.cpus += by * h.CPUs
	s.memory += int64(sign) * h.Memory
	add(s.custom, by, h.Custom)
	rest := AmountOf(h.Amount) // of 1.5 the first device has 1, and the second a half
	for _, d := range h.Devices {
		part := min(rest, One)
		add(s.used, by, map[string]Amount{d: part})
		rest -= part
	}
}

func add(to map[string]Amount, sign Amount, amounts map[string]Amount) {
	for name, a := range amounts {
		if to[name] += sign * a; to[name] == 0 {
			delete(to, name)
		}
	}
}

// Fit picks the devices for a replica of a deployment. false: it does not fit. The labels are looked at apart: see [Demand.Labels].
func (s *Space) Fit(deployment string, d *Demand) (devices []string, ok bool) {
	if len(s.lacks(deployment, d)) > 0 {
		return nil, false
	}
	return s.devices(d.GPUs), true
}

// devices picks the devices for an amount; nil if too few are free, or for an amount of 0. Of an amount such as 1.5 the whole devices come first, and the device of the part last.
func (s *Space) devices(amount Amount) []string {
	if amount <= 0 {
		return nil
	}
	wanted, part := int(amount/One), amount%One
	found := make([]string, 0, min(wanted, len(s.node.Devices))+1)
	for _, d := range s.node.Devices {
		if s.used[d.Name] == 0 && len(found) < wanted {
			found = append(found, d.Name)
		}
	}
	if len(found) < wanted {
		return nil
	}
	if part == 0 {
		return found
	}
	best := ""
	for _, d := range s.node.Devices {
		if s.used[d.Name]+part <= One && (best == "" || s.used[d.Name] > s.used[best]) && !slices.Contains(found, d.Name) {
			best = d.Name
		}
	}
	if best == "" {
		return nil
	}
	return append(found, best)
}

// whole is the number of devices of which nothing is held.
func (s *Space) whole() (n int) {
	for _, d := range s.node.Devices {
		if s.used[d.Name] == 0 {
			n++
		}
	}
	return n
}
