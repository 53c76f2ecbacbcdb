package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// A user config becomes a deployment's target when its replicas have taken it, and not before: the next replica must
// not start with a config that was refused. For example, of three replicas two take the config "b" and one refuses it: the
// two are given "a" again, which all three had, Reconfigure gives the error, and a replica that starts later gets "a".
//
// A deployment without a replica that runs has none to ask. The config is then a trial: the next replicas start with it. The
// first that is ready makes it the target, and the first that refuses it ends it.

// trial is a user config that no replica has taken yet.
type trial struct {
	config json.RawMessage
	number int
}

// configLocked is the user config for a replica that starts: the trial if there is one.
func (e *deploymentRevision) configLocked() (config json.RawMessage, number int) {
	if t := e.trial; t != nil {
		return t.config, t.number
	}
	return e.config, e.configNumber
}

// nextConfigLocked is a number that no other user config of the deployment has.
func (d *deployment) nextConfigLocked() int {
	d.configs++
	return d.configs
}

// acceptLocked makes config the target of the replicas.
func (e *deploymentRevision) acceptLocked(config json.RawMessage, number int) {
	e.config, e.configNumber, e.trial = config, number, nil
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
	m := &reconfiguration{c: c, of: d.now, config: config, asked: map[*replica]reply{}, took: make(chan error, 1)}
	m.number = d.nextConfigLocked()
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
	c      *Controller
	of     *deploymentRevision
	config json.RawMessage
	number int
	asked  map[*replica]reply
	took   chan error // of one: the outcome

	// Guarded by Controller.mu.
	accepted, withdrawn bool
}

// reply is the answer of one replica. unsure: the replica may have the config all the same, or be about to take it.
type reply struct {
	err    error
	unsure bool
}

