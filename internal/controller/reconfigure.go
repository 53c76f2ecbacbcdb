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
	c.mu.Lock()
	var d *deployment
	if a := c.apps[app]; a != nil && !a.deleted {
		d = a.deployments[name]
	}
	c.mu.Unlock()
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
		return errors.New("the node is closing")
	}
	m := &reconfiguration{c: c, of: d.now, config: d.newConfigLocked(config), answers: userconfig.Answers[*replica]{}, took: make(chan error, 1)}
	c.wg.Go(func() {
		m.run(ctx)
		<-d.configuring
		c.Wake() // for replicas that need another user config: see configureLocked
	})
	c.mu.Unlock()
	select {
	case err := <-m.took:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	m.withdrawn = true
	accepted := m.accepted
	c.mu.Unlock()
	if accepted {
		return nil
	}
	return fmt.Errorf("the user config was withdrawn: %w", call.EndOf(ctx))
}

// reconfiguration is one Reconfigure.
type reconfiguration struct {
	c       *Controller
	of      *deploymentRevision
	config  userconfig.Config
	answers userconfig.Answers[*replica]
	took    chan error // of one: the outcome

	// Guarded by Controller.mu.
	accepted, withdrawn bool
}

func (m *reconfiguration) run(ctx context.Context) {
	c, e := m.c, m.of
	for {
		c.mu.Lock()
		var ask []*replica
		var changing chan struct{}
		for _, r := range m.runningLocked() { // replicas too that became ready while the others were asked
			if _, ok := m.answers[r]; !ok {
				ask = append(ask, r)
			}
			if r.changing != nil {
				changing = r.changing
			}
		}
		if len(ask) == 0 && changing == nil {
			break
		}
		c.mu.Unlock()
		if changing != nil { // the config that was given before is taken before
			<-changing
			continue
		}
		m.answers.Ask(ctx, ask, func(r *replica) error { return c.reconfigure(ctx, r, m.config.Value) })
	}
	refused := m.answers.Refusals(func(r *replica) bool { return r.state == helvetype.ReplicaStopping })
	running := m.runningLocked()
	d := m.deploymentLocked()
	switch {
	case refused != nil:
	case m.withdrawn:
		refused = errors.New("it was withdrawn")
	case len(running) == 0 && (d == nil || d.now != e):
		refused = errors.New("its revision of the deployment does not run any more")
	}
	if refused == nil {
		m.accepted = true
		if len(running) > 0 || d.wanted < 1 {
			e.config.Accept(m.config)
			for _, r := range running {
				r.config = m.config.Number
			}
			c.changed.tell()
		} else { // the config may bring them back
			e.config.Try(m.config)
			d.failures.Retry()
		}
		c.Wake()
		c.mu.Unlock()
		c.file.Save() //nolint:errcheck // it is in the log
		m.took <- nil
		return
	}
	last := e.config.Current
	c.mu.Unlock()
	m.restore(last)
	m.took <- fmt.Errorf("the user config was refused, the one before stays in use: %w", refused)
}

// deploymentLocked is nil when it is gone.
func (m *reconfiguration) deploymentLocked() *deployment {
	a := m.of.revision.app
	d := a.deployments[m.of.definition.Name]
	if d == nil || d.dropped || a.deleted {
		return nil
	}
	return d
}

// runningLocked are the replicas that run with the revision of the deployment.
func (m *reconfiguration) runningLocked() (running []*replica) {
	if d := m.deploymentLocked(); d != nil {
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning && r.of == m.of {
				running = append(running, r)
			}
		}
	}
	slices.SortFunc(running, func(a, b *replica) int { return strings.Compare(a.id, b.id) })
	return running
}

// restore gives the replicas that were asked the config again that they had: the replicas that took the other one, and the replicas that
// refused it and may have taken half of it. A replica that has the refused one for good is replaced.
func (m *reconfiguration) restore(last userconfig.Config) {
	c := m.c
	var asked sync.WaitGroup
	for r, answer := range m.answers {
		if c.inService(r) {
			asked.Go(func() { m.restoreTo(last, r, answer) })
		}
	}
	asked.Wait()
}

