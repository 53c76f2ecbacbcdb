package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/await"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/userconfig"
)

// replica is the controller's record of one replica, from its start until it is gone. Guarded by Controller.mu, but for the fields above the line.
type replica struct {
	id    string
	dep   *deployment
	ctx   context.Context // ends when the start is given up
	order int             // among the starts of its deployment
	// ---
	of        *deploymentRevision // that it belongs to: it goes from one revision to the next that leaves its version as it is
	applied   *deploymentRevision // whose options the replica has: see [Controller.follow]
	running   host.Replica        // nil until it was started
	routed    router.Replica      // nil until its router knows of it
	worker    *host.Worker        // in which it starts; nil before it is known, and in this process
	state     helvetype.ReplicaState
	health    *health.Replica // nil until it is in service
	startedAt time.Time
	readyAt   time.Time       // zero for a replica that was taken over
	outdated  bool            // another one of its revision is to take its place: see [Controller.Restart]
	rank      int             // among the replicas of its version; planner.Unranked before it has one
	told      host.Rank       // that the replica knows
	telling   bool            // a goroutine gives the replica its rank
	wait      *helvetype.Wait // of its start; nil while it waits for nothing
	before    planner.Former  // of the replicas that had its place
	lastEvent uint64          // that changed its state
	record    store.Replica   // in the store, or on its way
	config    int             // number of the user config that it has
	changing  chan struct{}   // closed when the goroutine that gives it another user config has ended; nil while there is none
}

// ID is the replica's id, unique on its node.
func (r *replica) ID() string { return r.id }

// closeTime bounds a user's Close, as a constructor that is torn down should not hold a shutdown.
const closeTime = 5 * time.Second

func (c *Controller) startLocked(d *deployment, now time.Time) {
	r := c.newReplicaLocked(d, c.workers.ReplicaID(d.name), now)
	r.order = d.failures.Start()
	c.beginLocked(r)
}

// beginLocked begins the start of a replica, in the place of a replica that is gone if there is such a place.
func (c *Controller) beginLocked(r *replica) {
	r.before = r.of.places.Take()
	if x := r.before.Exit; x != nil {
		r.fireLocked(states.Restart, states.Facts{Otherwise: "it takes the place of " + x.Replica}, nil)
	} else {
		r.fireLocked(states.Start, states.Facts{}, nil)
	}
	c.launchLocked(r, nil)
}

// newReplicaLocked makes the record of a replica as the deployment has them now.
func (c *Controller) newReplicaLocked(d *deployment, id string, now time.Time) *replica {
	r := &replica{id: id, dep: d, ctx: d.now.revision.ctx, of: d.now, startedAt: now, rank: planner.Unranked}
	d.replicas[id] = r
	return r
}

// launchLocked starts the replica on a goroutine of its own. w has it already, or is nil.
func (c *Controller) launchLocked(r *replica, w *host.Worker) {
	h := r.of.host
	r.applied, r.worker = r.of, w
	version := cmp.Or(r.of.definition.Options.Version, r.of.version)
	c.wg.Go(func() {
		running, err := h.Start(r.ctx, host.Launch{
			ID: r.id, Life: c.ctx, Worker: w, Version: version,
			In:           func(w *host.Worker) { c.startsIn(r, w) },
			Config:       func() json.RawMessage { return c.configFor(r) },
			Rank:         func() host.Rank { return c.rankFor(r) },
			Configured:   func(digest string) { c.resumedWith(r, digest) },
			Models:       func(of host.Replica, ids []string) { c.setModels(r, of, ids) },
			Waits:        func(reason string) (done func()) { return c.waiting(r, reason) },
			AwaitUses:    func(ctx context.Context) error { return c.awaitUses(ctx, r.dep) },
			AwaitDevices: func(ctx context.Context, take func() error) error { return c.awaitDevices(ctx, r, take) },
			Note:         func(reason, message string) { c.noteStep(r, reason, message) },
		})
		c.finishStart(r, running, err)
	})
}

// startsIn notes the process in which a replica starts. A constructor that hangs is looked at there.
func (c *Controller) startsIn(r *replica, w *host.Worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.worker = w
}

// processLocked describes the process of a replica, also while it starts.
func (r *replica) processLocked() (p host.Process) {
	switch {
	case r.running != nil:
		return r.running.Process()
	case r.worker != nil:
		return r.worker.Process()
	}
	return p
}

// configFor gives a replica the user config that its constructor gets.
func (c *Controller) configFor(r *replica) json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := r.of.config.Next()
	r.config = config.Number
	return config.Value
}

