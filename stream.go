package helve

import (
	"context"
	"iter"
	"reflect"
	"runtime"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/response"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// Stream is a bound method that gives a sequence of values: a small value, safe for concurrent use. The zero Stream gives
// an error.
type Stream[In, Out any] struct{ s *stream[In, Out] }

type stream[In, Out any] struct {
	client.Binding
	invoke func(recv any, ctx context.Context, in In) iter.Seq2[Out, error] // as in method
}

func (s Stream[In, Out]) target() *graph.Deployment {
	if s.s == nil {
		return nil
	}
	return s.s.Deployment
}

// StreamOf binds a method expression whose method returns an iter.Seq2[Out, error]: StreamOf(h, (*D).Tokens). It checks
// what [MethodOf] does.
func StreamOf[R, In, Out any](h Handle[R], f func(R, context.Context, In) iter.Seq2[Out, error]) Stream[In, Out] {
	s := &stream[In, Out]{invoke: func(recv any, ctx context.Context, in In) iter.Seq2[Out, error] { return f(recv.(R), ctx, in) }}
	s.Binding = bind(h, reflect.ValueOf(f), "StreamOf", func(r *instance.Method) {
		r.Stream = func(ctx context.Context, recv, in any) iter.Seq2[any, error] {
			return func(yield func(any, error) bool) {
				v, _ := in.(In)
				for out, err := range f(recv.(R), ctx, v) {
					if !yield(out, err) {
						return
					}
				}
			}
		}
	})
	return Stream[In, Out]{s}
}

// StreamNamed binds a method that streams by name, as [MethodNamed] does.
func StreamNamed[In, Out any](h AnyHandle, name string) Stream[In, Out] {
	types := graph.Types{In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](), Stream: true}
	return Stream[In, Out]{&stream[In, Out]{Binding: client.Bind(graph.BindName(h.target(), name, types), h.options())}}
}

func (s Stream[In, Out]) ingress() (*graph.Binding, spec.IngressKind) {
	return s.bound(), spec.IngressStream
}

func (s Stream[In, Out]) bound() *graph.Binding {
	if s.s == nil {
		return nil
	}
	return &s.s.Binding.Binding
}

// failure returns the error of a stream that cannot be called at all.
func (b *stream[In, Out]) failure() *call.Error {
	if b == nil {
		return call.NewError(helvetype.ReasonBadInput, "a zero Stream: bind one with StreamOf")
	}
	return b.Unusable()
}

// Call gives the sequence without starting anything: the method runs while the sequence is ranged over, for a replica in
// this process on the caller's goroutine, and holds its slot until then. An error is yielded last and once. Breaking out
// of the loop cancels the method. The sequence can be ranged over once; a second range yields an error.
func (s Stream[In, Out]) Call(ctx context.Context, in In) iter.Seq2[Out, error] {
	b := s.s
	var ranged atomic.Bool
	return func(yield func(Out, error) bool) {
		fail := func(e *call.Error) {
			var none Out
			yield(none, public(e))
		}
		switch {
		case b == nil || b.Err != nil:
			fail(b.failure())
			return
		case ranged.Swap(true):
			fail(rangedTwice())
			return
		}
		c := &call.Inline{Caller: ctx, Breaks: true}
		b.Fill(ctx, &c.Info)
		c.Info.Link = call.Awaited
		switch {
		case ctx.Err() != nil:
			fail(call.FromContext(ctx).At(&c.Info))
			return
		case c.Info.Depth >= client.MaxDepth:
			fail(call.TooDeep(&c.Info))
			return
		}
		slot, rep, e := b.find(ctx, c, in)
		switch {
		case e != nil:
			fail(e)
		case rep == nil: // not a function call: take the items from a buffer
			r := s.remote(ctx, in, &c.Info, slot)
			defer r.Close()
			r.All()(yield)
		default:
			if e := b.inline(c, slot, rep, in, yield); e != nil {
				fail(e.At(&c.Info))
			}
		}
	}
}

func rangedTwice() *call.Error {
	return call.NewError(helvetype.ReasonBadInput, "the stream was ranged over before; call it again for another")
}

// find waits for a slot. rep is nil if the method cannot run on the caller's goroutine; so is slot in a worker.
func (b *stream[In, Out]) find(ctx context.Context, c *call.Inline, in In) (slot serving.Replica, rep *instance.Instance, e *call.Error) {
	if b.Fake != nil {
		return b.Fake, b.Fake.Instance(), nil
	}
	d := b.Deployment.Current()
	if d == nil {
		if b.invoke != nil && b.Options == nil && c.Info.Depth < client.MaxDepth {
			if slot = b.Near(); slot != nil {
				return slot, slot.Instance(), nil
			}
		}
		return nil, nil, nil
	}
	if b.Options == nil {
		slot = d.TryAcquireRecent()
	}
	if slot == nil {
		if d.ReadsInput() {
			client.ShowInput(&c.Info, in)
		}
		if slot, e = d.Acquire(ctx, &c.Info, client.Origin(ctx)); e != nil {
			return nil, nil, e
		}
	}
	if b.invoke != nil {
		rep = slot.Instance()
	}
	return slot, rep, nil
}

