package client

import (
	"context"
	"math/rand/v2"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/serving"
)

// MaxDepth is how many calls may be below each other, each made by the method of the one above.
const MaxDepth = 64

// Binding is a method of a deployment that can be called. It is immutable.
type Binding struct {
	graph.Binding
	// Options are the options of the handle or method; nil for none.
	Options *Options
	// Fake stands for the deployment; nil as a rule.
	Fake *Fake

	place *call.Place
	late  bool // the binding was made when the graph was complete, which does not know of it
}

// Bind makes a binding of the graph callable, with the options of its handle.
func Bind(b graph.Binding, o *Options) Binding {
	if b.Err != nil {
		return Binding{Binding: b}
	}
	d := b.Deployment
	b.Err = o.mistake()
	return Binding{
		Binding: b, Options: o, late: d.App.Sealed(),
		place: d.App.Place(call.Place{App: d.App.Name, Deployment: d.Name, Method: b.Name, Home: d.App}),
	}
}

// Derive returns the binding with other options.
func (b Binding) Derive(set func(*Options)) Binding {
	b.Options = b.Options.With(b.Deployment, set)
	if b.Err == nil {
		b.Err = b.Options.err
	}
	return b
}

// Unusable returns the error of every call of a binding with an Err.
func (b *Binding) Unusable() *call.Error {
	e := *call.AsError(b.Err)
	e.Code, e.Reason = helvetype.CodeInvalidArgument, helvetype.ReasonBadInput
	return &e
}

// Restore returns an error as callers see it: an error that crossed a process gets its registered cause again. b may be nil.
func (b *Binding) Restore(e *call.Error) *call.Error {
	if b == nil {
		return e
	}
	return b.Deployment.App.Errors().Restore(graph.Codec, e)
}

// Fill sets the fields that a call inherits from ctx, and the fields that come from the binding.
func (b *Binding) Fill(ctx context.Context, i *call.Info) {
	if parent := call.InfoFrom(ctx); parent != nil {
		i.Child(parent)
		if u := call.UnderFrom(ctx); u != nil {
			u.Enter(i)
		}
	} else {
		i.Request = call.NewID()
		if u := call.UnderFrom(ctx); u != nil {
			u.Enter(i)
		} else if d := b.Deployment.Serving.Load(); d != nil {
			d.Trace.Decide(i)
		}
	}
	i.Call = rand.Uint64()
	i.Place = b.place
	if b.late {
		if app, from := Caller(ctx); app != nil && app == b.Deployment.App {
			app.NoteUse(from, b.Deployment.Name)
		}
	}
	if b.Options != nil {
		i.Affinity = b.Options.affinity
	}
}

// Call makes the call as the packages below this one see it. An input that is a [call.Args] becomes arguments of both kinds.
func (b *Binding) Call(ctx context.Context, i call.Info, in any) *call.Call {
	c := &call.Call{Info: i, Want: call.Native, Values: ctx, Origin: Origin(ctx)}
	if b.Options != nil {
		c.Options = b.Options.call
	}
	if i.Depth == 0 && i.Trace != ([16]byte{}) && !i.Sampled {
		u := call.UnderFrom(ctx)
		c.Open = u != nil && u.Open
	}
	c.Deadline, _ = ctx.Deadline()
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Native, Value: in}})
	return c
}

// Submit sends a call on its way, in a node or in a worker.
func (b *Binding) Submit(c *call.Call, sink call.Sink) call.Canceler {
	if d := b.Deployment.Current(); d != nil {
		return d.Submit(nil, c, sink)
	}
	if p := b.Deployment.Port.Load(); p != nil {
		return p.Submit(nil, c, sink)
	}
	sink.Complete(nil, call.Result{Err: NotRunning().At(&c.Info)})
	return ended{}
}

// NotRunning returns the error of calls in a process that neither serves the application nor works for it.
func NotRunning() *call.Error {
	return call.NewError(helvetype.ReasonDeploymentUnavailable, "the application is not running: call methods after Run, or inside of replicas")
}

// ended cancels a call that has ended.
type ended struct{}

// Cancel does nothing.
func (ended) Cancel(*call.Batch, error) {}

// Near takes a slot of a replica in this worker. It is nil if the node has lent none, and in a node.
func (b *Binding) Near() serving.Replica {
	if p := b.Deployment.Port.Load(); p != nil {
		return p.TryAcquire()
	}
	return nil
}

// Origin returns the queue in which a call waits: each calling deployment has one, everything else in the process shares one.
func Origin(ctx context.Context) string {
	if i := call.InfoFrom(ctx); i != nil {
		return i.App + "/" + i.Deployment
	}
	return "driver"
}

// ShowInput gives the input of a call to the routing policy of its deployment, which may look at it.
func ShowInput(i *call.Info, in any) {
	c := &call.Call{}
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Native, Value: in}})
	serving.AttachInput(i, c)
}

// Caller returns the deployment whose method or constructor received ctx, and its application; nil outside of both.
func Caller(ctx context.Context) (app *graph.App, deployment string) {
	if i := call.InfoFrom(ctx); i != nil && i.Place != nil {
		app, _ := i.Home.(*graph.App)
		return app, i.Deployment
	}
	if s := instance.ScopeFrom(ctx); s != nil {
		app, _ := s.Home.(*graph.App)
		return app, s.Deployment
	}
	return nil, ""
}
