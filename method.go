package helve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/replica"
	"github.com/helve-serve/helve/internal/router"
)

// None is the input of a method that takes nothing, and the output of one that gives nothing.
type None = call.Empty

// Args are arguments of both kinds, positional and named, for deployments written in Python.
type Args = call.Args

// Handle is a client of one deployment. R says which methods there are; for a deployment in another language or binary
// R is an interface. It is a small value: copy it freely, use it from any goroutine.
type Handle[R any] struct{ d *deployment }

// AnyHandle is a handle whose R does not matter. It is sealed.
type AnyHandle interface {
	Target
	Deployment() string
}

func (h Handle[R]) target() *deployment { return h.d }

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
	err   error // why it cannot be called
}

func (b *binding) String() string { return b.d.name + "." + b.name }

// Method is a bound method of a deployment, and what code holds to call it: a small value, safe for concurrent use.
// The zero Method returns an error.
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

func (m Method[In, Out]) ingress() *binding {
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
	m.binding = bind(h.d, reflect.TypeFor[R](), reflect.ValueOf(f), func(ctx context.Context, recv, in any) (any, error) {
		v, _ := in.(In) // nil for a nil interface
		return f(recv.(R), ctx, v)
	})
	return Method[In, Out]{m}
}

// ActionOf is [MethodOf] for methods without a result.
func ActionOf[R, In any](h Handle[R], f func(R, context.Context, In) error) Method[In, None] {
	m := &method[In, None]{invoke: func(recv any, ctx context.Context, in In) (None, error) { return None{}, f(recv.(R), ctx, in) }}
	m.binding = bind(h.d, reflect.TypeFor[R](), reflect.ValueOf(f), func(ctx context.Context, recv, in any) (any, error) {
		v, _ := in.(In)
		return None{}, f(recv.(R), ctx, v)
	})
	return Method[In, None]{m}
}

// MethodNamed binds a method by name; "" is the default method. Types are checked when a call arrives.
func MethodNamed[In, Out any](h AnyHandle, name string) Method[In, Out] {
	m := &method[In, Out]{}
	m.d, m.name = h.target(), name
	if m.d != nil {
		m.place = call.Place{App: m.d.app.name, Deployment: m.d.name, Method: name}
	} else {
		m.err = call.NewError(call.BadInput, "a zero Handle")
	}
	return Method[In, Out]{m}
}

