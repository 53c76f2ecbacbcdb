// Package serving is the data plane: deployments as they serve. It has the routers, follows each call from its submission to its
// end, and does the calls of clients outside (package proxy), of connected workers and drivers ([Caller]) and of methods in this
// process. It starts and stops nothing: replicas come and go by [Deployment.Update].
//
// A [Flight] follows one call. It waits in the router, is admitted by a gate, is started at a replica, and tells its sink the end, once.
// For example, a call of a Python worker is started at a replica whose process dies: if the kernel took no byte of the CALL frame, the
// flight gives the slot back, closes that gate and queues the call again at its old place; if it took one, the call fails with
// replica_died, or runs again where its method is idempotent.
//
// A broadcast takes no slot. Each replica has a [ControlQueue], in which one call at a time runs beside the calls that hold slots.
//
// A call that has to wait looks at the calls above it (cycle.go). If only these hold the slots that it waits for, it waits for itself. For
// example, A has one slot and calls B with Call, and B calls A: the call fails at once with reason cycle. With Remote it waits, because the
// caller may go on, and the log names the cycle after a second. For calls from workers the calls above are put together from what each
// connection knows (ancestors.go), and only when a call has to wait.
//
// A slot can be reserved for a caller in another process and used later (reserve.go); a lease gives it back by itself.
package serving

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Deployment is one deployment as this node serves it. Its methods may be called from any goroutine.
type Deployment struct {
	Router    *router.Router
	App, Name string

	// Hooks of the owner, set before the first call; each may be nil. They may be called from any goroutine.
	Why       func() string        // why there is no replica; "" if it is not known
	Queues    func()               // a call waits after a time in which none did, or there is no replica for it
	UsesMore  func(name string)    // a replica asked for a handle to another deployment
	Successor func() *Deployment   // the deployment of the same name that is there now, if there is another
	Starving  func(text string)    // calls wait while streams and connections hold all slots
	Circled   func(text string)    // calls wait for each other (circle.go)
	All       func() []*Deployment // the deployments of the node, whose calls may be in a circle with those of this one
	Trace     *trace.Recorder      // takes records of calls, and decides which requests are sampled

	Lifecycle *telemetry.Lifecycle // what happens to its replicas, beside calls
	callers   telemetry.Callers    // of calls to other processes, and of all that wait; an instance in this process has its own

	log   *slog.Logger
	state atomic.Pointer[State]
	down  atomic.Pointer[call.Error] // why calls are refused

	watching atomic.Bool            // a timer looks at the queue (starve.go)
	starved  int64                  // when the last warning was, by call.Now; this and the next one are the timer's
	searched int64                  // when it last looked for a circle, by call.Now
	circle   atomic.Pointer[string] // the circle in which its calls wait (circle.go); nil for none

	former atomic.Pointer[[]Replica] // of a deployment that was retired (successor.go); nil for others

	updating sync.Mutex // one Router.Update at a time
}

// State is the part of a deployment that a revision of its application sets.
type State struct {
	Home       any           // finds the application in the program's own terms
	InProcess  bool          // the replicas live in this process
	ReadsInput bool          // the routing policy is a user's, which may read the arguments of calls
	Grace      time.Duration // that its calls have to finish when it ends (graceful_shutdown_timeout_s)
	Refusal    router.Refusal
}

// New makes a deployment without replicas: calls wait for the first.
func New(log *slog.Logger, node, app, name string) *Deployment {
	d := &Deployment{Router: router.New(node), App: app, Name: name, Lifecycle: telemetry.NewLifecycle(), log: log}
	d.state.Store(&State{})
	return d
}

// Become changes the deployment to the settings of a revision. Calls that wait go on waiting.
func (d *Deployment) Become(s State, maxQueued int, policy router.Policy) {
	d.state.Store(&s)
	d.Router.SetLimit(maxQueued)
	d.Router.SetRefusal(s.Refusal)
	d.Router.SetPolicy(policy)
}

// Refuse has all calls fail from now on, with e.
func (d *Deployment) Refuse(e *call.Error) { d.down.Store(e) }

// Down says that the deployment refuses all calls: it is gone, or failed to start.
func (d *Deployment) Down() bool { return d.down.Load() != nil }

// Home is the application in the program's own terms.
func (d *Deployment) Home() any { return d.state.Load().Home }

