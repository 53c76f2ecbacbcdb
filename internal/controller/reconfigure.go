package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/userconfig"
)

// newConfigLocked gives a user config its number.
func (d *deployment) newConfigLocked(value json.RawMessage) userconfig.Config {
	d.configs++
	return userconfig.Config{Value: value, Number: d.configs}
}

// Reconfigure gives a deployment another user config: every replica that runs, and every replica that starts later. If a replica
// refuses the config, all replicas keep, or are given again, their last one, and the errors of the replicas that refused are returned.
//
// When ctx ends before all have answered, the config is withdrawn.
func (c *Controller) Reconfigure(ctx context.Context, app, name string, config json.RawMessage) error {
	d := c.deployment(app, name)
	if d == nil {
		return c.Absent(app, name)
	}
	select {
	case d.configuring <- struct{}{}:
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		<-d.configuring
		return deploy.ErrClosing
	}
	change := userconfig.NewChange(configuredRevision{&c.mu, d.now}, d.newConfigLocked(config))
	c.wg.Go(func() {
		change.Run(ctx, c.ctx)
		<-d.configuring
		c.mu.Lock()
		defer c.mu.Unlock()
		d.wakeLocked() // for replicas that need another user config: see configureLocked
	})
	c.mu.Unlock()
	return change.Await(ctx)
}

// configuredRevision is a deployment in one revision, for a [userconfig.Change].
type configuredRevision struct {
	sync.Locker
	*deploymentRevision
}

func (e configuredRevision) TargetLocked() *userconfig.Target { return &e.config }

// deploymentLocked is nil when it is gone.
func (e configuredRevision) deploymentLocked() *deployment {
	a := e.revision.app
	d := a.deployments[e.definition.Name]
	if d == nil || d.dropped || a.deleted {
		return nil
	}
	return d
}

func (e configuredRevision) RunningLocked() (running []*replica) {
	if d := e.deploymentLocked(); d != nil {
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning && r.of == e.deploymentRevision {
				running = append(running, r)
			}
		}
	}
	slices.SortFunc(running, func(a, b *replica) int { return strings.Compare(a.id, b.id) })
	return running
}

func (e configuredRevision) WantedLocked() (n int, present bool) {
	d := e.deploymentLocked()
	if d == nil {
		return 0, false
	}
	return d.wanted, d.now == e.deploymentRevision
}

func (e configuredRevision) ChangedLocked() {
	e.revision.app.c.changed.Tell()
	e.revision.app.wakeLocked()
}

func (e configuredRevision) RetryLocked() {
	e.deploymentLocked().failures.Retry()
	e.revision.app.wakeLocked()
}

func (e configuredRevision) Save() error {
	if err := e.revision.app.c.storeConfig(e.deploymentRevision); err != nil {
		return err
	}
	e.revision.app.c.file.Save() //nolint:errcheck // it is in the log, and the store has the config
	return nil
}

