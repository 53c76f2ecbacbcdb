package controller

import (
	"context"
	"errors"

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
		c.Mu.Lock()
		defer c.Mu.Unlock()
		busy := c.ChangingLocked()
		c.Shut, c.HandedOver = c.Shut || !busy, !busy
		return busy
	})
	c.Mu.Lock()
	c.Shut, c.HandedOver = true, true
	c.Mu.Unlock()
	c.EachServing(func(d *serving.Deployment, _ bool) { d.Retire() })
	return c.file.Finish()
}

// Succeed sends the calls that wait and that come to the next node.
func (c *Controller) Succeed(peer *wire.Peer) {
	c.EachServing(func(d *serving.Deployment, python bool) { d.Succeed(c.ctx, peer, c.set.Codec, python) })
}

// Leave ends a controller that has handed over. It does not wait.
func (c *Controller) Leave() { c.stop(errors.New("the next node has taken over")) }
