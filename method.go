package helve

import (
	"context"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// None is the input of a method that takes nothing, and the output of a method that gives nothing.
type None struct{ empty }

type empty = call.Empty

// Args has arguments of both kinds, for the constructors and methods of deployments written in Python. For example,
// Args{Positional: []any{"bert"}, Named: map[string]any{"top_k": 3}} is Python's ("bert", top_k=3).
type Args struct {
	// Positional has the arguments without a name, in order.
	Positional []any
	// Named has the keyword arguments by their names.
	Named map[string]any
}

// Handle is a client of one deployment. R says which methods there are; for a deployment in another language or binary
// R is an interface. It is a small value: copy it freely, use it from any goroutine. Handles that were derived with
// [Handle.With] share the router.
type Handle[R any] struct {
	d *graph.Deployment
	o *client.Options // nil for none
}

// AnyHandle is a handle whose R does not matter. It is sealed.
type AnyHandle interface {
	Target
	// Deployment returns the name of the deployment.
	Deployment() string
	options() *client.Options
}

func (h Handle[R]) target() *graph.Deployment { return h.d }
func (h Handle[R]) options() *client.Options  { return h.o }

// Deployment is the name of the deployment.
func (h Handle[R]) Deployment() string {
	if h.d == nil {
		return ""
	}
	return h.d.Name
}

// Method is a bound method of a deployment, with which code calls it: a small value, safe for concurrent use. The zero Method
// returns an error.
type Method[In, Out any] struct{ m *method[In, Out] }

type method[In, Out any] struct {
	client.Binding
	// invoke runs the method of an instance in this process, without boxing; nil when it was bound by name.
	invoke func(recv any, ctx context.Context, in In) (Out, error)
}

func (m Method[In, Out]) target() *graph.Deployment {
	if m.m == nil {
		return nil
	}
	return m.m.Deployment
}

func (m Method[In, Out]) ingress() (*graph.Binding, spec.IngressKind) {
	return m.bound(), spec.IngressMethod
}

func (m Method[In, Out]) bound() *graph.Binding {
	if m.m == nil {
		return nil
	}
	return &m.m.Binding.Binding
}

// MethodOf binds a method expression: MethodOf(h, (*D).SayHi). The compiler checks receiver, input and output; that it
// is an exported method and no closure is checked here, and a mistake is returned by [Run] (or by the call, when the
// binding is made later).
func MethodOf[R, In, Out any](h Handle[R], f func(R, context.Context, In) (Out, error)) Method[In, Out] {
	m := &method[In, Out]{invoke: func(recv any, ctx context.Context, in In) (Out, error) { return f(recv.(R), ctx, in) }}
	m.Binding = bind(h, reflect.ValueOf(f), "MethodOf", func(r *instance.Method) {
		r.Invoke = func(ctx context.Context, recv, in any) (any, error) {
			v, _ := in.(In) // nil for a nil interface
			return f(recv.(R), ctx, v)
		}
	})
	return Method[In, Out]{m}
}

// ActionOf is [MethodOf] for methods without a result.
func ActionOf[R, In any](h Handle[R], f func(R, context.Context, In) error) Method[In, None] {
	m := &method[In, None]{invoke: func(recv any, ctx context.Context, in In) (None, error) { return None{}, f(recv.(R), ctx, in) }}
	m.Binding = bind(h, reflect.ValueOf(f), "ActionOf", func(r *instance.Method) {
		r.Invoke = func(ctx context.Context, recv, in any) (any, error) {
			v, _ := in.(In)
			return None{}, f(recv.(R), ctx, v)
		}
	})
	return Method[In, None]{m}
}

// MethodNamed binds a method by name; "" is the default method. Name and types are checked by [Run] where the method is
// the ingress or in [Options].Uses, and by every call: in the node's process the types must be the method's own, or
// interfaces that they fit; elsewhere what is sent must decode into them.
func MethodNamed[In, Out any](h AnyHandle, name string) Method[In, Out] {
	types := graph.Types{In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out]()}
	return Method[In, Out]{&method[In, Out]{Binding: client.Bind(graph.BindName(h.target(), name, types), h.options())}}
}

// bind finds the method that f is an expression of. note gets its entry in the table of methods: [graph.Bind].
func bind[R any](h Handle[R], f reflect.Value, by string, note func(*instance.Method)) client.Binding {
	return client.Bind(graph.Bind(h.d, reflect.TypeFor[R](), f, by, note), h.o)
}

// Call calls the method and waits for the answer. A replica in this process runs it on the caller's goroutine, so Call
// may return late when the method ignores a context that has ended; the result is then the context's cause all the
// same. A method that ends its goroutine with runtime.Goexit there ends the caller's, as any function does that it calls;
// the slot is given back, and a caller that is a method itself fails for its own caller. Errors are *[Error].
func (m Method[In, Out]) Call(ctx context.Context, in In) (Out, error) {
	b := m.m
	if b == nil || b.Err != nil {
		return zero[Out](b.failure())
	}
	d := b.Deployment.Serving.Load()
	if b.invoke == nil || b.Options != nil || ctx.Err() != nil {
		return b.call(ctx, in)
	}
	if d == nil {
		if r := b.Near(); r != nil {
			return b.nested(ctx, r, in)
		}
		return b.call(ctx, in)
	}
	r := d.TryAcquireRecent()
	if r == nil {
		return b.call(ctx, in)
	}
	c := &call.Inline{Caller: ctx}
	b.Fill(ctx, &c.Info)
	c.Info.Link = call.Awaited
	if rep := r.Instance(); rep != nil {
		return b.inline(c, r, rep, in)
	}
	return b.send(ctx, c.Info, d, r, in)
}