// resumedWith notes which user config a replica has that was taken over. A replica with a config that is not known is given the config of its revision.
func (c *Controller) resumedWith(r *replica, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.config = userconfig.Unknown
	if config := r.of.config.Next(); digest == spec.ConfigDigest(config.Value) {
		r.config = config.Number
	}
}

// setModels tells the router which models a replica has.
func (c *Controller) setModels(r *replica, of host.Replica, ids []string) {
	c.mu.Lock()
	r.routed = of
	c.mu.Unlock()
	r.dep.serving.Router.SetModels(of, ids)
	c.mu.Lock()
	gone := r.dep.replicas[r.id] != r
	c.mu.Unlock()
	if gone { // the replica was forgotten meanwhile
		r.dep.serving.Router.Forget(of)
	}
}

// abandoned forgets a replica whose start has ended in nothing, without a failure of its own. The next replica has its place.
func (c *Controller) abandoned(r *replica) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(r, states.Stopped, states.Facts{}, nil)
	r.of.places.GiveBack(r.before)
	r.dep.wakeLocked()
}

// finishStart puts a replica into service whose start ended with err.
func (c *Controller) finishStart(r *replica, running host.Replica, err error) {
	c.mu.Lock()
	r.running = running
	config := r.config
	c.mu.Unlock()
	if lost, ok := errors.AsType[*host.LostError](err); ok {
		c.lost(r, lost)
		return
	}
	if errors.Is(err, host.ErrNotResumed) {
		c.abandoned(r)
		return
	}
	if err != nil && deploy.Refused(err) && c.refusedTrial(r, config, r.constructorError(err)) {
		c.abandoned(r)
		return
	}
	for err == nil && !c.ready(r) { // the replica has an old user config
		err = c.renew(r)
	}
	if err != nil {
		if running != nil { // the user config that it should have was refused
			closing, cancel := context.WithTimeout(c.ctx, closeTime)
			running.Stop(closing) //nolint:errcheck // the failure of the start counts
			cancel()
		}
		c.startFailed(r, r.constructorError(err))
	}
}

// constructorError is the text for the user when the replica does not start.
func (r *replica) constructorError(err error) error {
	return call.ConstructorError(err, r.dep.app.name, r.dep.name, r.id)
}

// follow gives a replica the options of the revision that it belongs to now, if it has the options of another: the number of its
// slots, and the options that its host keeps. It is called by one goroutine at a time for a replica: by the start of the replica until it
// is ready, then by the loop. Controller.mu is free meanwhile, because calls that wait get new slots at once.
func (c *Controller) follow(r *replica) {
	c.mu.Lock()
	e, running, behind := r.of, r.running, r.applied != r.of
	c.mu.Unlock()
	if !behind {
		return
	}
	serving.BaseOf(running).Slots().SetMax(e.definition.Options.MaxOngoingRequests)
	e.host.Adopt(running)
	r.health.Follow(e.definition.Options)
	c.mu.Lock()
	defer c.mu.Unlock()
	r.applied = e
}

// ready puts a started replica into its router, unless it is no longer wanted. It returns false for a replica that must be given the newest user config first.
func (c *Controller) ready(r *replica) bool {
	d, publish := r.dep, false
	c.mu.Lock()
	for r.applied != r.of { // the application has changed while the replica was started
		c.mu.Unlock()
		c.follow(r)
		c.mu.Lock()
	}
	if d.replicas[r.id] != r {
		c.mu.Unlock()
		return true
	}
	if r.config != r.of.config.Next().Number {
		c.mu.Unlock()
		return false
	}
	if r.of.config.Took(r.config) {
		c.storeOutcome(r.of)
	}
	if r.state == helvetype.ReplicaStarting || r.state == helvetype.ReplicaRecovering {
		if r.state == helvetype.ReplicaStarting {
			r.readyAt = time.Now()
			if after := rollout.MinReady(r.of.definition.Options); after > 0 {
				time.AfterFunc(after, func() { // the starts that wait for its deployment look again: see awaitUses
					c.mu.Lock()
					defer c.mu.Unlock()
					c.readier.Tell()
				})
			}
		}
		r.fireLocked(states.Ready, states.Facts{}, nil)
		r.routed = r.running
		r.running.Serve(true)
		if c.draining {
			r.running.Drain()
		}
		r.of.ran = true
		d.starts++
		publish = d.starts == 1 && d.app.restored
		if r.of == d.former {
			d.formerFailures.Ready()
		} else {
			d.failures.Ready()
		}
		c.readier.Tell()
		if d.app.deployments[d.name] != d { // another has its name by now
			c.stopLocked(r)
		}
		c.watchLocked(r)
	}
	r.dep.wakeLocked()
	c.mu.Unlock()
	c.log.Info("replica is ready", "app", d.app.name, "deployment", d.name, "replica", r.id, "after", time.Since(r.startedAt).Round(time.Millisecond))
	c.update(d)
	if publish {
		c.publish() //nolint:errcheck // the same routes as before
	}
	c.mu.Lock()
	c.settleLocked(d.app.current) // after the router has it: a caller that waits for the application may count on all
	c.mu.Unlock()
	return true
}

