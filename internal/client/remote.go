package client

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/response"
	"github.com/helve-serve/helve/internal/serving"
)

// Remote is a call that its caller does not wait for: the state of the call in this process. It runs the method of a replica in this
// process on a goroutine of its own. The typed code above has the input and the value; for example, a helve.Method[string, int] has one
// struct of a Remote, a response, a string and an int, so that such a call is one allocation.
type Remote struct {
	Info   call.Info
	Answer response.Response

	binding *Binding
	typed   Typed
	caller  context.Context // of the caller
	context call.Context    // of the method
	slot    serving.Replica
	replica *instance.Instance
	faulted atomic.Bool // a fault of the replica was reported
}

// Typed is the part of a call that has its types.
type Typed interface {
	// Input returns the input, in the form that packages below helve know.
	Input() any
	// Run runs the method of an instance in this process and keeps the value. It is not called for a binding by name.
	Run(ctx context.Context, instance any) error
}

// Prepare makes r, which is zero, a call of b that begins later. The result is false if the call has ended already, because ctx has ended
// or the call is too deep.
func (r *Remote) Prepare(ctx context.Context, b *Binding, typed Typed) bool {
	r.binding, r.typed, r.caller = b, typed, ctx
	r.Answer.Info = &r.Info
	b.Fill(ctx, &r.Info)
	switch {
	case ctx.Err() != nil:
		r.fail(call.FromContext(ctx))
	case r.Info.Depth >= MaxDepth:
		r.fail(call.TooDeep(&r.Info))
	default:
		return true
	}
	return false
}

// Refuse ends a call, which is zero, of a method that cannot be called.
func (r *Remote) Refuse(e *call.Error) {
	r.Answer.Info = &r.Info
	r.Fail(e)
}

// Fail ends the call with a failure, unless it has ended.
func (r *Remote) Fail(e *call.Error) { r.Answer.End(e, nil) }

func (r *Remote) fail(e *call.Error) { r.Answer.End(e.At(&r.Info), nil) }

// Complete ends a call that took another way than a function call.
func (r *Remote) Complete(b *call.Batch, res call.Result) { r.Answer.Complete(b, res) }

// TakesParts says that a result may be in another process.
func (r *Remote) TakesParts() {}

// Wanted is false once the response was cancelled.
func (r *Remote) Wanted() bool { return r.Answer.Waiting() }

// BeginLater is [Remote.Begin] for a call that may have been cancelled meanwhile.
func (r *Remote) BeginLater() {
	if r.Wanted() {
		r.Begin()
	}
}

// Watch cancels the call when the context of its caller ends, and gives a result by reference up when the method returns that made the
// call.
func (r *Remote) Watch() {
	r.Answer.Watch(r.caller, &r.Answer.State)
	if r.binding.Options.ByReference() {
		call.AtEnd(r.caller, r.Answer.Close)
	}
}

// Begin sends the call on its way. Its input is there.
func (r *Remote) Begin() {
	b := r.binding
	if b.Fake != nil {
		r.start(b.Fake, b.Fake.instance)
		return
	}
	direct := !b.ByName()
	if d := b.Deployment.Serving.Load(); d != nil && direct {
		if d.ReadsInput() {
			ShowInput(&r.Info, r.typed.Input())
		}
		if s := d.TryAcquire(&r.Info); s != nil {
			r.sendTo(d, s, false)
			return
		}
	}
	if direct && b.Options == nil && r.Info.Depth < MaxDepth {
		if s := b.Near(); s != nil {
			r.start(s, s.Instance())
			return
		}
	}
	if d := b.Deployment.Current(); d != nil && direct && d.InProcess() {
		p := d.NewPlace(&r.Info, placed{r, d})
		r.Answer.Carry(p)
		p.Enter(Origin(r.caller))
		return
	}
	r.Answer.Carry(b.Submit(b.Call(r.caller, r.Info, r.typed.Input()), r))
}

// placed is a call that waits in this process for its slot: it runs as a call that found a slot at once does.
type placed struct {
	r *Remote
	d *serving.Deployment
}

// Assigned runs the call.
func (q placed) Assigned(s serving.Replica) {
	if e := ContextEnd(q.r.caller); e != nil { // its watch is a moment late
		s.Gate().Release(nil)
		q.Failed(e)
		return
	}
	q.r.sendTo(q.d, s, false)
}

// Failed ends the call.
func (q placed) Failed(e *call.Error) { q.r.fail(e) }

