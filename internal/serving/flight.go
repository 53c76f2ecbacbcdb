package serving

import (
	"context"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Flight is one call between its submission and its end: waiting in the router, admitted by a gate, started at a
// replica. It gives the slot back in one place and tells the sink in one place, each exactly once.
//
//	waiting --Assigned--> starting --Start returned--> running --Complete--> done
//	   ^                                                  |
//	   +------------------ not started ------------------+
//
// A cancelled flight answers its caller at once and keeps its slot until the method returned.
type Flight struct {
	ticket router.Ticket
	dep    *Deployment
	call   *call.Call
	sink   call.Sink
	in     *wire.Incoming // set while the arguments still lie in a read buffer
	timer  *time.Timer
	watch  *time.Timer // reports a cycle
	pinned bool        // to its replica
	again  bool        // the call was lost with a replica once, and runs again
	sent   attempt
	since  int64 // when it began to wait, by call.Now; 0 for a call that had a slot at once
	tries  uint8 // attempts that were lost

	mu        sync.Mutex
	state     flightState
	answered  bool
	cancelled error // a cancel that came while Start ran
	replica   Replica
	handle    transport.Handle
}

type flightState uint8

const (
	waiting flightState = iota
	starting
	running
	done
)

// Assigned has a slot of r: the call is admitted.
func (f *Flight) Assigned(b *call.Batch, got router.Replica) {
	r := replicaOf(got)
	f.mu.Lock()
	if f.answered { // cancelled while it was being assigned
		f.state = done
		f.mu.Unlock()
		r.Gate().Release(b)
		return
	}
	if e := expired(f.call, f.sink); e != nil { // its cancel is on the way
		f.state, f.answered = done, true
		f.mu.Unlock()
		f.dep.waited(&f.call.Info, f.call.Origin, f.since, e)
		r.Gate().Release(b)
		f.finish(b, call.Result{Err: e})
		return
	}
	f.state, f.replica = starting, r
	f.call.Info.Replica = r.ID()
	if f.watch != nil {
		f.watch.Stop()
	}
	f.mu.Unlock()
	if f.since != 0 {
		f.dep.waited(&f.call.Info, f.call.Origin, f.since, nil)
		f.dep.callers.Waited(callerOf(f.call), time.Duration(call.Now()-f.since))
	}
	if f.in != nil && (r.Transport().Keeps() || f.repeatable()) {
		f.keep()
	}
	f.sent = r.base().begin(r, f.call) // before Start, whose end may come first
	h := r.Transport().Start(b, f.call, f)
	f.mu.Lock()
	cancelled := f.cancelled
	// f may be done by now, and even be under way again at another replica.
	if f.state == starting && f.replica == r {
		f.state, f.handle = running, h
	}
	f.mu.Unlock()
	if cancelled != nil {
		h.Cancel(b, cancelled)
	}
}

// expired is why a call must not start any more, nil if it may.
func expired(c *call.Call, sink call.Sink) *call.Error {
	if c.Info.Depth >= wire.MaxDepth { // of a caller that took its slot without asking whether the deployment refuses
		return call.TooDeep(&c.Info)
	}
	if !c.Deadline.IsZero() && !time.Now().Before(c.Deadline) {
		return call.FromCause(context.DeadlineExceeded)
	}
	if c.Values != nil && c.Values.Err() != nil {
		return call.FromContext(c.Values)
	}
	if w, ok := sink.(call.Wanter); ok && !w.Wanted() { // cancelled before its caller had the flight
		return call.FromCause(context.Canceled)
	}
	return nil
}

// Failed is told that the deployment is gone.
func (f *Flight) Failed(b *call.Batch, cause *call.Error) {
	f.mu.Lock()
	answered := f.answered
	f.state, f.answered = done, true
	f.mu.Unlock()
	if !answered {
		f.dep.waited(&f.call.Info, f.call.Origin, f.since, cause)
		f.finish(b, call.Result{Err: cause})
	}
}

// repeatable says that the call may run twice. A stream's items are with its reader already.
func (f *Flight) repeatable() bool {
	return f.call.Options != nil && f.call.Options.Idempotent && f.call.Items == nil
}

// expireAfter cancels the flight when its deadline passes; 0 is none.
func (f *Flight) expireAfter(left time.Duration) {
	if left > 0 {
		f.mu.Lock() // the timer may fire before it is assigned
		f.timer = time.AfterFunc(left, func() { f.Cancel(nil, context.DeadlineExceeded) })
		f.mu.Unlock()
	}
}

// waits notes since when the call waits for a slot. The timer of its deadline may fire at any moment from [Flight.expireAfter] on, and reads it.
func (f *Flight) waits() {
	f.mu.Lock()
	f.since = call.Now()
	f.mu.Unlock()
}

func (f *Flight) keep() {
	if f.in != nil {
		f.in.Keep()
		f.in = nil
	}
}

// Complete is told by the transport how the attempt ended.
func (f *Flight) Complete(b *call.Batch, r call.Result) {
	f.mu.Lock()
	rep, answered := f.replica, f.answered
	lost := r.Lost && !f.again && f.repeatable()
	f.again = f.again || lost
	retry := (r.NotStarted || lost) && !answered && !f.pinned
	f.handle = transport.Handle{}
	if retry {
		f.state, f.replica, f.since = waiting, nil, call.Now()
	} else {
		f.state, f.answered = done, true
	}
	f.mu.Unlock()
	ended := rep.base().count(rep, f.sent, r)
	if ended != 0 && !r.NotStarted {
		f.dep.noteCaller(f.call, r.Err)
	}
	if !answered { // else Cancel has left the record
		f.record(rep, ended, r.Err, retry)
	}
	if r.Err != nil && !answered {
		f.fault(rep, r.Err)
	}
	if r.NotStarted || r.Lost { // no other call should be sent there; the replica is removed when its process has ended
		rep.base().gate.Close()
	}
	if retry {
		if r.Unsent != nil && len(f.call.Encoded.Shared) == 0 {
			// Shared stays as it is, empty: a cancel of the call looks at it.
			e := &f.call.Encoded
			e.Slots, e.Table, e.Body = r.Unsent.Slots, r.Unsent.Table, r.Unsent.Body
			f.in = nil
		}
		f.keep()
	}
	rep.Gate().Release(b)
	if retry {
		if above := ancestors(f.call); above != nil {
			f.mu.Lock()
			f.call.Info.Above = above
			f.mu.Unlock()
		}
		f.dep.Router.Requeue(b, &f.ticket, f.call.Origin, &f.call.Info, f)
		f.leave()
		if f.call.Info.Above != nil {
			f.suspect(b)
		}
		return
	}
	if answered {
		r.Release()
		return
	}
	f.finish(b, r)
}

// at is the replica that runs the call; nil while the call waits or is being sent, and when the replica has answered. For example, a replica
// that is to stop has sent its last answer: its slot is free, so it stops, and the sink has the answer a moment later.
func (f *Flight) at() Replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == starting || f.state == done {
		return nil
	}
	return f.replica
}

