package trace

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Active is a span of user code that has not ended. The methods of a nil Active do nothing. They may be called from any goroutine.
type Active struct {
	to Sink

	mu     sync.Mutex
	rec    Record
	more   More
	others []Record // of the other sampled members of a batch
	ended  bool
}

// Begin begins a span in the method that received ctx, and gives the context for calls and spans inside of it. Outside of methods it is a span of the program ([Enroll]). Without a sink it
// gives ctx and nil.
func Begin(ctx context.Context, to Sink, name string) (context.Context, *Active) {
	i := call.InfoFrom(ctx)
	if i == nil {
		return beginOutside(ctx, name)
	}
	if i.Place == nil || to == nil {
		return ctx, nil
	}
	a := &Active{to: to, more: More{Name: clipTo(name, maxName)}}
	a.rec = Record{
		Request: i.Request, Trace: i.Trace, ID: rand.Uint64(), Parent: i.Call, Place: i.Place, Replica: i.Replica, Begin: call.Unix(call.Now()),
		Kind: Span, Depth: i.Depth, Sampled: i.Sampled,
	}
	if u := call.UnderFrom(ctx); u != nil {
		a.more.Caller = i.Call
		a.rec.Trace, a.rec.Parent, a.rec.Sampled = u.Trace, u.Span, u.Sampled
	}
	return call.WithUnder(ctx, &call.Under{Of: i, Trace: a.rec.TraceID(), Span: a.rec.ID, Sampled: a.rec.Sampled}), a
}

// Set notes an attribute: a string, bool, int64 or float64. One of the same key is replaced. A span has 64 at most.
func (a *Active) Set(key string, value any) {
	if a == nil {
		return
	}
	if text, ok := value.(string); ok {
		value = clip(text)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.more.Attributes {
		if a.more.Attributes[i].Key == key && !a.ended {
			a.more.Attributes[i].Value = value
			return
		}
	}
	if len(a.more.Attributes) < maxAttributes && !a.ended {
		a.more.Attributes = append(a.more.Attributes, Attribute{clipTo(key, maxName), value})
	}
}

// Fail notes that the work of the span has failed; a nil error notes nothing.
func (a *Active) Fail(err error) {
	if a == nil || err == nil {
		return
	}
	e := call.AsError(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rec.Reason, a.more.Message = string(e.Reason), clip(e.Message)
}

// Link notes a span of another call.
func (a *Active) Link(trace [16]byte, span uint64) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.more.Links) < maxLinks {
		a.more.Links = append(a.more.Links, Link{trace, span})
	}
}

// End ends the span, and leaves its record as the end of a call does: if it was a millisecond or longer, has failed or is sampled. A second call does nothing.
func (a *Active) End() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	a.rec.End = call.Unix(call.Now())
	if a.rec.End-a.rec.Begin < int64(Least) && a.rec.Reason == "" && !a.rec.Sampled && !a.rec.Open {
		return
	}
	more := a.more
	a.rec.More = &more
	a.to.Record(a.rec)
	for _, r := range a.others {
		r.End, r.Reason = a.rec.End, a.rec.Reason
		a.to.Record(r)
	}
}