// InProcess says that the deployment's replicas live in this process.
func (d *Deployment) InProcess() bool { return d.state.Load().InProcess }

// Uses notes that a replica asked for a handle to another deployment.
func (d *Deployment) Uses(name string) {
	if d.UsesMore != nil {
		d.UsesMore(name)
	}
}

// Update gives the router its replicas, which list gives. Of several that update at once each finds all replicas, so that only the
// first has the router make everything anew that it knows of sets (a hash ring of 1,000 replicas takes 0.1 s).
func (d *Deployment) Update(list func() []router.Replica) {
	d.updating.Lock()
	defer d.updating.Unlock()
	if d.former.Load() != nil { // the next node has them
		return
	}
	set := list()
	sortByID(set)
	if !slices.Equal(set, d.Router.Replicas()) {
		d.Router.Update(nil, set)
	}
}

// TryAcquire is [router.Router.TryAcquire].
func (d *Deployment) TryAcquire(c *call.Info) Replica {
	if r := d.Router.TryAcquire(c); r != nil {
		return replicaOf(r)
	}
	return nil
}

// TryAcquireRecent is [router.Router.TryAcquireRecent].
func (d *Deployment) TryAcquireRecent() Replica {
	if r := d.Router.TryAcquireRecent(); r != nil {
		return replicaOf(r)
	}
	return nil
}

// ReadsInput says whether the deployment's routing policy may read the arguments of calls, which [AttachInput] gives to it.
func (d *Deployment) ReadsInput() bool { return d.state.Load().ReadsInput }

// AttachInput gives a call to the policy of its deployment, which may read the arguments.
func AttachInput(i *call.Info, c *call.Call) {
	a := call.Affinity{}
	if i.Affinity != nil {
		a = *i.Affinity
	}
	a.Of = c
	i.Affinity = &a
}

// Submit sends a call on its way. sink is told its end exactly once; the arguments must stay valid until then.
// The submitter watches the caller's context and cancels the flight when it ends.
func (d *Deployment) Submit(b *call.Batch, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	if e := d.refuses(&c.Info); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return f
	}
	if d.ReadsInput() {
		AttachInput(&c.Info, c)
	}
	f.waits()
	d.Router.Submit(b, &f.ticket, c.Origin, &c.Info, f)
	d.watchQueue()
	if c.Info.Above != nil {
		f.suspect(b)
	}
	return f
}

// SubmitAssigned is Submit for a caller that already took a slot of r.
func (d *Deployment) SubmitAssigned(r Replica, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	f.Assigned(nil, r)
	return f
}

// SubmitTo is SubmitAssigned that does not go to another replica if this one is lost before the call has started.
func (d *Deployment) SubmitTo(r Replica, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink, pinned: true}
	f.Assigned(nil, r)
	return f
}

// acquiring is a caller that waits for a slot on its own goroutine.
type acquiring struct {
	ticket router.Ticket
	got    chan acquired // of one
}

type acquired struct {
	replica router.Replica
	failure *call.Error
}

func (a *acquiring) Assigned(_ *call.Batch, r router.Replica) { a.got <- acquired{replica: r} }
func (a *acquiring) Failed(_ *call.Batch, cause *call.Error)  { a.got <- acquired{failure: cause} }

// Acquire waits for a slot for a call that its caller's goroutine will run or send. The caller releases it at the replica's
// gate. An end of ctx ends the wait at once, with its cause.
func (d *Deployment) Acquire(ctx context.Context, c *call.Info, origin string) (Replica, *call.Error) {
	if e := d.refuses(c); e != nil {
		d.waited(c, origin, 0, e)
		return nil, e.At(c)
	}
	since := call.Now()
	a := &acquiring{got: make(chan acquired, 1)}
	d.Router.Submit(nil, &a.ticket, origin, c, a)
	d.watchQueue()
	var r acquired
	select {
	case r = <-a.got:
	default:
		r = d.await(ctx, c, a)
	}
	if r.failure == nil && ctx.Err() != nil {
		r.replica.Gate().Release(nil)
		r.failure = call.FromContext(ctx)
	}
	d.waited(c, origin, since, r.failure)
	if r.failure != nil {
		return nil, r.failure.At(c)
	}
	d.callers.Waited(instance.CallerOf(c), time.Duration(call.Now()-since))
	return replicaOf(r.replica), nil
}

