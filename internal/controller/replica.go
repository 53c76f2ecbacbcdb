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
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/room"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
)

// closeTime bounds a user's Close, as a constructor that is torn down should not hold a shutdown.
const closeTime = 5 * time.Second

func (c *Controller) startLocked(d *fleet.Deployment, now time.Time) {
	r := c.NewReplicaLocked(d, c.workers.ReplicaID(d.Name), now)
	r.Order = d.Failures.Start()
	c.beginLocked(r)
}

// beginLocked begins the start of a replica, in the place of a replica that is gone if there is such a place.
func (c *Controller) beginLocked(r *fleet.Replica) {
	r.Before = r.Of.Places.Take()
	if x := r.Before.Exit; x != nil {
		r.FireLocked(states.Restart, states.Facts{Otherwise: "it takes the place of " + x.Replica}, nil)
	} else {
		r.FireLocked(states.Start, states.Facts{}, nil)
	}
	c.launchLocked(r, nil)
}

// launchLocked starts the replica on a goroutine of its own. w has it already, or is nil.
func (c *Controller) launchLocked(r *fleet.Replica, w *host.Worker) {
	h, of := r.Of.Host, r.Of.Definition
	r.Applied, r.Worker = r.Of, w
	version := cmp.Or(r.Of.Definition.Options.Version, r.Of.Version)
	reserve := func(ctx context.Context) (placement.Holding, error) {
		return c.room.Reserve(ctx, r, of, func(reason string) (done func()) { return c.waitsMeasured(r, reason) })
	}
	c.wg.Go(func() {
		if of.Spec.Language != "python" { // it has no process of its own that would hold it
			if err := c.room.Take(r.Ctx, r, of, w != nil, reserve); err != nil {
				c.finishStart(r, nil, err)
				return
			}
		}
		running, err := h.Start(r.Ctx, host.Launch{
			ID: r.ID, Life: c.ctx, Worker: w, Version: version,
			In:         func(w *host.Worker) { c.startsIn(r, w) },
			Config:     func() json.RawMessage { return c.ConfigFor(r) },
			Rank:       func() host.Rank { return c.rankFor(r) },
			Configured: func(digest string) { c.ResumedWith(r, digest) },
			Models:     func(of host.Replica, ids []string) { c.setModels(r, of, ids) },
			Waits:      func(reason string) (done func()) { return c.waitsMeasured(r, reason) },
			AwaitUses:  func(ctx context.Context) error { return c.awaitUses(ctx, r) },
			Reserve:    reserve,
			Note:       func(reason, message string) { c.noteStep(r, reason, message) },
		})
		c.finishStart(r, running, err)
		if err != nil { // also of a replica that was forgotten meanwhile
			c.room.Gone(r, of)
		}
	})
}

// startsIn notes the process in which a replica starts. A constructor that hangs is looked at there.
func (c *Controller) startsIn(r *fleet.Replica, w *host.Worker) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	r.Worker = w
}

// setModels tells the router which models a replica has.
func (c *Controller) setModels(r *fleet.Replica, of host.Replica, ids []string) {
	c.Mu.Lock()
	r.Routed = of
	c.Mu.Unlock()
	r.Dep.Serving.Router.SetModels(of, ids)
	c.Mu.Lock()
	gone := r.Dep.Replicas[r.ID] != r
	c.Mu.Unlock()
	if gone { // the replica was forgotten meanwhile
		r.Dep.Serving.Router.Forget(of)
	}
}

// abandoned forgets a replica whose start has ended in nothing, without a failure of its own. The next replica has its place.
func (c *Controller) abandoned(r *fleet.Replica) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.forgetLocked(r, states.Stopped, states.Facts{}, nil)
	r.Of.Places.GiveBack(r.Before)
	r.Dep.WakeLocked()
}

// finishStart puts a replica into service whose start ended with err.
func (c *Controller) finishStart(r *fleet.Replica, running host.Replica, err error) {
	c.Mu.Lock()
	r.Running = running
	config := r.Config
	c.Mu.Unlock()
	if lost, ok := errors.AsType[*host.LostError](err); ok {
		c.lost(r, lost)
		return
	}
	if errors.Is(err, host.ErrNotResumed) || errors.Is(err, room.ErrWithdrawn) {
		c.abandoned(r)
		return
	}
	if err != nil && deploy.Refused(err) && c.refusedTrial(r, config, r.ConstructorError(err)) {
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
		c.startFailed(r, r.ConstructorError(err))
	}
}

