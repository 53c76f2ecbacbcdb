package controller

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/probe"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
)

// watchLocked watches a replica that is in service: its process, its health, and its stats for routing.
func (c *Controller) watchLocked(r *fleet.Replica) {
	if ended := r.Running.Ended(); ended != nil {
		c.wg.Go(func() {
			select {
			case <-ended:
				c.died(r)
			case <-r.Running.Done().Done(): // the replica was stopped
			}
		})
	}
	p := probe.Probe{Replica: measured{r.Running, r.Dep.Serving.Lifecycle}, Options: func() (spec.Effective, bool) {
		c.Mu.Lock()
		defer c.Mu.Unlock()
		return r.Of.Definition.Options, r.InServiceLocked()
	}}
	serving.BaseOf(r.Running).FailWith(func(text string) { r.Health.Failed(text) })
	r.Health = r.Dep.Health.Watch(r.Running, r.Of.Definition.Options, health.Owner{Options: p.Options, Changed: func(ch health.Change) { c.healthChanged(r, ch) }})
	if r.Running.HasHealthCheck() {
		c.wg.Go(func() {
			if err := p.Health(c.ctx); err != nil {
				c.Mu.Lock()
				defer c.Mu.Unlock()
				c.replaceLocked(r, fmt.Errorf("replica %s %w", r.ID, err))
			}
		})
	}
	if r.Running.HasAutoscalingStats() {
		c.wg.Go(func() { p.Numbers(c.ctx, r.NoteNumbers) })
	}
	if r.Running.HasRoutingStats() {
		c.wg.Go(func() {
			p.Stats(c.ctx, func(body json.RawMessage) error { return c.setStats(r, body) }, func(err error) {
				c.Log.Warn("a replica's stats for routing", "app", r.Dep.App.Name, "deployment", r.Dep.Name, "replica", r.ID, "error", err)
			})
		})
	}
}

// setStats gives the routing policy the stats that a replica has answered.
func (c *Controller) setStats(r *fleet.Replica, body json.RawMessage) error {
	var stats map[string]any
	if err := c.set.Codec.Decode(call.JSON, body, &stats); err != nil {
		return err
	}
	serving.BaseOf(r.Running).SetStats(stats, time.Now())
	return nil
}

// replaceLocked takes a replica out of service that is of no use, so that another starts in its place. The replica drains as a surplus one does.
func (c *Controller) replaceLocked(r *fleet.Replica, err error) {
	d := r.Dep
	if !r.InServiceLocked() {
		return
	}
	c.Log.Error("replica is unhealthy, starting another", "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "error", err)
	d.Failures.Forgive(time.Since(r.StartedAt))
	c.endLocked(r, states.Replace, states.Facts{Error: err.Error()})
	r.LeavePlaceLocked(&helvetype.Exit{Replica: r.ID, Reason: err.Error(), Code: -1, At: time.Now()})
	if r.Of == d.Now {
		d.Failures.ReplicaFailed(r.Order, time.Now())
		d.NoteFailureLocked(r, err)
	}
	d.WakeLocked()
}
