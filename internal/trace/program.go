package trace

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// Program takes the spans of the code of a program outside of methods. For example, a job attaches to a node, begins the span "nightly" and makes 200 calls in it: the node gets the span
// from the job, and the calls are below it in the trace.
type Program struct {
	Sink Sink
	// Samples decides which traces are sampled; nil: the node decides when it gets the span.
	Samples *Sampler
}

var programs struct { //nolint:gochecknoglobals // code outside of methods has nothing that leads to its node
	mu  sync.Mutex
	all []*Program
	now atomic.Pointer[Program] // the last of all; nil for none
}

// Enroll has the spans of this process outside of methods go to p, until leave is called. The newest one has them: a program that runs a node and attaches to another one sends them to the other.
func Enroll(p Program) (leave func()) {
	own := &p
	set := func(change func([]*Program) []*Program) {
		programs.mu.Lock()
		defer programs.mu.Unlock()
		programs.all = change(programs.all)
		if n := len(programs.all); n > 0 {
			programs.now.Store(programs.all[n-1])
		} else {
			programs.now.Store(nil)
		}
	}
	set(func(all []*Program) []*Program { return append(all, own) })
	return func() {
		set(func(all []*Program) []*Program {
			return slices.DeleteFunc(all, func(o *Program) bool { return o == own })
		})
	}
}

// ofProgram says that a record is a span of a program outside of methods.
func ofProgram(r *Record) bool {
	return r.Kind == Span && r.Place != nil && r.Place.App == ""
}

// beginOutside begins a span outside of methods: in the span of the context, or else as the root of a trace, whose id is that of a request of its own.
func beginOutside(ctx context.Context, name string) (context.Context, *Active) {
	p := programs.now.Load()
	if p == nil {
		return ctx, nil
	}
	a := &Active{to: p.Sink, more: More{Name: clipTo(name, maxName)}}
	a.rec = Record{ID: rand.Uint64(), Place: &call.Place{}, Begin: call.Unix(call.Now()), Kind: Span}
	r := &a.rec
	u := call.UnderFrom(ctx)
	if u != nil {
		r.Request, r.Trace, r.Parent, r.Sampled, r.Open = u.Request, u.Trace, u.Span, u.Sampled, u.Open
	}
	if r.Request.IsZero() {
		r.Request = call.NewID()
	} else {
		r.Depth = 1
	}
	if u == nil {
		r.Trace = r.Request.Trace()
		if r.Open = p.Samples == nil; !r.Open {
			r.Sampled = p.Samples.Samples(r.Trace)
		}
	}
	return call.WithUnder(ctx, &call.Under{Trace: r.Trace, Span: r.ID, Sampled: r.Sampled, Open: r.Open, Request: r.Request}), a
}
