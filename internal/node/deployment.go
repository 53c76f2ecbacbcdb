package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/replica"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Deployment is one deployment as this node serves it. Router is its hot path: a caller in this process takes a slot of
// it and runs the method itself where [Unit.Local] is set.
type Deployment struct {
	Router *router.Router

	app       *app
	spec      spec.Deployment
	options   spec.Effective
	class     *replica.Class // nil for Python
	placement placement
	down      atomic.Pointer[call.Error] // why calls are refused

	updating sync.Mutex // one Router.Update at a time; taken before Node.mu

	// Guarded by Node.mu.
	units    map[string]*Unit
	failures int
	lastFail time.Time
	methods  []pythonMethod // of the first Python replica that became ready
}

type placement uint8

const (
	inNode placement = iota
	inGoWorker
	inPython
)

// Unit is one replica as the node sees it.
type Unit struct {
	Local *replica.Replica // set when it lives in this process

	id        string
	dep       *Deployment
	gate      *gate.Gate
	entry     *router.Replica
	transport transport.Transport
	worker    *workerProc // nil in process

	// Guarded by Node.mu.
	state     spec.ReplicaState
	startedAt time.Time
}

// Submit sends a call on its way. sink is told its end exactly once; the arguments must stay valid until then.
// Whoever submits watches the caller's context and cancels the flight when it ends.
func (d *Deployment) Submit(b *call.Batch, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	if e := d.refuses(c); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return f
	}
	d.Router.Submit(b, &f.ticket, c.Origin, f)
	return f
}

// SubmitAssigned is Submit for a caller that already took a slot of r.
func (d *Deployment) SubmitAssigned(r *router.Replica, c *call.Call, sink call.Sink) *Flight {
	f := &Flight{dep: d, call: c, sink: sink}
	f.Assigned(nil, r)
	return f
}

// relay submits a call that came over a wire. Its arguments are forwarded from the read buffer if a replica takes it at
// once, and copied if it has to wait.
func (d *Deployment) relay(b *call.Batch, in *wire.Incoming) call.Canceler {
	f := &Flight{dep: d, call: &in.Call, sink: in, in: in}
	if e := d.refuses(&in.Call); e != nil {
		f.state, f.answered = done, true
		f.finish(b, call.Result{Err: e})
		return nil
	}
	if in.Left > 0 {
		f.mu.Lock() // the timer may fire before it is assigned
		f.timer = time.AfterFunc(in.Left, func() { f.Cancel(nil, context.DeadlineExceeded) })
		f.mu.Unlock()
	}
	if r := d.Router.TryAcquire(); r != nil {
		f.Assigned(b, r)
		return f
	}
	f.keep()
	d.Router.Submit(b, &f.ticket, in.Origin, f)
	f.leave()
	return f
}

func (d *Deployment) refuses(c *call.Call) *call.Error {
	if e := d.down.Load(); e != nil {
		return e
	}
	if c.Info.Depth >= wire.MaxDepth {
		return call.NewError(call.DepthExceeded, fmt.Sprintf("calls are nested %d deep", c.Info.Depth))
	}
	return nil
}

// Do makes a call and waits for its end or the end of ctx. The result owns its memory.
//
// A call without a deadline whose replica lives in this process runs on the caller's goroutine: the only one who can be
// kept waiting by a method that ignores its context is then a client that has gone away.
func (d *Deployment) Do(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
	if _, limited := ctx.Deadline(); !limited && d.refuses(c) == nil {
		if r := d.Router.TryAcquireNear(); r != nil {
			u := r.Value.(*Unit)
			if local, ok := u.transport.(*transport.Local); ok {
				c.Info.Replica = r.ID
				defer r.Gate.Release(nil)
				out, e := local.Inline(ctx, c)
				if e != nil {
					e = e.At(&c.Info)
				}
				return out, e
			}
			w := call.NewWaiter()
			return w.Wait(ctx, d.SubmitAssigned(r, c, w))
		}
	}
	w := call.NewWaiter()
	f := d.Submit(nil, c, w)
	return w.Wait(ctx, f)
}

// busy is the number of calls that wait or run.
func (d *Deployment) busy() int {
	n := d.Router.Queued()
	for _, r := range d.Router.Replicas() {
		n += r.Gate.Load()
	}
	return n
}