// follow gives a replica the options of the revision that it belongs to now, if it has the options of another: the number of its
// slots, and the options that its host keeps. It is called by one goroutine at a time for a replica: by the start of the replica until it
// is ready, then by the loop. Fleet.Mu is free meanwhile, because calls that wait get new slots at once.
func (c *Controller) follow(r *fleet.Replica) {
	c.Mu.Lock()
	e, running, behind := r.Of, r.Running, r.Applied != r.Of
	c.Mu.Unlock()
	if !behind {
		return
	}
	serving.BaseOf(running).Slots().SetMax(e.Definition.Options.MaxOngoingRequests)
	e.Host.Adopt(running)
	r.Health.Follow(e.Definition.Options)
	c.Mu.Lock()
	defer c.Mu.Unlock()
	r.Applied = e
}

// ready puts a started replica into its router, unless it is no longer wanted. It returns false for a replica that must be given the newest user config first.
func (c *Controller) ready(r *fleet.Replica) bool {
	d, publish := r.Dep, false
	c.Mu.Lock()
	for r.Applied != r.Of { // the application has changed while the replica was started
		c.Mu.Unlock()
		c.follow(r)
		c.Mu.Lock()
	}
	if d.Replicas[r.ID] != r {
		c.Mu.Unlock()
		return true
	}
	if r.Config != r.Of.Config.Next().Number {
		c.Mu.Unlock()
		return false
	}
	if r.Of.Config.Took(r.Config) {
		c.storeOutcome(r.Of)
	}
	if r.State == helvetype.ReplicaStarting || r.State == helvetype.ReplicaRecovering {
		if r.State == helvetype.ReplicaStarting {
			r.ReadyAt = time.Now()
			if after := rollout.MinReady(r.Of.Definition.Options); after > 0 {
				time.AfterFunc(after, func() { // the starts that wait for its deployment look again: see awaitUses
					c.Mu.Lock()
					defer c.Mu.Unlock()
					c.Readier.Tell()
				})
			}
		}
		r.FireLocked(states.Ready, states.Facts{}, nil)
		r.Routed = r.Running
		r.Running.Serve(true)
		if c.Draining {
			r.Running.Drain()
		}
		r.Of.Ran = true
		d.Starts++
		if !r.ReadyAt.IsZero() {
			d.NoteStartedLocked(r.ReadyAt.Sub(r.StartedAt))
		}
		publish = d.Starts == 1 && d.App.Restored
		if r.Of == d.Former {
			d.FormerFailures.Ready()
		} else {
			d.Failures.Ready()
		}
		c.Readier.Tell()
		c.Changed.Tell()
		if d.App.Deployments[d.Name] != d { // another has its name by now
			c.stopLocked(r)
		}
		c.watchLocked(r)
	}
	r.Dep.WakeLocked()
	c.Mu.Unlock()
	attrs := []any{"app", d.App.Name, "deployment", d.Name, "replica", r.ID}
	if !r.ReadyAt.IsZero() { // else a node before this one has started it
		attrs = append(attrs, "after", r.ReadyAt.Sub(r.StartedAt).Round(time.Millisecond))
	}
	c.Log.Info("replica is ready", attrs...)
	c.update(d)
	if publish {
		c.publish() //nolint:errcheck // the same routes as before
	}
	c.Mu.Lock()
	c.SettleLocked(d.App.Current) // after the router has it: a caller that waits for the application may count on all
	c.Mu.Unlock()
	return true
}

// update gives the router of a deployment its replicas. The set is taken under the mutex and handed over outside of it, because the router may start queued calls at once.
func (c *Controller) update(d *fleet.Deployment) {
	d.Serving.Update(func() []router.Replica {
		c.Mu.Lock()
		defer c.Mu.Unlock()
		var set []router.Replica
		for _, r := range d.Replicas {
			if r.TakesLocked() {
				set = append(set, r.Running)
			}
		}
		return set
	})
}

