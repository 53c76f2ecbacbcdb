package helve

import (
	"context"
	"log/slog"
	"math"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/trace"
)

// Span begins a span in the method that received ctx: a part of it that the trace of the request shows by itself, with the attributes. Calls and spans that are made with the new context
// are inside of it. A span of less than a millisecond is kept only if the request is sampled, or if it has failed.
//
// Outside of methods it is a span of the program: inside of the span of ctx ([WithTraceparent] too), or else the begin of a trace. Calls with the new context are below it, each a
// request of its own. It goes to the node that this program runs ([Run]) or has attached to ([Connect]), the newest of several; without one it does nothing.
//
//	ctx, span := helve.Span(ctx, "tokenize", slog.Int("documents", len(docs)))
//	defer span.End()
func Span(ctx context.Context, name string, attributes ...slog.Attr) (context.Context, *ActiveSpan) {
	ctx, a := trace.Begin(ctx, graph.Traces(ctx), name)
	s := &ActiveSpan{a}
	s.Set(attributes...)
	return ctx, s
}

// ActiveSpan is a span that was begun with [Span]. It is safe for concurrent use.
type ActiveSpan struct{ a *trace.Active }

// Set notes attributes, 64 in a span at most. An attribute replaces the one of its key.
func (s *ActiveSpan) Set(attributes ...slog.Attr) {
	for _, a := range attributes {
		switch v := a.Value.Resolve(); v.Kind() {
		case slog.KindBool:
			s.a.Set(a.Key, v.Bool())
		case slog.KindInt64:
			s.a.Set(a.Key, v.Int64())
		case slog.KindUint64:
			s.a.Set(a.Key, int64(min(v.Uint64(), math.MaxInt64))) // the protocol has no larger ones
		case slog.KindFloat64:
			s.a.Set(a.Key, v.Float64())
		default:
			s.a.Set(a.Key, v.String())
		}
	}
}

// Fail notes that the work of the span has failed. It does nothing for nil, so that a function can end with span.Fail(err).
func (s *ActiveSpan) Fail(err error) { s.a.Fail(err) }

// End ends the span. A second call does nothing.
func (s *ActiveSpan) End() { s.a.End() }

// TraceparentFrom is the span of the method that received ctx, or the one begun with [Span] in it, as the header traceparent of W3C's trace context, such as
// "00-5f0c4f0e8f6a4d1e9f0b2f6f8a1f7c55-00f067aa0ba902b7-01": for requests to other services, and for the propagators of OpenTelemetry. "" outside of methods.
func TraceparentFrom(ctx context.Context) string {
	if u := call.UnderFrom(ctx); u != nil {
		return call.Traceparent(u.Trace, u.Span, u.Sampled)
	}
	if i := call.InfoFrom(ctx); i != nil {
		return call.Traceparent(i.TraceID(), i.Call, i.Sampled)
	}
	return ""
}

// WithTraceparent gives a context for calls in a span of another library, which a header traceparent describes: in methods and outside. A text that is no such header changes nothing.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	of, span, sampled, ok := call.ParseTraceparent(traceparent)
	if !ok {
		return ctx
	}
	return call.WithUnder(ctx, call.NewUnder(call.InfoFrom(ctx), of, span, sampled))
}
