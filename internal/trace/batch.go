package trace

import (
	"context"
	"math/rand/v2"

	"github.com/helve-serve/helve/internal/call"
)

// batchSize is the attribute of the number of members.
const batchSize = "helve.batch_size"

// BeginBatch begins the span of a batch, whose members are the contexts of calls, and gives the context for calls that the batch makes. The span is in the trace of the first sampled member,
// or of the first one, with links to all members; each other sampled member has a span of the same time with a link to it. For example, of a batch of four with two sampled
// members the trace of the one has the span with four links, and the trace of the other a span with one.
func BeginBatch(ctx context.Context, to Sink, members []context.Context) (context.Context, *Active) {
	if to == nil || len(members) == 0 {
		return ctx, nil
	}
	first := members[0]
	for _, m := range members {
		if i := call.InfoFrom(m); i != nil && i.Sampled {
			first = m
			break
		}
	}
	i := call.InfoFrom(first)
	if i == nil || i.Place == nil {
		return ctx, nil
	}
	_, a := Begin(first, to, nameOfBatch(i.Place))
	a.rec.Kind = Batch
	a.Set(batchSize, int64(len(members)))
	links := []Link{{a.rec.TraceID(), a.rec.ID}}
	for _, m := range members {
		i := call.InfoFrom(m)
		if i == nil {
			continue
		}
		trace, parent := i.TraceID(), i.Call
		if u := call.UnderFrom(m); u != nil {
			trace, parent = u.Trace, u.Span
		}
		a.Link(trace, parent)
		if m == first || !i.Sampled || i.Place == nil {
			continue
		}
		a.others = append(a.others, Record{
			Request: i.Request, Trace: i.Trace, ID: rand.Uint64(), Parent: parent, Place: i.Place, Replica: i.Replica, Begin: a.rec.Begin, Kind: Batch, Depth: i.Depth, Sampled: true,
			More: &More{Name: a.more.Name, Links: links},
		})
	}
	return call.WithUnder(ctx, &call.Under{Of: call.InfoFrom(ctx), Trace: a.rec.TraceID(), Span: a.rec.ID, Sampled: a.rec.Sampled}), a
}

func nameOfBatch(p *call.Place) string {
	if p.Method == "" {
		return p.Deployment
	}
	return p.Deployment + "." + p.Method
}
