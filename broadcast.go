package helve

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/helve-serve/helve/internal/call"
)

// ReplicaResult is what one replica answered to a broadcast.
type ReplicaResult[T any] struct {
	Replica string // its id
	Node    string // where it runs
	Value   T
	Err     error // an *Error with reason replica_unavailable if the replica was gone before the call was sent
}

// BroadcastResponse is the answers to come of a broadcast that is under way. Its methods may be called from any goroutine,
// any number of times.
type BroadcastResponse[T any] struct {
	id       call.ID
	failure  *call.Error // nothing was sent
	replicas []*answer[T]
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
	d := b.d.dep.Load()
	switch {
	case ctx.Err() != nil:
		r.failure = call.FromContext(ctx)
	case b.fake != nil:
		one := m.Remote(ctx, in)
		a := &answer[Out]{}
		a.b, a.info = &b.binding, one.info
		one.whenEnded(func() {
			v, err := one.Result(context.Background()) // it has ended: this does not wait
			var e *call.Error
			if err != nil {
				e = call.AsError(err)
			}
			a.end(e, func() { a.value = v })
		})
		a.carry(oneCall{&one.pending})
		r.replicas = append(r.replicas, a)
	case d == nil && b.d.port.Load() != nil:
		r.failure = call.NewError(call.NoMethod, "a broadcast cannot be made from a worker yet")
	case d == nil:
		r.failure = notRunning()
	default:
		targets, e := d.Targets()
		r.failure = e
		for _, t := range targets {
			a := &answer[Out]{own: parent, node: t.Node}
			a.own.Call = rand.Uint64()
			a.own.Replica = t.ID
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
	if r.failure != nil {
		return nil, r.failure
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
	for _, a := range r.replicas {
		if _, err := a.Result(ctx); ReasonOf(err) == ReplicaUnavailable {
			ids = append(ids, a.info.Replica)
		}
	}
	return ids
}

// Cancel ends the calls that have not ended: replicas that have not begun never do.
func (r *BroadcastResponse[T]) Cancel() {
	for _, a := range r.replicas {
		a.Cancel()
	}
}

// RequestID is the id of the request that the calls belong to.
func (r *BroadcastResponse[T]) RequestID() string { return r.id.String() }
