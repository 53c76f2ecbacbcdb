package controller

import (
	"context"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/planner"
)

// awaitDevices takes GPUs for a replica that starts, and waits for replicas that give theirs back: see [planner.Room].
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

// makeRoomLocked says whether GPUs may come back, and has a replica give some back if r takes the place of replicas that hold some.
func (c *Controller) makeRoomLocked(r *replica) bool {
	var seats []planner.Seat
	for o := range c.replicasLocked {
		d := o.dep
		leaves := d.app == r.dep.app && d.now.revision != d.app.current
		seats = append(seats, planner.Seat{
			Holder: planner.Holder{ID: o.id, Own: d == r.dep, StartedAt: o.startedAt}, State: o.plannedLocked(),
			Former: r.of == r.dep.now && (leaves || d == r.dep && o.of.version != d.now.version),
		})
	}
	of := c.workers.Devices()
	wait, id := planner.Room(seats, of.Holds, func(held []string) bool {
		return r.of == r.dep.now && of.Fits(r.of.definition.Options.Resources.GPUs, held)
	})
	if id == "" {
		return wait
	}
	var oldest *replica
	for o := range c.replicasLocked {
		if o.id == id {
			oldest = o
		}
	}
	if oldest.dep != r.dep {
		oldest.dep.yielded++
	} else {
		c.journal.Note(r.dep.object(), string(r.dep.shown.State), "surge_does_not_fit", "no GPU is free for a replica beside the wanted number: "+id+" stops before its successor starts", r.lastEvent)
	}
	c.stopLocked(oldest)
	oldest.dep.app.wakeLocked() // its end is noted
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

// noteResourcesLocked says once for each deploy that the replicas of a deployment ask for more than the machine has. They start all the same: only GPUs are given out.
func (d *deployment) noteResourcesLocked() {
	o := d.now.definition.Options
	if before := d.former; before != nil && reflect.DeepEqual(before.definition.Options.Resources, o.Resources) && d.formerAsked == d.asked {
		return
	}
	c := d.app.c
	for _, text := range deploy.Excess(devices.This(), o, d.wanted) {
		c.journal.Note(d.object(), string(d.shown.State), "resources_exceeded", text, 0)
		// The log may be a user's, and the mutex is held.
		c.wg.Go(func() { c.log.Warn(fmt.Sprintf("deployment %s: %s", d.name, text), "app", d.app.name) })
	}
}
