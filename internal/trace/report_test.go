package trace

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/call"
)

// TestReport: the records of a worker are those of the node, in few reports.
func TestReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New()
		var reports atomic.Int64
		p := NewReporter(func(b json.RawMessage) {
			reports.Add(1)
			if err := r.Report(b); err != nil {
				t.Error(err)
			}
		})
		root := request(500, 0)
		root.Trace = [16]byte{1, 2}
		for n := range 40 {
			p.Record(callOf(root, uint64(n+2)))
		}
		span := callOf(root, 99)
		span.Kind, span.Trace = Span, root.Trace
		span.More = &More{Name: "tokenize", Attributes: []Attribute{{"n", int64(3)}}, Links: []Link{{[16]byte{9}, 5}}}
		p.Record(span)
		synctest.Wait()
		if reports.Load() != 0 {
			t.Error("a record was sent at once")
		}
		time.Sleep(2 * reportAfter)
		synctest.Wait()
		k, _, _ := r.Find(root.Request)
		if len(k.Records) != 41 || reports.Load() != 1 {
			t.Fatalf("%d records in %d reports", len(k.Records), reports.Load())
		}
		for _, got := range k.Records {
			if got.ID == span.ID {
				if diff := cmp.Diff(*span.More, *got.More); diff != "" || got.Trace != span.Trace || got.Parent != span.Parent || got.Begin != span.Begin || got.End != span.End {
					t.Errorf("%+v, %s", got, diff)
				}
			}
		}
		p.Record(span)
		time.Sleep(2 * reportAfter)
		synctest.Wait()
		if reports.Load() != 2 {
			t.Errorf("%d reports", reports.Load())
		}
	})
}

// TestReportMistakes: a report with a mistake leaves nothing, and long texts are cut.
func TestReportMistakes(t *testing.T) {
	t.Parallel()
	good := `{"request":"order-7","id":"a1","app":"shop","deployment":"D","kind":"span","begin":1,"end":2%s}`
	for name, more := range map[string]string{
		"no kind":           `,"kind":"x"`,
		"an end of HTTP":    `,"kind":"http"`,
		"ends before":       `,"end":0`,
		"id":                `,"id":"zz"`,
		"parent":            `,"parent":"zz"`,
		"trace":             `,"trace":"12"`,
		"link":              `,"links":["x-y"]`,
		"no request":        `,"request":""`,
		"a long deployment": `,"deployment":"` + strings.Repeat("x", 600) + `"`,
	} {
		r := New()
		if err := r.Report(json.RawMessage("[" + fmt.Sprintf(good, "") + "," + fmt.Sprintf(good, more) + "]")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, _, ok := r.Find(call.IDFrom("order-7")); ok {
			t.Errorf("%s: it has left a record", name)
		}
	}
	r := New()
	if err := r.Report(json.RawMessage("[" + fmt.Sprintf(good, `,"name":"`+strings.Repeat("y", 5000)+`","attributes":{"a":[1]}`) + "]")); err != nil {
		t.Fatal(err)
	}
	k, _, _ := r.Find(call.IDFrom("order-7"))
	if len(k.Records) != 1 || len(k.Records[0].More.Name) > 300 || k.Records[0].More.Attributes[0].Value != "[1]" {
		t.Errorf("%+v", k)
	}
	if err := r.Report(json.RawMessage("{")); err == nil {
		t.Error("no JSON is no error")
	}
}