// inline runs the method on the caller's goroutine, with a slot that it gives back. The failure is not yet yielded.
func (b *stream[In, Out]) inline(c *call.Inline, slot serving.Replica, rep *instance.Instance, in In, yield func(Out, error) bool) *call.Error {
	c.Info.Replica = slot.ID()
	x := instance.Execution{Of: rep, Call: &c.Info, Caller: c.Caller, Streams: true, Inline: true}
	defer func() {
		c.End()
		slot.Gate().Release(nil)
	}()
	done := c.Caller.Done()
	x.Run(func() error {
		for v, err := range b.invoke(rep.Value, c, in) {
			if done != nil && c.Caller.Err() != nil {
				return call.FromContext(c.Caller)
			}
			if err != nil {
				x.Stop(err)
				break
			}
			x.Outside = true
			more := yield(v, nil)
			x.Outside = false
			if !more {
				x.Stop(nil)
				c.Cancel(context.Canceled)
				break
			}
		}
		return nil
	})
	return x.Failure
}

// ResponseStream is the sequence of a stream that is under way. The method runs at once, up to 64 items or 1 MB of strings or bytes
// ahead of the reader. All, Cancel and Close may be called from any goroutine.
type ResponseStream[T any] struct {
	f      *flow[T]
	ranged atomic.Bool
}

// Cancel ends the stream: a reader gets an error with reason cancelled, and the method's context ends. A call that waits
// for a slot never starts. It does nothing to a stream that has ended.
func (r *ResponseStream[T]) Cancel() { r.f.Cancel(context.Canceled) }

// Close ends the reading. The stream is cancelled if it has not ended, and items that wait are dropped.
func (r *ResponseStream[T]) Close() { r.f.Close() }

// RequestID is the id of the request that the call belongs to, the same for all calls of a composition.
func (r *ResponseStream[T]) RequestID() string { return r.f.Call.Request.String() }

// flow is a stream that is under way, and its binding. The ResponseStream is apart from it, so that it can be collected.
type flow[T any] struct {
	response.Stream[T]
	b *client.Binding // nil for a stream that cannot be called
}

// Remote starts the stream and returns at once. It is cancelled when ctx ends, with Cancel or Close, when its deadline
// passes, and when the ResponseStream is forgotten without having been read.
func (s Stream[In, Out]) Remote(ctx context.Context, in In) *ResponseStream[Out] {
	return s.remote(ctx, in, nil, nil)
}

// remote starts the stream; info and slot are set if the caller has them already.
func (s Stream[In, Out]) remote(ctx context.Context, in In, info *call.Info, slot serving.Replica) *ResponseStream[Out] {
	f := &flow[Out]{}
	f.Init()
	r := &ResponseStream[Out]{f: f}
	b := s.s
	if b == nil || b.Err != nil {
		f.Finish(b.failure())
		return r
	}
	f.b = &b.Binding
	if info != nil {
		f.Call = *info
	} else {
		b.Fill(ctx, &f.Call)
	}
	if ctx.Err() != nil {
		f.Finish(call.FromContext(ctx))
		if slot != nil {
			slot.Gate().Release(nil)
		}
		return r
	}
	if slot == nil && f.Call.Depth >= client.MaxDepth {
		f.Finish(call.TooDeep(&f.Call))
		return r
	}
	b.start(ctx, f, in, slot)
	f.Watch(ctx, f)
	// f does not lead to r, so r can be collected while the method runs.
	runtime.AddCleanup(r, func(f *flow[Out]) { f.Close() }, f)
	return r
}