// TakesParts says that results may come in parts: the flight fits them to its own sink.
func (f *Flight) TakesParts() {}

// Cancel ends the flight for its caller; cause says why. It does nothing once the caller has its answer.
func (f *Flight) Cancel(b *call.Batch, cause error) {
	f.mu.Lock()
	if f.answered {
		f.mu.Unlock()
		return
	}
	f.answered = true
	if f.watch != nil {
		f.watch.Stop()
	}
	state, h, at, since := f.state, f.handle, f.replica, f.since
	if state == starting {
		f.cancelled = cause
	}
	f.mu.Unlock()
	if state == waiting {
		f.dep.Router.Cancel(&f.ticket) // false: Assigned is on its way and gives the slot back
	}
	e := call.FromCause(cause)
	if state == waiting {
		e = f.dep.explain(e)
		f.dep.waited(&f.call.Info, f.call.Origin, since, e)
	} else {
		f.fault(at, e)
		if state == running && !Local(at) {
			f.record(at, call.Now(), e, false)
		}
	}
	f.finish(b, call.Result{Err: e})
	h.Cancel(b, cause)
}

// Explain adds the reason of the wait, if it is known, to the failure of a call that is being cancelled.
func (f *Flight) Explain(e *call.Error) *call.Error {
	f.mu.Lock()
	waits := f.state == waiting && !f.answered
	f.mu.Unlock()
	if waits {
		return f.dep.explain(e)
	}
	return e
}

// leave takes the flight out of the queue if it was cancelled on its way there, so that it holds no place.
func (f *Flight) leave() {
	f.mu.Lock()
	gone := f.answered && f.state == waiting
	f.mu.Unlock()
	if gone {
		f.dep.Router.Cancel(&f.ticket)
	}
}

// suspect looks whether a call that was submitted waits for its own ancestors.
func (f *Flight) suspect(b *call.Batch) {
	f.mu.Lock()
	waits := f.state == waiting && !f.answered
	info := f.call.Info // a copy: a slot that comes meanwhile writes its replica there
	f.mu.Unlock()
	if !waits {
		return
	}
	cycle, hopeless := f.dep.cycle(&info)
	switch {
	case hopeless:
		f.Cancel(b, cycle)
	case cycle != nil:
		f.mu.Lock()
		if f.state == waiting && !f.answered {
			f.watch = f.dep.reportLater(cycle)
		}
		f.mu.Unlock()
	}
}

// record leaves a record of an attempt in another process that has ended for its caller; ended is 0 for an attempt in this process, where the instance
// leaves it.
func (f *Flight) record(r Replica, ended int64, e *call.Error, again bool) {
	i := &f.call.Info
	if ended == 0 || f.dep.Trace == nil || !trace.Wants(ended-f.sent.at, e != nil, i) {
		return
	}
	kind := trace.Call
	if f.call.Items != nil && f.call.Exchange == nil { // the parts of an HTTP request are no stream of items
		kind = trace.Stream
	}
	rec := trace.Of(i, kind, e)
	rec.Begin, rec.End, rec.Attempt, rec.Again, rec.Replica = call.Unix(f.sent.at), call.Unix(ended), f.tries, again, r.ID()
	if again {
		f.tries++
	}
	f.dep.Trace.Record(rec)
}

func (f *Flight) finish(b *call.Batch, r call.Result) {
	if f.timer != nil {
		f.timer.Stop()
	}
	if r.Err != nil {
		r.Err = r.Err.At(&f.call.Info)
	}
	r.Fit(f.sink)
	f.sink.Complete(b, r)
}
