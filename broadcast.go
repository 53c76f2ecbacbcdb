package helve

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// ReplicaResult is the answer of one replica to a broadcast.
type ReplicaResult[T any] struct {
	// Replica is the id of the replica.
	Replica string
	// Node is the name of the replica's node.
	Node string
	// Value is the result. It is the zero value if Err is not nil.
	Value T
	// Err is the error of the call. Its reason is replica_unavailable if the replica had stopped before the call was sent.
	Err error
}

// BroadcastResponse is the answers to come of a broadcast that is under way. Its methods may be called from any goroutine,
// any number of times.
type BroadcastResponse[T any] struct {
	id        call.ID
	known     chan struct{} // closed when the two below are set; nil if they are from the start
	gathering *gathering[T] // in a worker, the call through which the node sends the broadcast
	failure   *call.Error   // the failure of the whole broadcast: no call was sent
	replicas  []*answer[T]
}

// answer is one replica's.
type answer[T any] struct {
	Response[T]
	own  call.Info
	node string
}

// Complete keeps the answer.
func (a *answer[T]) Complete(_ *call.Batch, res call.Result) {
	if len(res.Data) > 0 {
		res.Data = append([]byte(nil), res.Data...)
	}
	a.end(res.Err, func() { a.payload = res.Payload })
}

// Broadcast calls the method on every replica that the deployment has now, and returns at once. It takes no slots and waits
// for none: each replica has a lane of its own for broadcasts, in which one runs at a time, beside ordinary calls. Replicas
// that start later are not asked. The calls are cancelled when ctx ends, with Cancel, or when their deadline passes.
func (m Method[In, Out]) Broadcast(ctx context.Context, in In) *BroadcastResponse[Out] {
	b := m.m
	if b == nil || b.err != nil {
		return &BroadcastResponse[Out]{failure: b.failure(ctx)}
	}
	var parent call.Info
	b.fill(ctx, &parent)
	r := &BroadcastResponse[Out]{id: parent.Request}
	d := b.d.serving()
	switch {
	case ctx.Err() != nil:
		r.failure = call.FromContext(ctx)
	case b.fake != nil:
		one := m.Remote(ctx, in)
		a := &answer[Out]{}
		a.b, a.info = &b.binding, one.info
		one.whenEnded(func() {
			v, err := one.Result(context.Background()) // the call has ended, so this does not wait
			var e *call.Error
			if err != nil {
				e = call.AsError(err)
			}
			a.end(e, func() { a.value = v })
		})
		a.carry(oneCall{&one.pending})
		r.replicas = append(r.replicas, a)
	case d == nil && b.d.port.Load() != nil:
		r.gather(ctx, &b.binding, parent, in)
		return r
	case d == nil:
		r.failure = notRunning()
	default:
		targets, e := d.Targets()
		r.failure = e
		for _, t := range targets {
			a := &answer[Out]{own: parent, node: t.Node()}
			a.own.Call = rand.Uint64()
			a.own.Replica = t.ID()
			a.b, a.info = &b.binding, &a.own
			a.carry(d.SubmitControl(t, b.untyped(ctx, a.own, in), a))
			a.watch(ctx)
			r.replicas = append(r.replicas, a)
		}
	}
	if r.failure != nil {
		r.failure = r.failure.At(&parent)
	}
	return r
}

// oneCall cancels a response as if it were a flight.
type oneCall struct{ p *pending }

func (c oneCall) Cancel(_ *call.Batch, cause error) { c.p.cancel(cause) }

// Results waits for every answer and gives one entry per replica, in the order in which they were asked. The error joins
// those of the entries; it is nil if every replica answered. When ctx ends first, the entries of replicas that have not
// answered have its error, the calls run on, and Results may be called again. A deployment without replicas is an error
// with reason deployment_unavailable.
func (r *BroadcastResponse[T]) Results(ctx context.Context) ([]ReplicaResult[T], error) {
	if r.known != nil {
		select {
		case <-r.known:
		case <-ctx.Done():
			return nil, public(call.FromContext(ctx))
		}
	}
	if r.failure != nil {
		return nil, public(r.failure)
	}
	out := make([]ReplicaResult[T], len(r.replicas))
	var errs []error
	for i, a := range r.replicas {
		out[i].Replica, out[i].Node = a.info.Replica, a.node
		out[i].Value, out[i].Err = a.Result(ctx)
		if out[i].Err != nil {
			errs = append(errs, out[i].Err)
		}
	}
	return out, errors.Join(errs...)
}