// storeConfig writes the user config of a deployment into the store.
func (c *Controller) storeConfig(e *deploymentRevision) error {
	ctx, cancel := records.Bounded(c.ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	a := e.revision.app
	c.mu.Lock()
	a.unsaved = true
	there, left, now := c.apps[a.name] == a && !a.endingLocked(), c.handedOver, a.current.wrote
	trial, _ := e.config.Trial()
	o := records.InPlace(e.config.Current.Value, e.definition.Spec.Options.UserConfig, trial.Value)
	c.mu.Unlock()
	switch {
	case left:
		return errors.New("the next node has taken over")
	case !there:
		return nil
	}
	err := c.records.WriteConfig(ctx, a.name, e.definition.Name, e.revision.number, now, o)
	if err != nil {
		c.NoteUnstored(a.name, err)
	}
	return err
}

// storeOutcome writes soon that a trial is over.
func (c *Controller) storeOutcome(e *deploymentRevision) {
	c.wg.Go(func() { c.logStale(e.revision.app.name, c.storeConfig(e)) })
}

func (e configuredRevision) Warn(r *replica, err error) {
	e.revision.app.c.log.Warn("a replica that refused a user config does not take the one before again", "app", r.dep.app.name,
		"deployment", r.dep.name, "replica", r.id, "error", err)
}

func (r *replica) ChangingLocked() <-chan struct{} { return r.changing }
func (r *replica) SetConfigLocked(number int)      { r.config = number }
func (r *replica) StopsLocked() bool               { return r.state == helvetype.ReplicaStopping }
func (r *replica) InServiceLocked() bool           { return r.inServiceLocked() }
func (r *replica) ReplaceLocked(err error)         { r.dep.app.c.replaceLocked(r, err) }

// Give gives a replica a user config. construct_timeout_s bounds it.
func (r *replica) Give(ctx context.Context, config json.RawMessage) error {
	limit := r.dep.app.c.options(r).ConstructTimeout
	late := fmt.Errorf("it took longer than construct_timeout_s (%s): %w", limit, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	return r.running.Reconfigure(ctx, config)
}

// renew gives a replica that is not ready yet the config that it should have.
func (c *Controller) renew(r *replica) error {
	c.mu.Lock()
	config := r.of.config.Next()
	limit := r.of.definition.Options.ConstructTimeout
	c.mu.Unlock()
	if config.Value == nil {
		return fmt.Errorf("replica %s has a user config that it should not have", r.id)
	}
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	err := r.Give(ctx, config.Value)
	if err == nil {
		c.mu.Lock()
		r.config = config.Number
		c.mu.Unlock()
		return nil
	}
	if c.refusedTrial(r, config.Number, err) { // the replica may take the config before
		c.mu.Lock()
		r.config = userconfig.Unknown
		c.mu.Unlock()
		return nil
	}
	return fmt.Errorf("replica %s: Reconfigure: %w", r.id, err)
}

// refusedTrial notes that a replica has refused a user config. It returns false if the config in use was refused, which is a failure of a start.
func (c *Controller) refusedTrial(r *replica, number int, err error) bool {
	c.mu.Lock()
	refusal := r.of.config.Refuse(number)
	r.dep.app.unsaved = true
	if refusal != userconfig.OfTrial {
		c.mu.Unlock()
		return refusal == userconfig.OfFormer
	}
	r.dep.message = "the user config was refused, the one before stays in use: " + err.Error()
	c.storeOutcome(r.of)
	r.dep.wakeLocked()
	c.mu.Unlock()
	c.log.Error("the first replica that was given the user config refused it; the one before stays", "app", r.dep.app.name,
		"deployment", r.dep.name, "replica", r.id, "error", err)
	return true
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
func (c *Controller) configureLocked(r *replica) {
	e := r.of
	config := e.config.Next()
	if r.changing != nil || r.config == config.Number || e != r.dep.now || len(r.dep.configuring) > 0 || !r.dep.mayConfigureLocked(config.Number) {
		return
	}
	changed := make(chan struct{})
	r.changing = changed
	c.wg.Go(func() {
		defer close(changed)
		err := errors.New("it has a user config, and should have none")
		if config.Value != nil {
			err = r.Give(c.ctx, config.Value)
		}
		over := err != nil && c.refusedTrial(r, config.Number, err)
		c.mu.Lock()
		defer c.mu.Unlock()
		r.changing = nil
		if r.config = config.Number; err != nil {
			r.config = userconfig.Unknown
		}
		switch {
		case err == nil:
			if e.config.Took(config.Number) {
				c.storeOutcome(e)
			}
			c.settleLocked(r.dep.app.current)
		case over || r.of.config.Current.Number != config.Number: // the trial or the revision is over, and the replica is given the config in use
		case config.Value != nil && r.dep.app.deployingLocked():
			r.dep.gaveUp = true
			c.failLocked(r.of.revision, r.constructorError(fmt.Errorf("replica %s: Reconfigure: %w", r.id, err)))
		default:
			c.replaceLocked(r, fmt.Errorf("replica %s cannot be given the user config: %w", r.id, err))
		}
		c.changed.Tell()
		r.dep.wakeLocked()
	})
}

// mayConfigureLocked says that one more replica may be given a user config. Replicas are given it in waves, so that never all of them are busy with it; a
// rollout with steps, or that is paused, bounds the number too. For example, of 10 replicas two are given it at a time.
func (d *deployment) mayConfigureLocked(number int) bool {
	changing, have := 0, 0
	for _, r := range d.replicas {
		if r.changing != nil {
			changing++
		} else if r.of == d.now && r.config == number && r.state == helvetype.ReplicaRunning {
			have++
		}
	}
	if ch := d.app.change; ch != nil && !ch.Settled() && d.former != nil && d.former.version == d.now.version {
		if most, ok := ch.limits[d.name]; ok && have+changing >= most {
			return false
		}
	}
	return changing < d.waveLocked()
}

// waveLocked is the number of replicas that are given a user config at a time.
func (d *deployment) waveLocked() int {
	b := d.boundsLocked()
	return max(min(max(b.Surge, b.Unavailable), len(d.replicas)-1), 1)
}

func (e configuredRevision) WaveLocked() int {
	if d := e.deploymentLocked(); d != nil {
		return d.waveLocked()
	}
	return 1
}

// restoredLocked says whether every replica that runs has the user config of its revision.
func (a *application) restoredLocked() bool {
	for _, d := range a.deployments {
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning && r.of == d.now && (r.changing != nil || r.config != d.now.config.Current.Number) {
				return false
			}
		}
	}
	return true
}

// awaitRestored waits until the replicas of an application that went back to the revision before have their user configs again, or ctx ends.
func (c *Controller) awaitRestored(ctx context.Context, a *application) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	c.changed.Until(ctx, &c.mu, func() bool { return a.endingLocked() || a.restoredLocked() })
}