// ContextEnd is the failure of a call whose caller's context has ended, or has a deadline that has passed; nil for another.
func ContextEnd(ctx context.Context) *call.Error {
	if ctx.Err() != nil {
		return call.FromContext(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return call.FromCause(context.DeadlineExceeded)
	}
	return nil
}

// sendTo sends the call to a replica of which it has a slot. If it is pinned it goes to no other.
func (r *Remote) sendTo(d *serving.Deployment, s serving.Replica, pinned bool) {
	if rep := s.Instance(); rep != nil && !r.binding.ByName() {
		r.start(s, rep)
		return
	}
	c := r.binding.Call(r.caller, r.Info, r.typed.Input())
	if pinned {
		r.Answer.Carry(d.SubmitTo(s, c, r))
	} else {
		r.Answer.Carry(d.SubmitAssigned(s, c, r))
	}
}

// start runs the method on a goroutine of its own, with a slot that it gives back.
func (r *Remote) start(s serving.Replica, rep *instance.Instance) {
	r.slot, r.replica = s, rep
	if !r.Answer.RunAt(s.ID()) {
		s.Gate().Release(nil)
		return
	}
	deadline, _ := r.caller.Deadline()
	r.context.Init(r.caller, &r.Info, deadline)
	r.Answer.Carry((*running)(r))
	go r.run()
}

// running is a call whose method runs in this process.
type running Remote

// Cancel ends the context of the method. A deadline that has passed is a fault of the replica at once, because the method may never return; it is one of another
// replica if the method waits for a call there.
func (c *running) Cancel(_ *call.Batch, cause error) {
	inside := c.context.Inside()
	c.context.Cancel(cause)
	if !inside {
		c.fault(call.FromCause(cause))
	}
}

// fault reports the failure of the call, unless it was reported before.
func (c *running) fault(e *call.Error) {
	if !c.faulted.Swap(true) {
		serving.Fault(c.slot, &c.Info, e)
	}
}

// Nest makes a call of a method of a replica in this worker that runs on its caller's goroutine. Its owner fills it in.
func Nest(ctx context.Context, r serving.Replica) *call.Nested {
	n := &call.Nested{At: r, Late: late}
	n.Caller = ctx
	return n
}

// late reports a call that has not returned by the deadline of the method above it.
func late(n *call.Nested) {
	serving.Fault(n.At.(serving.Replica), &n.Info, call.FromCause(context.DeadlineExceeded)) //nolint:forcetypeassert // see Nest
}

// MethodContext is the flight of a method that runs in this process: a cancel of it ends the context of the method.
type MethodContext struct{ Context *call.Context }

// Cancel ends the context.
func (c MethodContext) Cancel(_ *call.Batch, cause error) { c.Context.Cancel(cause) }

func (r *Remote) run() {
	x := instance.Execution{Of: r.replica, Call: &r.Info, Caller: r.caller}
	defer func() {
		r.context.End()
		r.slot.Gate().Release(nil)
		failure := x.Failure
		if failure != nil {
			(*running)(r).fault(failure)
			failure = failure.At(&r.Info)
		}
		r.Answer.End(failure, nil)
	}()
	x.Run(func() error {
		if r.caller.Err() != nil || r.context.Err() != nil { // the watch over the caller may be a moment late
			return nil
		}
		return r.typed.Run(&r.context, r.replica.Value)
	})
}

// Dispatch sends the call to the replica of a selection, with its slot, and cancels it when the context of its caller ends.
func (r *Remote) Dispatch(s *Selection) {
	failed := func(reason helvetype.Reason, format string, args ...any) {
		r.fail(call.NewError(reason, fmt.Sprintf(format, args...)))
	}
	switch b := r.binding; {
	case s == nil:
		failed(helvetype.ReasonBadInput, "Dispatch: the selection is nil")
		return
	case s.Deployment != b.Deployment:
		failed(helvetype.ReasonBadInput, "Dispatch: the selection is of deployment %q", s.Deployment.Name)
		return
	case s.used.Swap(true):
		failed(helvetype.ReasonBadInput, "Dispatch: the selection was dispatched before")
		return
	}
	s.unwatch()
	switch b := r.binding; {
	case s.remoteLease != 0:
		c := b.Call(r.caller, r.Info, r.typed.Input())
		c.Lease = s.remoteLease
		r.Answer.Carry(b.Submit(c, r))
	case s.lease == nil:
		r.start(s.Replica, b.Fake.instance)
	case !s.lease.Use():
		failed(helvetype.ReasonReplicaUnavailable, "Dispatch: the selection of replica %s is over; choose again", s.Replica.ID())
		return
	case serving.BaseOf(s.Replica).Closed():
		s.Replica.Gate().Release(nil)
		failed(helvetype.ReasonReplicaUnavailable, "Dispatch: replica %s has stopped; choose again", s.Replica.ID())
		return
	default:
		r.sendTo(b.Deployment.Serving.Load(), s.Replica, true)
	}
	r.Answer.Watch(r.caller, &r.Answer.State)
}

// BeginApart is [Remote.Begin] with arguments that are in another process, which go to a third as they are. fill sets the input for a
// method that runs in this process. BeginApart releases slots.
func (r *Remote) BeginApart(slots []call.Slot, fill func() *call.Error) {
	release := func() {
		for _, s := range slots {
			s.Release()
		}
	}
	if !r.Wanted() { // the call was cancelled meanwhile
		release()
		return
	}
	b := r.binding
	if d := b.Deployment.Current(); b.Fake != nil || b.unfit(slots) || d != nil && !b.ByName() && d.InProcess() {
		defer release()
		if e := fill(); e != nil {
			r.Fail(e)
		} else {
			r.Begin()
		}
		return
	}
	c := b.Call(r.caller, r.Info, nil)
	c.Slots = slots
	r.Answer.Carry(b.Submit(c, r))
	r.Answer.WhenEnded(release)
}

// unfit reports whether arguments cannot be sent as they are: an explicit codec wants them in another.
func (b *Binding) unfit(slots []call.Slot) bool {
	want := b.Options.requestCodec()
	for _, s := range slots {
		if want != call.None && s.Parts != nil && s.Codec != want {
			return true
		}
	}
	return false
}

// TakesKeywords reports whether an input of type t becomes keyword arguments. A result in another process cannot become keyword
// arguments.
func (b *Binding) TakesKeywords(t reflect.Type) bool {
	return b.Deployment.Python != nil && codec.IsRecord(t)
}
