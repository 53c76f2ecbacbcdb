package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helve-serve/helve/internal/telemetry"
)

// userCollector shows the metrics that programs have defined. They are not described beforehand, because programs define them as they run.
type userCollector struct {
	source Source
	own    []string // names of the node's metrics
}

// ownNames are the names of the node's own metrics.
func ownNames() (names []string) {
	for _, d := range described() {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	return names
}

// Describe implements prometheus.Collector. Without a description the metrics are not checked against one.
func (c *userCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. A metric with a name of the node's is left out: two families of one name would make the whole answer
// an error.
func (c *userCollector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.source.Metrics().User {
		name := prefix + f.Name
		if slices.ContainsFunc(c.own, func(own string) bool { return collide(name, own) }) {
			continue
		}
		for _, s := range f.Series {
			d := prometheus.NewDesc(name, f.Help, s.Keys, nil)
			var m prometheus.Metric
			var err error
			switch f.Kind {
			case telemetry.Counter:
				m, err = prometheus.NewConstMetric(d, prometheus.CounterValue, s.Value, s.Values...)
			case telemetry.Gauge:
				m, err = prometheus.NewConstMetric(d, prometheus.GaugeValue, s.Value, s.Values...)
			default:
				buckets, sum := map[float64]uint64{}, uint64(0)
				for i, bound := range s.Bounds {
					sum += s.Buckets[i]
					buckets[bound] = sum
				}
				m, err = prometheus.NewConstHistogram(d, sum+s.Buckets[len(s.Bounds)], s.Sum, buckets, s.Values...)
			}
			if err == nil {
				ch <- m
			}
		}
	}
}

// collide reports whether two metrics may have lines of one name, for example the histogram a and the gauge a_sum.
func collide(a, b string) bool {
	base := func(s string) string {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			s = strings.TrimSuffix(s, suffix)
		}
		return s
	}
	return base(a) == base(b)
}
