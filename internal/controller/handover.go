package controller

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/wire"
)

// HandOver ends the work of this controller, for the next node to go on with. It waits for deploys, starts and stops that are under way, at most
// until ctx ends: the next node begins with a start that is not over anew. From then on nothing is changed, calls wait until [Controller.Succeed],
// and the file for the next node is complete.
func (c *Controller) HandOver(ctx context.Context) error {
	serving.AwaitIdle(ctx, func() bool {
		if c.records.Lock(ctx) != nil { // no deploy is between the store and this controller
			return true
		}
		defer c.records.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		busy := c.changingLocked()
		c.closing, c.handedOver = c.closing || !busy, !busy
		return busy
	})
	c.mu.Lock()
	c.closing, c.handedOver = true, true
	c.mu.Unlock()
	c.eachServing(func(d *serving.Deployment, _ bool) { d.Retire() })
	return c.file.Finish()
}

// changingLocked says that a deploy or the end of an application is under way, or a start or stop of a replica.
func (c *Controller) changingLocked() bool {
	for _, a := range c.apps {
		if a.status == helvetype.ApplicationDeploying || a.status == helvetype.ApplicationDeleting {
			return true
		}
		for _, d := range a.deployments {
			for _, r := range d.replicas {
				if r.state != helvetype.ReplicaRunning {
					return true
				}
			}
		}
	}
	return false
}

// eachServing calls f with each deployment as it serves; python says that its code is in Python.
func (c *Controller) eachServing(f func(d *serving.Deployment, python bool)) {
	all := map[*serving.Deployment]bool{}
	c.mu.Lock()
	for _, a := range c.apps {
		for _, d := range a.deployments {
			all[d.serving] = d.now.definition.Spec.Language == "python"
		}
	}
	c.mu.Unlock()
	for d, python := range all {
		f(d, python)
	}
}

// Succeed sends the calls that wait and that come to the next node.
func (c *Controller) Succeed(peer *wire.Peer) {
	c.eachServing(func(d *serving.Deployment, python bool) { d.Succeed(c.ctx, peer, c.set.Codec, python) })
}

// Ongoing is the number of calls that wait and run.
func (c *Controller) Ongoing() (n int) {
	c.eachServing(func(d *serving.Deployment, _ bool) { n += d.Busy() })
	return n
}

// Leave ends a controller that has handed over. It does not wait.
func (c *Controller) Leave() { c.stop(errors.New("the next node has taken over")) }
