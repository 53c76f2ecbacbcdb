package wire

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// maxStreamBacklog is how many bytes may wait for a peer before the methods whose streams it reads wait too.
const maxStreamBacklog = 64 << 20

// congestion says whether more waits to be written than streams should add to.
type congestion struct {
	congested atomic.Bool

	mu     sync.Mutex
	relief chan struct{} // closed when it is over
}

// update is told how much waits, by whoever guards that; it is begun above limit and over at the half of it.
func (c *congestion) update(waiting, limit int) {
	over := c.congested.Load()
	if over == (waiting > limit) || over && waiting > limit/2 {
		return
	}
	c.mu.Lock()
	c.congested.Store(!over)
	if over {
		close(c.relief)
	} else {
		c.relief = make(chan struct{})
	}
	c.mu.Unlock()
}

// wait returns when there is room, and false if ctx ended before.
func (c *congestion) awaitRelief(ctx context.Context) bool {
	for c.congested.Load() {
		c.mu.Lock()
		relief := c.relief
		c.mu.Unlock()
		select {
		case <-relief:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// sendPending sends what is pending, when there is room for it in what the connection has to write; false if ctx ended before.
// One stream at a time does, so that many are not let in by the same look.
func (in *Incoming) sendPending(ctx context.Context) bool {
	l := in.peer.conn
	select {
	case l.itemTurn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	ok := l.small.congestion.awaitRelief(ctx) && l.send.congestion.awaitRelief(ctx)
	o := in.out
	o.mu.Lock()
	if ok {
		in.sendItems()
	}
	ok = ok && o.failed == nil
	o.mu.Unlock()
	<-l.itemTurn
	l.Flush()
	return ok
}

// Drain waits, at the end of a method, until what it has given may be sent, or ctx ends.
func (in *Incoming) Drain(ctx context.Context) {
	if l := in.peer.conn; l.small.congestion.congested.Load() || l.send.congestion.congested.Load() {
		in.sendPending(ctx)
	}
}

var errSlowReader = call.NewError(call.Backpressure, "the process that reads the stream does not read what it is sent")