func (m *reconfiguration) restoreTo(last userconfig.Config, r *replica, answer userconfig.Answer) {
	c := m.c
	err := errors.New("there was no user config before")
	if last.Value != nil {
		err = c.reconfigure(c.ctx, r, last.Value)
	}
	switch {
	case err == nil:
		c.mu.Lock()
		r.config = last.Number
		c.changed.tell()
		c.mu.Unlock()
	case last.Value == nil && !answer.MayHave():
	case answer.MayHave():
		c.mu.Lock()
		c.replaceLocked(r, fmt.Errorf("replica %s has a user config that another replica refused, and cannot go back: %w", r.id, err))
		c.mu.Unlock()
	default:
		c.log.Warn("a replica that refused a user config does not take the one before again", "app", r.dep.app.name,
			"deployment", r.dep.name, "replica", r.id, "error", err)
	}
}

// reconfigure gives a replica a user config. construct_timeout_s bounds it.
func (c *Controller) reconfigure(ctx context.Context, r *replica, config json.RawMessage) error {
	limit := c.options(r).ConstructTimeout
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
	err := c.reconfigure(ctx, r, config.Value)
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

// refusedTrial notes that a replica that starts has refused a user config. It returns false if the config in use was refused, which is a
// failure of the start.
func (c *Controller) refusedTrial(r *replica, number int, err error) bool {
	c.mu.Lock()
	refusal := r.of.config.Refuse(number)
	if refusal != userconfig.OfTrial {
		c.mu.Unlock()
		return refusal == userconfig.OfFormer
	}
	r.dep.message = "the user config was refused, the one before stays in use: " + err.Error()
	c.Wake()
	c.mu.Unlock()
	c.log.Error("the first replica that was given the user config refused it; the one before stays", "app", r.dep.app.name,
		"deployment", r.dep.name, "replica", r.id, "error", err)
	return true
}

// configureLocked gives a replica that goes on under another revision the user config of that. A replica that refuses it fails the
// revision, as a constructor that fails does; once the revision has run, the replica is replaced.
//
// A replica is given one config at a time, so that the controller knows which one it has. While a [Controller.Reconfigure] runs nothing
// is given here, and a Reconfigure that comes later waits for the end of the changes that were begun here. For example, a deploy brings
// the config "b" while a Reconfigure asks two replicas about "c". One of them refuses "c", so both are given "a" again, which they had
// before. Then they are given "b".
func (c *Controller) configureLocked(r *replica) {
	e := r.of
	if r.changing != nil || r.config == e.config.Current.Number || e != r.dep.now || len(r.dep.configuring) > 0 {
		return
	}
	config := e.config.Current
	changed := make(chan struct{})
	r.changing = changed
	c.wg.Go(func() {
		defer close(changed)
		err := errors.New("it has a user config, and should have none")
		if config.Value != nil {
			err = c.reconfigure(c.ctx, r, config.Value)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		r.changing = nil
		if r.config = config.Number; err != nil {
			r.config = userconfig.Unknown
		}
		switch {
		case err == nil:
			c.settleLocked(r.dep.app.current)
		case r.of.config.Current.Number != config.Number: // the revision is over, and the replica is given the config of the next
		case config.Value != nil && r.dep.app.status == helvetype.ApplicationDeploying:
			r.dep.gaveUp = true
			c.failLocked(r.of.revision, r.constructorError(fmt.Errorf("replica %s: Reconfigure: %w", r.id, err)))
		default:
			c.replaceLocked(r, fmt.Errorf("replica %s cannot be given the user config: %w", r.id, err))
		}
		c.changed.tell()
		c.Wake()
	})
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

// awaitRestored waits until the replicas of an application that went back to the revision before have their user configs again, or
// ctx ends.
func (c *Controller) awaitRestored(ctx context.Context, a *application) {
	for {
		c.mu.Lock()
		over := a.endingLocked() || a.restoredLocked()
		changed := c.changed.wait()
		c.mu.Unlock()
		if over {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-c.ctx.Done():
			return
		}
	}
}
