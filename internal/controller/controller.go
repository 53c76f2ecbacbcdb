// Package controller decides what runs on this node and makes it so. It is level-triggered: Deploy, Delete and Scale change the target, which is records in a store
// (records.go), and one loop makes the replicas equal to it, with the planner's answer to "what is missing, what is too much". What the node has is in the store too
// (recorder.go). Data path and control path meet in [serving.Deployment]: the controller gives its router the replicas that serve, and calls never wait for the controller.
//
// A revision is an application as it was deployed; a deployment outlives it, with its router and every call that waits. For example, an application with A and B is
// deployed again with another executable: A and B get a new deploymentRevision, replicas of it start beside the old ones, each that is ready lets an old one drain,
// and the calls in the queue go to whichever serves. If the new revision is given up, the one before is the target again.
//
// All states are in one table of transitions (package states): in a state, an event leads to the next state, with a reason and a message. For example, a deployment
// that is HEALTHY gets the event replica_failed and is UNHEALTHY, with the error of the replica as its message. docs/state-machines.md shows the table.
//
// The mutex of the [Controller] guards every application, deployment and replica record. It is taken before the mutexes of packages
// host and router, and after that of [serving.Deployment.Update]. User code, and methods of users' errors, never run under it.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/await"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/takeover"
	"github.com/helve-serve/helve/internal/telemetry"
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
	// Events take the transitions of applications, deployments and replicas.
	Events *telemetry.Events
	// Store has the records of the target and of this node, and Blobs what is too large for it. nil: they are in memory.
	Store store.Store
	Blobs store.Blobs
	// Durable says that Store and Blobs outlive this process: they get all that the next one needs to start the applications again.
	Durable bool
	// Lost gives the route prefixes of applications of the store that cannot be loaded, by their names; nil for none. See [Controller.Publish].
	Lost func() map[string]string
	// Former is an application as a revision before has it, ready to be deployed again, for an automatic rollback. nil: it is as it was deployed in this process.
	Former func(ctx context.Context, app string, revision int) (deploy.App, error)
	// Host replaces the host of a deployment; nil, or a nil result, for the one of its kind.
	Host func(d *host.Deployment) host.Host
}

// Controller has the applications of a node. Its methods may be called from any goroutine.
type Controller struct {
	set     Settings
	log     *slog.Logger
	workers *host.Workers

	ctx  context.Context // ends when the node closes
	stop context.CancelCauseFunc
	kick chan struct{}
	wg   sync.WaitGroup // loop, starts and stops of replicas

	drains   instance.Drains // of the replicas in this process
	health   *health.Node
	records  *records.Target // its lock is taken before mu
	recorder *records.Recorder
	file     *snapshot.File // the state of this node, for a next one; its mutex is taken before mu

	publishing sync.Mutex // one publish at a time; taken before mu

	mu         sync.Mutex
	scales     records.Scales
	capacity   *float64 // see [Controller.SetCapacity]
	apps       map[string]*application
	before     *takeover.Before // what the node before has left
	journal    *journal.Journal
	closing    bool
	draining   bool         // the drain of the node has begun
	handedOver bool         // the next node decides what runs (handover.go)
	changed    await.Signal // a replica is gone or has another user config
	readier    await.Signal // a replica is ready
}

// New starts the controller of a node without applications. Close it.
func New(s Settings) *Controller {
	ctx, stop := context.WithCancelCause(context.Background())
	c := &Controller{
		set: s, log: s.Logger, workers: s.Workers, ctx: ctx, stop: stop, kick: make(chan struct{}, 1),
		apps: map[string]*application{}, journal: journal.New(s.Events, s.Logger, s.Durable),
		before: takeover.NewBefore(s.Workers),
	}
	c.health = health.NewNode(ctx, c.wg.Go, c.log)
	c.file = snapshot.NewFile(c.log, c.snapshot)
	if c.set.Store == nil {
		c.set.Store = store.NewMemory()
	}
	if c.set.Blobs == nil {
		c.set.Blobs = store.NewMemoryBlobs()
	}
	c.records = records.NewTarget(c.set.Store, c.set.Blobs, c.log)
	c.records.Durable = s.Durable
	c.recorder = records.NewRecorder(c.set.Store, c.log, s.Node)
	c.wg.Go(c.loop)
	c.wg.Go(func() { c.records.Follow(ctx, c.noteScale, c.forgetScale) })
	c.wg.Go(func() { c.recorder.Run(ctx) })
	return c
}

// Wake makes the loop look at the applications and deployments that have changed: see [application.wakeLocked]. It may be called with or without the controller's mutex.
func (c *Controller) Wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
	c.file.Change()
}

// wakeLocked makes the loop look at the whole application, after a change that may ask for other replicas of any deployment. The loop looks at no other
// application: for example, with a hundred applications a replica that ends costs as much as with one.
func (a *application) wakeLocked() {
	a.agenda.ChangeAll()
	a.unsaved = true
	a.c.Wake()
}

