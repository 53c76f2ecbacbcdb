// Package controller decides what runs on this node and makes it so. It is level-triggered: Deploy, Delete and Scale change the target, which is records in a store
// (package records), and one loop makes the replicas equal to it, with the planner's answer to "what is missing, what is too much". The states of the replicas are in the
// store too. Data path and control path meet in [serving.Deployment]: the controller gives its router the replicas that serve, and calls never wait for the controller.
//
// A revision is an application as it was deployed; a deployment outlives it, with its router and every call that waits. For example, an application with A and B is
// deployed again with another executable: A and B get a new [fleet.DeploymentRevision], replicas of it start beside the old ones, each that is ready lets an old one drain,
// and the calls in the queue go to whichever serves. If the new revision is given up, the one before is the target again.
//
// All states are in one table of transitions (package states): in a state, an event leads to the next state, with a reason and a message. For example, a deployment
// that is HEALTHY gets the event replica_failed and is UNHEALTHY, with the error of the replica as its message. docs/state-machines.md shows the table.
//
// Package fleet has the records of applications, deployments and replicas, and tells their states; this package has the operations, the loop and the goroutines that start,
// stop and watch replicas. The mutex [fleet.Fleet.Mu] guards the records. User code, and methods of users' errors, never run under it.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/room"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// Settings are the arguments of [New].
type Settings struct {
	Logger  *slog.Logger
	Node    string // id of the node
	Codec   *codec.Codec
	Proxy   *proxy.Proxy
	Workers *host.Workers
	Program host.Program // of the Go workers of this executable
	// Strict is the codec that every call in this process passes through, although it need not; None for none.
	Strict call.Codec
	// OutOfLine says that no method runs on its caller's goroutine.
	OutOfLine bool
	// Trace takes records of calls. May be nil.
	Trace *trace.Recorder
	// Events take the transitions of applications, deployments and replicas.
	Events *telemetry.Events
	// Metrics gets the metrics that code in this process defines; nil: they are not kept.
	Metrics *telemetry.UserMetrics
	// Store has the records of the target and of this node, and Blobs the values that are too large for records. nil: they are in memory.
	Store store.Store
	Blobs store.Blobs
	// Durable says that Store and Blobs outlive this process: they get all that the next one needs to start the applications again.
	Durable bool
	// Lost gives the route prefixes of applications of the store that cannot be loaded, by their names; nil for none. See [Controller.Publish].
	Lost func() map[string]string
	// Failed gives the route prefixes of applications that have never run because their code cannot be built, by their names; nil for none. See [Controller.Publish].
	Failed func() map[string]string
	// Former is an application as a revision before has it, ready to be deployed again, for an automatic rollback. nil: it is as it was deployed in this process.
	Former func(ctx context.Context, app string, revision int) (deploy.App, error)
	// Host replaces the host of a deployment; nil, or a nil result, for the one of its kind.
	Host func(d *host.Deployment) host.Host
}

// Controller has the applications of a node. Its methods may be called from any goroutine.
type Controller struct {
	*fleet.Fleet // the records; embedded because its readers, as Status, are the controller's too

	set     Settings
	workers *host.Workers

	ctx  context.Context // ends when the node closes
	stop context.CancelCauseFunc
	kick chan struct{}
	wg   sync.WaitGroup // loop, starts and stops of replicas

	drains  instance.Drains // of the replicas in this process
	health  *health.Node
	room    *room.Keeper    // of the node, for replicas that start
	records *records.Target // its lock is taken before Mu
	file    *snapshot.File  // the state of this node, for a next one; its mutex is taken before Mu

	publishing sync.Mutex // one publish at a time; taken before Mu

	turns    atomic.Uint64 // of the loop
	lastTurn atomic.Int64  // nanoseconds
}

// New starts the controller of a node without applications. Close it.
func New(s Settings) *Controller {
	ctx, stop := context.WithCancelCause(context.Background())
	c := &Controller{set: s, workers: s.Workers, ctx: ctx, stop: stop, kick: make(chan struct{}, 1)}
	if c.set.Store == nil {
		c.set.Store = store.NewMemory()
	}
	if c.set.Blobs == nil {
		c.set.Blobs = store.NewMemoryBlobs()
	}
	c.Fleet = fleet.New(s.Logger, s.Node, c.set.Store, s.Events, s.Workers, s.Durable, c.Wake)
	c.health = health.NewNode(ctx, c.wg.Go, c.Log)
	c.room = room.New(c.Fleet, s.Workers.Ledger(), c.stopLocked, c.wg.Go)
	c.file = snapshot.NewFile(c.Log, c.snapshot)
	c.records = records.NewTarget(c.set.Store, c.set.Blobs, c.Log)
	c.records.Durable = s.Durable
	c.wg.Go(c.loop)
	c.wg.Go(func() { c.records.Follow(ctx, c.NoteScale, c.ForgetScale) })
	c.wg.Go(func() { c.Recorder.Run(ctx) })
	return c
}

// Wake makes the loop look at the applications and deployments that have changed: see [fleet.Application.WakeLocked]. It may be called with or without the controller's mutex.
func (c *Controller) Wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
	c.file.Change()
}

