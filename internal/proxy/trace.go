package proxy

import (
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/trace"
)

// beginSpan gives a request a span of its own, which is the parent of its call, and decides whether the spans of the request are exported, if its client has
// not decided that.
func (p *Proxy) beginSpan(x *exchange) {
	if p.trace == nil {
		return
	}
	i := &x.call.Info
	x.caller = binary.BigEndian.Uint64(i.Span[:])
	binary.BigEndian.PutUint64(i.Span[:], rand.Uint64())
	if i.Trace == ([16]byte{}) {
		p.trace.Decide(i)
	}
}

// endSpan leaves the record of a request to an application that has ended: of one that was slow, has failed or is sampled.
func (p *Proxy) endSpan(x *exchange, r *http.Request, status int, took time.Duration) {
	if p.trace == nil {
		return
	}
	i := x.info()
	if i == nil { // the handler still waits for a replica, and the call is its own: these fields do not change
		c := &x.call.Info
		i = &call.Info{Request: c.Request, Call: c.Call, Trace: c.Trace, Span: c.Span, Sampled: c.Sampled, Place: x.place}
	}
	if i.Place == nil || !trace.Wants(int64(took), status >= http.StatusBadRequest, i) {
		return
	}
	rec := trace.Of(i, trace.HTTP, x.failure.Load())
	rec.ID, rec.Parent, rec.Status = rec.Parent, x.caller, uint16(status)
	if rec.Sampled {
		rec.Describe(trace.Attribute{Key: "http.request.method", Value: r.Method}, trace.Attribute{Key: "url.path", Value: r.URL.Path})
	}
	rec.End = call.Unix(call.Now())
	rec.Begin = rec.End - int64(took)
	p.trace.Record(rec)
}
