package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
)

// lane is the control lane of one replica: broadcasts take no slot and wait for none, but one runs at a time.
type lane struct {
	mu     sync.Mutex
	closed bool
	now    *Errand
	queue  []*Errand
}

// Errand is a call to one replica through its control lane.
type Errand struct {
	unit *Unit
	call *call.Call
	sink call.Sink

	started bool  // it was given to the transport
	sent    int64 // then, by call.Now

	// Guarded by lane.mu.
	answered bool
	watch    *time.Timer // reports a cycle; nil for none
	handle   transport.Handle
}

// Targets are the replicas that run now.
func (d *Deployment) Targets() ([]router.Replica, *call.Error) {
	if e := d.down.Load(); e != nil {
		return nil, e
	}
	rs := d.Router.Replicas()
	if len(rs) == 0 {
		return nil, call.NewError(call.DeploymentUnavailable, fmt.Sprintf("deployment %s has no replica to broadcast to", d.name))
	}
	return rs, nil
}

// SubmitControl sends a call to one replica through its control lane. sink is told its end exactly once.
func (d *Deployment) SubmitControl(r router.Replica, c *call.Call, sink call.Sink) *Errand {
	u := r.(*Unit)
	c.Info.Replica = u.id
	if c.Above != nil && u.instance != nil {
		c.Info.Above = ancestors(c)
	}
	c.Info.Control = true
	c.Mode = call.Broadcast // so that its worker counts no slot
	e := &Errand{unit: u, call: c, sink: sink}
	if failure := d.refuses(&c.Info); failure != nil {
		e.finish(nil, call.Result{Err: failure})
		return e
	}
	var cycle *call.Error
	var hopeless bool
	if u.lane.busy() { // it may have to wait
		info := c.Info
		info.Above = ancestors(c)
		cycle, hopeless = d.laneCycle(&info)
	}
	l := &u.lane
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		e.finish(nil, call.Result{Err: u.gone()})
	case l.now != nil && hopeless:
		e.answered = true
		l.mu.Unlock()
		e.finish(nil, call.Result{Err: cycle})
	case l.now != nil:
		if cycle != nil {
			e.watch = d.reportLater(cycle)
		}
		l.queue = append(l.queue, e)
		l.mu.Unlock()
	default:
		l.now = e
		l.mu.Unlock()
		e.start(nil)
	}
	return e
}

func (u *Unit) gone() *call.Error {
	return call.NewError(call.ReplicaUnavailable, fmt.Sprintf("replica %s was gone before the call was sent", u.id))
}

func (e *Errand) start(b *call.Batch) {
	l := &e.unit.lane
	l.mu.Lock()
	cancelled := e.answered
	e.watched()
	l.mu.Unlock()
	if cancelled { // between the queue and here
		e.next()
		return
	}
	if failure := expired(e.call, e.sink); failure != nil { // whoever cancels it is on the way
		e.Complete(b, call.Result{Err: failure})
		return
	}
	e.started = true
	e.sent = e.unit.sent()
	h := e.unit.transport.Start(b, e.call, e)
	l.mu.Lock()
	e.handle = h
	cancelled = e.answered && l.now == e
	l.mu.Unlock()
	if cancelled {
		h.Cancel(b, call.NewError(call.Cancelled, "the broadcast was cancelled"))
	}
}

// Complete is told by the transport how the call ended, and starts the next.
func (e *Errand) Complete(b *call.Batch, r call.Result) {
	if e.started {
		e.unit.ended(e.sent, r)
	}
	if r.NotStarted {
		r = call.Result{Err: e.unit.gone()}
	}
	l := &e.unit.lane
	l.mu.Lock()
	answered := e.answered
	e.answered = true
	l.mu.Unlock()
	if !answered {
		e.finish(b, r)
	}
	e.next()
}

// next gives the lane to the next call, on a goroutine of its own: calls that end at once would nest.
func (e *Errand) next() {
	l := &e.unit.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = nil
	if len(l.queue) > 0 {
		l.now, l.queue = l.queue[0], l.queue[1:]
		go l.now.start(nil)
	}
}

// Cancel ends the call for its caller. One that waits never starts.
func (e *Errand) Cancel(b *call.Batch, cause error) {
	l := &e.unit.lane
	l.mu.Lock()
	if e.answered {
		l.mu.Unlock()
		return
	}
	e.answered = true
	e.watched()
	h := e.handle
	for i, w := range l.queue {
		if w == e {
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	e.finish(b, call.Result{Err: call.FromCause(cause)})
	h.Cancel(b, cause)
}

// watched ends the watch over the errand's wait. lane.mu is held.
func (e *Errand) watched() {
	if e.watch != nil {
		e.watch.Stop()
	}
}

func (e *Errand) finish(b *call.Batch, r call.Result) {
	if r.Err != nil {
		r.Err = r.Err.At(&e.call.Info)
	}
	e.sink.Complete(b, r)
}

// close ends the lane: what waits is told that the replica is gone, what runs may finish.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	queue := l.queue
	l.queue = nil
	for _, e := range queue {
		e.answered = true
		e.watched()
	}
	l.mu.Unlock()
	for _, e := range queue {
		e.finish(nil, call.Result{Err: e.unit.gone()})
	}
}

func (l *lane) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now != nil
}
