package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/protocol"
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
	return u.dep.units[u.id] == u && u.state == helvetype.ReplicaRunning
}

func (n *Node) checkHealth(ctx context.Context, u *Unit) error {
	if u.instance != nil {
		return u.instance.CheckHealth(ctx)
	}
	_, err := protocol.Ask(ctx, u.worker.peer, protocol.CheckHealth{Replica: u.id, TimeoutS: protocol.SecondsOf(u.options.HealthCheckTimeout)})
	return u.arrived(err)
}

// arrived is an error that the replica's worker has answered with: what the application has registered is in it again.
func (u *Unit) arrived(err error) error {
	e, ok := err.(*call.Error) //nolint:errorlint // as the worker sent it
	if !ok {
		return err
	}
	var known *codec.ErrorRegistry
	if u.class != nil {
		known = u.class.Errors
	}
	return known.Restore(u.dep.app.node.codec, e)
}

// unhealthy replaces a replica whose checks have failed: it drains like one that is too many.
func (n *Node) unhealthy(u *Unit, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.replaceLocked(u, fmt.Errorf("replica %s failed %d health checks: %w", u.id, maxUnhealthy, err))
}

// replaceLocked takes a replica out of service that is of no use, so that another starts in its place.
func (n *Node) replaceLocked(u *Unit, err error) {
	d := u.dep
	if d.units[u.id] != u || u.state != helvetype.ReplicaRunning {
		return
	}
	n.log.Error("replica is unhealthy, starting another", "app", d.app.name, "deployment", d.name, "replica", u.id, "error", err)
	d.forgiveLocked(u)
	u.vacateLocked(&helvetype.Exit{Replica: u.id, Reason: err.Error(), Code: -1, At: time.Now()})
	if u.edition == d.now.Load() {
		d.failedLocked(&d.running, u, err)
	}
	n.stopLocked(u)
	n.wake()
}