// call is Call off the fast path: for a fake, in a worker, with options, or when the call has to wait for a slot.
func (b *method[In, Out]) call(ctx context.Context, in In) (Out, error) {
	c := &call.Inline{Caller: ctx}
	b.Fill(ctx, &c.Info)
	c.Info.Link = call.Awaited
	if ctx.Err() != nil {
		return zero[Out](call.FromContext(ctx).At(&c.Info))
	}
	if b.Fake != nil {
		return b.inline(c, b.Fake, b.Fake.Instance(), in)
	}
	d := b.Deployment.Current()
	if d == nil {
		u := b.Binding.Call(ctx, c.Info, untyped(in))
		u.Options = u.Options.Awaited()
		w := call.NewWaiter()
		return b.result(w.Wait(ctx, b.Submit(u, w)))
	}
	if d.ReadsInput() {
		client.ShowInput(&c.Info, in)
	}
	r, e := d.Acquire(ctx, &c.Info, client.Origin(ctx))
	if e != nil {
		return zero[Out](e)
	}
	if rep := r.Instance(); rep != nil && b.invoke != nil {
		return b.inline(c, r, rep, in)
	}
	return b.send(ctx, c.Info, d, r, in)
}

// send sends the call to a replica that the caller has a slot of, and waits.
func (b *method[In, Out]) send(ctx context.Context, i call.Info, d *serving.Deployment, r serving.Replica, in In) (Out, error) {
	c := b.Binding.Call(ctx, i, untyped(in))
	w := call.NewWaiter()
	return b.result(w.Wait(ctx, d.SubmitAssigned(r, c, w)))
}

// nested runs the method of a replica of this worker on the caller's goroutine, under a slot that the node has lent and does not see.
func (b *method[In, Out]) nested(ctx context.Context, r serving.Replica, in In) (out Out, err error) {
	n := client.Nest(ctx, r)
	b.Fill(ctx, &n.Info)
	n.Info.Link = call.Awaited
	n.Info.Replica = r.ID()
	x := instance.Execution{Of: r.Instance(), Call: &n.Info, Caller: ctx, Inline: true}
	defer func() {
		first := n.End()
		r.Gate().Release(nil)
		if x.Failure != nil {
			if first {
				serving.Fault(r, &n.Info, x.Failure)
			}
			var none Out
			out, err = none, public(x.Failure.At(&n.Info))
		}
	}()
	if n.Info.Depth >= client.MaxDepth {
		return out, public(call.TooDeep(&n.Info))
	}
	n.Begin()
	x.Run(func() (err error) {
		out, err = b.invoke(r.Instance().Value, &n.Inline, in)
		return err
	})
	return out, nil
}

// inline runs the method on the caller's goroutine, with a slot of r that it gives back.
func (b *method[In, Out]) inline(c *call.Inline, r serving.Replica, rep *instance.Instance, in In) (out Out, err error) {
	c.Info.Replica = r.ID()
	x := instance.Execution{Of: rep, Call: &c.Info, Caller: c.Caller, Inline: true}
	defer func() {
		c.End()
		r.Gate().Release(nil)
		if x.Failure != nil {
			serving.Fault(r, &c.Info, x.Failure)
			var none Out
			out, err = none, public(x.Failure.At(&c.Info))
		}
	}()
	if c.Info.Depth >= client.MaxDepth {
		return out, public(call.TooDeep(&c.Info))
	}
	x.Run(func() (err error) {
		out, err = b.invoke(rep.Value, c, in)
		return err
	})
	return out, nil
}

// untyped returns an input as the packages below this one know it.
func untyped(in any) any {
	if args, ok := in.(Args); ok {
		return call.Args(args)
	}
	return in
}

func (b *method[In, Out]) result(p call.Payload, e *call.Error) (Out, error) {
	if e != nil {
		return zero[Out](b.Restore(e))
	}
	defer p.Release()
	return decode[Out](&b.Binding, p)
}

// decode makes the value of a result.
func decode[Out any](b *client.Binding, p call.Payload) (out Out, err error) {
	bad := func(message string, cause error) *call.Error {
		e := call.NewError(helvetype.ReasonBadInput, message)
		e.App, e.Deployment, e.Method, e.Cause = b.Deployment.App.Name, b.Deployment.Name, b.Name, cause
		return e
	}
	if p.Codec == call.Native {
		if _, none := p.Value.(call.Empty); none {
			p.Value = None{}
		}
		out, ok := p.Value.(Out)
		if !ok && p.Value != nil {
			return out, public(bad(fmt.Sprintf("the method returns %T, the caller wants %s", p.Value, reflect.TypeFor[Out]()), nil))
		}
		return out, nil
	}
	if _, none := any(out).(None); none {
		return out, nil
	}
	if err := graph.Codec.DecodePayload(p, &out); err != nil {
		if e := codec.Panicked("the result cannot be decoded", err); e != nil {
			e.App, e.Deployment, e.Method = b.Deployment.App.Name, b.Deployment.Name, b.Name
			return out, public(e)
		}
		return out, public(bad(fmt.Sprintf("the result does not fit %s: %v", reflect.TypeFor[Out](), err), err))
	}
	return out, nil
}

// failure returns the error of a method that cannot be called at all.
func (b *method[In, Out]) failure() *call.Error {
	if b == nil {
		return call.NewError(helvetype.ReasonBadInput, "a zero Method: bind one with MethodOf")
	}
	return b.Unusable()
}

func zero[Out any](e *call.Error) (Out, error) {
	var out Out
	return out, public(e)
}