// update gives the router of a deployment its replicas. The set is taken under the mutex and handed over outside of it, because the router may start queued calls at once.
func (c *Controller) update(d *deployment) {
	d.serving.Update(func() []router.Replica {
		c.mu.Lock()
		defer c.mu.Unlock()
		var set []router.Replica
		for _, r := range d.replicas {
			if r.takesLocked() {
				set = append(set, r.running)
			}
		}
		return set
	})
}

func (c *Controller) startFailed(r *replica, err error) {
	d := r.dep
	c.mu.Lock()
	if d.replicas[r.id] != r {
		c.mu.Unlock()
		return
	}
	if r.ctx.Err() != nil && r.ctx != r.of.revision.ctx { // its start ended with another revision, which has failed
		c.mu.Unlock()
		c.abandoned(r)
		return
	}
	exit := &helvetype.Exit{Replica: r.id, Reason: err.Error(), Code: -1, At: time.Now()}
	if ended, ok := errors.AsType[*host.EndedError](err); ok {
		exit = ended.Exit(r.id)
	}
	event := states.StartFailed
	if d.app.endingLocked() || r.ctx.Err() != nil { // the start was given up
		event = states.Stopped
	} else if r.state == helvetype.ReplicaRecovering {
		event = states.Lost
	}
	c.forgetLocked(r, event, states.Facts{Error: err.Error()}, exitInputs(exit))
	if r.of == d.now {
		r.leavePlaceLocked(exit)
		d.failures.StartFailed(r.order, time.Now())
		d.noteFailureLocked(r, err)
		d.hopeless = d.hopeless || deploy.Permanent(err)
	} else if r.of == d.former {
		r.leavePlaceLocked(exit)
		d.formerFailures.StartFailed(r.order, time.Now())
	}
	def := &r.of.revision.def
	silent := d.app.failure != nil || d.app.status == helvetype.ApplicationDeploying && !def.Retry && def.Added == nil || // Deploy returns it
		d.app.endingLocked() || // the start was given up
		r.of != d.now // another revision is there: this one has failed, which Deploy returns, or another Deploy has come
	r.dep.wakeLocked()
	c.mu.Unlock()
	if !silent {
		c.log.Error("replica failed to start", "app", d.app.name, "deployment", d.name, "replica", r.id, "error", err)
	}
}

// lost lets another replica take the place of one whose worker was lost with the node before.
func (c *Controller) lost(r *replica, err *host.LostError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(r, states.Lost, states.Facts{Error: err.Error()}, nil)
	r.leavePlaceLocked(&helvetype.Exit{Replica: r.id, Reason: err.Error(), Code: -1, At: time.Now()})
	r.dep.wakeLocked()
}

// died is called when the process of a running replica has ended. Its calls have been answered or routed again by its connection.
func (c *Controller) died(r *replica) {
	d := r.dep
	c.mu.Lock()
	if !r.inServiceLocked() { // the replica stops, and the goroutine that stops it goes on
		c.mu.Unlock()
		return
	}
	ending := r.running.Ending()
	exit := &ending.Exit
	c.forgetLocked(r, states.Died, states.Facts{Error: exit.Reason}, exitInputs(exit))
	r.leavePlaceLocked(exit)
	reason := strings.Join(append([]string{exit.Reason}, exit.Lines...), "\n")
	if ending.FirstOfDeployment && r.of == d.now { // one crash is one failure, however many replicas it took with it
		d.failures.Forgive(time.Since(r.startedAt))
		d.failures.ReplicaFailed(r.order, time.Now())
		d.noteFailureLocked(r, errors.New(reason))
	}
	text := exit.Reason
	if ending.First { // the last lines are said once for all replicas of a worker
		text = reason
	}
	level, what := slog.LevelError, "replica died, starting another"
	if d.app.endingLocked() {
		level, what = slog.LevelInfo, "replica died"
	}
	c.mu.Unlock()
	c.log.Log(context.Background(), level, what, "app", d.app.name, "deployment", d.name, "replica", r.id, "reason", text,
		"code", exit.Code, "signal", exit.Signal, "out_of_memory", exit.OutOfMemory, "restarts", r.before.Restarts+1)
	c.update(d)
	c.Wake()
}

