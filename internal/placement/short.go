package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
)

// The names of the things in a [Lack]; custom resources have their own names, with Custom before them.
const (
	GPU     = "GPU"
	CPU     = "CPU"
	Memory  = "memory"
	Label   = "label"
	Kind    = "accelerator_type"
	PerNode = "max_replicas_per_node"
	Drain   = "drain"
	Custom  = "resources."
)

// Lack is one thing that a node does not have for a replica.
type Lack struct {
	Thing string // one of the constants above
	// Text says what is missing, without the holders: "needs 1 GPU, and 0 of 2 are free".
	Text string
	// Never says that the node would not have it if nothing ran there.
	Never bool
}

// lacks are the things that the node does not have for a replica of a deployment; the labels are not looked at.
func (s *Space) lacks(deployment string, d *Demand) (all []Lack) {
	n := s.node
	say := func(thing string, never bool, format string, args ...any) {
		all = append(all, Lack{thing, fmt.Sprintf(format, args...), never})
	}
	if n.Draining {
		say(Drain, false, "the node drains")
	}
	if d.PerNode > 0 && s.counts[deployment] >= d.PerNode {
		say(PerNode, false, "max_replicas_per_node is %d, and the node has %d of them", d.PerNode, s.counts[deployment])
	}
	if d.GPUs > 0 && d.Kind != "" && n.Kind != "" && d.Kind != n.Kind {
		say(Kind, true, "needs a GPU of the kind %s, and the node has %s", d.Kind, n.Kind)
	}
	if d.GPUs > 0 && s.devices(d.GPUs) == nil {
		cards := (d.GPUs + One - 1) / One
		switch have := Amount(len(n.Devices)); {
		case have == 0:
			say(GPU, true, "needs %s, and this node has none (HELVE_GPUS=N states a number)", gpus(d.GPUs))
		case cards > have:
			say(GPU, true, "needs %s, and this node has %d", gpus(d.GPUs), have)
		case d.GPUs < One:
			say(GPU, false, "needs %s, and none of %d has that much free", gpus(d.GPUs), have)
		default:
			say(GPU, false, "needs %s, and %d of %d are free", gpus(d.GPUs), s.whole(), have)
		}
	}
	if d.CPUs > 0 && n.CPUs != All && s.cpus+d.CPUs > n.CPUs {
		say(CPU, d.CPUs > n.CPUs, "needs %s, and %s of %s are free", plural(d.CPUs, "CPU"), max(n.CPUs-s.cpus, 0), n.CPUs)
	}
	if d.Memory > 0 && n.Memory >= 0 && s.memory+d.Memory > n.Memory {
		say(Memory, d.Memory > n.Memory, "needs %s of memory, and %s of %s are free", Bytes(d.Memory), Bytes(max(n.Memory-s.memory, 0)), Bytes(n.Memory))
	}
	for _, name := range names(d.Custom) {
		wanted, have := d.Custom[name], n.Custom[name]
		switch {
		case wanted <= 0 || n.AnyCustom || s.custom[name]+wanted <= have:
		case have == 0:
			say(Custom+name, true, "needs %s of %q, and this node has none (--resources states what it has)", wanted, name)
		default:
			say(Custom+name, wanted > have, "needs %s of %q, and %s of %s are free", wanted, name, max(have-s.custom[name], 0), have)
		}
	}
	return all
}

// Short says why a replica does not fit on a node. It is nil if it fits. held are the replicas of the node, for their names.
func (s *Space) Short(deployment string, d *Demand, held []Holding) *ShortError {
	e := &ShortError{lacks: s.lacks(deployment, d), held: slices.Clone(held)}
	if labels := d.unmet(s.node); len(labels) > 0 {
		for _, text := range labels {
			e.lacks = append(e.lacks, Lack{Label, text, true})
		}
	}
	if len(e.lacks) == 0 {
		return nil
	}
	return e
}

// Meets says whether the labels of a node meet the selector of the demand, or one of its fallbacks.
func (d *Demand) Meets(n Node) bool { return len(d.unmet(&n)) == 0 }