func (c *Controller) startFailed(r *fleet.Replica, err error) {
	d := r.Dep
	c.Mu.Lock()
	if d.Replicas[r.ID] != r {
		c.Mu.Unlock()
		return
	}
	if r.Ctx.Err() != nil && r.Ctx != r.Of.Revision.Ctx { // its start ended with another revision, which has failed
		c.Mu.Unlock()
		c.abandoned(r)
		return
	}
	exit := &helvetype.Exit{Replica: r.ID, Reason: err.Error(), Code: -1, At: time.Now()}
	if ended, ok := errors.AsType[*host.EndedError](err); ok {
		exit = ended.Exit(r.ID)
	}
	event := states.StartFailed
	if d.App.EndingLocked() || r.Ctx.Err() != nil { // the start was given up
		event, exit.Reason = states.Stopped, "its start was given up"
	} else if r.State == helvetype.ReplicaRecovering {
		event = states.Lost
	}
	c.forgetLocked(r, event, states.Facts{Error: err.Error()}, fleet.ExitInputs(exit))
	if r.Of == d.Now && r.Ctx.Err() != nil {
		r.LeavePlaceLocked(exit) // another deployment has failed, for example: its error is none of this one's
	} else if r.Of == d.Now { // also of an application that is being deleted, whose calls still wait for a replica: the next start has its delay as ever
		r.LeavePlaceLocked(exit)
		d.Failures.StartFailed(r.Order, time.Now())
		d.NoteFailureLocked(r, err)
		d.Hopeless = d.Hopeless || deploy.Permanent(err)
	} else if r.Of == d.Former {
		r.LeavePlaceLocked(exit)
		d.FormerFailures.StartFailed(r.Order, time.Now())
	}
	def := &r.Of.Revision.Def
	silent := d.App.Failure != nil || d.App.Own == helvetype.ApplicationDeploying && !def.Retry && def.Added == nil || // Deploy returns it
		d.App.EndingLocked() || // the start was given up
		r.Of != d.Now // another revision is there: this one has failed, which Deploy returns, or another Deploy has come
	r.Dep.WakeLocked()
	c.Mu.Unlock()
	if !silent {
		c.Log.Error("replica failed to start", "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "error", err)
	}
}

// lost lets another replica take the place of one whose worker was lost with the node before.
func (c *Controller) lost(r *fleet.Replica, err *host.LostError) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.forgetLocked(r, states.Lost, states.Facts{Error: err.Error()}, nil)
	r.LeavePlaceLocked(&helvetype.Exit{Replica: r.ID, Reason: err.Error(), Code: -1, At: time.Now()})
	r.Dep.WakeLocked()
}

// died is called when the process of a running replica has ended. Its calls have been answered or routed again by its connection.
func (c *Controller) died(r *fleet.Replica) {
	d := r.Dep
	c.Mu.Lock()
	if !r.InServiceLocked() { // the replica stops, and the goroutine that stops it goes on
		c.Mu.Unlock()
		return
	}
	ending := r.Running.Ending()
	exit := &ending.Exit
	c.forgetLocked(r, states.Died, states.Facts{Error: exit.Reason}, fleet.ExitInputs(exit))
	r.LeavePlaceLocked(exit)
	reason := strings.Join(append([]string{exit.Reason}, exit.Lines...), "\n")
	if ending.FirstOfDeployment && r.Of == d.Now { // one crash is one failure, however many replicas it took with it
		d.Failures.Forgive(time.Since(r.StartedAt))
		d.Failures.ReplicaFailed(r.Order, time.Now())
		d.NoteFailureLocked(r, errors.New(reason))
	}
	text := exit.Reason
	if ending.First { // the last lines are said once for all replicas of a worker
		text = reason
	}
	level, what := slog.LevelError, "replica died, starting another"
	if d.App.EndingLocked() {
		level, what = slog.LevelInfo, "replica died"
	}
	c.Mu.Unlock()
	c.Log.Log(context.Background(), level, what, "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "reason", text,
		"code", exit.Code, "signal", exit.Signal, "restarts", r.Before.Restarts+1)
	c.update(d)
	c.Wake()
}

// forgetLocked removes the record of a replica that is gone, by the event that ended it.
func (c *Controller) forgetLocked(r *fleet.Replica, event states.Event, facts states.Facts, inputs map[string]string) {
	served := r.State == helvetype.ReplicaRunning || r.State == helvetype.ReplicaStopping
	if r.Dep.Replicas[r.ID] == r {
		r.FireLocked(event, facts, inputs)
	}
	r.NoteGoneLocked(r.Running)
	if r.Running != nil {
		serving.BaseOf(r.Running).End(call.NewError(helvetype.ReasonReplicaUnavailable, fmt.Sprintf("replica %s was gone before the call was sent", r.ID)))
	}
	if r.Dep.Replicas[r.ID] == r && served {
		r.Dep.Departed.Add(r.Running)
	}
	delete(r.Dep.Replicas, r.ID)
	r.Dep.Numbers.Forget(r.ID)
	c.room.Gone(r, r.Of.Definition)
	if r.Routed != nil {
		r.Dep.Serving.Router.Forget(r.Routed)
	}
	c.Changed.Tell()
	c.Readier.Tell() // a replica of the node before is lost
}

