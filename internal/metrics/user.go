package metrics

import (
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/telemetry"
)

// writeUser writes the metrics that programs have defined, below all families of the node. A metric with a name of the node's is left out: two families of one
// name would make the whole answer an error.
func writeUser(p *page, families []telemetry.UserFamily) {
	own := maps.Clone(p.names)
	for _, f := range families {
		name := prefix + f.Name
		if own[baseOf(name)] {
			continue
		}
		p.family(name, f.Kind, f.Help)
		for _, s := range f.Series {
			labels := ""
			order := make([]int, len(s.Keys))
			for i := range order {
				order[i] = i
			}
			slices.SortFunc(order, func(a, b int) int { return strings.Compare(s.Keys[a], s.Keys[b]) })
			for _, i := range order {
				labels = label(labels, s.Keys[i], strings.ToValidUTF8(s.Values[i], "\ufffd"))
			}
			if f.Kind == histogram {
				p.histogram(labels, s.Bounds, s.Buckets, s.Sum, 0, nil)
			} else {
				p.line(labels, s.Value)
			}
		}
	}
}

// baseOf is the same for two metrics that may have lines of one name, for example the histogram a and the gauge a_sum.
func baseOf(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}