// Missed waits as Results does, and gives the ids of the replicas that were gone before the call was sent to them.
func (r *BroadcastResponse[T]) Missed(ctx context.Context) []string {
	var ids []string
	if r.known != nil {
		select {
		case <-r.known:
		case <-ctx.Done():
			return nil
		}
	}
	for _, a := range r.replicas {
		if _, err := a.Result(ctx); ReasonOf(err) == ReplicaUnavailable {
			ids = append(ids, a.info.Replica)
		}
	}
	return ids
}

// Cancel ends the calls that have not ended: replicas that have not begun never do.
func (r *BroadcastResponse[T]) Cancel() {
	if r.gathering != nil {
		r.gathering.cancel(context.Canceled)
		return
	}
	for _, a := range r.replicas {
		a.Cancel()
	}
}

// gathering is a broadcast that the node makes for a caller in a worker: a call whose items are the answers. The first says
// who was asked (docs/wire.md).
type gathering[T any] struct {
	pending
	own      call.Info
	response *BroadcastResponse[T]
}

func (r *BroadcastResponse[T]) gather(ctx context.Context, b *binding, i call.Info, in any) {
	g := &gathering[T]{own: i, response: r}
	g.b, g.info = b, &g.own
	r.known, r.gathering = make(chan struct{}), g
	c := b.untyped(ctx, i, in)
	c.Mode, c.Items, c.Window = call.Broadcast, g, call.Window{Items: math.MaxUint32, Bytes: math.MaxUint32}
	g.carry(b.submit(c, g))
	g.watch(ctx)
}

// Item is not used: the items come over a wire.
func (g *gathering[T]) Item(context.Context, call.Payload) bool { return false }

// Frame takes answers.
func (g *gathering[T]) Frame(_ *call.Batch, _ call.Source, frame []byte) {
	frame = append([]byte(nil), frame...)
	for len(frame) > 0 {
		p, rest, ok := call.NextItem(frame)
		if !ok {
			return
		}
		frame = rest
		if g.response.replicas == nil {
			g.asked(p)
			continue
		}
		i, res, err := wire.ParseAnswer(p)
		if err == nil && i < len(g.response.replicas) {
			g.response.replicas[i].Complete(nil, res)
		}
	}
}

// asked notes who was asked.
func (g *gathering[T]) asked(p call.Payload) {
	var list []struct {
		Replica string `json:"replica"`
		Node    string `json:"node"`
	}
	if err := json.Unmarshal(p.Data, &list); err != nil {
		g.Complete(nil, call.Result{Err: call.NewError(call.Fault, "broadcast: "+err.Error())})
		return
	}
	replicas := make([]*answer[T], len(list))
	for i, t := range list {
		a := &answer[T]{own: g.own, node: t.Node}
		a.own.Replica = t.Replica
		a.b, a.info = g.b, &a.own
		replicas[i] = a
	}
	g.mu.Lock()
	ended := g.ended
	if !ended {
		g.response.replicas = replicas
	}
	g.mu.Unlock()
	if !ended {
		close(g.response.known)
	}
}

// Complete ends the broadcast: replicas that have not answered never will.
func (g *gathering[T]) Complete(_ *call.Batch, r call.Result) {
	unknown := false
	if !g.end(r.Err, func() { unknown = g.response.replicas == nil }) {
		return
	}
	e := r.Err
	if e == nil {
		e = call.NewError(call.Fault, "the broadcast ended without an answer").At(&g.own)
	}
	if unknown {
		g.response.failure = e
		close(g.response.known)
		return
	}
	for _, a := range g.response.replicas {
		a.end(e, nil)
	}
}

// cancel ends the broadcast for its caller at once, and asks the replicas to end.
func (g *gathering[T]) cancel(cause error) {
	flight, e := g.cancelling(cause)
	g.Complete(nil, call.Result{Err: e})
	if flight != nil {
		flight.Cancel(nil, cause)
	}
}

// watch is as in pending.
func (g *gathering[T]) watch(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.stop = call.AfterFunc(ctx, func() { g.cancel(call.Cause(ctx)) })
	}
}

// RequestID is the id of the request that the calls belong to.
func (r *BroadcastResponse[T]) RequestID() string { return r.id.String() }
