package helve

import (
	"context"
	"iter"
	"time"

	"github.com/helve-serve/helve/internal/batch"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// BatchOptions are the options of a [Batcher].
type BatchOptions[In any] struct {
	// MaxSize bounds the size of a batch: the number of items, or the sum of their Size. Default 10.
	MaxSize int
	// Wait is how long the first item of a batch waits for others. With 0 a batch takes the items that wait already. Default
	// 10 ms.
	Wait *time.Duration
	// MaxConcurrent is how many batches run at a time. Default 1. The deployment's MaxOngoingRequests bounds the number of
	// calls that wait: for full batches it must be at least MaxSize times MaxConcurrent.
	MaxConcurrent int
	// Size returns the size of an item. Each item counts 1 if it is nil. An item that alone exceeds MaxSize fails.
	Size func(In) int
	// Metrics counts the batches in the metrics of the node. nil: they are not counted.
	Metrics *BatchMetrics
}

// BatchMetrics counts the batches of a [Batcher] in GET /metrics of the node, under the names that batches of Python have: sizes, waits and times of batches, with the tags
// application, deployment, replica and function_name.
type BatchMetrics struct{ m *telemetry.Batches }

// NewBatchMetrics makes the metrics of the batches of a function with a name. ctx must be the context that the constructor of the replica received; with another one, as in a unit
// test, nothing is counted.
//
//	helve.NewBatcher(m.predict, helve.BatchOptions[string]{Metrics: helve.NewBatchMetrics(ctx, "predict")})
func NewBatchMetrics(ctx context.Context, function string) *BatchMetrics {
	if scope := instance.ScopeFrom(ctx); scope != nil {
		return &BatchMetrics{telemetry.NewBatches(scope.Metrics, function)}
	}
	return nil
}

func (o BatchOptions[In]) core() batch.Options {
	return batch.Options{MaxSize: o.MaxSize, Wait: o.Wait, MaxConcurrent: o.MaxConcurrent}
}

// Batcher runs a function that takes many inputs at once for calls that have one each: an instance makes it in its
// constructor, and its methods call Do. Calls keep their order. Calls for different models are never in one batch. A Batcher is
// safe for concurrent use.
type Batcher[In, Out any] struct{ b *batch.Batcher[In, Out] }

// NewBatcher makes a batcher of run, which returns a result per input, in order. An error, a panic and a wrong number of results
// reach every member of the batch. The context of run has the values of the first member's context, and the latest deadline if
// all members have one. It ends when all members have left the batch. [BatchMembers] returns the contexts of the members.
// Mistakes in the options are returned together.
func NewBatcher[In, Out any](run func(ctx context.Context, in []In) ([]Out, error), o BatchOptions[In]) (*Batcher[In, Out], error) {
	traced := run
	if run != nil {
		traced = func(ctx context.Context, in []In) ([]Out, error) {
			ctx, span := trace.BeginBatch(ctx, graph.Traces(ctx), batch.Members(ctx))
			defer span.End()
			out, err := run(ctx, in)
			span.Fail(err)
			return out, err
		}
	}
	b, err := batch.New(traced, o.core(), o.Size)
	if err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		b.Measure(o.Metrics.m)
	}
	return &Batcher[In, Out]{b}, nil
}

// Do joins a batch and waits for its own result. If ctx ends first its cause is returned: an item that still waits drops
// out of its batch, and a batch that runs goes on for the others.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	out, err := b.b.Do(ctx, in)
	return out, publicError(err)
}

// Set changes the options from the next batch on. Size and Metrics cannot be changed.
func (b *Batcher[In, Out]) Set(o BatchOptions[In]) error { return b.b.Set(o.core()) }

// Close fails the items that wait and all later ones. Batches that run go on to their end.
func (b *Batcher[In, Out]) Close() { b.b.Close() }

// Stats returns the present counts.
func (b *Batcher[In, Out]) Stats() BatchStats { return BatchStats(b.b.Stats()) }

// BatchStats counts the batches and items of one batcher.
type BatchStats struct {
	// Batches and Items are the numbers of batches and of their items since the start.
	Batches, Items uint64
	// Waiting is the number of items that wait for a batch now.
	Waiting int
	// Running is the number of batches that run now.
	Running int
}

// BatchItem is the part of one step of a batched stream that belongs to one member of the batch.
type BatchItem[Out any] struct {
	// Value is the member's next item.
	Value Out
	// Skip says that the member has no item in this step.
	Skip bool
	// End ends the member's stream. Value is ignored then.
	End bool
}

// StreamBatcher is a [Batcher] whose function streams.
type StreamBatcher[In, Out any] struct{ b *batch.Stream[In, Out] }

// NewStreamBatcher makes a batcher of run, each step of which has a [BatchItem] per input, in order: a value, nothing for
// this step, or the end of that member's stream. When run ends, so do all streams. The batch goes at the pace of its slowest
// reader, 64 items ahead; readers that leave drop out.
func NewStreamBatcher[In, Out any](run func(ctx context.Context, in []In) iter.Seq2[[]BatchItem[Out], error], o BatchOptions[In]) (*StreamBatcher[In, Out], error) {
	traced := run
	if run != nil {
		traced = func(ctx context.Context, in []In) iter.Seq2[[]BatchItem[Out], error] {
			return func(yield func([]BatchItem[Out], error) bool) {
				ctx, span := trace.BeginBatch(ctx, graph.Traces(ctx), batch.Members(ctx))
				defer span.End()
				for items, err := range run(ctx, in) {
					if span.Fail(err); !yield(items, err) {
						return
					}
				}
			}
		}
	}
	b, err := batch.NewStream(traced, func(i BatchItem[Out]) batch.Item[Out] { return batch.Item[Out](i) }, o.core(), o.Size)
	if err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		b.Measure(o.Metrics.m)
	}
	return &StreamBatcher[In, Out]{b}, nil
}

// Do joins a batch when it is ranged over, and gives its own items as they come. An error is yielded last and once.
func (b *StreamBatcher[In, Out]) Do(ctx context.Context, in In) iter.Seq2[Out, error] {
	items := b.b.Do(ctx, in)
	return func(yield func(Out, error) bool) {
		for v, err := range items {
			if !yield(v, publicError(err)) {
				return
			}
		}
	}
}

// Set changes the options from the next batch on. Size and Metrics cannot be changed.
func (b *StreamBatcher[In, Out]) Set(o BatchOptions[In]) error { return b.b.Set(o.core()) }

// Close fails the items that wait and all later ones. Batches that run go on to their end.
func (b *StreamBatcher[In, Out]) Close() { b.b.Close() }

// Stats returns the present counts.
func (b *StreamBatcher[In, Out]) Stats() BatchStats { return BatchStats(b.b.Stats()) }

// BatchMembers returns the contexts of the calls in the batch whose context ctx is, in the order of their items; nil elsewhere.
func BatchMembers(ctx context.Context) []context.Context { return batch.Members(ctx) }