func (d *Deployment) await(ctx context.Context, c *call.Info, a *acquiring) acquired {
	fail := func(e *call.Error) acquired {
		if d.Router.Cancel(&a.ticket) {
			return acquired{failure: e}
		}
		return <-a.got
	}
	if c.Above != nil {
		switch cycle, hopeless := d.cycle(c); {
		case hopeless:
			return fail(cycle)
		case cycle != nil:
			defer d.reportLater(cycle).Stop()
		}
	}
	select {
	case r := <-a.got:
		return r
	case <-ctx.Done():
		return fail(d.explain(call.FromContext(ctx)))
	}
}

// explain adds to the failure of a call whose deadline has passed while it waited that there was no replica, and the reason.
func (d *Deployment) explain(e *call.Error) *call.Error {
	if e.Reason != helvetype.ReasonDeadline || len(d.Router.Replicas()) > 0 {
		return e
	}
	why := ""
	if d.Why != nil {
		why = d.Why()
	}
	if why == "" {
		why = "none has started yet"
	}
	c := *e
	c.Message += "; the deployment has no replica: " + why
	return &c
}

// relay submits a call that came over a wire. Its arguments are forwarded from the read buffer if a replica takes it at
// once, and copied if it has to wait.
func (d *Deployment) relay(b *call.Batch, s *Caller, in *wire.Incoming) call.Canceler {
	f := &Flight{dep: d, call: &in.Call, sink: in, in: in}
	if e := d.refuses(&in.Info); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return nil
	}
	f.expireAfter(in.Left)
	if d.ReadsInput() {
		AttachInput(&in.Info, &in.Call)
	}
	if len(in.Encoded.Shared) > 0 { // the little that is in the frame is not worth a second look
		f.keep()
	}
	if r := d.TryAcquire(&in.Info); r != nil {
		if in.Above != nil && Local(r) {
			in.Info.Above = ancestors(&in.Call)
		}
		if lend := r.base().lend; lend != nil && s.Worker != "" {
			lend(s)
		}
		f.Assigned(b, r)
		return f
	}
	f.keep()
	in.Info.Above = ancestors(&in.Call)
	f.waits()
	d.Router.Submit(b, &f.ticket, in.Origin, &in.Info, f)
	d.watchQueue()
	f.leave()
	if in.Info.Above != nil {
		f.suspect(b)
	}
	return f
}

// waited leaves a record of the wait of a call that was long, or has failed.
func (d *Deployment) waited(c *call.Info, origin string, since int64, e *call.Error) {
	if d.Trace != nil {
		if since == 0 { // it had a slot at once
			since = call.Now()
		}
		trace.Waited(d.Trace, c, origin, since, d.Router.Without, e)
	}
}

func (d *Deployment) refuses(c *call.Info) *call.Error {
	if e := d.down.Load(); e != nil {
		return e
	}
	if c.Depth >= wire.MaxDepth {
		return call.TooDeep(c)
	}
	return nil
}

// Full says why a call would be refused now, nil if it would not be or if that cannot be known without its arguments.
func (d *Deployment) Full(c *call.Call) *call.Error {
	e := d.refuses(&c.Info)
	if e == nil && !d.ReadsInput() {
		e = d.Router.Full(c.Origin, &c.Info)
	}
	if e != nil {
		e = e.At(&c.Info)
	}
	return e
}

// Do makes a call and waits for its end or the end of ctx. The result owns its memory.
//
// A call without a deadline whose replica lives in this process runs on the caller's goroutine. A method that ignores its context can
// keep the caller waiting then, which is a client that has gone away.
func (d *Deployment) Do(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
	r, e := d.slot(ctx, c)
	if e != nil {
		return call.Payload{}, e
	}
	local, ok := r.Transport().(*transport.Local)
	if _, limited := ctx.Deadline(); !ok || limited {
		w := call.NewWaiter()
		c.Values = requestFor(r, ctx)
		return flat(w.Wait(ctx, d.SubmitAssigned(r, c, w)))
	}
	defer r.Gate().Release(nil)
	c.Info.Replica = r.ID()
	out, e := local.Inline(ctx, c)
	if e != nil {
		e = e.At(&c.Info)
	}
	return out, e
}

// flat is a result in one piece.
func flat(p call.Payload, e *call.Error) (call.Payload, *call.Error) {
	if e == nil {
		if err := p.Flatten(); err != nil {
			e = call.AsError(err)
		}
	}
	return p, e
}
