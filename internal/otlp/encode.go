package otlp

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/trace"
)

// The messages of opentelemetry/proto/collector/trace/v1 in JSON, as far as the node has values for their fields: ids are hex digits, and numbers of 64 bits are texts.
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributes   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	attributes struct {
		Attributes []keyValue `json:"attributes,omitempty"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	span struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		Parent     string     `json:"parentSpanId,omitempty"`
		Flags      uint32     `json:"flags"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []keyValue `json:"attributes,omitempty"`
		Links      []link     `json:"links,omitempty"`
		Status     *status    `json:"status,omitempty"`
	}
	link struct {
		TraceID string `json:"traceId"`
		SpanID  string `json:"spanId"`
	}
	status struct {
		Message string `json:"message,omitempty"`
		Code    int    `json:"code"`
	}
	keyValue struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string  `json:"stringValue,omitempty"`
		Bool   *bool    `json:"boolValue,omitempty"`
		Int    *string  `json:"intValue,omitempty"`
		Double *float64 `json:"doubleValue,omitempty"`
	}
)

// Numbers of the protocol.
const (
	kindInternal = 1
	kindServer   = 2
	statusError  = 2
	flagSampled  = 1
	statusServer = 500 // the first status of HTTP that is an error of a server's span
)

// scopeName is the name of the instrumentation in every request.
const scopeName = "github.com/helve-serve/helve"

// encode is the request that has the records as spans.
func encode(version string, resource []trace.Attribute, records []trace.Record) ([]byte, error) {
	of := scopeSpans{Scope: scope{scopeName, version}, Spans: make([]span, len(records))}
	for i := range records {
		of.Spans[i] = spanOf(&records[i])
	}
	var about attributes
	for _, a := range resource {
		about.Attributes = append(about.Attributes, attribute(a.Key, a.Value))
	}
	return json.Marshal(request{[]resourceSpans{{Resource: about, ScopeSpans: []scopeSpans{of}}}})
}

func spanOf(r *trace.Record) span {
	id := r.TraceID()
	s := span{
		TraceID: hex.EncodeToString(id[:]), SpanID: hexID(spanID(r)), Flags: flagSampled, Name: nameOf(r), Kind: kindInternal,
		Start: strconv.FormatInt(r.Begin, 10), End: strconv.FormatInt(r.End, 10),
	}
	if r.Parent != 0 {
		s.Parent = hexID(r.Parent)
	}
	add := func(key string, v any) { s.Attributes = append(s.Attributes, attribute(key, v)) }
	text := func(key, v string) {
		if v != "" {
			add(key, v)
		}
	}
	add("helve.kind", r.Kind.String())
	text("helve.request_id", r.Request.String())
	if p := r.Place; p != nil {
		text("helve.application", p.App)
		text("helve.deployment", p.Deployment)
		text("helve.method", p.Method)
	}
	text("helve.replica", r.Replica)
	text("helve.queue", r.Origin)
	if r.Attempt > 0 {
		add("helve.attempt", int64(r.Attempt))
	}
	if r.Kind == trace.HTTP {
		s.Kind = kindServer
		if r.Status != 0 {
			add("http.response.status_code", int64(r.Status))
		}
		if r.Place != nil {
			text("http.route", r.Place.Prefix)
		}
	}
	text("error.type", r.Reason)
	message := ""
	if m := r.More; m != nil {
		message = m.Message
		for _, a := range m.Attributes {
			add(a.Key, a.Value)
		}
		for _, l := range m.Links {
			s.Links = append(s.Links, link{hex.EncodeToString(l.Trace[:]), hexID(l.Span)})
		}
	}
	if failed := r.Reason != "" && r.Kind != trace.HTTP; failed || r.Kind == trace.HTTP && r.Status >= statusServer {
		s.Status = &status{Message: message, Code: statusError}
	}
	return s
}

// arguments is the number of the span of a call's arguments among those of the call: attempts have those from 2 to 257.
const arguments = 1 << 10

// spanID is the id of a record's span. A call has one id for its waits and its attempts: the last attempt has the id itself, which is the parent of the calls and spans
// below it, and the others have ids that are made of it. For example, a call that waited 30 ms and then ran has two spans with the same parent.
func spanID(r *trace.Record) uint64 {
	id, of := r.ID, uint64(0)
	switch {
	case r.Kind == trace.Wait:
		of = 1
	case r.Kind == trace.Arguments:
		of = arguments
	case r.Again:
		of = 2 + uint64(r.Attempt)
	}
	if of == 0 {
		return id
	}
	const odd = 0x9e3779b97f4a7c15 // of SplitMix64: ids that differ in few bits are far from each other
	if id += of * odd; id == 0 {
		return odd
	}
	return id
}

// nameOf is the name of a record's span, which many spans share.
func nameOf(r *trace.Record) string {
	if r.More != nil && r.More.Name != "" {
		if r.Kind == trace.Batch {
			return "batch " + r.More.Name
		}
		return r.More.Name
	}
	p := r.Place
	if p == nil {
		return r.Kind.String()
	}
	name := p.Deployment
	if p.Method != "" {
		name += "." + p.Method
	}
	switch r.Kind {
	case trace.HTTP:
		for _, a := range attributesOf(r) {
			if method, ok := a.Value.(string); ok && a.Key == "http.request.method" {
				return method + " " + p.Prefix
			}
		}
		return "HTTP " + p.Prefix
	case trace.Wait:
		return "wait for " + name
	case trace.Arguments:
		return "arguments of " + name
	case trace.Broadcast:
		return "broadcast " + name
	}
	return name
}

func attributesOf(r *trace.Record) []trace.Attribute {
	if r.More == nil {
		return nil
	}
	return r.More.Attributes
}

func hexID(id uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], id)
	return hex.EncodeToString(b[:])
}

// attribute gives a value its type of the protocol. JSON has no NaN and no infinities: they become texts.
func attribute(key string, v any) keyValue {
	kv := keyValue{Key: key}
	switch v := v.(type) {
	case string:
		v = strings.ToValidUTF8(v, "\uFFFD")
		kv.Value.String = &v
	case bool:
		kv.Value.Bool = &v
	case int64:
		text := strconv.FormatInt(v, 10)
		kv.Value.Int = &text
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			text := strconv.FormatFloat(v, 'g', -1, 64)
			kv.Value.String = &text
		} else {
			kv.Value.Double = &v
		}
	}
	return kv
}
