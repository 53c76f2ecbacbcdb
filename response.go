package helve

import (
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Response is the answer to come of a call that is under way. It may be read any number of times, from any goroutine.
type Response[T any] struct {
	pending
	decode sync.Once
	value  T
	err    error
}

// pending is the untyped part of a response, and the sink of its call.
type pending struct {
	b    *binding
	id   call.ID
	done chan struct{}

	mu     sync.Mutex
	flight call.Canceler
	stop   func() bool // ends the watch over the caller's context
	ended  bool

	payload call.Payload // after done
	failure *call.Error
}

// Remote sends the call on its way and returns at once. The method runs whether or not anybody reads the response; it is
// cancelled when ctx ends, with [Response.Cancel], or when its deadline passes.
func (m Method[In, Out]) Remote(ctx context.Context, in In) *Response[Out] {
	b := m.m
	if b == nil || b.err != nil {
		return failed[Out](&binding{d: &deployment{app: &App{}}}, call.Info{}, b.failure(ctx))
	}
	c := b.prepare(ctx, in)
	if ctx.Err() != nil {
		return failed[Out](&b.binding, c.Info, call.FromContext(ctx).At(&c.Info))
	}
	r := &Response[Out]{}
	r.b, r.id, r.done = &b.binding, c.Info.Request, make(chan struct{})
	r.watch(ctx, b.submit(c, (*sink)(&r.pending)))
	return r
}

// watch cancels the call when ctx ends, until it has its answer.
func (p *pending) watch(ctx context.Context, f call.Canceler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.flight = f
	if ctx.Done() != nil {
		p.stop = call.AfterFunc(ctx, func() { f.Cancel(nil, call.Cause(ctx)) })
	}
}

func failed[T any](b *binding, i call.Info, e *call.Error) *Response[T] {
	r := &Response[T]{}
	r.b, r.id, r.done, r.ended, r.failure = b, i.Request, make(chan struct{}), true, e
	close(r.done)
	return r
}

// sink keeps Complete out of the public methods of Response.
type sink pending

func (r *sink) Complete(_ *call.Batch, res call.Result) {
	if len(res.Data) > 0 {
		res.Data = append([]byte(nil), res.Data...)
	}
	r.mu.Lock()
	r.payload, r.failure, r.ended = res.Payload, res.Err, true
	stop := r.stop
	r.stop, r.flight = nil, nil
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
	close(r.done)
}

// Result waits for the answer. When ctx ends first its error is returned and the call runs on: Result may be called again.
func (r *Response[T]) Result(ctx context.Context) (T, error) {
	select {
	case <-r.done:
	default:
		select {
		case <-r.done:
		case <-ctx.Done():
			var none T
			return none, call.FromContext(ctx)
		}
	}
	if r.failure != nil {
		var none T
		return none, r.failure
	}
	r.decode.Do(func() {
		r.value, r.err = decode[T](r.b, r.payload)
		r.payload = call.Payload{}
	})
	return r.value, r.err
}

// Cancel ends the call: Result gives an error with reason cancelled, and the method's context ends. It does nothing to
// a call that has ended, and may be called any number of times.
func (r *Response[T]) Cancel() {
	r.mu.Lock()
	f := r.flight
	r.mu.Unlock()
	if f != nil {
		f.Cancel(nil, context.Canceled)
	}
}

// RequestID is the id of the request that the call belongs to, the same for all calls of a composition.
func (r *Response[T]) RequestID() string { return r.id.String() }
