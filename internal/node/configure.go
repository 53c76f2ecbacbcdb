package node

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
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
)

// A user config becomes a deployment's target when its replicas have taken it, and not before: a config that was refused must
// not be what the next replica starts with. For example, of three replicas two take the config "b" and one refuses it: the
// two are given "a" again, which all three had, Reconfigure gives the error, and a replica that starts later gets "a".
//
// A deployment without a replica that runs has none to ask. The config is then a trial: the next replicas start with it. The
// first that is ready makes it the target, and the first that refuses it ends it.

// trial is a user config that no replica has taken yet.
type trial struct {
	config  json.RawMessage
	version int
}

// configLocked is what a replica that starts is given: the trial if there is one.
func (e *edition) configLocked() (config json.RawMessage, version int) {
	if t := e.trial; t != nil {
		return t.config, t.version
	}
	return e.config, e.configVersion
}

// versionLocked is one that no other config of the edition has.
func (e *edition) versionLocked() int {
	e.configVersions++
	return e.configVersions
}

// acceptLocked makes config what the edition's replicas should have.
func (e *edition) acceptLocked(config json.RawMessage, version int) {
	e.config, e.configVersion, e.trial = config, version, nil
}

// Reconfigure gives a deployment another user config: every replica that runs, and those that start later. If a replica
// refuses it all keep, or are given again, the one that they had, and the errors of those that refused are returned.
//
// When ctx ends before all have answered, the config is withdrawn.
func (n *Node) Reconfigure(ctx context.Context, app, deployment string, config json.RawMessage) error {
	d := n.Deployment(app, deployment)
	if d == nil {
		return n.Absent(app, deployment)
	}
	select {
	case d.configuring <- struct{}{}:
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		<-d.configuring
		return errors.New("the node is closing")
	}
	c := &configuring{node: n, edition: d.now.Load(), config: config, asked: map[*Unit]reply{}, took: make(chan error, 1)}
	c.version = c.edition.versionLocked()
	n.wg.Go(func() {
		defer func() { <-d.configuring }()
		c.run(ctx)
	})
	n.mu.Unlock()
	select {
	case err := <-c.took:
		return err
	case <-ctx.Done():
	}
	n.mu.Lock()
	c.withdrawn = true
	accepted := c.accepted
	n.mu.Unlock()
	if accepted {
		return nil
	}
	return fmt.Errorf("the user config was withdrawn: %w", call.EndOf(ctx))
}

// configuring is one Reconfigure.
type configuring struct {
	node    *Node
	edition *edition
	config  json.RawMessage
	version int
	asked   map[*Unit]reply
	took    chan error // of one: how it went

	// Guarded by Node.mu.
	accepted, withdrawn bool
}

// reply is what one replica said. unsure: it may have the config all the same, or be about to take it.
type reply struct {
	err    error
	unsure bool
}

func (c *configuring) run(ctx context.Context) {
	n, e := c.node, c.edition
	for {
		n.mu.Lock()
		var ask []*Unit
		for _, u := range c.runningLocked() { // those too that became ready while the others were asked
			if _, ok := c.asked[u]; !ok {
				ask = append(ask, u)
			}
		}
		if len(ask) == 0 {
			break
		}
		n.mu.Unlock()
		c.ask(ctx, ask)
	}
	refused := c.refusals()
	running := c.runningLocked()
	switch d := c.deploymentLocked(); {
	case refused != nil:
	case c.withdrawn:
		refused = errors.New("it was withdrawn")
	case len(running) == 0 && (d == nil || d.now.Load() != e):
		refused = errors.New("its revision of the deployment does not run any more")
	}
	if refused == nil {
		c.accepted = true
		if len(running) > 0 || e.options.NumReplicas < 1 {
			e.acceptLocked(c.config, c.version)
			for _, u := range running {
				u.version = c.version
			}
		} else { // it may be what brings them back
			e.trial = &trial{c.config, c.version}
			d := c.deploymentLocked()
			d.starting.n, d.running.n = 0, 0
		}
		n.wake()
		n.mu.Unlock()
		if err := n.save(); err != nil {
			n.log.Error("the node's state was not saved", "error", err)
		}
		c.took <- nil
		return
	}
	last := e.config
	n.mu.Unlock()
	c.restore(last)
	c.took <- fmt.Errorf("the user config was refused, the one before stays in use: %w", refused)
}

// deploymentLocked is nil when it is gone.
func (c *configuring) deploymentLocked() *Deployment {
	d := c.edition.app.deployments[c.edition.spec.Name]
	if d == nil || d.dropped || c.edition.app.deleted {
		return nil
	}
	return d
}

// runningLocked are the replicas that run with the edition.
func (c *configuring) runningLocked() (units []*Unit) {
	if d := c.deploymentLocked(); d != nil {
		for _, u := range d.units {
			if u.state == helvetype.ReplicaRunning && u.edition == c.edition {
				units = append(units, u)
			}
		}
	}
	slices.SortFunc(units, func(a, b *Unit) int { return strings.Compare(a.id, b.id) })
	return units
}

// ask gives the config to replicas, all at once, and notes what they say.
func (c *configuring) ask(ctx context.Context, units []*Unit) {
	answers := make([]reply, len(units))
	c.each(units, func(i int, u *Unit) {
		err := c.node.reconfigure(ctx, u, c.config)
		answers[i] = reply{err, err != nil && (ctx.Err() != nil || ranOut(err))}
	})
	for i, u := range units {
		c.asked[u] = answers[i]
	}
}

