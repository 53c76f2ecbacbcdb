package helve

import (
	"context"

	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Counter defines a number that grows, as GET /metrics of the node shows it: ray_NAME_total, with the tags application, deployment and replica, and one for each key.
// ctx must be the context that the constructor received; with another one, as in a unit test, nothing is counted. Names and keys are letters, digits and _; the node
// leaves others out, and its log says so. Two metrics of one name and kind of a replica are the same.
//
//	hits := helve.Counter(ctx, "hits", "Of the cache.", "model")
//	hits.Add(1, "small")
func Counter(ctx context.Context, name, help string, keys ...string) *CounterMetric {
	return &CounterMetric{define(ctx, telemetry.Counter, name, help, nil, keys)}
}

// Gauge defines a number that is set, as [Counter] does: ray_NAME. Gauges of a replica go when its process ends.
func Gauge(ctx context.Context, name, help string, keys ...string) *GaugeMetric {
	return &GaugeMetric{define(ctx, telemetry.Gauge, name, help, nil, keys)}
}

// Histogram defines a metric that counts numbers in buckets, as [Counter] does: ray_NAME_bucket, ray_NAME_sum, ray_NAME_count. bounds are the upper ends of the
// buckets, in order.
func Histogram(ctx context.Context, name, help string, bounds []float64, keys ...string) *HistogramMetric {
	return &HistogramMetric{define(ctx, telemetry.Histogram, name, help, bounds, keys)}
}

func define(ctx context.Context, kind, name, help string, bounds []float64, keys []string) *telemetry.ProgramMetric {
	scope := instance.ScopeFrom(ctx)
	if scope == nil {
		return nil
	}
	return scope.Metrics.Metric(kind, name, help, bounds, keys)
}

// CounterMetric is a number that grows: see [Counter]. It is safe for concurrent use.
type CounterMetric struct{ m *telemetry.ProgramMetric }

// Add adds v. The values are those of the keys, in their order. A v that is not above 0 adds nothing.
func (c *CounterMetric) Add(v float64, values ...string) { c.m.Add(v, values) }

// GaugeMetric is a number that is set: see [Gauge]. It is safe for concurrent use.
type GaugeMetric struct{ m *telemetry.ProgramMetric }

// Set sets the number. The values are those of the keys, in their order.
func (g *GaugeMetric) Set(v float64, values ...string) { g.m.Set(v, values) }

// HistogramMetric counts numbers in buckets: see [Histogram]. It is safe for concurrent use.
type HistogramMetric struct{ m *telemetry.ProgramMetric }

// Observe counts v in its bucket. The values are those of the keys, in their order.
func (h *HistogramMetric) Observe(v float64, values ...string) { h.m.Observe(v, values) }
