package otlp_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/trace"
)

var update = flag.Bool("update", false, "write the spans again") //nolint:gochecknoglobals // a flag

// TestSpans: records of each kind as spans. The module of the benchmarks decodes the file with the types of OpenTelemetry.
func TestSpans(t *testing.T) {
	t.Parallel()
	ranker := record()
	with := func(f func(*trace.Record)) trace.Record {
		r := ranker
		f(&r)
		return r
	}
	records := []trace.Record{
		with(func(r *trace.Record) {
			r.Kind, r.Parent, r.Status, r.Replica, r.Place = trace.HTTP, 0, 503, "", &call.Place{App: "shop", Prefix: "/shop"}
			r.Reason, r.More = "no_replica", &trace.More{Message: "nobody is there", Attributes: []trace.Attribute{{Key: "http.request.method", Value: "GET"}}}
		}),
		with(func(r *trace.Record) { r.Kind, r.Status, r.Reason = trace.HTTP, 422, "bad_input" }), // a mistake of the client is no error of the span
		with(func(r *trace.Record) { r.Kind, r.Origin, r.Replica = trace.Wait, "shop/Ingress", "" }),
		with(func(r *trace.Record) { r.Again, r.Attempt, r.Reason = true, 0, "replica_died" }),
		with(func(r *trace.Record) { r.Attempt, r.Trace = 1, [16]byte{15: 0xff} }),
		with(func(r *trace.Record) { r.Kind = trace.Stream }),
		with(func(r *trace.Record) { r.Kind = trace.Broadcast }),
		with(func(r *trace.Record) {
			r.Kind, r.More = trace.Batch, &trace.More{Name: "embed", Links: []trace.Link{{Trace: [16]byte{0: 1}, Span: 2}, {Trace: [16]byte{0: 3}, Span: 4}}}
		}),
		with(func(r *trace.Record) {
			r.Kind, r.More = trace.Span, &trace.More{Name: "tokenize \"é\x00\xff", Attributes: []trace.Attribute{
				{Key: "text", Value: "a\nb\xff"}, {Key: "yes", Value: true}, {Key: "number", Value: int64(math.MaxInt64)}, {Key: "real", Value: 0.5}, {Key: "nan", Value: math.NaN()},
			}}
		}),
	}
	var got bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		e, _, end := begin(r)
		e.Use(&otlp.Target{URL: "http://collector/v1/traces", Resource: []trace.Attribute{{Key: "service.name", Value: "helve"}, {Key: "process.pid", Value: int64(7)}}})
		for i := range records {
			e.Add(&records[i])
		}
		end()
		if len(r.bodies) != 1 {
			t.Fatalf("%d requests", len(r.bodies))
		}
		if err := json.Indent(&got, r.bodies[0], "", " "); err != nil {
			t.Fatal(err)
		}
	})
	got.WriteByte('\n')
	name := filepath.Join("testdata", "spans.json")
	if *update {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the spans differ from %s (go test -run TestSpans -update writes it again):\n%s", name, got.Bytes())
	}
}
