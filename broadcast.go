package helve

import (
	"context"
	"errors"
	"sync"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
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
	b      *client.Binding
	calls  client.Broadcast
	typing sync.Once
	typed  []*Response[T] // one per answer
}

// Broadcast calls the method on every replica that the deployment has now, and returns at once. It takes no slots and waits
// for none: each replica has a lane of its own for broadcasts, in which one runs at a time, beside ordinary calls. Replicas
// that start later are not asked. The calls are cancelled when ctx ends, with Cancel, or when their deadline passes.
func (m Method[In, Out]) Broadcast(ctx context.Context, in In) *BroadcastResponse[Out] {
	r := &BroadcastResponse[Out]{}
	b := m.m
	if b == nil || b.Err != nil {
		r.calls.Fail(b.failure())
		return r
	}
	r.b = &b.Binding
	if b.Fake == nil || ctx.Err() != nil {
		r.calls.Begin(ctx, r.b, untyped(in))
		return r
	}
	one := m.Remote(ctx, in)
	r.calls.BeginFake(one.r)
	r.typed = []*Response[Out]{one}
	return r
}

// answers waits until the replicas are known, and gives their answers to come, with and without their type.
func (r *BroadcastResponse[T]) answers(ctx context.Context) ([]*client.Answer, []*Response[T], *call.Error) {
	answers, e := r.calls.Answers(ctx)
	if e != nil {
		return nil, nil, e
	}
	r.typing.Do(func() {
		for _, a := range answers[len(r.typed):] {
			r.typed = append(r.typed, &Response[T]{r: a.Response, b: r.b})
		}
	})
	return answers, r.typed, nil
}

// Results waits for every answer and gives one entry per replica, in the order in which they were asked. The error joins
// those of the entries; it is nil if every replica answered. When ctx ends first, the entries of replicas that have not
// answered have its error, the calls run on, and Results may be called again. A deployment without replicas is an error
// with reason deployment_unavailable.
func (r *BroadcastResponse[T]) Results(ctx context.Context) ([]ReplicaResult[T], error) {
	answers, typed, e := r.answers(ctx)
	if e != nil {
		return nil, public(e)
	}
	out := make([]ReplicaResult[T], len(answers))
	var errs []error
	for i, a := range answers {
		out[i].Replica, out[i].Node = a.Info.Replica, a.Node
		out[i].Value, out[i].Err = typed[i].Result(ctx)
		if out[i].Err != nil {
			errs = append(errs, out[i].Err)
		}
	}
	return out, errors.Join(errs...)
}

// Missed waits as Results does, and gives the ids of the replicas that were gone before the call was sent to them.
func (r *BroadcastResponse[T]) Missed(ctx context.Context) []string {
	var ids []string
	answers, typed, _ := r.answers(ctx)
	for i, a := range answers {
		if _, err := typed[i].Result(ctx); ReasonOf(err) == ReplicaUnavailable {
			ids = append(ids, a.Info.Replica)
		}
	}
	return ids
}

// Cancel ends the calls that have not ended: replicas that have not begun never do.
func (r *BroadcastResponse[T]) Cancel() { r.calls.Cancel() }

// RequestID is the id of the request that the calls belong to.
func (r *BroadcastResponse[T]) RequestID() string { return r.calls.Info.Request.String() }
