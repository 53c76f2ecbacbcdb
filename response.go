package helve

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
)

// Response is the answer to come of a call that is under way. It may be read any number of times, from any goroutine, and
// passed to other calls ([Method.RemoteFrom], [Fill]).
type Response[T any] struct {
	pending
	decoding sync.Mutex   // guards what follows, after the end
	payload  call.Payload // what value is made of; None where value was set at once, or the payload is not needed any more
	decoded  bool
	closed   bool // what payload shares was given up
	value    T
	err      error
}

// pending is the untyped part of a response: the state of a call that is under way. It ends once.
type pending struct {
	b    *binding
	info *call.Info

	mu     sync.Mutex
	ended  bool
	done   chan struct{} // made by the first who waits, closed at the end
	then   []func()      // told at the end
	flight call.Canceler
	stop   func() bool // ends the watch over the caller's context

	failure *call.Error // after the end
	cause   error       // of a cancel that ended it
}

// end ends p, once. The function set stores the answer; p.mu is held. end returns false if p had ended before.
func (p *pending) end(failure *call.Error, set func()) bool {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return false
	}
	if set != nil {
		set()
	}
	p.failure, p.ended = failure, true
	stop, then := p.stop, p.then
	p.stop, p.flight, p.then = nil, nil, nil
	if p.done != nil {
		close(p.done)
	}
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	for _, f := range then {
		f()
	}
	return true
}

// wait waits for the end of p, or of ctx (false).
func (p *pending) wait(ctx context.Context) bool {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return true
	}
	if p.done == nil {
		p.done = make(chan struct{})
	}
	p.mu.Unlock()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// whenEnded runs f after the end, on the goroutine that ends p, or at once if p has ended.
func (p *pending) whenEnded(f func()) {
	p.mu.Lock()
	if !p.ended {
		p.then = append(p.then, f)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	f()
}

// whenReadable is whenEnded for functions that read the value. If the value has to be decoded, f runs on a goroutine of its own,
// because the goroutine that ends a response may be the reader of a connection, and must not wait for code of the value's type.
func (r *Response[T]) whenReadable(f func()) {
	r.whenEnded(func() {
		if r.encoded() {
			go f()
		} else {
			f()
		}
	})
}

// encoded says, after the end, that the value was not there at once.
func (r *Response[T]) encoded() bool {
	return r.payload.Codec != call.None && r.payload.Codec != call.Native
}

// carry says what cancels p from now on. If p was cancelled while f set out, f is cancelled now.
func (p *pending) carry(f call.Canceler) {
	p.mu.Lock()
	ended, cause := p.ended, p.cause
	if !ended {
		p.flight = f
	}
	p.mu.Unlock()
	if ended && cause != nil {
		f.Cancel(nil, cause)
	}
}

// wanted says whether p still waits for its end.
func (p *pending) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

// runAt says which replica runs the call. false: it was cancelled before.
func (p *pending) runAt(replica string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info.Replica = replica
	return !p.ended
}

// watch cancels the call when ctx ends, until it has its answer.
func (p *pending) watch(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.stop = call.AfterFunc(ctx, func() { p.cancel(call.Cause(ctx)) })
	}
}

// cancel ends p for its caller at once, and asks the call to end.
func (p *pending) cancel(cause error) {
	if f, e := p.cancelling(cause); p.end(e, nil) && f != nil {
		f.Cancel(nil, cause)
	}
}

