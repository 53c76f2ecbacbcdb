package controller

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/probe"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
)

// watchLocked watches a replica that is in service: its process, its health, and its stats for routing.
func (c *Controller) watchLocked(r *replica) {
	if ended := r.running.Ended(); ended != nil {
		c.wg.Go(func() {
			select {
			case <-ended:
				c.died(r)
			case <-r.running.Done().Done(): // the replica was stopped
			}
		})
	}
	p := probe.Probe{Replica: r.running, Options: func() (spec.Effective, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return r.of.definition.Options, r.inServiceLocked()
	}}
	serving.BaseOf(r.running).FailWith(func(text string) { r.health.Failed(text) })
	r.health = r.dep.health.Watch(r.running, r.of.definition.Options, health.Owner{Options: p.Options, Changed: func(ch health.Change) { c.healthChanged(r, ch) }})
	if r.running.HasHealthCheck() {
		c.wg.Go(func() {
			if err := p.Health(c.ctx); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.replaceLocked(r, fmt.Errorf("replica %s %w", r.id, err))
			}
		})
	}
	if r.running.HasRoutingStats() {
		c.wg.Go(func() {
			p.Stats(c.ctx, func(body json.RawMessage) error { return c.setStats(r, body) }, func(err error) {
				c.log.Warn("a replica's stats for routing", "app", r.dep.app.name, "deployment", r.dep.name, "replica", r.id, "error", err)
			})
		})
	}
}

// setStats gives the routing policy the stats that a replica has answered.
func (c *Controller) setStats(r *replica, body json.RawMessage) error {
	var stats map[string]any
	if err := c.set.Codec.Decode(call.JSON, body, &stats); err != nil {
		return err
	}
	serving.BaseOf(r.running).SetStats(stats, time.Now())
	return nil
}

// options are the options of the revision that the replica belongs to now.
func (c *Controller) options(r *replica) spec.Effective {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.of.definition.Options
}

func (r *replica) inServiceLocked() bool {
	return r.dep.replicas[r.id] == r && r.state == helvetype.ReplicaRunning && !r.dep.app.c.handedOver
}

// replaceLocked takes a replica out of service that is of no use, so that another starts in its place. The replica drains as a surplus one does.
func (c *Controller) replaceLocked(r *replica, err error) {
	d := r.dep
	if !r.inServiceLocked() {
		return
	}
	c.log.Error("replica is unhealthy, starting another", "app", d.app.name, "deployment", d.name, "replica", r.id, "error", err)
	d.failures.Forgive(time.Since(r.startedAt))
	c.endLocked(r, states.Replace, states.Facts{Error: err.Error()})
	r.leavePlaceLocked(&helvetype.Exit{Replica: r.id, Reason: err.Error(), Code: -1, At: time.Now()})
	if r.of == d.now {
		d.failures.ReplicaFailed(r.order, time.Now())
		d.noteFailureLocked(r, err)
	}
	d.wakeLocked()
}
