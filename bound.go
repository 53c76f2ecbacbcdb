package helve

import (
	"context"
	"reflect"

	"github.com/helve-serve/helve/internal/graph"
)

// Bound is the handle that a Python program has bound to the deployment whose constructor received ctx, under the name of the argument:
//
//	ranker = serve.go_deployment("Ranker", build="./ranker", app="rank").bind(embedder=Embedder.bind(), top_k=3)
//
//	embedder, err := helve.Bound[Embedder](ctx, "embedder")
//
// The name of a positional argument is its place: the first argument is "0". R is an interface whose method names are those of the deployment, in either
// language's case. The error, for the constructor to return, says which arguments there are, or which method of R is not there.
func Bound[R any](ctx context.Context, name string) (Handle[R], error) {
	b, err := graph.BoundTo(ctx)
	if err != nil {
		return Handle[R]{}, publicError(err)
	}
	d, err := b.Handle(ctx, name, reflect.TypeFor[R]())
	if err != nil {
		return Handle[R]{}, publicError(err)
	}
	return Handle[R]{d: d}, nil
}

// BoundArgs are the arguments that a Python program has bound to the deployment whose constructor received ctx, without the handles: keyword arguments
// are the fields of T, by the names that fields have in calls, and one positional argument is the value itself. initial has the fields without an
// argument. An argument that T does not have is an error that names it.
//
//	args, err := helve.BoundArgs(ctx, RankerArgs{TopK: 10}) // top_k=3 in Python sets TopK
func BoundArgs[T any](ctx context.Context, initial T) (T, error) {
	b, err := graph.BoundTo(ctx)
	if err == nil {
		err = b.Values(&initial)
	}
	return initial, publicError(err)
}
