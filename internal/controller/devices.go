package controller

import (
	"context"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/planner"
)

// awaitDevices takes GPUs for a replica that starts, and waits for replicas that give theirs back: see [planner.Room].
//
// A replica that lacks a GPU for another reason fails, and is started again like a replica whose constructor failed. For example, two
// applications want the one GPU: the second deploy says which deployment holds it.
func (c *Controller) awaitDevices(ctx context.Context, r *fleet.Replica, take func() error) error {
	for {
		c.Mu.Lock()
		// A GPU comes back before the record of its replica goes. If take fails, a replica that gives one back still has its record.
		err := take()
		if err == nil || !c.makeRoomLocked(r) {
			c.Mu.Unlock()
			return err
		}
		gone, ready := c.Changed.Next(), c.Readier.Next()
		c.Mu.Unlock()
		select {
		case <-gone:
		case <-ready: // perhaps the replica that makes room
		case <-ctx.Done():
			return call.EndOf(ctx)
		}
	}
}

// makeRoomLocked says whether GPUs may come back, and has a replica give some back if r takes the place of replicas that hold some.
func (c *Controller) makeRoomLocked(r *fleet.Replica) bool {
	var seats []planner.Seat
	for o := range c.ReplicasLocked {
		d := o.Dep
		leaves := d.App == r.Dep.App && d.Now.Revision != d.App.Current
		seats = append(seats, planner.Seat{
			Holder: planner.Holder{ID: o.ID, Own: d == r.Dep, StartedAt: o.StartedAt}, State: o.PlannedLocked(),
			Former: r.Of == r.Dep.Now && (leaves || d == r.Dep && o.Of.Version != d.Now.Version),
		})
	}
	of := c.workers.Devices()
	wait, id := planner.Room(seats, of.Holds, func(held []string) bool {
		return r.Of == r.Dep.Now && of.Fits(r.Of.Definition.Options.Resources.GPUs, held)
	})
	if id == "" {
		return wait
	}
	var oldest *fleet.Replica
	for o := range c.ReplicasLocked {
		if o.ID == id {
			oldest = o
		}
	}
	if oldest.Dep != r.Dep {
		oldest.Dep.Yielded++
	} else {
		r.Dep.MadeRoom = true
		c.Journal.Note(r.Dep.Object(), string(r.Dep.Shown.State), "surge_does_not_fit", "no GPU is free for a replica beside the wanted number: "+id+" stops before its successor starts", r.LastEvent)
	}
	c.stopLocked(oldest)
	oldest.Dep.App.WakeLocked() // its end is noted
	return true
}

// noteStep records a step of the start of a replica. The state of the replica stays.
func (c *Controller) noteStep(r *fleet.Replica, reason, message string) {
	c.Mu.Lock()
	c.Journal.Note(r.Object(), string(r.State), reason, message, r.LastEvent)
	c.Mu.Unlock()
	c.Log.Info(message, "app", r.Dep.App.Name, "deployment", r.Dep.Name, "replica", r.ID)
}

// noteResourcesLocked says once for each deploy that the replicas of a deployment ask for more than the machine has. They start all the same: only GPUs are given out.
func (c *Controller) noteResourcesLocked(d *fleet.Deployment) {
	o := d.Now.Definition.Options
	if before := d.Former; before != nil && reflect.DeepEqual(before.Definition.Options.Resources, o.Resources) && d.FormerAsked == d.Asked {
		return
	}
	for _, text := range deploy.Excess(devices.This(), o, d.Wanted) {
		c.Journal.Note(d.Object(), string(d.Shown.State), "resources_exceeded", text, 0)
		// The log may be a user's, and the mutex is held.
		c.wg.Go(func() { c.Log.Warn(fmt.Sprintf("deployment %s: %s", d.Name, text), "app", d.App.Name) })
	}
}
