package controller

import (
	"fmt"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/records"
)

// A rolling restart marks replicas as outdated, and the loop replaces them within the budgets of rollouts, as replicas of a revision before. The ids of the marked
// replicas are in the record of the application, so that a node that takes the replicas over goes on. For example, of three replicas one is replaced when the node
// is killed: the next node takes over two replicas that are marked, and replaces these alone.

// Restart replaces replicas by new ones of the same revision: all replicas of an application, all of one deployment if that is not "", or one replica if that is not
// "". by is for people who read the event.
func (c *Controller) Restart(app, deployment, id, by string) error {
	ctx, cancel := records.Bounded(c.ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	a, marked, err := c.restartsLocked(app, deployment, id)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(marked))
	for _, r := range marked {
		ids = append(ids, r.id)
	}
	slices.Sort(ids)
	if c.records.Durable {
		if err := c.records.WriteRestart(ctx, app, a.current.wrote, ids); err != nil { // the turn of the operation is this one's: there is no other deploy
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range marked {
		r.outdated = true
	}
	a.restarting = true
	object := helvetype.Object{Kind: helvetype.KindApplication, App: app, Deployment: deployment, Replica: id}
	if id != "" {
		object.Kind = helvetype.KindReplica
	} else if deployment != "" {
		object.Kind = helvetype.KindDeployment
	}
	c.journal.NoteWith(object, "", "restart_requested", "", 0, map[string]string{"by": by})
	a.wakeLocked()
	return nil
}

// restartsLocked are the replicas that are to be replaced, with those of an earlier restart that has not ended.
func (c *Controller) restartsLocked(app, deployment, id string) (a *application, marked []*replica, err error) {
	a = c.apps[app]
	switch {
	case a == nil || a.endingLocked() || a.failure != nil:
		return nil, nil, c.missingLocked(app)
	case a.deployingLocked():
		return nil, nil, fmt.Errorf("application %q: %w to revision %d: the replicas of the new revision are new, and the others go", app, deploy.ErrRollout, a.current.number)
	case deployment != "" && (a.deployments[deployment] == nil || a.deployments[deployment].dropped):
		return nil, nil, fmt.Errorf("no deployment %q in application %q", deployment, app)
	}
	found := false
	for _, d := range a.deployments {
		for _, r := range d.replicas {
			asked := (deployment == "" || d.name == deployment) && r.state == helvetype.ReplicaRunning && (id == "" || r.id == id)
			if found = found || asked; asked || r.outdated {
				marked = append(marked, r)
			}
		}
	}
	if id != "" && !found {
		return nil, nil, fmt.Errorf("no replica %q of application %q runs", id, app)
	}
	return a, marked, nil
}

// restartedLocked ends a restart whose replicas are all gone, also in the record.
func (a *application) restartedLocked() {
	if !a.restarting || a.endingLocked() {
		return
	}
	for _, d := range a.deployments {
		for _, r := range d.replicas {
			if r.outdated {
				return
			}
		}
	}
	if a.restarting = false; a.c.records.Durable {
		a.c.wg.Go(func() { a.c.logStale(a.name, a.c.storeRestarted(a)) })
	}
}

// storeRestarted takes the replicas of a restart that is over out of the record.
func (c *Controller) storeRestarted(a *application) error {
	ctx, cancel := records.Bounded(c.ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.mu.Lock()
	over, w := !a.restarting && c.apps[a.name] == a && !a.endingLocked() && !c.handedOver, a.current.wrote
	c.mu.Unlock()
	if !over {
		return nil
	}
	return c.records.WriteRestart(ctx, a.name, w, nil)
}