// forgetLocked removes the record of a replica that is gone, by the event that ended it.
func (c *Controller) forgetLocked(r *replica, event states.Event, facts states.Facts, inputs map[string]string) {
	served := r.state == helvetype.ReplicaRunning || r.state == helvetype.ReplicaStopping
	if r.dep.replicas[r.id] == r {
		r.fireLocked(event, facts, inputs)
	}
	r.noteGoneLocked(r.running)
	if r.running != nil {
		serving.BaseOf(r.running).End(call.NewError(helvetype.ReasonReplicaUnavailable, fmt.Sprintf("replica %s was gone before the call was sent", r.id)))
	}
	if r.dep.replicas[r.id] == r && served {
		r.dep.departed.Add(r.running)
	}
	delete(r.dep.replicas, r.id)
	if r.routed != nil {
		r.dep.serving.Router.Forget(r.routed)
	}
	c.changed.Tell()
	c.readier.Tell() // a replica of the node before is lost
}

// leavePlaceLocked leaves the replica's place to the next that starts of its revision. Replicas of other revisions are not in its place:
// for example, the failures of a build that did not start are no restarts of the next one.
func (r *replica) leavePlaceLocked(exit *helvetype.Exit) {
	r.of.places.Leave(r.before, exit, r.lastEvent, r.dep.wanted)
}

// stopLocked takes a replica out of service, drains it, and ends it.
func (c *Controller) stopLocked(r *replica) { c.endLocked(r, states.Stop, states.Facts{}) }

// endLocked is stopLocked for a reason.
func (c *Controller) endLocked(r *replica, event states.Event, facts states.Facts) {
	if r.state != helvetype.ReplicaRunning { // a starting one is stopped when it is ready and still too many
		return
	}
	r.fireLocked(event, facts, nil)
	d, running, grace := r.dep, r.running, r.of.definition.Options.GracefulShutdownTimeout
	base := serving.BaseOf(running)
	running.Serve(false)
	running.Drain()
	c.wg.Go(func() {
		base.Slots().Close()
		running.Lend(false)
		c.update(d)
		c.mu.Lock()
		c.settleLocked(d.app.current)
		c.mu.Unlock()
		base.Control().Close()
		ctx, cancel := context.WithTimeout(d.draining(), grace)
		defer cancel()
		serving.AwaitIdle(ctx, base.Busy)
		base.Closing()
		base.End(call.NewError(helvetype.ReasonReplicaUnavailable, "replica "+r.id+" has stopped"))
		closing, cancel2 := context.WithTimeout(c.ctx, closeTime)
		defer cancel2()
		if err := running.Stop(closing); err != nil {
			c.log.Warn("replica did not close cleanly", "app", d.app.name, "deployment", d.name, "replica", r.id, "error", err)
		}
		c.mu.Lock()
		c.forgetLocked(r, states.Stopped, states.Facts{}, nil)
		r.dep.wakeLocked()
		c.mu.Unlock()
	})
}

// draining is how long a replica of the deployment that stops may finish its calls, beside its own time. Of a deleted application
// the calls have had their time; broadcasts, which the drain did not wait for, have the rest of that time.
func (d *deployment) draining() context.Context {
	a := d.app
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	switch {
	case d.over, a.failure != nil: // the latter has served no client
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	case a.deleted:
		return a.left
	}
	return a.c.ctx
}

// slowTime is after how long the log says what a start waits for.
const slowTime = 10 * time.Second

// waiting notes the reason why the start of a replica waits, until done is called. A start that takes long is in the log and in the status.
func (c *Controller) waiting(r *replica, reason string) (done func()) {
	return await.Slow(&c.mu, &r.wait, &helvetype.Wait{For: reason, Since: time.Now()}, slowTime, func() {
		c.mu.Lock()
		gone, pid := r.dep.replicas[r.id] != r, r.processLocked().PID
		c.mu.Unlock()
		if gone {
			return
		}
		attrs := []any{"app", r.dep.app.name, "deployment", r.dep.name, "replica", r.id, "waits_for", reason, "after", slowTime}
		if pid != 0 {
			attrs = append(attrs, "pid", pid)
		}
		c.log.Warn("replica is still starting", attrs...)
	})
}