func bind(d *deployment, receiver reflect.Type, f reflect.Value, invoke func(ctx context.Context, recv, in any) (any, error)) binding {
	if d == nil {
		return binding{d: &deployment{}, err: call.NewError(call.BadInput, "a zero Handle")}
	}
	if f.IsNil() {
		return binding{d: d, name: "nil", err: d.wrong("MethodOf: the method is nil")}
	}
	name, why := methodName(receiver, f)
	if why != "" {
		return binding{d: d, name: name, err: d.wrong("MethodOf: %s", why)}
	}
	b := binding{d: d, name: name, place: call.Place{App: d.app.name, Deployment: d.name, Method: name}}
	switch {
	case d.python != nil:
		if !d.app.sealed {
			d.bind(name)
		}
	case d.class != nil && !d.app.sealed:
		d.class.Methods[name].Invoke = invoke
	}
	return b
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
// same. Errors are *[Error].
func (m Method[In, Out]) Call(ctx context.Context, in In) (Out, error) {
	b := m.m
	if b == nil || b.err != nil {
		return zero[Out](b.failure(ctx))
	}
	d := b.d.dep.Load()
	if d == nil || b.invoke == nil || ctx.Err() != nil {
		return b.wait(ctx, in)
	}
	r := d.Router.TryAcquireNear()
	if r == nil {
		return b.wait(ctx, in)
	}
	u := r.Value.(*node.Unit)
	if u.Local == nil {
		c := b.prepare(ctx, in)
		w := call.NewWaiter()
		return b.result(w.Wait(ctx, d.SubmitAssigned(r, c, w)))
	}
	return b.inline(ctx, r, u.Local, in)
}

// inline runs the method on the caller's goroutine, with a slot of r that it gives back.
func (b *method[In, Out]) inline(ctx context.Context, r *router.Replica, rep *replica.Replica, in In) (out Out, err error) {
	c := &call.Inline{Context: ctx}
	b.fill(ctx, &c.Info)
	c.Info.Replica = r.ID
	entered := rep.Enter()
	ended := false
	defer func() {
		if !ended {
			err = replica.Recovered(recover()).At(&c.Info)
		}
		rep.Leave(entered, err != nil)
		r.Gate.Release(nil)
	}()
	if c.Info.Depth >= maxDepth {
		ended = true
		return out, tooDeep(&c.Info)
	}
	out, err = b.invoke(rep.Instance, c, in)
	ended = true
	if ctx.Err() != nil {
		var none Out
		return none, call.FromContext(ctx).At(&c.Info)
	}
	if err != nil {
		return out, replica.UserError(err).At(&c.Info)
	}
	return out, nil
}

// fill sets what a call inherits from ctx and what the binding knows.
func (b *binding) fill(ctx context.Context, i *call.Info) {
	if parent := call.InfoFrom(ctx); parent != nil {
		i.Child(parent)
	} else {
		i.Request = call.NewID()
	}
	i.Call = rand.Uint64()
	i.Place = &b.place
}

// prepare makes the untyped call.
func (b *method[In, Out]) prepare(ctx context.Context, in In) *call.Call {
	c := &call.Call{Want: call.Native, Values: context.WithoutCancel(ctx)}
	b.fill(ctx, &c.Info)
	c.Deadline, _ = ctx.Deadline()
	c.Origin = origin(ctx)
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
	if d := b.d.dep.Load(); d != nil {
		return d.Submit(nil, c, sink)
	}
	if p := b.d.port.Load(); p != nil {
		return p.Submit(nil, c, sink)
	}
	sink.Complete(nil, call.Result{Err: call.NewError(call.DeploymentUnavailable,
		"the application is not running: call methods after Run, or inside of replicas").At(&c.Info)})
	return ended{}
}

type ended struct{}

func (ended) Cancel(*call.Batch, error) {}

func (b *method[In, Out]) wait(ctx context.Context, in In) (Out, error) {
	c := b.prepare(ctx, in)
	if ctx.Err() != nil {
		return zero[Out](call.FromContext(ctx).At(&c.Info))
	}
	w := call.NewWaiter()
	return b.result(w.Wait(ctx, b.submit(c, w)))
}

func (b *method[In, Out]) result(p call.Payload, e *call.Error) (Out, error) {
	if e != nil {
		return zero[Out](e)
	}
	return decode[Out](&b.binding, p)
}

func decode[Out any](b *binding, p call.Payload) (out Out, err error) {
	if p.Codec == call.Native {
		out, ok := p.Value.(Out)
		if !ok && p.Value != nil {
			return out, &call.Error{Code: call.InvalidArgument, Reason: call.BadInput, App: b.d.app.name, Deployment: b.d.name, Method: b.name,
				Message: fmt.Sprintf("the method returns %T, the caller wants %s", p.Value, reflect.TypeFor[Out]())}
		}
		return out, nil
	}
	if _, none := any(out).(None); none {
		return out, nil
	}
	if err := b.d.app.codec().Decode(p.Codec, p.Data, &out); err != nil {
		return out, &call.Error{Code: call.InvalidArgument, Reason: call.BadInput, App: b.d.app.name, Deployment: b.d.name, Method: b.name,
			Message: fmt.Sprintf("the result does not fit %s: %v", reflect.TypeFor[Out](), err), Cause: err}
	}
	return out, nil
}

// failure is why a method cannot be called at all.
func (b *method[In, Out]) failure(context.Context) *call.Error {
	if b == nil {
		return call.NewError(call.BadInput, "a zero Method: bind one with MethodOf")
	}
	e := *call.AsError(b.err)
	e.Code, e.Reason = call.InvalidArgument, call.BadInput
	return &e
}

func zero[Out any](e *call.Error) (Out, error) {
	var out Out
	return out, e
}
