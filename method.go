package helve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
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
	d *deployment
	o *callOptions // nil for none
}

// AnyHandle is a handle whose R does not matter. It is sealed.
type AnyHandle interface {
	Target
	// Deployment returns the name of the deployment.
	Deployment() string
	options() *callOptions
}

func (h Handle[R]) target() *deployment   { return h.d }
func (h Handle[R]) options() *callOptions { return h.o }

// Deployment is the name of the deployment.
func (h Handle[R]) Deployment() string {
	if h.d == nil {
		return ""
	}
	return h.d.name
}

// binding is the untyped half of a bound method.
type binding struct {
	d     *deployment
	name  string
	place call.Place
	o     *callOptions // nil for none
	err   error        // why it cannot be called
	fake  *fake        // instead of a deployment; nil as a rule
	types *types       // of one that was bound by name, else nil
	late  bool         // it was bound when the graph was complete, which does not know of it
}

// types are the types that a binding by name expects of its method.
type types struct {
	in, out reflect.Type
	stream  bool
}

func (b *binding) String() string { return b.d.name + "." + b.name }

// Method is a bound method of a deployment, with which code calls it: a small value, safe for concurrent use. The zero Method
// returns an error.
type Method[In, Out any] struct{ m *method[In, Out] }

type method[In, Out any] struct {
	binding
	// invoke runs the method of an instance in this process, without boxing; nil when it was bound by name.
	invoke func(recv any, ctx context.Context, in In) (Out, error)
}

func (m Method[In, Out]) target() *deployment {
	if m.m == nil {
		return nil
	}
	return m.m.d
}

func (m Method[In, Out]) ingress() (*binding, spec.IngressKind) { return m.bound(), spec.IngressMethod }

func (m Method[In, Out]) bound() *binding {
	if m.m == nil {
		return nil
	}
	return &m.m.binding
}

