// Package probe asks a replica questions in periods, while it is in service: whether it is healthy, whether calls should be sent to it, and for its stats for routing. It has
// the times and the counting of failures; its caller decides what follows from an answer.
//
// For example, a deployment has health_check_period_s 10 and health_check_timeout_s 30. Its replica is asked about 10 s after it was
// ready, and again about 10 s after each answer. A replica that does not answer within 30 s has failed this check; three failed checks in a
// row (health_check_failure_threshold) end the probe with the last error, and a check that succeeds in between starts the count again.
package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/helve-serve/helve/internal/spec"
)

// Replica is the replica that is asked. The context of a question ends when its time is over.
type Replica interface {
	CheckHealth(ctx context.Context) error
	CheckReady(ctx context.Context) error
	// RoutingStats gives the stats as JSON.
	RoutingStats(ctx context.Context) (json.RawMessage, error)
	// AutoscalingStats gives the numbers for autoscaling policies.
	AutoscalingStats(ctx context.Context) (map[string]float64, error)
}

// Probe asks one replica. Each of its methods runs until the replica is out of service or ctx ends, on a goroutine of the caller's.
type Probe struct {
	Replica Replica
	// Options gives the options that the replica has now, which may change while it serves. It returns false once the replica is out
	// of service.
	Options func() (o spec.Effective, inService bool)
}

// Health checks the replica. It returns an error after health_check_failure_threshold failed checks in a row, and nil otherwise.
func (p Probe) Health(ctx context.Context) (unhealthy error) {
	o, ok := p.Options()
	if !ok {
		return nil
	}
	failures := 0
	p.ask(ctx, jittered(o.HealthCheckPeriod), func(o spec.Effective) (period time.Duration, more bool) {
		ctx, cancel := context.WithTimeoutCause(ctx, o.HealthCheckTimeout,
			fmt.Errorf("the check took longer than health_check_timeout_s (%s)", o.HealthCheckTimeout))
		defer cancel()
		err := p.Replica.CheckHealth(ctx)
		if err == nil {
			failures = 0
		} else if failures++; failures >= o.HealthFailures {
			unhealthy = fmt.Errorf("failed %d health checks: %w", failures, err)
		}
		return o.HealthCheckPeriod, unhealthy == nil
	})
	return unhealthy
}

// Readiness is the answer of one readiness check and of the checks before it.
type Readiness struct {
	Ready bool
	Err   error         // of the last check, if that has failed
	Row   int           // number of checks in a row that ended as the last one did
	Again time.Duration // time until the next check, give or take a tenth
}

// Readiness asks the replica whether calls should be sent to it, first at once, and gives each answer to take. A replica is not ready before
// readiness_success_threshold checks in a row have passed. For example, with a readiness_failure_threshold of 2 a replica that was ready fails one check, and is
// ready; it fails the next, and is not ready.
func (p Probe) Readiness(ctx context.Context, take func(Readiness)) {
	var at Readiness
	passed := false
	p.ask(ctx, 0, func(o spec.Effective) (period time.Duration, more bool) {
		ctx, cancel := context.WithTimeoutCause(ctx, o.ReadinessTimeout,
			fmt.Errorf("the check took longer than readiness_check_timeout_s (%s)", o.ReadinessTimeout))
		defer cancel()
		err := p.Replica.CheckReady(ctx)
		if at.Row++; (err == nil) != passed {
			at.Row = 1
		}
		passed = err == nil
		switch {
		case passed && at.Row >= o.ReadinessSuccesses:
			at.Ready = true
		case !passed && at.Row >= o.ReadinessFailures:
			at.Ready = false
		}
		at.Err, at.Again = err, o.ReadinessPeriod
		take(at)
		return o.ReadinessPeriod, true
	})
}

// Stats asks the replica for its stats for routing, first at once, and gives them to take. When the replica or take fails, its last stats
// stand, and report gets the error: once, until the stats come again. The replica is asked while its deployment has a routing policy of
// the user's, because no other policy reads the stats.
func (p Probe) Stats(ctx context.Context, take func(json.RawMessage) error, report func(error)) {
	failed := false
	p.ask(ctx, 0, func(o spec.Effective) (period time.Duration, more bool) {
		if o.RequestRouter.Policy != spec.Custom {
			return o.RoutingStatsPeriod, true
		}
		ctx, cancel := context.WithTimeoutCause(ctx, o.RoutingStatsTimeout,
			fmt.Errorf("they took longer than request_routing_stats_timeout_s (%s)", o.RoutingStatsTimeout))
		defer cancel()
		stats, err := p.Replica.RoutingStats(ctx)
		if err == nil {
			err = take(stats)
		}
		if err != nil && !failed {
			if _, ok := p.Options(); ok { // the failure of a replica that is stopped meanwhile says nothing
				report(err)
			}
		}
		failed = err != nil
		return o.RoutingStatsPeriod, true
	})
}

const (
	// AutoscalingTimeout is the time of an answer with numbers for autoscaling policies, and autoscalingPeriod the time between two questions.
	AutoscalingTimeout = 10 * time.Second
	autoscalingPeriod  = 10 * time.Second
)

// Numbers asks the replica for its numbers for autoscaling policies, first at once, while its deployment scales by itself, and gives each answer to take, also one with an error.
// A deployment with a short look_back_period_s is asked three times within it: for example, one with 6 s is asked each 2 s.
func (p Probe) Numbers(ctx context.Context, take func(map[string]float64, error)) {
	p.ask(ctx, 0, func(o spec.Effective) (period time.Duration, more bool) {
		if !o.Autoscaled() {
			return autoscalingPeriod, true
		}
		ctx, cancel := context.WithTimeoutCause(ctx, AutoscalingTimeout, fmt.Errorf("they took longer than %s", AutoscalingTimeout))
		defer cancel()
		numbers, err := p.Replica.AutoscalingStats(ctx)
		if _, ok := p.Options(); ok { // the failure of a replica that is stopped meanwhile says nothing
			take(numbers, err)
		}
		return min(max(o.LookBack()/3, time.Second), autoscalingPeriod), true
	})
}

// ask calls question after the time first, and then after each period that question returns, until question says that there are no more,
// the replica is out of service, or ctx ends.
func (p Probe) ask(ctx context.Context, first time.Duration, question func(spec.Effective) (period time.Duration, more bool)) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		o, ok := p.Options()
		if !ok {
			return
		}
		period, more := question(o)
		if !more {
			return
		}
		timer.Reset(jittered(period))
	}
}

// jittered is a period that varies by a tenth, so that the probes of replicas that started together do not stay together.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}
