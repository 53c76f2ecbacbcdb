package controller

import (
	"context"
	"encoding/json"
	"time"

	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Metrics are the numbers of the node now. No worker is asked.
func (c *Controller) Metrics() telemetry.Snapshot {
	s := c.Fleet.Metrics()
	s.Loop = telemetry.Loop{Number: c.turns.Load(), Last: time.Duration(c.lastTurn.Load())}
	return s
}

// turn is apply, measured.
func (c *Controller) turn() (wake time.Time) {
	begun := time.Now()
	wake = c.apply(begun)
	c.turns.Add(1)
	c.lastTurn.Store(int64(time.Since(begun)))
	return wake
}

// measured is a replica whose answers to periodic questions are measured.
type measured struct {
	host.Replica
	times *telemetry.Lifecycle
}

func (m measured) CheckHealth(ctx context.Context) error {
	begun := time.Now()
	err := m.Replica.CheckHealth(ctx)
	m.times.HealthCheck.Observe(time.Since(begun))
	if err != nil {
		m.times.HealthFailures.Add(1)
	}
	return err
}

func (m measured) RoutingStats(ctx context.Context) (json.RawMessage, error) {
	begun := time.Now()
	stats, err := m.Replica.RoutingStats(ctx)
	m.times.RoutingStats.Observe(time.Since(begun))
	if err != nil {
		m.times.RoutingFailures.Add(1)
	}
	return stats, err
}

func (m measured) AutoscalingStats(ctx context.Context) (map[string]float64, error) {
	begun := time.Now()
	numbers, err := m.Replica.AutoscalingStats(ctx)
	m.times.AutoscalingStats.Observe(time.Since(begun))
	return numbers, err
}

// waitsMeasured is waiting, which also measures the constructor.
func (c *Controller) waitsMeasured(r *fleet.Replica, reason string) (done func()) {
	over := c.waiting(r, reason)
	if reason != host.WaitsForConstructor {
		return over
	}
	begun := time.Now()
	return func() {
		over()
		r.Dep.Serving.Lifecycle.Initialization.Observe(time.Since(begun))
	}
}
