package node

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Deployment is one deployment as this node serves it. Router is its hot path: a caller in this process takes a slot of
// it and runs the method itself where [Unit.Local] is set.
type Deployment struct {
	Router *router.Router

	app  *app
	name string
	now  atomic.Pointer[edition]
	down atomic.Pointer[call.Error] // why calls are refused

	looks atomic.Bool // its policy is a user's, which may look at the arguments of calls

	updating    sync.Mutex    // one Router.Update at a time; taken before Node.mu
	configuring chan struct{} // of one: full while a Reconfigure runs, which waits for user code; filled before Node.mu

	// Guarded by Node.mu.
	units    map[string]*Unit
	failures int // for giving up
	starting rounds
	running  rounds // replicas that ended soon after they had started
	starts   int
	lastFail time.Time
	lastErr  error
	message  string // of the last failure
	gaveUp   bool
	dropped  bool             // it is not part of its application any more
	former   *edition         // while its application changes: what it was
	dynamic  []string         // deployments whose handles its replicas asked for
	past     telemetry.Counts // of replicas that are gone
	ghosts   []ghost
	leaving  []*Unit // replicas that are gone and had calls under way, which count when they end
}

// rounds counts failures for the back-off of starts: those of replicas that were started together, or before one of them
// failed, are one. A database that was down for a moment has all replicas fail, and is up when the next are started.
type rounds struct {
	n    int
	upTo int // the last start that is in one of them
}

// failedLocked notes the failure of a replica.
func (d *Deployment) failedLocked(in *rounds, u *Unit, err error) {
	if d.failures++; u.start > in.upTo {
		in.n, in.upTo = in.n+1, d.starts
	}
	d.lastFail, d.lastErr, d.message = time.Now(), err, err.Error()
}

// forgiveLocked forgets failures: u ran for long.
func (d *Deployment) forgiveLocked(u *Unit) {
	if time.Since(u.startedAt) > healthyTime {
		d.failures, d.running.n = 0, 0
	}
}

// Unit is one replica as the node sees it.
type Unit struct {
	Local *instance.Instance // set when callers in this process may run its methods themselves

	instance *instance.Instance // set when it lives in this process

	id        string
	dep       *Deployment
	*edition  // that it was started as
	gate      *gate.Gate
	transport transport.Transport
	worker    *workerProc // nil in process
	lane      lane        // of broadcasts
	loan      loan
	checked   bool // a worker's replica that has a health check
	reports   bool // a worker's replica that has stats for routing
	has       atomic.Pointer[[]string]
	stats     atomic.Pointer[Stats]
	calls     telemetry.Calls                  // that were sent to its worker
	lent      atomic.Pointer[telemetry.Counts] // of calls under lent slots: what its worker said last
	stopped   atomic.Bool                      // its instance is being closed

	// life ends when its time to drain is over: what still runs then and knows of it, the streams and handlers of clients
	// outside, ends.
	life    context.Context
	endLife context.CancelCauseFunc

	// Guarded by Node.mu.
	state      helvetype.ReplicaState
	startedAt  time.Time
	waits      string // what its start waits for
	waitsSince time.Time
	start      int      // among the starts of its deployment
	before     lineage  // those that had its place
	version    int      // of the user config that it has
	models     []string // those that it had when it was taken over
}

// Uses notes that a replica asked for a handle to another deployment, which the graph does not say.
func (d *Deployment) Uses(name string) {
	n := d.app.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(d.now.Load().spec.Uses, name) && !slices.Contains(d.dynamic, name) {
		d.dynamic = append(d.dynamic, name)
	}
}

// Inside says that the deployment's replicas live in this process.
func (d *Deployment) Inside() bool { return d.now.Load().placement == inNode }

// Stopped says that the replica drains no more: its instance is being closed or is gone.
func (u *Unit) Stopped() bool { return u.stopped.Load() }

// Here is [Unit.Local].
func (u *Unit) Here() *instance.Instance { return u.Local }

// ID is the replica's id, unique on its node.
func (u *Unit) ID() string { return u.id }

// Node is where the replica runs.
func (u *Unit) Node() string { return u.dep.app.node.id }

// Gate is the replica's admission, as its router sees it.
func (u *Unit) Gate() router.Gate { return u.gate }

// Slots is the replica's admission.
func (u *Unit) Slots() *gate.Gate { return u.gate }

// policy makes the routing policy; nil for the default.
func (d *edition) policy() router.Policy {
	switch r := d.options.RequestRouter; r.Policy {
	case spec.RoundRobin:
		return router.NewRoundRobin()
	case spec.ConsistentHash:
		return router.NewConsistentHash(r.VirtualNodes, r.FallbackReplicas)
	case spec.Custom:
		if p := d.def.policies[d.spec.Name]; p != nil {
			return p
		}
	}
	return nil
}

// Looks says that the deployment's routing policy may look at the arguments of calls, which [Show] gives to it.
func (d *Deployment) Looks() bool { return d.looks.Load() }

// Show gives the call to the deployment's policy, which is a user's and may look at the arguments.
func Show(i *call.Info, c *call.Call) {
	a := call.Affinity{}
	if i.Affinity != nil {
		a = *i.Affinity
	}
	a.Of = c
	i.Affinity = &a
}

