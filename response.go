package helve

import (
	"context"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/response"
)

// Response is the answer to come of a call that is under way. It may be read any number of times, from any goroutine, and
// passed to other calls ([Method.RemoteFrom], [Fill]).
type Response[T any] struct {
	r     *response.Response
	b     *client.Binding // nil for a method that cannot be called
	value T               // of a function call, or made of the payload of r
	err   error           // of the decoding of the payload
}

// Cancel ends the call: Result gives an error with reason cancelled, and the method's context ends. A call that waits,
// for a slot or for its arguments, never starts. It does nothing to a call that has ended, and may be called any number of
// times.
func (r *Response[T]) Cancel() { r.r.Cancel(context.Canceled) }

// RequestID is the id of the request that the call belongs to, the same for all calls of a composition.
func (r *Response[T]) RequestID() string { return r.r.Info.Request.String() }

// Result waits for the answer. When ctx ends first its error is returned and the call runs on: Result may be called again.
func (r *Response[T]) Result(ctx context.Context) (T, error) {
	if !r.r.Wait(ctx) {
		var none T
		return none, public(call.FromContext(ctx))
	}
	if e := r.r.Failure(); e != nil {
		var none T
		return none, public(r.b.Restore(e))
	}
	if r.r.HasPayload() {
		decode := func(p call.Payload) { r.value, r.err = decode[T](r.b, p) }
		if e := r.r.Read(ctx, r.b.Options.ByReference(), decode); e != nil {
			var none T
			return none, public(e)
		}
	}
	return r.value, r.err
}

// remote is a call made with Remote: the response, the call and their types, in one piece of memory.
type remote[In, Out any] struct {
	Response[Out]
	client.Remote
	m  *method[In, Out]
	in In
}

// Input is for package client.
func (r *remote[In, Out]) Input() any { return untyped(r.in) }

// Run is for package client. A response that has a failure is never asked for its value, so no lock is needed.
func (r *remote[In, Out]) Run(ctx context.Context, instance any) (err error) {
	r.value, err = r.m.invoke(instance, ctx, r.in)
	return err
}

// Remote sends the call on its way and returns at once. The method runs also if the response is never read. It is cancelled when
// ctx ends, with Cancel, or when its deadline passes.
func (m Method[In, Out]) Remote(ctx context.Context, in In) *Response[Out] {
	r, ok := m.prepare(ctx)
	if ok {
		r.in = in
		r.Begin()
		r.Watch()
	}
	return &r.Response
}

// prepare makes a call that begins later. ok is false if the call has ended already, with the error of a method that cannot be called.
func (m Method[In, Out]) prepare(ctx context.Context) (r *remote[In, Out], ok bool) {
	r = &remote[In, Out]{m: m.m}
	r.r = &r.Answer
	if b := m.m; b == nil || b.Err != nil {
		r.Refuse(b.failure())
		return r, false
	}
	r.b = &m.m.Binding
	return r, r.Prepare(ctx, r.b, r)
}

// RemoteFrom is Remote with the result of another call as its input, without waiting for that: the call begins when from
// has its answer, and counts as queued from then on. If from fails its error is this call's, as it is, and no replica is
// asked. Cancelling the call does not cancel from.
func (m Method[In, Out]) RemoteFrom(ctx context.Context, from *Response[In]) *Response[Out] {
	r, ok := m.prepare(ctx)
	if !ok {
		return &r.Response
	}
	r.Watch()
	fill := func() *call.Error {
		in, err := from.Result(context.Background()) // it has ended: this does not wait for a method
		if err != nil {
			return call.AsError(err)
		}
		r.in = in
		return nil
	}
	from.r.WhenReadable(func() {
		if p, ok := from.r.Apart(); ok && !r.b.TakesKeywords(reflect.TypeFor[In]()) {
			r.BeginApart([]call.Slot{{Kind: call.Positional, Payload: p}}, fill)
		} else if e := fill(); e != nil {
			r.Fail(e)
		} else {
			r.BeginLater()
		}
	})
	return &r.Response
}

// All waits for all responses and gives their values in order. The first failure in time is returned at once; the other
// calls run on.
func All[T any](ctx context.Context, rs ...*Response[T]) ([]T, error) {
	ends := make(chan int, len(rs))
	for i, r := range rs {
		r.r.WhenEnded(func() { ends <- i })
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