func (m *reconfiguration) run(ctx context.Context) {
	c, e := m.c, m.of
	for {
		c.mu.Lock()
		var ask []*replica
		var changing chan struct{}
		for _, r := range m.runningLocked() { // replicas too that became ready while the others were asked
			if _, ok := m.asked[r]; !ok {
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
		m.ask(ctx, ask)
	}
	refused := m.refusals()
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
			e.acceptLocked(m.config, m.number)
			for _, r := range running {
				r.config = m.number
			}
			c.tellLocked()
		} else { // the config may bring them back
			e.trial = &trial{m.config, m.number}
			d.failures.Retry()
		}
		c.Wake()
		c.mu.Unlock()
		if err := c.save(); err != nil {
			c.log.Error("the node's state was not saved", "error", err)
		}
		m.took <- nil
		return
	}
	last, number := e.config, e.configNumber
	c.mu.Unlock()
	m.restore(last, number)
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

// ask gives the config to replicas, all at once, and notes their answers.
func (m *reconfiguration) ask(ctx context.Context, replicas []*replica) {
	answers := make([]reply, len(replicas))
	each(replicas, func(i int, r *replica) {
		err := m.c.reconfigure(ctx, r, m.config)
		answers[i] = reply{err, err != nil && (ctx.Err() != nil || ranOut(err))}
	})
	for i, r := range replicas {
		m.asked[r] = answers[i]
	}
}

// ranOut says that a request's time was over, or its caller gone, before the replica had answered. A Reconfigure that returns
// the error of a context of its own has answered.
func ranOut(err error) bool {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason == helvetype.ReasonDeadline || e.Reason == helvetype.ReasonCancelled
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func each(replicas []*replica, f func(i int, r *replica)) {
	done := make(chan struct{}, len(replicas))
	for i, r := range replicas {
		go func() { // its end is awaited below
			f(i, r)
			done <- struct{}{}
		}()
	}
	for range replicas {
		<-done
	}
}

// refusals are the errors of the replicas that did not take the config. An error that several give alike is in the text once. A replica
// that stops meanwhile has no say; one whose process has ended may have ended because of the config. Controller.mu is held.
func (m *reconfiguration) refusals() error {
	// Errors that cross a process carry their replica: the message counts.
	said, order := map[string][]*replica{}, []string(nil)
	replicas := slices.SortedFunc(maps.Keys(m.asked), func(a, b *replica) int { return strings.Compare(a.id, b.id) })
	for _, r := range replicas {
		err := m.asked[r].err
		if err == nil || r.state == helvetype.ReplicaStopping {
			continue
		}
		text := call.AsError(err).Message
		if said[text] == nil {
			order = append(order, text)
		}
		said[text] = append(said[text], r)
	}
	var all []error
	for _, text := range order {
		switch rs := said[text]; len(rs) {
		case 1:
			all = append(all, fmt.Errorf("replica %s: Reconfigure: %w", rs[0].id, m.asked[rs[0]].err))
		default:
			all = append(all, fmt.Errorf("%d of %d replicas: Reconfigure: %w", len(rs), len(m.asked), m.asked[rs[0]].err))
		}
	}
	return errors.Join(all...)
}

// restore gives the replicas that were asked the config again that they had: the replicas that took the other one, and the replicas that
// refused it and may have taken half of it. A replica that has the refused one for good is replaced.
func (m *reconfiguration) restore(last json.RawMessage, number int) {
	c := m.c
	var replicas []*replica
	for r := range m.asked {
		if c.inService(r) {
			replicas = append(replicas, r)
		}
	}
	each(replicas, func(_ int, r *replica) {
		took := m.asked[r].err == nil || m.asked[r].unsure
		err := errors.New("there was no user config before")
		if last != nil {
			err = c.reconfigure(c.ctx, r, last)
		}
		switch {
		case err == nil:
			c.mu.Lock()
			r.config = number
			c.tellLocked()
			c.mu.Unlock()
		case last == nil && !took:
		case took:
			c.mu.Lock()
			c.replaceLocked(r, fmt.Errorf("replica %s has a user config that another replica refused, and cannot go back: %w", r.id, err))
			c.mu.Unlock()
		default:
			c.log.Warn("a replica that refused a user config does not take the one before again", "app", r.dep.app.name,
				"deployment", r.dep.name, "replica", r.id, "error", err)
		}
	})
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
	config, number := r.of.configLocked()
	limit := r.of.definition.Options.ConstructTimeout
	c.mu.Unlock()
	if config == nil {
		return fmt.Errorf("replica %s has a user config that it should not have", r.id)
	}
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	err := c.reconfigure(ctx, r, config)
	if err == nil {
		c.mu.Lock()
		r.config = number
		c.mu.Unlock()
		return nil
	}
	if c.refusedTrial(r, number, err) { // the replica may take the config before
		c.mu.Lock()
		r.config = noConfig
		c.mu.Unlock()
		return nil
	}
	return fmt.Errorf("replica %s: Reconfigure: %w", r.id, err)
}

// refusedTrial notes that a replica that starts has refused the trial. It returns false where the config in use was refused, which
// is a failure of the start. A config that is neither is a trial that another replica has refused just before: for example, two
// replicas start with a trial at once, and both refuse it.
func (c *Controller) refusedTrial(r *replica, number int, err error) bool {
	c.mu.Lock()
	e := r.of
	if e.trial == nil || e.trial.number != number {
		late := number != e.configNumber
		c.mu.Unlock()
		return late
	}
	e.trial = nil
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
	if r.changing != nil || r.config == e.configNumber || e != r.dep.now || len(r.dep.configuring) > 0 {
		return
	}
	config, number := e.config, e.configNumber
	changed := make(chan struct{})
	r.changing = changed
	c.wg.Go(func() {
		defer close(changed)
		err := errors.New("it has a user config, and should have none")
		if config != nil {
			err = c.reconfigure(c.ctx, r, config)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		r.changing = nil
		if r.config = number; err != nil {
			r.config = noConfig
		}
		switch {
		case err == nil:
			c.settleLocked(r.dep.app.current)
		case r.of.configNumber != number: // the revision is over, and the replica is given the config of the next
		case config != nil && r.dep.app.status == helvetype.ApplicationDeploying:
			c.failLocked(r.of.revision, constructorError(r, fmt.Errorf("replica %s: Reconfigure: %w", r.id, err)))
		default:
			c.replaceLocked(r, fmt.Errorf("replica %s cannot be given the user config: %w", r.id, err))
		}
		c.tellLocked()
		c.Wake()
	})
}

// restoredLocked says whether every replica that runs has the user config of its revision.
func (a *application) restoredLocked() bool {
	for _, d := range a.deployments {
		for _, r := range d.replicas {
			if r.state == helvetype.ReplicaRunning && r.of == d.now && (r.changing != nil || r.config != d.now.configNumber) {
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
		changed := c.changedLocked()
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
