package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// Scale sets the number of replicas of a deployment. It returns when the number is in the store and is the controller's target; the
// replicas follow. by and why are for people who read the record. The number stays over deploys that do not change num_replicas.
func (c *Controller) Scale(ctx context.Context, app, name string, n int, by, why string) error {
	if n < 0 || n > spec.MaxReplicas {
		return call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("the number of replicas must be at least 0 and at most %d, is %d", spec.MaxReplicas, n))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errors.New("the store was not reached in time"))
	defer cancel()
	if err := c.records.Lock(ctx); err != nil {
		return err
	}
	err := c.writeScale(ctx, app, name, store.Scale{Replicas: n, By: by, Reason: why, At: time.Now().UTC()})
	c.records.Unlock()
	if err != nil {
		return err
	}
	c.file.Save() //nolint:errcheck // it is in the log
	return nil
}

func (c *Controller) writeScale(ctx context.Context, app, name string, s store.Scale) error {
	if err := c.unscalable(app, name); err != nil {
		return err
	}
	written, err := c.records.WriteScale(ctx, app, name, s)
	if err != nil {
		c.NoteUnstored(app, err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteScaleLocked(app, name, written) // a Status that follows has the number already
	return nil
}

// unscalable says why a deployment cannot be scaled; nil if it can.
func (c *Controller) unscalable(app, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.apps[app]
	if c.closing || a == nil || a.deleted || a.failure != nil || a.status == helvetype.ApplicationDeleting {
		return c.missingLocked(app)
	}
	if d := a.deployments[name]; d == nil || d.dropped {
		return fmt.Errorf("no deployment %q in application %q; it has %s", name, app, strings.Join(slices.Sorted(maps.Keys(a.deployments)), ", "))
	}
	return nil
}

// noteScaleLocked takes over a number of replicas that the store has ([records.Scales]).
func (c *Controller) noteScaleLocked(app, name string, s records.Scale) {
	if !c.scales.Set(app, name, s) {
		return
	}
	a := c.apps[app]
	if a == nil { // the node before had it, and it is about to be restored
		return
	}
	if a.deployments[name] == nil {
		if a.current.wrote.Precedes() { // the deployment is one of the revision that the node before was changing to
			return
		}
		c.log.Warn("a number of replicas is for a deployment that is not there", "record", store.ScaleKey(app, name).String())
		return
	}
	a.unsaved = true
	a.deployments[name].scaleLocked(s.Record.Replicas)
}

// writtenLocked ends the time in which a deploy writes the records of an application.
func (c *Controller) writtenLocked() {
	app, arrived := c.scales.Free()
	for _, name := range arrived {
		if a := c.apps[app]; a != nil && a.deployments[name] != nil {
			a.unsaved = true
			a.deployments[name].scaleLocked(c.scales.Of(app, name).Record.Replicas)
		}
	}
}

// scaleRecordLocked is the number of replicas of a deployment as a record.
func (d *deployment) scaleRecordLocked() store.Scale {
	s := d.app.c.scales.Of(d.app.name, d.name).Record
	s.Replicas = d.asked
	return s
}

// SetCapacity sets the target capacity: the percentage of all numbers of replicas that this node runs, nil for 100. The records of the numbers stay. For example,
// with 50 a deployment of 4 replicas runs 2, and with nil again 4.
func (c *Controller) SetCapacity(percent *float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity = percent
	for _, a := range c.apps {
		for _, d := range a.deployments {
			d.scaleLocked(d.asked)
		}
	}
}

// scaleLocked changes the number of replicas of a deployment.
func (d *deployment) scaleLocked(n int) {
	d.asked = n
	if n = planner.Capacity(n, d.app.c.capacity); n == d.wanted {
		return
	}
	running := 0
	for _, r := range d.replicas {
		if r.state == helvetype.ReplicaRunning {
			running++
		}
	}
	d.noteLocked() // the state that it scales from: for example, a deploy that has just ended has left it HEALTHY
	d.wanted, d.scaling = n, states.ScalingDown
	if n > running {
		d.scaling = states.ScalingUp
	}
	d.wakeLocked()
}

// noteScale takes over a number of replicas that another writer has put into the store.
func (c *Controller) noteScale(app, name string, s records.Scale) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteScaleLocked(app, name, s)
}

// forgetScale is for a record that was deleted. A deployment that runs keeps its number.
func (c *Controller) forgetScale(key string, modified int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scales.Forget(key, modified)
	for _, a := range c.apps {
		a.unsaved = true
	}
}
