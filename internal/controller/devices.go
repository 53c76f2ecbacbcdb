package controller

import (
	"context"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/planner"
)

// awaitDevices takes GPUs for a replica that starts, and waits for replicas that give theirs back.
//
// New replicas start beside the old ones, which serve meanwhile. On a node whose GPUs are all held by the old ones no new one could
// ever start, so an old one makes room. For example, a node has one GPU, replica A#1 of revision 1 holds it, and revision 2 is
// deployed: A#2 finds no GPU, so A#1 drains and ends; A#2 gets the GPU and starts. Calls wait in the queue meanwhile. With two
// GPUs and two replicas the second old one goes on serving until the first new one is ready.
//
// A replica that lacks a GPU for another reason fails, and is started again like a replica whose constructor failed. For example, two
// applications want the one GPU: the second deploy says which deployment holds it.
func (c *Controller) awaitDevices(ctx context.Context, r *replica, take func() error) error {
	for {
		c.mu.Lock()
		// A GPU comes back before the record of its replica goes. If take fails, a replica that gives one back still has its record.
		err := take()
		if err == nil || !c.makeRoomLocked(r) {
			c.mu.Unlock()
			return err
		}
		gone, ready := c.changed.Next(), c.readier.Next()
		c.mu.Unlock()
		select {
		case <-gone:
		case <-ready: // perhaps the replica that makes room
		case <-ctx.Done():
			return call.EndOf(ctx)
		}
	}
}

// makeRoomLocked says whether GPUs may come back, and has a replica give some back if r takes the place of replicas that hold some. One
// replica does so at a time: the next when the replica that got the GPU is ready. None does if all of them together would not be enough: for
// example, an update that asks for three GPUs, of which another application holds one, fails, and the old replicas go on.
func (c *Controller) makeRoomLocked(r *replica) bool {
	holds := c.workers.Devices().Holds
	for _, a := range c.apps {
		for _, d := range a.deployments {
			for _, o := range d.replicas {
				starts := d == r.dep && o.state != helvetype.ReplicaRunning
				if (starts || o.state == helvetype.ReplicaStopping) && holds(o.id) {
					return true
				}
			}
		}
	}
	if r.of != r.dep.now {
		return false
	}
	var holders []planner.Holder
	var all []string
	for _, d := range r.dep.app.deployments {
		leaves := d.now.revision != d.app.current
		for _, o := range d.replicas {
			former := d == r.dep && o.of.version != d.now.version
			if o.state == helvetype.ReplicaRunning && (leaves || former) && holds(o.id) {
				holders, all = append(holders, planner.Holder{ID: o.id, Own: d == r.dep, StartedAt: o.startedAt}), append(all, o.id)
			}
		}
	}
	if !c.workers.Devices().Fits(r.of.definition.Options.Resources.GPUs, all) { // also if there is none
		return false
	}
	oldest := c.replicaLocked(planner.FirstToYield(holders))
	if oldest.dep != r.dep {
		oldest.dep.yielded++
	}
	c.stopLocked(oldest)
	c.Wake() // its end is noted
	return true
}

// yieldedLocked is how many replicas a deployment that its application no longer has does without, because they made room. If the
// application goes back to the revision that has it, they come back.
func (d *deployment) yieldedLocked() int {
	if d.now.revision == d.app.current {
		d.yielded = 0
	}
	return min(d.yielded, d.wanted)
}

// noteStep records a step of the start of a replica. The state of the replica stays.
func (c *Controller) noteStep(r *replica, reason, message string) {
	c.mu.Lock()
	c.journal.Note(r.object(), string(r.state), reason, message, r.lastEvent)
	c.mu.Unlock()
	c.log.Info(message, "app", r.dep.app.name, "deployment", r.dep.name, "replica", r.id)
}

// noteResourcesLocked says once for each deploy that the replicas of a deployment ask for more than the machine has. They start all the same:
// only GPUs are given out.
func (d *deployment) noteResourcesLocked() {
	o := d.now.definition.Options
	if before := d.former; before != nil && reflect.DeepEqual(before.definition.Options.Resources, o.Resources) && d.formerWanted == d.wanted {
		return
	}
	c := d.app.c
	for _, text := range deploy.Excess(devices.This(), o, d.wanted) {
		c.journal.Note(d.object(), string(d.shown.State), "resources_exceeded", text, 0)
		// The log may be a user's, and the mutex is held.
		c.wg.Go(func() { c.log.Warn(fmt.Sprintf("deployment %s: %s", d.name, text), "app", d.app.name) })
	}
}