// cancelling notes the cause for a flight that has not set out yet. It returns the flight that has set out, if any.
func (p *pending) cancelling(cause error) (call.Canceler, *call.Error) {
	p.mu.Lock()
	if p.cause == nil && !p.ended {
		p.cause = cause
	}
	flight := p.flight
	p.mu.Unlock()
	e := call.FromCause(cause)
	if f, ok := flight.(interface{ Explain(*call.Error) *call.Error }); ok {
		e = f.Explain(e) // without the lock: it asks the node
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return flight, e.At(p.info)
}

// Cancel ends the call: Result gives an error with reason cancelled, and the method's context ends. A call that waits,
// for a slot or for its arguments, never starts. It does nothing to a call that has ended, and may be called any number of
// times.
func (p *pending) Cancel() { p.cancel(context.Canceled) }

// RequestID is the id of the request that the call belongs to, the same for all calls of a composition.
func (p *pending) RequestID() string { return p.info.Request.String() }

// Result waits for the answer. When ctx ends first its error is returned and the call runs on: Result may be called again.
func (r *Response[T]) Result(ctx context.Context) (T, error) {
	if !r.wait(ctx) {
		var none T
		return none, public(call.FromContext(ctx))
	}
	if r.failure != nil {
		var none T
		return none, public(r.b.arrived(r.failure))
	}
	if r.payload.Codec != call.None {
		return r.read(ctx)
	}
	return r.value, r.err
}

// Complete keeps the answer of a call that took another way than a function call.
func (r *remote[In, Out]) Complete(_ *call.Batch, res call.Result) {
	res.Own()
	if !r.end(res.Err, func() { r.payload = res.Payload }) {
		res.Release()
	}
}

// TakesParts says that an answer may lie somewhere else.
func (r *remote[In, Out]) TakesParts() {}

// Wanted is false once the response was cancelled.
func (r *remote[In, Out]) Wanted() bool { return r.wanted() }

// remote is a call made with Remote: the response and the state of the call in this process, in one piece of memory. It runs the method of a replica in this process on a goroutine of its own without another.
type remote[In, Out any] struct {
	Response[Out]
	m       *method[In, Out]
	in      In
	info    call.Info
	context call.Context
	caller  context.Context
	slot    serving.Replica
	replica *instance.Instance
}

// Remote sends the call on its way and returns at once. The method runs also if the response is never read. It is cancelled when
// ctx ends, with Cancel, or when its deadline passes.
func (m Method[In, Out]) Remote(ctx context.Context, in In) *Response[Out] {
	r := m.prepare(ctx)
	if !r.ended {
		r.begin(in)
		r.watch(ctx)
		r.scoped()
	}
	return &r.Response
}

// prepare makes a call that begins later. It may have ended already, with the error of a method that cannot be called.
func (m Method[In, Out]) prepare(ctx context.Context) *remote[In, Out] {
	r := &remote[In, Out]{m: m.m, caller: ctx}
	r.pending.info = &r.info
	if b := m.m; b == nil || b.err != nil {
		r.b, r.ended, r.failure = &binding{d: noDeployment}, true, b.failure(ctx)
		return r
	}
	r.b = &m.m.binding
	m.m.fill(ctx, &r.info)
	switch {
	case ctx.Err() != nil:
		r.ended, r.failure = true, call.FromContext(ctx).At(&r.info)
	case r.info.Depth >= maxDepth:
		r.ended, r.failure = true, call.TooDeep(&r.info)
	}
	return r
}

// begin sends the call on its way, with its input.
func (r *remote[In, Out]) begin(in In) {
	b := r.m
	r.in = in
	if b.fake != nil {
		r.start(b.fake, b.fake.replica)
		return
	}
	if d := b.d.dep.Load(); d != nil && b.invoke != nil {
		if d.ReadsInput() {
			shown(&r.info, in)
		}
		if s := d.TryAcquire(&r.info); s != nil {
			r.sendTo(d, s, false)
			return
		}
	}
	if b.invoke != nil && b.o == nil && r.info.Depth < maxDepth {
		if s := b.near(); s != nil {
			r.start(s, s.Instance())
			return
		}
	}
	if d := b.d.serving(); d != nil && b.invoke != nil && d.InProcess() {
		p := d.NewPlace(&r.info, queued[In, Out]{r, d})
		r.carry(p)
		p.Enter(origin(r.caller))
		return
	}
	c := b.untyped(r.caller, r.info, in)
	r.carry(b.submit(c, r))
}

// queued is a call that waits in this process for its slot, and still has its types: it runs as a call that found a slot at once does.
type queued[In, Out any] struct {
	r *remote[In, Out]
	d *serving.Deployment
}

// Assigned runs the call.
func (q queued[In, Out]) Assigned(s serving.Replica) {
	if e := endOf(q.r.caller); e != nil { // its watch is a moment late
		s.Gate().Release(nil)
		q.Failed(e)
		return
	}
	q.r.sendTo(q.d, s, false)
}

// Failed ends the call.
func (q queued[In, Out]) Failed(e *call.Error) { q.r.end(e.At(&q.r.info), nil) }

// endOf is the failure of a call whose caller's context has ended, or has a deadline that has passed; nil for another.
func endOf(ctx context.Context) *call.Error {
	if ctx.Err() != nil {
		return call.FromContext(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return call.FromCause(context.DeadlineExceeded)
	}
	return nil
}

// sendTo sends the call to a replica of which it has a slot. If it is pinned it goes to no other.
func (r *remote[In, Out]) sendTo(d *serving.Deployment, s serving.Replica, pinned bool) {
	if rep := s.Instance(); rep != nil && r.m.invoke != nil {
		r.start(s, rep)
		return
	}
	c := r.m.untyped(r.caller, r.info, r.in)
	if pinned {
		r.carry(d.SubmitTo(s, c, r))
	} else {
		r.carry(d.SubmitAssigned(s, c, r))
	}
}

// start runs the method on a goroutine of its own, with a slot that it gives back.
func (r *remote[In, Out]) start(s serving.Replica, rep *instance.Instance) {
	r.slot, r.replica = s, rep
	if !r.runAt(s.ID()) {
		s.Gate().Release(nil)
		return
	}
	deadline, _ := r.caller.Deadline()
	r.context.Init(r.caller, &r.info, deadline)
	r.carry(canceler{&r.context})
	go r.run()
}

// canceler ends the context of a method that runs.
type canceler struct{ c *call.Context }

func (c canceler) Cancel(_ *call.Batch, cause error) { c.c.Cancel(cause) }

func (r *remote[In, Out]) run() {
	var out Out
	x := instance.Execution{Of: r.replica, Call: &r.info, Caller: r.caller}
	defer func() {
		r.context.End()
		r.slot.Gate().Release(nil)
		failure := x.Failure
		if failure != nil {
			failure = failure.At(&r.info)
		}
		r.end(failure, func() { r.value = out })
	}()
	x.Run(func() (err error) {
		if r.caller.Err() == nil && r.context.Err() == nil { // the watch over the caller may be a moment late
			out, err = r.m.invoke(r.replica.Value, &r.context, r.in)
		}
		return err
	})
}

// RemoteFrom is Remote with the result of another call as its input, without waiting for that: the call begins when from
// has its answer, and counts as queued from then on. If from fails its error is this call's, as it is, and no replica is
// asked. Cancelling the call does not cancel from.
func (m Method[In, Out]) RemoteFrom(ctx context.Context, from *Response[In]) *Response[Out] {
	r := m.prepare(ctx)
	if r.ended {
		return &r.Response
	}
	r.watch(ctx)
	r.scoped()
	typed := func() (In, *call.Error) {
		in, err := from.Result(context.Background()) // it has ended: this does not wait for a method
		if err != nil {
			return in, call.AsError(err)
		}
		return in, nil
	}
	from.whenReadable(func() {
		if p, ok := from.apart(); ok && !m.m.keywords(reflect.TypeFor[In]()) {
			r.beginApart([]call.Slot{{Kind: call.Positional, Payload: p}}, typed)
		} else if in, e := typed(); e != nil {
			r.end(e, nil)
		} else {
			r.beginLater(in)
		}
	})
	return &r.Response
}

// beginLater is begin for a call that may have been cancelled meanwhile.
func (r *remote[In, Out]) beginLater(in In) {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if !ended {
		r.begin(in)
	}
}

// All waits for all responses and gives their values in order. The first failure in time is returned at once; the other
// calls run on.
func All[T any](ctx context.Context, rs ...*Response[T]) ([]T, error) {
	ends := make(chan int, len(rs))
	for i, r := range rs {
		r.whenEnded(func() { ends <- i })
	}
	out := make([]T, len(rs))
	for range rs {
		select {
		case i := <-ends:
			v, err := rs[i].Result(ctx)
			if err != nil {
				return nil, err
			}
			out[i] = v
		case <-ctx.Done():
			return nil, public(call.FromContext(ctx))
		}
	}
	return out, nil
}
