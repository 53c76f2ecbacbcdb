package controller

import (
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/fleet"
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
	c.Mu.Lock()
	a, marked, err := c.RestartsLocked(app, deployment, id)
	c.Mu.Unlock()
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(marked))
	for _, r := range marked {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	if c.records.Durable {
		if err := c.records.WriteRestart(ctx, app, a.Current.Wrote, ids); err != nil { // the turn of the operation is this one's: there is no other deploy
			return err
		}
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	for _, r := range marked {
		r.Outdated = true
	}
	a.Restarting = true
	object := helvetype.Object{Kind: helvetype.KindApplication, App: app, Deployment: deployment, Replica: id}
	if id != "" {
		object.Kind = helvetype.KindReplica
	} else if deployment != "" {
		object.Kind = helvetype.KindDeployment
	}
	event := c.Journal.NoteWith(object, "", "restart_requested", "", 0, map[string]string{"by": by})
	for _, r := range marked {
		r.Dep.Causes.Retarget(event) // its replicas start and stop because of the restart, and not of the deploy before
	}
	a.WakeLocked()
	return nil
}

// restartedLocked ends a restart whose replicas are all gone, also in the record.
func (c *Controller) restartedLocked(a *fleet.Application) {
	if !a.Restarting || a.EndingLocked() {
		return
	}
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			if r.Outdated {
				return
			}
		}
	}
	if a.Restarting = false; c.records.Durable {
		c.wg.Go(func() { c.LogStale(a.Name, c.storeRestarted(a)) })
	}
}

// storeRestarted takes the replicas of a restart that is over out of the record.
func (c *Controller) storeRestarted(a *fleet.Application) error {
	ctx, cancel := records.Bounded(c.ctx)
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	defer c.records.Unlock()
	c.Mu.Lock()
	over, w := !a.Restarting && c.Apps[a.Name] == a && !a.EndingLocked() && !c.HandedOver, a.Current.Wrote
	c.Mu.Unlock()
	if !over {
		return nil
	}
	return c.records.WriteRestart(ctx, a.Name, w, nil)
}