// ranOut says that a request's time was over, or its caller gone, before the replica had answered. A Reconfigure that returns
// the error of a context of its own has answered.
func ranOut(err error) bool {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason == call.Deadline || e.Reason == call.Cancelled
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (c *configuring) each(units []*Unit, f func(i int, u *Unit)) {
	done := make(chan struct{}, len(units))
	for i, u := range units {
		go func() { // its end is awaited below
			f(i, u)
			done <- struct{}{}
		}()
	}
	for range units {
		<-done
	}
}

// refusals are the errors of the replicas that did not take the config. What several say alike is said once. A replica that
// stops meanwhile has no say; one whose process has ended may have ended of the config.
func (c *configuring) refusals() error {
	// Errors that cross a process carry their replica: the message counts.
	said, order := map[string][]*Unit{}, []string(nil)
	units := slices.SortedFunc(maps.Keys(c.asked), func(a, b *Unit) int { return strings.Compare(a.id, b.id) })
	for _, u := range units {
		err := c.asked[u].err
		if err == nil || u.state == helvetype.ReplicaStopping {
			continue
		}
		text := call.AsError(err).Message
		if said[text] == nil {
			order = append(order, text)
		}
		said[text] = append(said[text], u)
	}
	var all []error
	for _, text := range order {
		switch us := said[text]; len(us) {
		case 1:
			all = append(all, fmt.Errorf("replica %s: Reconfigure: %w", us[0].id, c.asked[us[0]].err))
		default:
			all = append(all, fmt.Errorf("%d of %d replicas: Reconfigure: %w", len(us), len(c.asked), c.asked[us[0]].err))
		}
	}
	return errors.Join(all...)
}

// restore gives the replicas that were asked the config again that they had: those that took the other one, and those that
// refused it, which may have taken half of it. A replica that has the refused one for good is replaced.
func (c *configuring) restore(last json.RawMessage) {
	n := c.node
	var units []*Unit
	for u := range c.asked {
		if n.serving(u) {
			units = append(units, u)
		}
	}
	c.each(units, func(_ int, u *Unit) {
		took := c.asked[u].err == nil || c.asked[u].unsure
		err := errors.New("there was no user config before")
		if last != nil {
			err = n.reconfigure(n.ctx, u, last)
		}
		switch {
		case err == nil || last == nil && !took:
		case took:
			n.mu.Lock()
			n.replaceLocked(u, fmt.Errorf("replica %s has a user config that another replica refused, and cannot go back: %w", u.id, err))
			n.mu.Unlock()
		default:
			n.log.Warn("a replica that refused a user config does not take the one before again", "app", u.dep.app.name,
				"deployment", u.dep.name, "replica", u.id, "error", err)
		}
	})
}

func (n *Node) reconfigure(ctx context.Context, u *Unit, config json.RawMessage) error {
	late := fmt.Errorf("it took longer than construct_timeout_s (%s): %w", u.options.ConstructTimeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, u.options.ConstructTimeout, late)
	defer cancel()
	if u.instance != nil {
		return u.instance.Reconfigure(ctx, config)
	}
	_, err := protocol.Ask(ctx, u.worker.peer, protocol.Reconfigure{
		Replica: u.id, UserConfig: config, TimeoutS: protocol.SecondsOf(u.options.ConstructTimeout),
	})
	err = u.arrived(err)
	if errors.Is(err, wire.ErrEnded) && ctx.Err() == nil {
		return errors.New("its worker ended while it was given the user config")
	}
	return err
}

// renew gives a replica that is not ready yet the config that it should have.
func (n *Node) renew(u *Unit) error {
	n.mu.Lock()
	config, version := u.edition.configLocked()
	n.mu.Unlock()
	if config == nil {
		return fmt.Errorf("replica %s has a user config that it should not have", u.id)
	}
	ctx, cancel := context.WithTimeout(u.ctx, u.options.ConstructTimeout)
	defer cancel()
	err := n.reconfigure(ctx, u, config)
	if err == nil {
		n.mu.Lock()
		u.version = version
		n.mu.Unlock()
		return nil
	}
	if n.refusedTrial(u, version, err) { // it may take the one before
		n.mu.Lock()
		u.version = -1
		n.mu.Unlock()
		return nil
	}
	return fmt.Errorf("replica %s: Reconfigure: %w", u.id, err)
}

// refusedTrial notes that a replica that starts has refused the trial. It returns false where the config in use was refused, which
// is a failure of the start. A config that is neither is a trial that another replica has refused just before: for example, two
// replicas start with a trial at once, and both refuse it.
func (n *Node) refusedTrial(u *Unit, version int, err error) bool {
	n.mu.Lock()
	e := u.edition
	if e.trial == nil || e.trial.version != version {
		late := version != e.configVersion
		n.mu.Unlock()
		return late
	}
	e.trial = nil
	u.dep.message = "the user config was refused, the one before stays in use: " + err.Error()
	n.wake()
	n.mu.Unlock()
	n.log.Error("the first replica that was given the user config refused it; the one before stays", "app", u.dep.app.name,
		"deployment", u.dep.name, "replica", u.id, "error", err)
	return true
}
