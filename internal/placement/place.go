package placement

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
)

// Strategy says which of several nodes with room a replica gets.
type Strategy uint8

// The strategies. For example, of two empty nodes and two replicas of a deployment, Spread gives each node one, and Pack gives the first node both.
const (
	// Spread takes the node with the fewest replicas of the deployment, then the one with the fewest of all, then the one with the most CPUs free.
	Spread Strategy = iota
	// Pack takes the larger demands first, and the node that has the least left, but an idle one last.
	Pack
)

// Want is a replica that waits for a place.
type Want struct {
	ID         string
	Deployment string // behind its application
	Demand     Demand
	// Gang names replicas that are placed together or not at all; "" for none. They need not be neighbours.
	Gang string
}

// Answer is the place of a replica that waits, or the reason why it goes on waiting.
type Answer struct {
	ID      string
	Node    string   // "" if it waits
	Devices []string // for CUDA_VISIBLE_DEVICES; nil without GPUs
	Err     error    // why it waits; nil if it has a place
}

// Place gives places to replicas that wait, in their order; of a gang that of its first member counts. held are the replicas that start, run or end on the nodes. The answers are in the order of wants.
//
// A replica that does not fit does not hold up the ones behind it. For example, a replica for which four GPUs would have to be free waits, and a later one with one GPU starts.
func Place(nodes []Node, held []Holding, wants []Want, by Strategy) []Answer {
	p := placer{nodes: slices.Clone(nodes), spaces: map[string]*Space{}, held: map[string][]Holding{}, by: by}
	slices.SortFunc(p.nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	for i := range p.nodes {
		p.spaces[p.nodes[i].Name] = NewSpace(&p.nodes[i])
	}
	for _, h := range held {
		if s := p.spaces[h.Node]; s != nil {
			s.Add(h)
			p.held[h.Node] = append(p.held[h.Node], h)
		}
	}
	answers := map[string]Answer{}
	for _, gang := range gangs(wants, by) {
		p.placeTogether(gang, answers)
	}
	out := make([]Answer, len(wants))
	for i, w := range wants {
		out[i] = answers[w.ID]
	}
	return out
}

// gangs are the replicas in the order in which they get places, those of a gang together.
func gangs(wants []Want, by Strategy) (all [][]Want) {
	at := map[string]int{}
	for _, w := range wants {
		if i, ok := at[w.Gang]; ok && w.Gang != "" {
			all[i] = append(all[i], w)
			continue
		}
		at[w.Gang] = len(all)
		all = append(all, []Want{w})
	}
	if by == Pack {
		slices.SortStableFunc(all, func(a, b []Want) int { return larger(&a[0].Demand, &b[0].Demand) })
	}
	return all
}

// larger orders demands, the largest first: by GPUs, then custom resources, CPUs and memory.
func larger(a, b *Demand) int {
	sum := func(d *Demand) (n Amount) {
		for _, c := range d.Custom {
			n += c
		}
		return n
	}
	return cmp.Or(cmp.Compare(b.GPUs, a.GPUs), cmp.Compare(sum(b), sum(a)), cmp.Compare(b.CPUs, a.CPUs), cmp.Compare(b.Memory, a.Memory))
}

type placer struct {
	nodes  []Node
	spaces map[string]*Space
	held   map[string][]Holding // by node
	by     Strategy
}

// placeTogether gives places to the replicas of a gang, or to none of them.
func (p *placer) placeTogether(gang []Want, answers map[string]Answer) {
	var placed []Holding
	for _, w := range gang {
		node, devices := p.node(&w)
		if node == "" {
			err := p.short(&w)
			for _, h := range placed {
				p.spaces[h.Node].Remove(h)
				p.held[h.Node] = slices.DeleteFunc(p.held[h.Node], func(o Holding) bool { return o.Holder == h.Holder })
			}
			for _, o := range gang {
				answers[o.ID] = Answer{ID: o.ID, Err: err}
				if len(gang) > 1 {
					answers[o.ID] = Answer{ID: o.ID, Err: fmt.Errorf("the %d replicas of gang %s start together, and %s %w", len(gang), o.Gang, w.ID, err)}
				}
			}
			return
		}
		h := HoldingOf(w.ID, w.Deployment, w.Demand, devices)
		h.Node = node
		placed = append(placed, h)
		p.spaces[node].Add(h)
		p.held[node] = append(p.held[node], h)
		answers[w.ID] = Answer{ID: w.ID, Node: node, Devices: devices}
	}
}

// node picks the node for a replica: the best of the nodes with room whose labels meet the selector, else the first fallback that such a node meets.
func (p *placer) node(w *Want) (name string, devices []string) {
	for _, labels := range append([]spec.Selector{w.Demand.Labels}, w.Demand.Fallback...) {
		var best *Space
		for i := range p.nodes {
			s := p.spaces[p.nodes[i].Name]
			if len(labels.Unmet(s.node.Labels)) > 0 {
				continue
			}
			if d, ok := s.Fit(w.Deployment, &w.Demand); ok && (best == nil || p.better(s, best, w)) {
				best, devices = s, d
			}
		}
		if best != nil {
			return best.node.Name, devices
		}
	}
	return "", nil
}

// better says that a node is better for a replica than another one, which comes before it by name.
func (p *placer) better(a, b *Space, w *Want) bool {
	if p.by == Spread {
		return cmp.Or(cmp.Compare(a.counts[w.Deployment], b.counts[w.Deployment]), cmp.Compare(a.all, b.all), cmp.Compare(b.freeCPUs(), a.freeCPUs())) < 0
	}
	if idle := a.all == 0; idle != (b.all == 0) {
		return !idle
	}
	return cmp.Or(cmp.Compare(a.left(w.Demand.GPUs), b.left(w.Demand.GPUs)), cmp.Compare(a.freeCPUs(), b.freeCPUs())) < 0
}

// freeCPUs are the CPUs of the node that no replica holds. A node of which no number was stated has as many as it likes.
func (s *Space) freeCPUs() Amount {
	if s.node.CPUs == All {
		return most * One
	}
	return s.node.CPUs - s.cpus
}

// left is the amount of GPUs that is free. For a part of a GPU a node with a device in use that has room for it has the least left.
func (s *Space) left(part Amount) (n Amount) {
	for _, d := range s.node.Devices {
		n += One - s.used[d.Name]
	}
	if d := s.devices(part); part > 0 && part < One && d != nil && s.used[d[0]] > 0 {
		return One - s.used[d[0]]
	}
	return n
}

// short says why no node has room for a replica.
func (p *placer) short(w *Want) error {
	if len(p.nodes) == 0 {
		return errors.New("there is no node")
	}
	texts := make([]string, 0, len(p.nodes))
	for i := range p.nodes {
		n := p.nodes[i].Name
		err := p.spaces[n].Short(w.Deployment, &w.Demand, p.held[n])
		if len(p.nodes) == 1 {
			return err
		}
		texts = append(texts, n+" "+err.Error())
	}
	return fmt.Errorf("no node has room: %s", strings.Join(texts, "; "))
}