// stopLocked takes a replica out of service, drains it, and ends it.
func (c *Controller) stopLocked(r *fleet.Replica) { c.endLocked(r, states.Stop, states.Facts{}) }

// endLocked is stopLocked for a reason.
func (c *Controller) endLocked(r *fleet.Replica, event states.Event, facts states.Facts) {
	if r.State != helvetype.ReplicaRunning { // a starting one is stopped when it is ready and still too many
		c.room.WithdrawLocked(r)
		return
	}
	r.FireLocked(event, facts, nil)
	d, running, grace := r.Dep, r.Running, r.Of.Definition.Options.GracefulShutdownTimeout
	base, begun := serving.BaseOf(running), time.Now()
	running.Serve(false)
	running.Drain()
	move := r.MovesLocked(event, grace)
	c.wg.Go(func() {
		if move == nil {
			base.Slots().Close()
		}
		running.Lend(false)
		c.update(d)
		c.Mu.Lock()
		c.SettleLocked(d.App.Current)
		c.Mu.Unlock()
		base.Control().Close()
		ctx, cancel := context.WithTimeout(c.draining(d), grace)
		defer cancel()
		if move != nil { // until then the replica takes calls for models that no other replica has
			move(ctx)
			base.Slots().Close()
		}
		cut := 0
		if !serving.AwaitIdle(ctx, base.Busy) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cut = base.Slots().Load()
		}
		base.Closing()
		c.Mu.Lock()
		text, ended := r.EndedLocked(cut, grace)
		c.Mu.Unlock()
		if text != "" {
			c.Log.Warn("a replica has stopped: "+text, "app", d.App.Name, "deployment", d.Name, "replica", r.ID)
		}
		base.End(ended)
		closing, cancel2 := context.WithTimeout(c.ctx, closeTime)
		defer cancel2()
		if err := running.Stop(closing); err != nil {
			c.Log.Warn("replica did not close cleanly", "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "error", err)
		}
		d.Serving.Lifecycle.Shutdown.Observe(time.Since(begun))
		c.Mu.Lock()
		c.forgetLocked(r, states.Stopped, states.Facts{}, nil)
		r.Dep.WakeLocked()
		c.Mu.Unlock()
	})
}

// draining is how long a replica of the deployment that stops may finish its calls, beside its own time. Of a deleted application
// the calls have had their time; broadcasts, which the drain did not wait for, have the rest of that time.
func (c *Controller) draining(d *fleet.Deployment) context.Context {
	a := d.App
	c.Mu.Lock()
	defer c.Mu.Unlock()
	switch {
	case d.Over, a.Failure != nil: // the latter has served no client
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	case a.Deleted:
		return a.Left
	}
	return c.ctx
}

// noteStep records a step of the start of a replica. The state of the replica stays.
func (c *Controller) noteStep(r *fleet.Replica, reason, message string) {
	c.Mu.Lock()
	c.Journal.Note(r.Object(), string(r.State), reason, message, r.LastEvent)
	c.Mu.Unlock()
	c.Log.Info(message, "app", r.Dep.App.Name, "deployment", r.Dep.Name, "replica", r.ID)
}

// waiting notes the reason why the start of a replica waits, until done is called. A start that takes long is in the log and in the status.
func (c *Controller) waiting(r *fleet.Replica, reason string) (done func()) {
	return await.Slow(&c.Mu, &r.Wait, &helvetype.Wait{For: reason, Since: time.Now()}, fleet.SlowTime, func() {
		c.Mu.Lock()
		gone, pid := r.Dep.Replicas[r.ID] != r, r.ProcessLocked().PID
		c.Mu.Unlock()
		if gone {
			return
		}
		attrs := []any{"app", r.Dep.App.Name, "deployment", r.Dep.Name, "replica", r.ID, "waits_for", reason, "after", fleet.SlowTime}
		if pid != 0 {
			attrs = append(attrs, "pid", pid)
		}
		c.Log.Warn("replica is still starting", attrs...)
	})
}
