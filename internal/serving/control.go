package serving

import (
	"fmt"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/transport"
)

// ControlQueue is the queue of a replica for calls that take no slot, which are the parts of broadcasts. One of them runs at a
// time. For example, two broadcasts reach a replica whose slots are all taken: the first runs at once beside the calls that have the
// slots, and the second when the first has ended.
type ControlQueue struct {
	mu     sync.Mutex
	closed bool
	now    *ControlCall
	queue  []*ControlCall
}

// controlOrigin is the queue in the records of waits for a control queue.
const controlOrigin = "broadcast"

// ControlCall is a call to one replica through its control queue.
type ControlCall struct {
	dep  *Deployment
	to   Replica
	call *call.Call
	sink call.Sink

	since   int64 // when it began to wait, by call.Now
	started bool  // the transport has the call
	sent    attempt

	// Guarded by the queue's mu.
	answered bool
	watch    *time.Timer // reports a cycle; nil for none
	handle   transport.Handle
}

// Targets are the replicas that run now.
func (d *Deployment) Targets() ([]Replica, *call.Error) {
	if e := d.down.Load(); e != nil {
		return nil, e
	}
	if former := d.formerReplicas(); former != nil {
		return former, nil
	}
	rs := d.Router.Replicas()
	if len(rs) == 0 {
		return nil, call.NewError(helvetype.ReasonDeploymentUnavailable, fmt.Sprintf("deployment %s has no replica to broadcast to", d.Name))
	}
	targets := make([]Replica, len(rs))
	for i, r := range rs {
		targets[i] = replicaOf(r)
	}
	return targets, nil
}

// SubmitControl sends a call to one replica through its control queue. The sink is told its end exactly once.
func (d *Deployment) SubmitControl(r Replica, c *call.Call, sink call.Sink) *ControlCall {
	l := r.base().Control()
	c.Info.Replica = r.ID()
	if c.Above != nil && Local(r) {
		c.Info.Above = ancestors(c)
	}
	c.Info.Control = true
	c.Mode = call.Broadcast // so that its worker counts no slot
	e := &ControlCall{dep: d, to: r, call: c, sink: sink, since: call.Now()}
	if failure := d.refuses(&c.Info); failure != nil {
		e.answered = true
		e.finish(nil, call.Result{Err: failure})
		return e
	}
	var cycle *call.Error
	var hopeless bool
	if l.Busy() { // the call may have to wait
		info := c.Info
		info.Above = ancestors(c)
		cycle, hopeless = d.broadcastCycle(&info)
	}
	l.mu.Lock()
	switch {
	case l.closed:
		e.answered = true
		l.mu.Unlock()
		e.finish(nil, call.Result{Err: gone(r)})
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

func gone(r Replica) *call.Error {
	return call.NewError(helvetype.ReasonReplicaUnavailable, fmt.Sprintf("replica %s was gone before the call was sent", r.ID()))
}

func (e *ControlCall) start(b *call.Batch) {
	l := e.to.base().Control()
	l.mu.Lock()
	cancelled := e.answered
	e.unwatch()
	l.mu.Unlock()
	if cancelled { // between the queue and here
		e.next()
		return
	}
	if failure := expired(e.call, e.sink); failure != nil { // its cancel is on the way
		e.dep.waited(&e.call.Info, controlOrigin, e.since, failure)
		e.Complete(b, call.Result{Err: failure})
		return
	}
	e.dep.waited(&e.call.Info, controlOrigin, e.since, nil)
	e.started = true
	e.sent = e.to.base().begin(e.to, e.call)
	h := e.to.Transport().Start(b, e.call, e)
	l.mu.Lock()
	e.handle = h
	cancelled = e.answered && l.now == e
	l.mu.Unlock()
	if cancelled {
		h.Cancel(b, call.NewError(helvetype.ReasonCancelled, "the broadcast was cancelled"))
	}
}

// Complete is told by the transport how the call ended, and starts the next.
func (e *ControlCall) Complete(b *call.Batch, r call.Result) {
	if e.started {
		ended := e.to.base().count(e.to, e.sent, r)
		if ended != 0 && !r.NotStarted {
			e.dep.noteCaller(e.call, r.Err)
		}
		e.record(ended, r)
	}
	if r.NotStarted {
		r = call.Result{Err: gone(e.to)}
	}
	l := e.to.base().Control()
	l.mu.Lock()
	answered := e.answered
	e.answered = true
	l.mu.Unlock()
	if !answered {
		e.finish(b, r)
	}
	e.next()
}

// record leaves a record of a call in another process that has ended.
func (e *ControlCall) record(ended int64, r call.Result) {
	if ended != 0 && e.dep.Trace != nil && trace.Wants(ended-e.sent.at, r.Err != nil, &e.call.Info) {
		trace.Ended(e.dep.Trace, &e.call.Info, trace.Broadcast, e.sent.at, ended, r.Err)
	}
}

// next starts the next call, on a goroutine of its own: calls that end at once would nest.
func (e *ControlCall) next() {
	l := e.to.base().Control()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = nil
	if len(l.queue) > 0 {
		l.now, l.queue = l.queue[0], l.queue[1:]
		go l.now.start(nil)
	}
}

// Cancel ends the call for its caller. A call that waits never starts.
func (e *ControlCall) Cancel(b *call.Batch, cause error) {
	l := e.to.base().Control()
	l.mu.Lock()
	if e.answered {
		l.mu.Unlock()
		return
	}
	e.answered = true
	e.unwatch()
	h, waits := e.handle, false
	for i, w := range l.queue {
		if w == e {
			waits = true
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	failure := call.FromCause(cause)
	if waits {
		e.dep.waited(&e.call.Info, controlOrigin, e.since, failure)
	}
	e.finish(b, call.Result{Err: failure})
	h.Cancel(b, cause)
}

// unwatch ends the watch over the wait of the call. The queue's mu is held.
func (e *ControlCall) unwatch() {
	if e.watch != nil {
		e.watch.Stop()
	}
}

func (e *ControlCall) finish(b *call.Batch, r call.Result) {
	if r.Err != nil {
		r.Err = r.Err.At(&e.call.Info)
	}
	e.sink.Complete(b, r)
}

// Close ends the queue: calls that wait are told that the replica is gone, and the call that runs may finish.
func (l *ControlQueue) Close() {
	l.mu.Lock()
	l.closed = true
	queue := l.queue
	l.queue = nil
	for _, e := range queue {
		e.answered = true
		e.unwatch()
	}
	l.mu.Unlock()
	for _, e := range queue {
		failure := gone(e.to)
		e.dep.waited(&e.call.Info, controlOrigin, e.since, failure)
		e.finish(nil, call.Result{Err: failure})
	}
}

// Busy says whether a call runs.
func (l *ControlQueue) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now != nil
}
