package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/rollout"
	"github.com/helve-serve/helve/internal/userconfig"
)

// Reconfigure gives a deployment another user config: every replica that runs, and every replica that starts later. If a replica
// refuses the config, all replicas keep, or are given again, their last one, and the errors of the replicas that refused are returned.
//
// When ctx ends before all have answered, the config is withdrawn.
func (c *Controller) Reconfigure(ctx context.Context, app, name string, config json.RawMessage) error {
	d := c.Find(app, name)
	if d == nil {
		return c.Absent(app, name)
	}
	select {
	case d.Configuring <- struct{}{}:
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
	c.Mu.Lock()
	if c.Shut {
		c.Mu.Unlock()
		<-d.Configuring
		return deploy.ErrClosing
	}
	change := userconfig.NewChange(configuredRevision{&c.Mu, c, d.Now}, d.NewConfigLocked(config))
	c.wg.Go(func() {
		change.Run(ctx, c.ctx)
		<-d.Configuring
		c.Mu.Lock()
		defer c.Mu.Unlock()
		d.WakeLocked() // for replicas that need another user config: see configureLocked
	})
	c.Mu.Unlock()
	return change.Await(ctx)
}

// configuredRevision is a deployment in one revision, for a [userconfig.Change].
type configuredRevision struct {
	sync.Locker
	c *Controller
	*fleet.DeploymentRevision
}

func (e configuredRevision) TargetLocked() *userconfig.Target { return &e.Config }

// deploymentLocked is nil when it is gone.
func (e configuredRevision) deploymentLocked() *fleet.Deployment {
	a := e.Revision.App
	d := a.Deployments[e.Definition.Name]
	if d == nil || d.Dropped || a.Deleted {
		return nil
	}
	return d
}

func (e configuredRevision) RunningLocked() (running []configuredReplica) {
	if d := e.deploymentLocked(); d != nil {
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaRunning && r.Of == e.DeploymentRevision {
				running = append(running, configuredReplica{e.c, r})
			}
		}
	}
	slices.SortFunc(running, func(a, b configuredReplica) int { return strings.Compare(a.ID(), b.ID()) })
	return running
}

func (e configuredRevision) WantedLocked() (n int, present bool) {
	d := e.deploymentLocked()
	if d == nil {
		return 0, false
	}
	return d.Wanted, d.Now == e.DeploymentRevision
}

func (e configuredRevision) ChangedLocked() {
	e.c.Changed.Tell()
	e.Revision.App.WakeLocked()
}

func (e configuredRevision) RetryLocked() {
	e.deploymentLocked().Failures.Retry()
	e.Revision.App.WakeLocked()
}

func (e configuredRevision) Save() error {
	if err := e.c.storeConfig(e.DeploymentRevision); err != nil {
		return err
	}
	e.c.file.Save() //nolint:errcheck // it is in the log, and the store has the config
	return nil
}

