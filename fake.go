package helve

import (
	"context"
	"iter"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
)

// fake stands for a deployment with one replica that takes any number of calls.
type fake struct {
	serving.Base
	replica *instance.Instance
}

func (f *fake) ID() string                     { return f.replica.ID }
func (f *fake) Node() string                   { return "" }
func (f *fake) Gate() router.Gate              { return open{} }
func (f *fake) Instance() *instance.Instance   { return f.replica }
func (f *fake) Transport() transport.Transport { return nil }

func newFake() binding {
	d := &deployment{app: &App{}, name: "fake"}
	f := &fake{replica: instance.New("fake", nil)}
	return binding{d: d, name: "fake", place: call.Place{Deployment: "fake", Method: "fake"}, fake: f}
}

// open is a gate that is never full.
type open struct{}

func (open) TryAcquire() bool                                { return true }
func (open) Release(*call.Batch)                             {}
func (open) Load() int                                       { return 0 }
func (open) Wait(interface{ Granted(b *call.Batch) }) bool   { return true }
func (open) Unwait(interface{ Granted(b *call.Batch) }) bool { return false }

// MethodFunc returns a Method that calls f, for tests of code that holds methods: no application runs. All methods of a Method
// work, with the rules of the package: errors are *[Error], also for a panic of f, and f runs on a goroutine of its own under
// Remote. A broadcast has one replica.
func MethodFunc[In, Out any](f func(context.Context, In) (Out, error)) Method[In, Out] {
	m := &method[In, Out]{binding: newFake()}
	m.invoke = func(_ any, ctx context.Context, in In) (Out, error) { return f(ctx, in) }
	return Method[In, Out]{m}
}

// StreamFunc is [MethodFunc] for streams.
func StreamFunc[In, Out any](f func(context.Context, In) iter.Seq2[Out, error]) Stream[In, Out] {
	s := &stream[In, Out]{binding: newFake()}
	s.invoke = func(_ any, ctx context.Context, in In) iter.Seq2[Out, error] { return f(ctx, in) }
	return Stream[In, Out]{s}
}
