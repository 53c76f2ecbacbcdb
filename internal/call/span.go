package call

import (
	"context"
	"encoding/binary"
	"encoding/hex"
)

// Under is a span in which calls are made: of user code in a method, or of the program outside of methods. For example, a method that runs for 30 ms has a span "rank" of
// 20 ms, and makes a call in it: the call's parent span is "rank", and its parent call is the method's.
type Under struct {
	Of      *Info // the call whose method has the span; nil outside of methods
	Trace   [16]byte
	Span    uint64
	Sampled bool
	// Open says that the node of the calls decides whether they are sampled, by the id of the trace: the program has attached to it, and does not know its ratio.
	Open bool
	// Request is the id of the span's request, if the span is one of the program outside of methods. Calls in it are requests of their own, in its trace.
	Request ID
}

// NewUnder is the span that a header describes.
func NewUnder(of *Info, trace [16]byte, span [8]byte, sampled bool) *Under {
	return &Under{Of: of, Trace: trace, Span: binary.BigEndian.Uint64(span[:]), Sampled: sampled}
}

type underKey struct{}

// WithUnder gives a context for calls in a span.
func WithUnder(ctx context.Context, u *Under) context.Context {
	return context.WithValue(ctx, underKey{}, u)
}

// UnderFrom is the span of a context; nil for none. The span of a caller is none of the method that it calls, although methods see the other values of their caller's context.
func UnderFrom(ctx context.Context) *Under {
	switch ctx.(type) { // the two types that methods receive, without a walk
	case *Inline, *Context:
		return nil
	}
	if u, ok := ctx.Value(underKey{}).(*Under); ok && u.Of == InfoFrom(ctx) {
		return u
	}
	return nil
}

// Enter puts a call that begins into the span.
func (u *Under) Enter(i *Info) {
	i.Trace, i.Sampled = u.Trace, u.Sampled
	binary.BigEndian.PutUint64(i.Span[:], u.Span)
}

// traceparentLen is the length of a traceparent of version 00.
const traceparentLen = 55

// ParseTraceparent reads a W3C trace context header of version 00, or the part of a later version that is the same. ok is false for others.
func ParseTraceparent(s string) (trace [16]byte, span [8]byte, sampled, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > traceparentLen && (s[:2] == "00" || s[traceparentLen] != '-') {
		return trace, span, false, false
	}
	for _, c := range []byte(s[:traceparentLen]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != '-' { // upper case is not allowed
			return trace, span, false, false
		}
	}
	var flags [1]byte
	if _, err := hex.Decode(trace[:], []byte(s[3:35])); err != nil || trace == [16]byte{} {
		return trace, span, false, false
	}
	if _, err := hex.Decode(span[:], []byte(s[36:52])); err != nil || span == [8]byte{} {
		return trace, span, false, false
	}
	if _, err := hex.Decode(flags[:], []byte(s[53:traceparentLen])); err != nil {
		return trace, span, false, false
	}
	return trace, span, flags[0]&1 != 0, true
}

// Traceparent is the header of W3C's trace context for a span.
func Traceparent(trace [16]byte, span uint64, sampled bool) string {
	b := make([]byte, 0, traceparentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint64(nil, span))
	if sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}
