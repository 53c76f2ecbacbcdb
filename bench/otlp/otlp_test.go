// Package otlp_test decodes the requests of a node to receivers of spans with the types of OpenTelemetry. The test is in this module because the module of the node does not
// depend on them.
package otlp_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestOfficialTypes: each field of a request has its name and type of the protocol: a field that the types do not know is an error.
func TestOfficialTypes(t *testing.T) {
	t.Parallel()
	written, err := os.ReadFile("../../internal/otlp/testdata/spans.json")
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(written, &tree); err != nil {
		t.Fatal(err)
	}
	standard, err := json.Marshal(withBase64(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	var data tracepb.TracesData // the request of the service has the same form in JSON
	if err := protojson.Unmarshal(standard, &data); err != nil {
		t.Fatal(err)
	}
	spans := data.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 9 {
		t.Fatalf("%d spans", len(spans))
	}
	kinds, ids := map[tracepb.Span_SpanKind]int{}, map[string]int{}
	for i, s := range spans {
		kinds[s.Kind]++
		ids[string(s.SpanId)]++
		if len(s.TraceId) != 16 || len(s.SpanId) != 8 || s.Name == "" || s.Flags != 1 || s.EndTimeUnixNano-s.StartTimeUnixNano != 4_999_999 {
			t.Errorf("span %d: %v", i, s)
		}
	}
	if kinds[tracepb.Span_SPAN_KIND_SERVER] != 2 || kinds[tracepb.Span_SPAN_KIND_INTERNAL] != 7 {
		t.Errorf("the kinds: %v", kinds)
	}
	if s := spans[0]; len(s.ParentSpanId) != 0 || s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || s.Status.GetMessage() != "nobody is there" {
		t.Errorf("the request that failed: %v", s)
	}
	if s := spans[1]; s.Status != nil {
		t.Errorf("the request with a mistake: %v", s)
	}
	if wait, attempt, call := spans[2], spans[3], spans[4]; string(wait.SpanId) == string(call.SpanId) || string(attempt.SpanId) == string(call.SpanId) || string(wait.SpanId) == string(attempt.SpanId) ||
		string(wait.ParentSpanId) != string(call.ParentSpanId) || string(call.SpanId) != "\x00\x00\x00\x00\x00\x00\x00\x0a" {
		t.Errorf("the spans of one call: %v, %v, %v", wait, attempt, call)
	}
	if batch := spans[7]; len(batch.Links) != 2 || batch.Links[1].SpanId[7] != 4 || batch.Links[1].TraceId[0] != 3 {
		t.Errorf("the batch: %v", batch)
	}
	values := map[string]string{}
	for _, a := range spans[8].Attributes {
		values[a.Key] = a.Value.String()
	}
	for key, want := range map[string]string{"yes": "bool_value:true", "number": "int_value:9223372036854775807", "real": "double_value:0.5"} {
		if values[key] != want {
			t.Errorf("%s: %s", key, values[key])
		}
	}
}

// withBase64 gives ids the form that JSON has for bytes in all other messages: OTLP has hex digits in its place.
func withBase64(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withBase64(t, v[i])
		}
	case map[string]any:
		for key, inner := range v {
			switch key {
			case "traceId", "spanId", "parentSpanId":
				text, _ := inner.(string)
				b, err := hex.DecodeString(text)
				if err != nil {
					t.Fatalf("%s: %v", key, err)
				}
				v[key] = base64.StdEncoding.EncodeToString(b)
			default:
				v[key] = withBase64(t, inner)
			}
		}
	}
	return v
}