// Submit sends a call on its way. sink is told its end exactly once; the arguments must stay valid until then.
// Whoever submits watches the caller's context and cancels the flight when it ends.
func (d *Deployment) Submit(b *call.Batch, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	if e := d.refuses(&c.Info); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return f
	}
	if d.looks.Load() {
		Show(&c.Info, c)
	}
	d.Router.Submit(b, &f.ticket, c.Origin, &c.Info, f)
	if c.Info.Above != nil {
		f.suspect(b)
	}
	return f
}

// SubmitAssigned is Submit for a caller that already took a slot of r.
func (d *Deployment) SubmitAssigned(r router.Replica, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	f.Assigned(nil, r)
	return f
}

// SubmitTo is SubmitAssigned that does not go to another replica if this one is lost before the call has started.
func (d *Deployment) SubmitTo(r router.Replica, c *call.Call, sink call.Sink) *Flight {
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
func (d *Deployment) Acquire(ctx context.Context, c *call.Info, origin string) (router.Replica, *call.Error) {
	if e := d.refuses(c); e != nil {
		return nil, e.At(c)
	}
	a := &acquiring{got: make(chan acquired, 1)}
	d.Router.Submit(nil, &a.ticket, origin, c, a)
	var r acquired
	select {
	case r = <-a.got:
	default:
		r = d.await(ctx, c, a)
	}
	if r.failure != nil {
		return nil, r.failure.At(c)
	}
	if ctx.Err() != nil {
		r.replica.Gate().Release(nil)
		return nil, call.FromContext(ctx).At(c)
	}
	return r.replica, nil
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

// explain says of a call whose deadline has passed while it waited that there was nobody to run it, and why.
func (d *Deployment) explain(e *call.Error) *call.Error {
	if e.Reason != call.Deadline || len(d.Router.Replicas()) > 0 {
		return e
	}
	n := d.app.node
	n.mu.Lock()
	why := d.message
	n.mu.Unlock()
	if why == "" {
		why = "none has started yet"
	}
	c := *e
	c.Message += "; the deployment has no replica: " + why
	return &c
}

// relay submits a call that came over a wire. Its arguments are forwarded from the read buffer if a replica takes it at
// once, and copied if it has to wait.
func (d *Deployment) relay(b *call.Batch, s *session, in *wire.Incoming) call.Canceler {
	f := &Flight{dep: d, call: &in.Call, sink: in, in: in}
	if e := d.refuses(&in.Info); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return nil
	}
	f.expireAfter(in.Left)
	if d.looks.Load() {
		Show(&in.Info, &in.Call)
	}
	if len(in.Encoded.Shared) > 0 { // the little that is in the frame is not worth a second look
		f.keep()
	}
	if r := d.Router.TryAcquire(&in.Info); r != nil {
		if in.Above != nil && r.(*Unit).instance != nil {
			in.Info.Above = ancestors(&in.Call)
		}
		if s.worker != nil {
			r.(*Unit).lend(s.worker)
		}
		f.Assigned(b, r)
		return f
	}
	f.keep()
	in.Info.Above = ancestors(&in.Call)
	d.Router.Submit(b, &f.ticket, in.Origin, &in.Info, f)
	f.leave()
	if in.Info.Above != nil {
		f.suspect(b)
	}
	return f
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
	if e == nil && !d.looks.Load() {
		e = d.Router.Full(c.Origin, &c.Info)
	}
	if e != nil {
		e = e.At(&c.Info)
	}
	return e
}

// Do makes a call and waits for its end or the end of ctx. The result owns its memory.
//
// A call without a deadline whose replica lives in this process runs on the caller's goroutine: the only one who can be
// kept waiting by a method that ignores its context is then a client that has gone away.
func (d *Deployment) Do(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
	if _, limited := ctx.Deadline(); !limited && d.refuses(&c.Info) == nil && c.Info.Affinity == nil {
		if r := d.Router.TryAcquireRecent(); r != nil {
			u := r.(*Unit)
			if local, ok := u.transport.(*transport.Local); ok {
				c.Info.Replica = r.ID()
				defer r.Gate().Release(nil)
				out, e := local.Inline(ctx, c)
				if e != nil {
					e = e.At(&c.Info)
				}
				return out, e
			}
			w := call.NewWaiter()
			return flat(w.Wait(ctx, d.SubmitAssigned(r, c, w)))
		}
	}
	w := call.NewWaiter()
	f := d.Submit(nil, c, w)
	return flat(w.Wait(ctx, f))
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

// unfinished says what busy counts, "" for nothing.
func (d *Deployment) unfinished() string {
	var parts []string
	if n := d.Router.Queued(); n > 0 {
		parts = append(parts, calls(n)+" waited for a slot")
	}
	for _, r := range d.Router.Replicas() {
		if n := r.Gate().Load(); n > 0 {
			parts = append(parts, calls(n)+" still ran in replica "+r.ID())
		}
	}
	return strings.Join(parts, ", ")
}

func calls(n int) string {
	if n == 1 {
		return "1 call"
	}
	return strconv.Itoa(n) + " calls"
}

// busy is the number of calls that wait or run.
func (d *Deployment) busy() int {
	n := d.Router.Queued()
	for _, r := range d.Router.Replicas() {
		n += r.Gate().Load()
	}
	return n
}