// loop asks the planner for the replicas that are missing or too many, and starts and stops those.
func (c *Controller) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-c.kick:
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		if wake := c.turn(); !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
	}
}

// apply brings the replicas closer to the target, and says when to look again.
func (c *Controller) apply(now time.Time) (wake time.Time) {
	c.Mu.Lock()
	wake, behind := c.applyLocked(now)
	c.Mu.Unlock()
	for _, r := range behind {
		c.follow(r)
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	for _, r := range behind {
		c.SettleLocked(r.Dep.App.Current)
	}
	return wake
}

// applyLocked is apply but for the replicas that have the options of another revision than their own, which it returns.
func (c *Controller) applyLocked(now time.Time) (wake time.Time, behind []*fleet.Replica) {
	if c.HandedOver {
		return wake, nil
	}
	if until := c.workers.Hold(now); !until.IsZero() {
		c.NoteLocked()
		return until, nil
	}
	for _, a := range c.SortedLocked() {
		if a.Agenda.Due(now) {
			behind = append(behind, c.applyAppLocked(a, now)...)
		}
		wake = earliest(wake, a.Agenda.Next())
	}
	return wake, behind
}

// applyAppLocked brings the replicas of the application closer to its target. The result behind has the replicas that have the options of another revision than their own.
func (c *Controller) applyAppLocked(a *fleet.Application, now time.Time) (behind []*fleet.Replica) {
	a.Unsaved = true
	of, all := a.Agenda.Take(now, !a.SteadyLocked())
	if all {
		of = a.SortedLocked()
	} else {
		slices.SortFunc(of, func(x, y *fleet.Deployment) int { return strings.Compare(x.Name, y.Name) })
	}
	a.NoteTheseLocked(of) // before the actions, which events may cause
	c.restartedLocked(a)
	if all {
		a.Agenda.WakeAll(c.rollOutLocked(a, now))
		c.tidyLocked(a)
		of = a.SortedLocked() // some may have ended
	}
	defer func() { a.NoteTheseLocked(of) }()
	if a.Own == helvetype.ApplicationRunning {
		a.Hosts.EndIdle(a.Current.GoKeys)
		a.WarmLocked()
	}
	c.doLocked(a, c.planLocked(a, of, now), now)
	c.SettleLocked(a.Current) // also of a revision without replicas, which is ready at once
	for _, d := range of {
		c.rankLocked(d)
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaRunning && r.Applied != r.Of {
				behind = append(behind, r)
			}
		}
	}
	return behind
}

// step is an action of the planner for a deployment.
type step struct {
	*fleet.Deployment
	planner.Action
}

// doLocked starts and stops replicas.
func (c *Controller) doLocked(a *fleet.Application, steps []step, now time.Time) {
	for _, s := range steps {
		d := s.Deployment
		switch act := s.Action.(type) {
		case planner.Start:
			if a.Deleted || a.Failure != nil || a.Deployments[d.Name] != d {
				continue
			}
			for range act.Count {
				c.startLocked(d, now)
			}
		case planner.StartFormer:
			for range act.Count {
				c.startFormerLocked(d, now)
			}
		case planner.GiveUp:
			if d.GaveUp || a.EndingLocked() { // the first: its rollout is paused
				continue
			}
			r := d.Now.Revision
			d.GaveUp = true
			if n := d.Failures.Number(); n > 1 {
				d.Message = fmt.Sprintf("The deployment failed to start %d times in a row. The last error: %s", n, d.Message)
			}
			c.giveUpLocked(d)
			if a.Current != r { // the application went back: the other actions are for a target of before
				return
			}
		case planner.Stop:
			if r := d.Replicas[act.Replica]; r != nil {
				c.stopLocked(r)
			}
		}
	}
}

// earliest is the first of several times; zero times do not count.
func earliest(all ...time.Time) (first time.Time) {
	for _, at := range all {
		if first.IsZero() || !at.IsZero() && at.Before(first) {
			first = at
		}
	}
	return first
}

// planLocked asks the planner for the actions for some deployments, and notes when the loop looks at each again.
func (c *Controller) planLocked(a *fleet.Application, of []*fleet.Deployment, now time.Time) (steps []step) {
	waiting := sync.OnceValue(a.WaitingLocked)
	for _, d := range of {
		var ready time.Time // when the next replica has been ready long enough to take the place of another
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaRunning {
				c.configureLocked(r)
				ready = earliest(ready, r.AvailableLocked(now))
			}
		}
		t, observed, history := d.ObserveLocked(now)
		actions, wake := planner.Step(t, observed, history, func(former bool) bool {
			e := d.Now
			if former {
				e = d.Former
			}
			waits := e.WaitsLocked(d, waiting)
			if waits {
				a.Agenda.Wait(d)
			}
			return waits
		}, now)
		a.Agenda.Wake(d, earliest(wake, ready))
		for _, act := range actions {
			steps = append(steps, step{d, act})
		}
	}
	return steps
}

// awaitUses waits until the deployments that a replica uses are ready.
func (c *Controller) awaitUses(ctx context.Context, r *fleet.Replica) error {
	if !c.Readier.Until(ctx, &c.Mu, func() bool { return !r.Of.WaitsLocked(r.Dep, r.Dep.App.WaitingLocked) }) {
		return call.EndOf(ctx)
	}
	return nil
}
