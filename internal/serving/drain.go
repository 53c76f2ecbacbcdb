package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// A deployment that ends drains first: it is offered no new calls any more, and the calls that wait and run have a time to finish, the
// grace. For example, with a grace of 20 s and a call that takes a minute, the drain ends after 20 s, and its error names the call.

// ErrUnfinished is in the error of [Drain] if calls were cut off.
var ErrUnfinished = errors.New("time to finish was over")

// unfinishedError is an ErrUnfinished that says why: the time was over, or the end was asked for before.
type unfinishedError string

func (e unfinishedError) Error() string        { return string(e) }
func (e unfinishedError) Is(target error) bool { return target == ErrUnfinished }

// errGrace is the cause of the end of a drain whose time is over.
var errGrace = errors.New("graceful_shutdown_timeout_s is over")

// Draining gives a context for [Drain] that ends after the grace.
func Draining(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, grace, errGrace)
}

// Times gives each deployment of an application that ends the time that its calls have: its own grace, or the longer time of a deployment that
// calls it, whose calls must find it. For example, an ingress with a grace of 2 s uses a deployment with 20 s: the calls of the ingress are cut off
// after 2 s, and the other deployment, which nothing calls any more then, ends with them. The other way round both have 20 s. The result is the longest.
func Times(grace map[string]time.Duration, uses map[string][]string) (longest time.Duration) {
	for changed := true; changed; {
		changed = false
		for name, used := range uses {
			for _, u := range used {
				if g, ok := grace[u]; ok && g < grace[name] {
					grace[u], changed = grace[name], true
				}
			}
		}
	}
	for _, g := range grace {
		longest = max(longest, g)
	}
	return longest
}

// Drain waits until no call waits or runs at the deployments, but for those that are down: their time was over. The error names the calls that were
// left when ctx ended.
func Drain(ctx context.Context, deployments []*Deployment) error {
	busy := func() bool {
		return slices.ContainsFunc(deployments, func(d *Deployment) bool { return !d.Down() && d.Busy() > 0 })
	}
	if AwaitIdle(ctx, busy) {
		return nil
	}
	return Unfinished(ctx, deployments)
}

// Unfinished names the calls that wait and run at the deployments now that the time of a drain, ctx, has ended; nil for none.
func Unfinished(ctx context.Context, deployments []*Deployment) error {
	var cut []error
	for _, d := range deployments {
		if !d.Down() {
			cut = append(cut, d.Cut(call.EndOf(ctx)))
		}
	}
	return errors.Join(cut...)
}

// Cut is an [ErrUnfinished] that names the calls which a cause ends, nil for the end of the grace; nil if there are none. Tasks
// and actors, whose applications are hidden, end with their node, and calls of them have no time to finish: it is nil for them.
func (d *Deployment) Cut(cause error) error {
	calls := d.Unfinished()
	if calls == "" || strings.HasPrefix(d.App, spec.HiddenApps) {
		return nil
	}
	why := fmt.Sprintf("its %s (graceful_shutdown_timeout_s %g)", ErrUnfinished, d.state.Load().Grace.Seconds())
	if cause != nil && !errors.Is(cause, errGrace) {
		why = fmt.Sprintf("it was cut off (%s)", cause)
	}
	return unfinishedError(fmt.Sprintf("%s/%s: %s when %s", d.App, d.Name, calls, why))
}

// Unfinished names the calls that [Deployment.Busy] counts; "" for none.
func (d *Deployment) Unfinished() string {
	var parts []string
	if n := d.Router.Queued(); n > 0 {
		parts = append(parts, calls(n)+" waited for a slot")
	}
	all := d.Router.Replicas()
	for _, r := range d.formerReplicas() {
		all = append(slices.Clip(all), r)
	}
	for _, r := range all {
		if n := r.Gate().Load(); n > 0 {
			parts = append(parts, calls(n)+" still ran in replica "+r.ID())
		}
	}
	return strings.Join(parts, ", ")
}

func calls(n int) string {
	if n == 1 {
		return "1 call"
	}
	return strconv.Itoa(n) + " calls"
}

// Busy is the number of calls that wait or run.
func (d *Deployment) Busy() int {
	n := d.Router.Queued()
	for _, r := range d.Router.Replicas() {
		n += r.Gate().Load()
	}
	for _, r := range d.formerReplicas() {
		if r.base().Busy() {
			n += max(r.Gate().Load(), 1)
		}
	}
	return n
}

// AwaitIdle waits until busy returns false. It returns false itself if ctx ends before. It looks every 2 ms: a gate that reported its
// state would pay on every release for an event that happens once in a deployment's life.
func AwaitIdle(ctx context.Context, busy func() bool) bool {
	if !busy() {
		return true
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !busy() {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}