// wakeLocked makes the loop look at the deployment, after a change that may ask for another replica of it, or for one less. The loop looks at no other deployment,
// but for those that wait for the ones that they use: with a thousand deployments a replica that ends costs as much as with ten.
func (d *deployment) wakeLocked() {
	d.changedLocked()
	d.app.c.Wake()
}

// changedLocked is wakeLocked for a change after which the loop is woken anyway.
func (d *deployment) changedLocked() {
	if a := d.app; a.deployments[d.name] == d {
		a.agenda.Change(d)
	} else { // another has its name by now
		a.agenda.ChangeAll()
	}
	d.app.unsaved = true
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
		if wake := c.apply(time.Now()); !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
	}
}

// apply brings the replicas closer to the target, and says when to look again.
func (c *Controller) apply(now time.Time) (wake time.Time) {
	c.mu.Lock()
	wake, behind := c.applyLocked(now)
	c.mu.Unlock()
	for _, r := range behind {
		c.follow(r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range behind {
		c.settleLocked(r.dep.app.current)
	}
	return wake
}

// applyLocked is apply but for the replicas that have the options of another revision than their own, which it returns.
func (c *Controller) applyLocked(now time.Time) (wake time.Time, behind []*replica) {
	if c.handedOver {
		return wake, nil
	}
	if until := c.workers.Hold(now); !until.IsZero() {
		c.noteLocked()
		return until, nil
	}
	for _, a := range c.sortedLocked() {
		if a.agenda.Due(now) {
			behind = append(behind, a.applyLocked(now)...)
		}
		wake = earliest(wake, a.agenda.Next())
	}
	return wake, behind
}

// steadyLocked says that the application does not change from one revision to another, and does not end: a change of one deployment concerns no other.
func (a *application) steadyLocked() bool {
	return a.tidy && a.status == helvetype.ApplicationRunning && a.previous == nil && a.change == nil && a.failure == nil && !a.deleted
}

// applyLocked brings the replicas of the application closer to its target. The result behind has the replicas that have the options of another revision than their own.
func (a *application) applyLocked(now time.Time) (behind []*replica) {
	c := a.c
	a.unsaved = true
	of, all := a.agenda.Take(now, !a.steadyLocked())
	if all {
		of = a.sortedLocked()
	} else {
		slices.SortFunc(of, func(x, y *deployment) int { return strings.Compare(x.name, y.name) })
	}
	a.noteTheseLocked(of) // before the actions, which events may cause
	a.restartedLocked()
	if all {
		a.agenda.WakeAll(a.rollOutLocked(now))
		a.tidyLocked()
		of = a.sortedLocked() // some may have ended
	}
	defer func() { a.noteTheseLocked(of) }()
	if a.status == helvetype.ApplicationRunning {
		a.hosts.EndIdle(a.current.goKeys)
	}
	c.doLocked(a, a.planLocked(of, now), now)
	c.settleLocked(a.current) // also of a revision without replicas, which is ready at once
	for _, d := range of {
		d.rankLocked()
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning && r.applied != r.of {
				behind = append(behind, r)
			}
		}
	}
	return behind
}

// step is an action of the planner for a deployment.
type step struct {
	*deployment
	planner.Action
}

// doLocked starts and stops replicas.
func (c *Controller) doLocked(a *application, steps []step, now time.Time) {
	for _, s := range steps {
		d := s.deployment
		switch act := s.Action.(type) {
		case planner.Start:
			if a.deleted || a.failure != nil || a.deployments[d.name] != d {
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
			if d.gaveUp { // its rollout is paused
				continue
			}
			r := d.now.revision
			d.gaveUp = true
			if n := d.failures.Number(); n > 1 {
				d.message = fmt.Sprintf("The deployment failed to start %d times in a row. The last error: %s", n, d.message)
			}
			c.giveUpLocked(d)
			if a.current != r { // the application went back: the other actions are for a target of before
				return
			}
		case planner.Stop:
			if r := d.replicas[act.Replica]; r != nil {
				c.stopLocked(r)
			}
		}
	}
}

// sortedLocked are the applications in the order of their names.
func (c *Controller) sortedLocked() []*application {
	return slices.SortedFunc(maps.Values(c.apps), func(a, b *application) int { return strings.Compare(a.name, b.name) })
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

// sortedLocked are the deployments in the order of their names.
func (a *application) sortedLocked() []*deployment {
	return slices.SortedFunc(maps.Values(a.deployments), func(a, b *deployment) int { return strings.Compare(a.name, b.name) })
}

// planLocked asks the planner for the actions for some deployments, and notes when the loop looks at each again.
func (a *application) planLocked(of []*deployment, now time.Time) (steps []step) {
	waiting := sync.OnceValue(a.waitingLocked)
	for _, d := range of {
		var ready time.Time // when the next replica has been ready long enough to take the place of another
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning {
				a.c.configureLocked(r)
				ready = earliest(ready, r.availableLocked(now))
			}
		}
		t, observed, history := d.observeLocked(now)
		actions, wake := planner.Step(t, observed, history, func() bool {
			waits := d.waitsLocked(waiting)
			if waits {
				a.agenda.Wait(d)
			}
			return waits
		}, now)
		a.agenda.Wake(d, earliest(wake, ready))
		for _, act := range actions {
			steps = append(steps, step{d, act})
		}
	}
	return steps
}

// observeLocked are the arguments of the planner for a deployment.
func (d *deployment) observeLocked(now time.Time) (t planner.Target, observed []planner.Observed, h planner.History) {
	t.Key = planner.Key{App: d.app.name, Deployment: d.name}
	if a := d.app; !a.deleted && a.failure == nil && !d.dropped && !d.over {
		t = d.targetLocked()
	}
	for _, r := range d.replicas {
		s := r.plannedLocked()
		if r.state == helvetype.ReplicaRunning && !r.availableLocked(now).IsZero() {
			s = planner.Unready
		}
		of := r.of.version
		if r.outdated {
			of += "/outdated"
		}
		observed = append(observed, planner.Observed{ID: r.id, Key: t.Key, Revision: of, State: s, StartedAt: r.startedAt})
	}
	return t, observed, d.historyLocked()
}

// historyLocked has the failures of the deployment for the planner.
func (d *deployment) historyLocked() planner.History {
	a, e := d.app, d.now
	// In a rollout failures count also after a replica has run.
	ran := e.ran && (e.revision.def.Retry && a.previous == nil || a.status != helvetype.ApplicationDeploying)
	// A start of a restored deployment that has failed is never given up, and others do not wait for it any more.
	return d.failures.History(ran || e.revision.def.Restored && d.failures.Number() > 0)
}

// waitingLocked gives [planner.Waiting] of the application.
func (a *application) waitingLocked() func(planner.Key) bool {
	var targets []planner.Target
	var observed []planner.Observed
	history := map[planner.Key]planner.History{}
	for _, d := range a.deployments {
		t, live, h := d.observeLocked(time.Now())
		targets, observed, history[t.Key] = append(targets, t), append(observed, live...), h
	}
	return planner.Waiting(targets, observed, history)
}

// waitsLocked says that user code of the deployment has to wait, because a deployment that it uses is not ready. Where each of those has run, nothing waits, and
// the function waiting, which looks at the whole application, is not called.
func (d *deployment) waitsLocked(waiting func() func(planner.Key) bool) bool {
	for _, name := range d.now.definition.Spec.Uses {
		if of := d.app.deployments[name]; of != nil && !of.historyLocked().Ran {
			return waiting()(planner.Key{App: d.app.name, Deployment: d.name})
		}
	}
	return false
}

// plannedLocked is the state of a replica for the planner.
func (r *replica) plannedLocked() planner.State {
	switch r.state {
	case helvetype.ReplicaRunning:
		if !r.takesLocked() {
			return planner.Unready
		}
		return planner.Running
	case helvetype.ReplicaStopping:
		return planner.Draining
	}
	return planner.Starting
}

// replicasLocked are all replicas, for range.
func (c *Controller) replicasLocked(yield func(*replica) bool) {
	for _, a := range c.apps {
		for _, d := range a.deployments {
			for _, r := range d.replicas {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// awaitUses waits until the deployments that d uses are ready.
func (c *Controller) awaitUses(ctx context.Context, d *deployment) error {
	if !c.readier.Until(ctx, &c.mu, func() bool { return !d.waitsLocked(d.app.waitingLocked) }) {
		return call.EndOf(ctx)
	}
	return nil
}

// Deployment finds a deployment that is there now; nil if there is none.
func (c *Controller) Deployment(app, name string) *serving.Deployment {
	if d := c.deployment(app, name); d != nil {
		return d.serving
	}
	return nil
}

func (c *Controller) deployment(app, name string) *deployment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[app]; a != nil && !a.deleted {
		return a.deployments[name]
	}
	return nil
}

// Ingress is the name of an application's ingress deployment and method, or of another deployment of it where that is not "", and the language of the deployment.
func (c *Controller) Ingress(app, deployment string) (in protocol.IngressMethod, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if a == nil || a.deleted {
		return in, false
	}
	if of := a.current.def.Graph.Ingress; deployment == "" && of != nil {
		deployment, in.Method = of.Deployment, of.Method
	}
	d := a.deployments[deployment]
	if d == nil {
		return in, false
	}
	in.Deployment, in.Language, in.Methods = deployment, d.now.definition.Spec.Language, d.now.host.Methods()
	return in, true
}

// noteUse notes that a replica asked for a handle to another deployment, which the graph does not say.
func (d *deployment) noteUse(name string) {
	c := d.app.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(d.now.definition.Spec.Uses, name) && !slices.Contains(d.dynamic, name) {
		d.dynamic = append(d.dynamic, name)
	}
}