// storeConfig writes the user config of a deployment into the store.
func (c *Controller) storeConfig(e *fleet.DeploymentRevision) error {
	ctx, cancel := records.Bounded(c.ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	a := e.Revision.App
	c.Mu.Lock()
	a.Unsaved = true
	there, left, now := c.Apps[a.Name] == a && !a.EndingLocked(), c.HandedOver, a.Current.Wrote
	trial, _ := e.Config.Trial()
	o := records.InPlace(e.Config.Current.Value, e.Definition.Spec.Options.UserConfig, trial.Value)
	c.Mu.Unlock()
	switch {
	case left:
		return errors.New("the next node has taken over")
	case !there:
		return nil
	}
	err := c.records.WriteConfig(ctx, a.Name, e.Definition.Name, e.Revision.Number, now, o)
	if err != nil {
		c.NoteUnstored(a.Name, err)
	}
	return err
}

// storeOutcome writes soon that a trial is over.
func (c *Controller) storeOutcome(e *fleet.DeploymentRevision) {
	c.wg.Go(func() { c.LogStale(e.Revision.App.Name, c.storeConfig(e)) })
}

func (e configuredRevision) Warn(r configuredReplica, err error) {
	e.c.Log.Warn("a replica that refused a user config does not take the one before again", "app", r.Dep.App.Name,
		"deployment", r.Dep.Name, "replica", r.ID, "error", err)
}

// configuredReplica is a replica for a [userconfig.Change].
type configuredReplica struct {
	c *Controller
	*fleet.Replica
}

func (r configuredReplica) ID() string                      { return r.Replica.ID }
func (r configuredReplica) ChangingLocked() <-chan struct{} { return r.Changing }
func (r configuredReplica) SetConfigLocked(number int)      { r.Config = number }
func (r configuredReplica) StopsLocked() bool               { return r.State == helvetype.ReplicaStopping }
func (r configuredReplica) ReplaceLocked(err error)         { r.c.replaceLocked(r.Replica, err) }

// Give gives a replica a user config. construct_timeout_s bounds it.
func (r configuredReplica) Give(ctx context.Context, config json.RawMessage) error {
	return r.c.give(ctx, r.Replica, config)
}

func (c *Controller) give(ctx context.Context, r *fleet.Replica, config json.RawMessage) error {
	limit := c.Options(r).ConstructTimeout
	late := fmt.Errorf("it took longer than construct_timeout_s (%s): %w", limit, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	begun := time.Now()
	err := r.Running.Reconfigure(ctx, config)
	if err == nil {
		r.Dep.Serving.Lifecycle.Reconfigure.Observe(time.Since(begun))
	}
	return err
}

// renew gives a replica that is not ready yet the config that it should have.
func (c *Controller) renew(r *fleet.Replica) error {
	c.Mu.Lock()
	config := r.Of.Config.Next()
	limit := r.Of.Definition.Options.ConstructTimeout
	c.Mu.Unlock()
	if config.Value == nil {
		return fmt.Errorf("replica %s has a user config that it should not have", r.ID)
	}
	ctx, cancel := context.WithTimeout(r.Ctx, limit)
	defer cancel()
	err := c.give(ctx, r, config.Value)
	if err == nil {
		c.Mu.Lock()
		r.Config = config.Number
		c.Mu.Unlock()
		return nil
	}
	if c.refusedTrial(r, config.Number, err) { // the replica may take the config before
		c.Mu.Lock()
		r.Config = userconfig.Unknown
		c.Mu.Unlock()
		return nil
	}
	return fmt.Errorf("replica %s: Reconfigure: %w", r.ID, err)
}

// refusedTrial notes that a replica has refused a user config. It returns false if the config in use was refused, which is a failure of a start.
func (c *Controller) refusedTrial(r *fleet.Replica, number int, err error) bool {
	c.Mu.Lock()
	refusal := r.Of.Config.Refuse(number)
	r.Dep.App.Unsaved = true
	if refusal != userconfig.OfTrial {
		c.Mu.Unlock()
		return refusal == userconfig.OfFormer
	}
	r.Dep.Message = "the user config was refused, the one before stays in use: " + err.Error()
	c.storeOutcome(r.Of)
	r.Dep.WakeLocked()
	c.Mu.Unlock()
	c.Log.Error("the first replica that was given the user config refused it; the one before stays", "app", r.Dep.App.Name,
		"deployment", r.Dep.Name, "replica", r.ID, "error", err)
	return true
}

// ofUserConfig is the error of a replica that runs and has refused its user config, with the name of the option in the place of the method. For example, it
// is "shop/Ranker.user_config: no such language", and a start that fails for it is "shop/Ranker.reconfigure: no such language".
func ofUserConfig(err error) error {
	e, ok := errors.AsType[*call.Error](err)
	if !ok {
		return err
	}
	of := *e
	of.Method = "user_config"
	return &of
}

// configureLocked gives a replica that goes on under another revision the user config of that. A replica that refuses it fails the
// revision, as a constructor that fails does; once the revision has run, the replica is replaced.
//
// A replica is given one config at a time, so that the controller knows which one it has. While a [Controller.Reconfigure] runs nothing is given here, and a
// Reconfigure that comes later waits for the end of the changes that were begun here. For example, a deploy brings the config "b" while a Reconfigure asks two
// replicas about "c". One of them refuses "c", so both are given "a" again, which they had before. Then they are given "b".
//
// A replica that runs may be given a trial: while none runs, Reconfigure makes the config "c" the trial of revision 2. Revision 3 has the same
// code. Its replicas start, it fails, and they go on under revision 2, where the first is given "c".
func (c *Controller) configureLocked(r *fleet.Replica) {
	e := r.Of
	config := e.Config.Next()
	if r.Changing != nil || r.Config == config.Number || e != r.Dep.Now || len(r.Dep.Configuring) > 0 || !r.Dep.MayConfigureLocked(config.Number) {
		return
	}
	changed := make(chan struct{})
	r.Changing = changed
	c.wg.Go(func() {
		defer close(changed)
		err := errors.New("it has a user config, and should have none")
		if config.Value != nil {
			err = c.give(c.ctx, r, config.Value)
		}
		over := err != nil && c.refusedTrial(r, config.Number, err)
		c.Mu.Lock()
		defer c.Mu.Unlock()
		r.Changing = nil
		if r.Config = config.Number; err != nil {
			r.Config = userconfig.Unknown
		}
		switch {
		case err == nil:
			if e.Config.Took(config.Number) {
				c.storeOutcome(e)
			}
			c.SettleLocked(r.Dep.App.Current)
		case over || r.Of.Config.Current.Number != config.Number: // the trial or the revision is over, and the replica is given the config in use
		case config.Value != nil && r.Dep.App.DeployingLocked():
			r.Dep.GaveUp = true
			c.failLocked(r.Of.Revision, r.ConstructorError(ofUserConfig(fmt.Errorf("replica %s: Reconfigure: %w", r.ID, err))))
		default:
			c.replaceLocked(r, fmt.Errorf("replica %s cannot be given the user config: %w", r.ID, err))
		}
		c.Changed.Tell()
		r.Dep.WakeLocked()
	})
}

func (e configuredRevision) WaveLocked() int {
	if d := e.deploymentLocked(); d != nil {
		return d.WaveLocked()
	}
	return 1
}

// awaitRestored waits until an application that went back to a revision serves as that does, another deploy has come, or ctx ends. Replicas that hang in their start are waited for as
// long as in a rollout.
func (c *Controller) awaitRestored(ctx context.Context, a *fleet.Application, to *fleet.Revision) {
	longest := time.Duration(0)
	for _, d := range to.Def.Graph.Deployments {
		longest = max(longest, rollout.Of(d.Options.Effective(), 1).Deadline)
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	c.Changed.Until(ctx, &c.Mu, func() bool { return a.EndingLocked() || a.Current != to || a.RestoredLocked() })
}
