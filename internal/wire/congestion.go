package wire

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// maxStreamBacklog is the number of bytes that may wait to be written to a peer. Over it, methods that send streams to this peer wait.
const maxStreamBacklog = 64 << 20

// partBacklog is the number of bytes that may wait to be written to a peer before parts of exchanges wait. A body of a gigabyte has a part ready
// whenever there is room: with the limit of streams, eight bodies would keep 8 MiB in the buffer, and every small frame would wait behind them.
const partBacklog = 512 << 10

// congestion holds streams back while too many bytes wait to be written. It begins above a limit and ends below half of it, so that
// streams do not stop and go with every write. Example: with a limit of 64 MiB, 1,000 streams to a worker that does not read are
// held at 64 MiB, and go on when the worker has read 32 MiB.
type congestion struct {
	congested atomic.Bool

	mu     sync.Mutex
	relief chan struct{} // closed at the end of a congestion
}

// update sets the number of bytes that wait. Its caller holds the lock that guards this number.
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

// awaitRelief returns true when there is no congestion, and false if ctx ended before.
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

// sendPending sends the pending items of the stream, as soon as the connection is not congested. One stream at a time sends, so that
// not all streams see the same free room and fill it together. The result is false if ctx ended before, or if items of the
// stream could not be sent.
func (o *outflow) sendPending(ctx context.Context) bool {
	l := o.peer.conn
	select {
	case l.itemTurn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	ok := l.small.congestion.awaitRelief(ctx) && l.send.congestion.awaitRelief(ctx)
	o.mu.Lock()
	if ok {
		o.sendItems()
	}
	ok = ok && o.failed == nil
	o.mu.Unlock()
	<-l.itemTurn
	l.Flush()
	return ok
}

// Drain is called at the end of a method, before [Incoming.Complete] sends the pending items together with the END. It sends them itself, and
// waits until it may, while the connection is congested, or if the ends of other streams are about to send as much as makes it congested. It
// waits at most until ctx ends. Example: 30,000 methods end at once, each with 32 KiB to send. None of them sees a congestion, but together
// they would append 960 MiB. With the limit of 64 MiB, Complete sends the items of 2,048 of them, and the others send in turn.
func (in *Incoming) Drain(ctx context.Context) {
	o, l := in.out, in.peer.conn
	o.mu.Lock()
	n := int64(len(o.pending))
	o.mu.Unlock()
	if !l.small.congestion.congested.Load() && !l.send.congestion.congested.Load() {
		if l.ending.Add(n) <= int64(l.small.streamBacklog) {
			o.ending.Store(n)
			return
		}
		l.ending.Add(-n)
	}
	o.sendPending(ctx)
}

// drained takes back the number of bytes that Drain has announced.
func (in *Incoming) drained() {
	if o := in.out; o != nil {
		in.peer.conn.ending.Add(-o.ending.Swap(0))
	}
}

var errSlowReader = call.NewError(helvetype.ReasonBackpressure, "the process that reads the stream does not read what it is sent")
