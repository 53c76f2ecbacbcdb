package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// maxUnhealthy is how many checks in a row must fail before a replica is replaced (the reference's number).
const maxUnhealthy = 3

// checked says whether a replica can tell its health.
func (n *Node) checked(u *Unit) bool {
	if u.instance != nil {
		return u.instance.CanTell()
	}
	return u.checked
}

// watchHealth checks a replica until it is no longer in service. Periods vary by a tenth, so that the checks of replicas
// that started together do not stay together.
func (n *Node) watchHealth(u *Unit) {
	o := u.options
	failed := 0
	late := fmt.Errorf("the check took longer than health_check_timeout_s (%s)", o.HealthCheckTimeout)
	n.watch(u, jittered(o.HealthCheckPeriod), o.HealthCheckPeriod, o.HealthCheckTimeout, late, func(ctx context.Context) bool {
		err := n.checkHealth(ctx, u)
		if err == nil {
			failed = 0
		} else if failed++; failed >= maxUnhealthy {
			n.unhealthy(u, err)
			return false
		}
		return true
	})
}

// watch asks a replica something, first after a while and then in periods, until it is no longer in service or ask returns false.
// The context of ask ends after the timeout, with the cause late.
func (n *Node) watch(u *Unit, first, period, timeout time.Duration, late error, ask func(context.Context) bool) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		if !n.serving(u) {
			return
		}
		ctx, cancel := context.WithTimeoutCause(n.ctx, timeout, late)
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

func (n *Node) serving(u *Unit) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return u.dep.units[u.id] == u && u.state == spec.ReplicaRunning
}

func (n *Node) checkHealth(ctx context.Context, u *Unit) error {
	if u.instance != nil {
		return u.instance.CheckHealth(ctx)
	}
	return u.control(ctx, "check_health", nil, u.options.HealthCheckTimeout)
}

func (u *Unit) control(ctx context.Context, op string, config json.RawMessage, limit time.Duration) error {
	return u.worker.peer.Control(ctx, struct {
		Op         string          `json:"op"`
		Replica    string          `json:"replica"`
		UserConfig json.RawMessage `json:"user_config,omitempty"`
		TimeoutS   float64         `json:"timeout_s"`
	}{op, u.id, config, limit.Seconds()}, nil)
}

// unhealthy replaces a replica whose checks have failed: it drains like one that is too many.
func (n *Node) unhealthy(u *Unit, err error) {
	d := u.dep
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.units[u.id] != u || u.state != spec.ReplicaRunning {
		return
	}
	n.log.Error("replica is unhealthy, starting another", "app", d.app.name, "deployment", d.name, "replica", u.id, "error", err)
	d.forgiveLocked(u)
	err = fmt.Errorf("replica %s failed %d health checks: %w", u.id, maxUnhealthy, err)
	d.vacateLocked(u, &spec.Exit{Replica: u.id, Reason: err.Error(), Code: -1, At: time.Now()})
	d.failedLocked(&d.running, u, err)
	n.stopLocked(u)
	n.wake()
}

// Reconfigure gives a deployment another user config: every replica that runs, and those that start later. A replica
// whose Reconfigure fails keeps what it had, and its error is returned with the others'.
func (n *Node) Reconfigure(ctx context.Context, app, deployment string, config json.RawMessage) error {
	d := n.Deployment(app, deployment)
	if d == nil {
		return fmt.Errorf("no deployment %q in application %q", deployment, app)
	}
	select {
	case d.configuring <- struct{}{}:
		defer func() { <-d.configuring }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n.mu.Lock()
	e := d.now.Load()
	e.config = config
	e.configVersion++
	var units []*Unit
	for _, u := range d.units {
		if u.state == spec.ReplicaRunning && u.edition == e { // one that starts sees the version when it is ready
			u.version = e.configVersion
			units = append(units, u)
		}
	}
	n.mu.Unlock()
	if err := n.save(); err != nil {
		n.log.Error("the node's state was not saved", "error", err)
	}
	type refusal struct {
		replica string
		err     error
	}
	refusals := make(chan refusal, len(units))
	for _, u := range units {
		go func() { refusals <- refusal{u.id, n.reconfigure(ctx, u, config)} }() // its end is awaited below
	}
	// What several replicas say alike is said once. Errors that cross a process carry their replica: the message counts.
	said, order := map[string][]refusal{}, []string(nil)
	for range units {
		if r := <-refusals; r.err != nil {
			text := call.AsError(r.err).Message
			if said[text] == nil {
				order = append(order, text)
			}
			said[text] = append(said[text], r)
		}
	}
	var all []error
	for _, text := range order {
		switch rs := said[text]; len(rs) {
		case 1:
			all = append(all, fmt.Errorf("replica %s: Reconfigure: %w", rs[0].replica, rs[0].err))
		default:
			all = append(all, fmt.Errorf("%d of %d replicas: Reconfigure: %w", len(rs), len(units), rs[0].err))
		}
	}
	return errors.Join(all...)
}

func (n *Node) reconfigure(ctx context.Context, u *Unit, config json.RawMessage) error {
	if u.instance != nil {
		return u.instance.Reconfigure(ctx, config)
	}
	return u.control(ctx, "reconfigure", config, u.options.ConstructTimeout)
}

// renew gives a replica that is not ready yet the newest user config.
func (n *Node) renew(u *Unit) error {
	n.mu.Lock()
	config := u.config
	u.version = u.configVersion
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(u.ctx, u.options.ConstructTimeout)
	defer cancel()
	if err := n.reconfigure(ctx, u, config); err != nil {
		return fmt.Errorf("replica %s: Reconfigure: %w", u.id, err)
	}
	return nil
}
