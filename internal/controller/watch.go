package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
)

// maxUnhealthy is how many checks in a row must fail before a replica is replaced (the reference's number).
const maxUnhealthy = 3

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
	if r.running.HasHealthCheck() {
		c.wg.Go(func() { c.watchHealth(r) })
	}
	if r.running.HasRoutingStats() {
		c.wg.Go(func() { c.watchStats(r) })
	}
}

// options are the options of the revision that the replica belongs to now.
func (c *Controller) options(r *replica) spec.Effective {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.of.definition.Options
}

// watchHealth checks a replica until it is no longer in service. Periods vary by a tenth, so that the checks of replicas
// that started together do not stay together.
func (c *Controller) watchHealth(r *replica) {
	failed := 0
	period := func(o spec.Effective) (period, timeout time.Duration, late error) {
		return o.HealthCheckPeriod, o.HealthCheckTimeout, fmt.Errorf("the check took longer than health_check_timeout_s (%s)", o.HealthCheckTimeout)
	}
	c.watch(r, jittered(c.options(r).HealthCheckPeriod), period, func(ctx context.Context) bool {
		err := r.running.CheckHealth(ctx)
		if err == nil {
			failed = 0
		} else if failed++; failed >= maxUnhealthy {
			c.unhealthy(r, err)
			return false
		}
		return true
	})
}

// watch asks a replica a question, first after a while and then in periods, until it is no longer in service or ask returns false.
// The context of ask ends after the timeout, with the cause late.
func (c *Controller) watch(r *replica, first time.Duration, of func(spec.Effective) (period, timeout time.Duration, late error), ask func(context.Context) bool) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		if !c.inService(r) {
			return
		}
		period, timeout, late := of(c.options(r))
		ctx, cancel := context.WithTimeoutCause(c.ctx, timeout, late)
		again := ask(ctx)
		cancel()
		if !again {
			return
		}
		timer.Reset(jittered(period))
	}
}

func jittered(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}

func (c *Controller) inService(r *replica) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.dep.replicas[r.id] == r && r.state == helvetype.ReplicaRunning
}

// unhealthy replaces a replica whose checks have failed: the replica drains as a surplus replica does.
func (c *Controller) unhealthy(r *replica, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replaceLocked(r, fmt.Errorf("replica %s failed %d health checks: %w", r.id, maxUnhealthy, err))
}

// replaceLocked takes a replica out of service that is of no use, so that another starts in its place.
func (c *Controller) replaceLocked(r *replica, err error) {
	d := r.dep
	if d.replicas[r.id] != r || r.state != helvetype.ReplicaRunning {
		return
	}
	c.log.Error("replica is unhealthy, starting another", "app", d.app.name, "deployment", d.name, "replica", r.id, "error", err)
	d.failures.Forgive(time.Since(r.startedAt))
	r.leavePlaceLocked(&helvetype.Exit{Replica: r.id, Reason: err.Error(), Code: -1, At: time.Now()})
	if r.of == d.now {
		d.failures.ReplicaFailed(r.order, time.Now())
		d.noteFailureLocked(err)
	}
	c.endLocked(r, states.Replace, states.Facts{Error: err.Error()})
	for i := range r.of.openPlaces { // the place was left before the event
		if p := &r.of.openPlaces[i]; p.exit.Replica == r.id {
			p.event = r.lastEvent
		}
	}
	c.Wake()
}

// watchStats asks a replica for its stats until it is no longer in service. Its last answer stands when it fails. The replica is asked
// while its deployment has a routing policy of the user's: no other policy reads the stats.
func (c *Controller) watchStats(r *replica) {
	failed := false
	period := func(o spec.Effective) (period, timeout time.Duration, late error) {
		return o.RoutingStatsPeriod, o.RoutingStatsTimeout, fmt.Errorf("they took longer than request_routing_stats_timeout_s (%s)", o.RoutingStatsTimeout)
	}
	c.watch(r, 0, period, func(ctx context.Context) bool {
		if c.options(r).RequestRouter.Policy != spec.Custom {
			return true
		}
		stats, err := c.routingStats(ctx, r.running)
		switch {
		case err == nil:
			serving.BaseOf(r.running).SetStats(stats, time.Now())
		case !failed && c.inService(r): // once until it works again
			c.log.Warn("a replica's stats for routing", "app", r.dep.app.name, "deployment", r.dep.name, "replica", r.id, "error", err)
		}
		failed = err != nil
		return true
	})
}

func (c *Controller) routingStats(ctx context.Context, r host.Replica) (stats map[string]any, err error) {
	body, err := r.RoutingStats(ctx)
	if err != nil {
		return nil, err
	}
	err = c.set.Codec.Decode(call.JSON, body, &stats)
	return stats, err
}