// All gives the items as they come. An error is yielded last and once; breaking out of the loop cancels the stream. It can
// be ranged over once; a second range yields an error.
func (r *ResponseStream[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if r.ranged.Swap(true) {
			yield(none, public(rangedTwice()))
			return
		}
		defer r.Close()
		for {
			v, kind := r.f.Take()
			var err error
			switch kind {
			case response.End:
				if e := r.f.Last(); e != nil {
					yield(none, public(r.f.b.Restore(e)))
				}
				return
			case response.Encoded:
				if v, err = decode[T](r.f.b, r.f.Payload()); err != nil {
					r.Close()
					yield(none, public(call.AsError(err).At(&r.f.Call)))
					return
				}
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// start sends the call on its way, with a slot if the caller has one.
func (b *stream[In, Out]) start(ctx context.Context, f *flow[Out], in In, slot serving.Replica) {
	if b.Fake != nil {
		b.run(ctx, f, in, b.Fake, b.Fake.Instance())
		return
	}
	d := b.Deployment.Serving.Load()
	if d != nil && slot == nil {
		if d.ReadsInput() {
			client.ShowInput(&f.Call, in)
		}
		slot = d.TryAcquire(&f.Call)
	}
	if d == nil && slot == nil && b.invoke != nil && b.Options == nil && f.Call.Depth < client.MaxDepth {
		slot = b.Near()
	}
	if slot != nil && b.invoke != nil {
		if rep := slot.Instance(); rep != nil {
			b.run(ctx, f, in, slot, rep)
			return
		}
	}
	if next := b.Deployment.Current(); slot == nil && next != nil && b.invoke != nil && next.InProcess() {
		p := next.NewPlace(&f.Call, queuedStream[In, Out]{b, f, next, ctx, in})
		f.Carry(p)
		p.Enter(client.Origin(ctx))
		return
	}
	b.send(ctx, f, in, d, slot)
}

// send sends the call away without its types, with a slot if the caller has one.
func (b *stream[In, Out]) send(ctx context.Context, f *flow[Out], in In, d *serving.Deployment, slot serving.Replica) {
	c := b.Binding.Call(ctx, f.Call, untyped(in))
	sink := flowSink[Out]{f}
	c.Items, c.Unread = sink, f.Unread()
	if slot != nil {
		f.Carry(d.SubmitAssigned(slot, c, sink))
	} else {
		f.Carry(b.Submit(c, sink))
	}
}

// queuedStream is a stream that waits in this process for its slot, as queued is a call.
type queuedStream[In, Out any] struct {
	b   *stream[In, Out]
	f   *flow[Out]
	d   *serving.Deployment
	ctx context.Context // of the caller
	in  In
}

// Assigned runs the stream.
func (q queuedStream[In, Out]) Assigned(s serving.Replica) {
	if e := client.ContextEnd(q.ctx); e != nil {
		s.Gate().Release(nil)
		q.Failed(e)
		return
	}
	if rep := s.Instance(); rep != nil {
		q.b.run(q.ctx, q.f, q.in, s, rep)
		return
	}
	q.b.send(q.ctx, q.f, q.in, q.d, s)
}

// Failed ends the stream.
func (q queuedStream[In, Out]) Failed(e *call.Error) { q.f.Finish(e) }

// flowSink is given the items and the end of a stream that took another way than a function call.
type flowSink[T any] struct{ f *flow[T] }

// Item takes an item of a method in this process that was called without its types.
func (s flowSink[T]) Item(ctx context.Context, p call.Payload) bool {
	v, err := decode[T](s.f.b, p)
	if err != nil {
		s.f.Finish(call.AsError(err))
		return false
	}
	return s.f.Put(ctx, v)
}

// Frame takes items of a method in another process. The reader decodes them: this goroutine reads the connection.
func (s flowSink[T]) Frame(b *call.Batch, from call.Source, frame []byte) {
	s.f.Frame(b, from, frame)
}

// Wanted is false once the stream was cancelled.
func (s flowSink[T]) Wanted() bool { return s.f.Waiting() }

func (s flowSink[T]) Complete(_ *call.Batch, r call.Result) { s.f.Finish(r.Err) }

// run runs the method on a goroutine of its own, with a slot that it gives back.
func (b *stream[In, Out]) run(caller context.Context, f *flow[Out], in In, slot serving.Replica, rep *instance.Instance) {
	ctx := &call.Context{}
	if !f.RunAt(slot.ID()) {
		slot.Gate().Release(nil)
		return
	}
	deadline, _ := caller.Deadline()
	ctx.Init(caller, &f.Call, deadline)
	f.Carry(client.MethodContext{Context: ctx})
	go func() {
		x := instance.Execution{Of: rep, Call: &f.Call, Caller: caller, Streams: true, Unread: f.Unread()}
		defer func() {
			ctx.End()
			slot.Gate().Release(nil)
			f.Finish(x.Failure)
		}()
		x.Run(func() error {
			for v, err := range b.invoke(rep.Value, ctx, in) {
				if err != nil {
					x.Stop(err)
					break
				}
				if !f.Put(ctx, v) {
					if caller.Err() == nil {
						x.Stop(nil)
					}
					break
				}
			}
			return nil
		})
	}()
}