// unmet are the conditions of the labels that a node does not meet, if it meets none of the selectors.
func (d *Demand) unmet(n *Node) []string {
	first := d.Labels.Unmet(n.Labels)
	if len(first) == 0 || slices.ContainsFunc(d.Fallback, func(s spec.Selector) bool { return len(s.Unmet(n.Labels)) == 0 }) {
		return nil
	}
	return first
}

// ShortError says what a node does not have for a replica, and which replicas hold it.
type ShortError struct {
	lacks []Lack
	held  []Holding
}

// Lacks are the things that are missing.
func (e *ShortError) Lacks() []Lack { return e.lacks }

// Never says that the replica would not fit if nothing ran on the node.
func (e *ShortError) Never() bool {
	return slices.ContainsFunc(e.lacks, func(l Lack) bool { return l.Never })
}

func (e *ShortError) Error() string {
	texts := make([]string, 0, len(e.lacks))
	for _, l := range e.lacks {
		if by := holders(l.Thing, e.held); by != "" && !l.Never {
			l.Text += ": " + by
		}
		texts = append(texts, l.Text)
	}
	return strings.Join(texts, "; ")
}

// The largest numbers of deployments, and of replicas of one, that a message names.
const (
	namedDeployments = 4
	namedReplicas    = 3
)

// holders names the replicas that hold a thing, with their amounts: "shop/Model#1 holds 1, shop/Ranker (12 replicas) holds 6".
func holders(thing string, held []Holding) string {
	type group struct {
		deployment string
		ids        []string
		sum        int64
		used       uint64 // of the memory of GPUs
	}
	var groups []group
	held = slices.Clone(held)
	slices.SortFunc(held, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Holder, b.Holder))
	})
	for _, h := range held {
		amount := h.of(thing)
		if amount == 0 {
			continue
		}
		if n := len(groups); n == 0 || groups[n-1].deployment != h.Deployment {
			groups = append(groups, group{deployment: h.Deployment})
		}
		g := &groups[len(groups)-1]
		g.ids, g.sum, g.used = append(g.ids, h.Holder), g.sum+amount, g.used+h.Used
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b.sum, a.sum) })
	texts := make([]string, 0, len(groups))
	for i, g := range groups {
		if i == namedDeployments {
			texts = append(texts, fmt.Sprintf("%d other deployments the rest", len(groups)-i))
			break
		}
		amount := Amount(g.sum).String()
		if thing == Memory {
			amount = Bytes(g.sum)
		}
		if thing == GPU && g.used > 0 {
			amount += fmt.Sprintf(" (%s of GPU memory in use)", Bytes(int64(g.used)))
		}
		texts = append(texts, fmt.Sprintf("%s %s", named(g.deployment, g.ids), amount))
	}
	return strings.Join(texts, ", ")
}

// named names replicas of a deployment, with the verb: the ids have the name of the deployment without that of its application.
func named(deployment string, ids []string) string {
	app, _, _ := strings.Cut(deployment, "/")
	switch {
	case len(ids) == 1:
		return app + "/" + ids[0] + " holds"
	case len(ids) <= namedReplicas:
		return app + "/" + strings.Join(ids, ", ") + " hold"
	}
	return fmt.Sprintf("%s (%d replicas) holds", deployment, len(ids))
}

// of is the amount of a thing that the replica holds, in its smallest units.
func (h *Holding) of(thing string) int64 {
	switch thing {
	case GPU:
		return int64(AmountOf(h.Amount))
	case CPU:
		return int64(h.CPUs)
	case Memory:
		return h.Memory
	}
	if name, ok := strings.CutPrefix(thing, Custom); ok {
		return int64(h.Custom[name])
	}
	return 0
}

func gpus(a Amount) string {
	if a > 0 && a < One {
		return a.String() + " of a GPU"
	}
	return plural(a, "GPU")
}

func plural(a Amount, what string) string {
	if a == One {
		return "1 " + what
	}
	return a.String() + " " + what + "s"
}

// Bytes is a number of bytes for people: 512 MiB, 1.5 GiB.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%s GiB", AmountOf(float64(n*10>>30)/10))
	case n >= 1<<20:
		return fmt.Sprintf("%s MiB", AmountOf(float64(n*10>>20)/10))
	}
	return fmt.Sprintf("%d bytes", n)
}
