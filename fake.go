package helve

import (
	"context"
	"iter"

	"github.com/helve-serve/helve/internal/client"
)

// MethodFunc returns a Method that calls f, for tests of code that holds methods: no application runs. All methods of a Method
// work, with the rules of the package: errors are *[Error], also for a panic of f, and f runs on a goroutine of its own under
// Remote. A broadcast has one replica.
func MethodFunc[In, Out any](f func(context.Context, In) (Out, error)) Method[In, Out] {
	m := &method[In, Out]{Binding: client.NewFake()}
	m.invoke = func(_ any, ctx context.Context, in In) (Out, error) { return f(ctx, in) }
	return Method[In, Out]{m}
}

// StreamFunc is [MethodFunc] for streams.
func StreamFunc[In, Out any](f func(context.Context, In) iter.Seq2[Out, error]) Stream[In, Out] {
	s := &stream[In, Out]{Binding: client.NewFake()}
	s.invoke = func(_ any, ctx context.Context, in In) iter.Seq2[Out, error] { return f(ctx, in) }
	return Stream[In, Out]{s}
}