// MethodOf binds a method expression: MethodOf(h, (*D).SayHi). The compiler checks receiver, input and output; that it
// is an exported method and no closure is checked here, and a mistake is returned by [Run] (or by the call, when the
// binding is made later).
func MethodOf[R, In, Out any](h Handle[R], f func(R, context.Context, In) (Out, error)) Method[In, Out] {
	m := &method[In, Out]{invoke: func(recv any, ctx context.Context, in In) (Out, error) { return f(recv.(R), ctx, in) }}
	m.binding = bind(h, reflect.ValueOf(f), "MethodOf", func(r *instance.Method) {
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
	m.binding = bind(h, reflect.ValueOf(f), "ActionOf", func(r *instance.Method) {
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
	m := &method[In, Out]{binding: named(h, name)}
	m.types = &types{reflect.TypeFor[In](), reflect.TypeFor[Out](), false}
	return Method[In, Out]{m}
}

func named(h AnyHandle, name string) binding {
	d := h.target()
	if d == nil {
		return binding{d: noDeployment, err: call.NewError(call.BadInput, "a zero Handle")}
	}
	return binding{d: d, name: name, place: d.place(name), o: h.options(), err: h.options().mistake(), late: d.app.sealed}
}

// noDeployment is the deployment of bindings of a zero handle.
var noDeployment = &deployment{app: &App{}} //nolint:gochecknoglobals // never written to

func (d *deployment) place(method string) call.Place {
	return call.Place{App: d.app.name, Deployment: d.name, Method: method, Home: d.app}
}

// bind finds the method that f is an expression of. thunk is told the name, to note how the method is called in this
// process; it may be nil.
func bind[R any](h Handle[R], f reflect.Value, by string, thunk func(*instance.Method)) binding {
	d := h.d
	if d == nil {
		return binding{d: noDeployment, err: call.NewError(call.BadInput, "a zero Handle")}
	}
	if f.IsNil() {
		return binding{d: d, name: "nil", err: d.addError("%s: the method is nil", by)}
	}
	name, why := methodName(reflect.TypeFor[R](), f)
	if why != "" {
		return binding{d: d, name: name, err: d.addError("%s: %s", by, why)}
	}
	switch {
	case d.python != nil:
		if !d.app.sealed {
			d.bind(name)
		}
	case d.class != nil && d.class.Methods[name] == nil:
		return binding{d: d, name: name, err: d.addError("%s: %s is called by Helve, not by handles", by, name)}
	case d.class != nil && !d.app.sealed:
		thunk(d.class.Methods[name])
		d.class.Methods[name].Bound = true
	}
	return binding{d: d, name: name, place: d.place(name), o: h.o, err: h.o.mistake(), late: d.app.sealed}
}

// methodName finds the name of a method expression by its code pointer, which reflection gives for each method of a
// concrete type. Of an interface's methods there is only the symbol's name.
func methodName(t reflect.Type, f reflect.Value) (name, why string) {
	symbol := "an unknown function"
	if fn := runtime.FuncForPC(f.Pointer()); fn != nil {
		symbol = fn.Name()
	}
	short := symbol[strings.LastIndexByte(symbol, '/')+1:]
	if t.Kind() == reflect.Interface {
		n := strings.TrimSuffix(symbol[strings.LastIndexByte(symbol, '.')+1:], "-fm")
		if _, ok := t.MethodByName(n); !ok || strings.HasSuffix(symbol, "-fm") {
			return short, fmt.Sprintf("%s is not a method of %s; give a method expression such as %s.Method", short, t, t)
		}
		return n, ""
	}
	for i := range t.NumMethod() {
		if m := t.Method(i); m.Func.Pointer() == f.Pointer() {
			return m.Name, ""
		}
	}
	example := "(" + t.String() + ").Method"
	last := symbol[strings.LastIndexByte(symbol, '.')+1:]
	switch {
	case strings.HasSuffix(symbol, "-fm"):
		return short, fmt.Sprintf("%s is a method value, bound to one instance; give the method expression %s", short, example)
	case strings.HasPrefix(last, "func") || strings.Contains(symbol, ".func"):
		return short, fmt.Sprintf("%s is a closure; give a method expression such as %s", short, example)
	case strings.Contains(symbol, ")."):
		return short, fmt.Sprintf("%s is not an exported method of %s", short, t)
	}
	return short, fmt.Sprintf("%s is a function, not a method of %s; give a method expression such as %s", short, t, example)
}

// Call calls the method and waits for the answer. A replica in this process runs it on the caller's goroutine, so Call
// may return late when the method ignores a context that has ended; the result is then the context's cause all the
// same. A method that ends its goroutine with runtime.Goexit there ends the caller's, as any function does that it calls;
// the slot is given back, and a caller that is a method itself fails for its own caller. Errors are *[Error].
func (m Method[In, Out]) Call(ctx context.Context, in In) (Out, error) {
	b := m.m
	if b == nil || b.err != nil {
		return zero[Out](b.failure(ctx))
	}
	d := b.d.dep.Load()
	if b.invoke == nil || b.o != nil || ctx.Err() != nil {
		return b.call(ctx, in)
	}
	var r serving.Replica
	if d != nil {
		r = d.TryAcquireRecent()
	} else {
		r = b.near()
	}
	if r == nil {
		return b.call(ctx, in)
	}
	c := &call.Inline{Caller: ctx}
	b.fill(ctx, &c.Info)
	c.Info.Link = call.Awaited
	if rep := r.Instance(); rep != nil {
		return b.inline(c, r, rep, in)
	}
	return b.send(ctx, c.Info, d, r, in)
}

// call is Call off the fast path: for a fake, in a worker, with options, or when the call has to wait for a slot.
func (b *method[In, Out]) call(ctx context.Context, in In) (Out, error) {
	c := &call.Inline{Caller: ctx}
	b.fill(ctx, &c.Info)
	c.Info.Link = call.Awaited
	if ctx.Err() != nil {
		return zero[Out](call.FromContext(ctx).At(&c.Info))
	}
	if b.fake != nil {
		return b.inline(c, b.fake, b.fake.replica, in)
	}
	d := b.d.serving()
	if d == nil {
		u := b.untyped(ctx, c.Info, in)
		u.Options = u.Options.Awaited()
		w := call.NewWaiter()
		return b.result(w.Wait(ctx, b.submit(u, w)))
	}
	if d.ReadsInput() {
		shown(&c.Info, in)
	}
	r, e := d.Acquire(ctx, &c.Info, origin(ctx))
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
	c := b.untyped(ctx, i, in)
	w := call.NewWaiter()
	return b.result(w.Wait(ctx, d.SubmitAssigned(r, c, w)))
}

// inline runs the method on the caller's goroutine, with a slot of r that it gives back.
func (b *method[In, Out]) inline(c *call.Inline, r serving.Replica, rep *instance.Instance, in In) (out Out, err error) {
	c.Info.Replica = r.ID()
	x := instance.Execution{Of: rep, Caller: c.Caller, Inline: true}
	defer func() {
		c.End()
		r.Gate().Release(nil)
		if x.Failure != nil {
			var none Out
			out, err = none, public(x.Failure.At(&c.Info))
		}
	}()
	if c.Info.Depth >= maxDepth {
		return out, public(call.TooDeep(&c.Info))
	}
	x.Run(func() (err error) {
		out, err = b.invoke(rep.Value, c, in)
		return err
	})
	return out, nil
}

const maxDepth = 64

// near takes a slot of a replica in this worker; nil if the node has lent none, and in a node.
func (b *binding) near() serving.Replica {
	if p := b.d.port.Load(); p != nil {
		return p.TryAcquire()
	}
	return nil
}

// fill sets the fields that a call inherits from ctx, and the fields that come from the binding.
func (b *binding) fill(ctx context.Context, i *call.Info) {
	if parent := call.InfoFrom(ctx); parent != nil {
		i.Child(parent)
	} else {
		i.Request = call.NewID()
	}
	i.Call = rand.Uint64()
	i.Place = &b.place
	if b.late {
		if app, from := callerOf(ctx); app != nil && app == b.d.app {
			app.noteUse(from, b.d.name)
		}
	}
	if b.o != nil {
		i.Affinity = b.o.affinity
	}
}

// untyped makes the call as everything below this package sees it.
func (b *binding) untyped(ctx context.Context, i call.Info, in any) *call.Call {
	c := &call.Call{Info: i, Want: call.Native, Values: ctx, Origin: origin(ctx)}
	if b.o != nil {
		c.Options = b.o.options
	}
	c.Deadline, _ = ctx.Deadline()
	if args, ok := in.(Args); ok {
		in = call.Args(args)
	}
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Native, Value: in}})
	return c
}

// origin says in whose queue a call waits: each calling deployment has one, everything else in the process shares one.
func origin(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil {
		return i.App + "/" + i.Deployment
	}
	return "driver"
}

// submit sends a call on its way, in a node or in a worker.
func (b *binding) submit(c *call.Call, sink call.Sink) call.Canceler {
	if d := b.d.serving(); d != nil {
		return d.Submit(nil, c, sink)
	}
	if p := b.d.port.Load(); p != nil {
		return p.Submit(nil, c, sink)
	}
	sink.Complete(nil, call.Result{Err: notRunning().At(&c.Info)})
	return ended{}
}

// serving is the deployment in this node, nil elsewhere. When its application was deleted it is the one that has been deployed under
// the name since, if that is of the same type: handles are good for names, whatever serves them.
func (d *deployment) serving() *serving.Deployment {
	dep := d.dep.Load()
	if dep == nil || !dep.Down() {
		return dep
	}
	next := dep.Successor()
	if next == nil {
		return dep
	}
	app, _ := next.Home().(*App)
	if app == nil {
		return dep
	}
	if own := app.find(d.name); own == nil || own.receiver != d.receiver {
		return dep
	}
	d.dep.Store(next)
	return next
}

func notRunning() *call.Error {
	return call.NewError(call.DeploymentUnavailable, "the application is not running: call methods after Run, or inside of replicas")
}

type ended struct{}

func (ended) Cancel(*call.Batch, error) {}

func (b *method[In, Out]) result(p call.Payload, e *call.Error) (Out, error) {
	if e != nil {
		return zero[Out](b.arrived(e))
	}
	defer p.Release()
	return decode[Out](&b.binding, p)
}

// arrived returns an error as callers see it: an error that crossed a process gets its registered cause again.
func (b *binding) arrived(e *call.Error) *call.Error {
	return b.d.app.errors.Restore(theCodec, e)
}

func decode[Out any](b *binding, p call.Payload) (out Out, err error) {
	bad := func(message string, cause error) *call.Error {
		e := call.NewError(call.BadInput, message)
		e.App, e.Deployment, e.Method, e.Cause = b.d.app.name, b.d.name, b.name, cause
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
	if err := theCodec.DecodePayload(p, &out); err != nil {
		if e := codec.Panicked("the result cannot be decoded", err); e != nil {
			e.App, e.Deployment, e.Method = b.d.app.name, b.d.name, b.name
			return out, public(e)
		}
		return out, public(bad(fmt.Sprintf("the result does not fit %s: %v", reflect.TypeFor[Out](), err), err))
	}
	return out, nil
}

// failure is why a method cannot be called at all.
func (b *method[In, Out]) failure(context.Context) *call.Error {
	if b == nil {
		return call.NewError(call.BadInput, "a zero Method: bind one with MethodOf")
	}
	return b.unusable()
}

func (b *binding) unusable() *call.Error {
	e := *call.AsError(b.err)
	e.Code, e.Reason = call.InvalidArgument, call.BadInput
	return &e
}

func zero[Out any](e *call.Error) (Out, error) {
	var out Out
	return out, public(e)
}
