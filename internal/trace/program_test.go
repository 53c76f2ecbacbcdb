package trace

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestSpanOfAProgram: a span outside of methods is a request of its own, whose trace has the span inside of it and the calls; it is not parallel, because it takes all such spans of the process.
func TestSpanOfAProgram(t *testing.T) { //nolint:paralleltest // see above
	synctest.Test(t, func(t *testing.T) {
		node := New()
		node.SetRatio(1)
		var ended []Record
		node.Export(func(r *Record) { ended = append(ended, *r) })
		for name, p := range map[string]Program{
			"in the node": {Sink: node, Samples: &node.Sampler},
			"attached": {Sink: NewReporter(func(spans json.RawMessage) {
				if err := node.Report(spans); err != nil {
					t.Error(err)
				}
			})},
		} {
			ended = nil
			leave := Enroll(p)
			ctx, outer := Begin(t.Context(), nil, "nightly")
			under := call.UnderFrom(ctx)
			if under == nil || under.Of != nil || under.Open != (p.Samples == nil) {
				t.Fatalf("%s: calls are made in %+v", name, under)
			}
			var i call.Info
			i.Request = call.NewID()
			under.Enter(&i)
			i.Call, i.Place, i.Sampled = 7, worker, true // the node has decided
			Ended(node, &i, Call, call.Now(), call.Now(), nil)
			_, inner := Begin(ctx, nil, "inner")
			time.Sleep(2 * time.Second)
			inner.Fail(errors.New("no"))
			inner.End()
			outer.End()
			leave()
			if after, none := Begin(context.Background(), nil, "x"); none != nil || call.UnderFrom(after) != nil {
				t.Errorf("%s: a span without a node", name)
			}
			time.Sleep(2 * reportAfter)
			synctest.Wait()
			if len(ended) != 3 {
				t.Fatalf("%s: %d spans, want the call, inner and nightly", name, len(ended))
			}
			of, in, root := ended[0], ended[1], ended[2]
			if root.Parent != 0 || in.Parent != root.ID || of.Parent != root.ID || of.TraceID() != root.TraceID() || in.TraceID() != root.TraceID() || in.Request != root.Request || of.Request == root.Request {
				t.Errorf("%s: %+v, in it %+v and the call %+v", name, root, in, of)
			}
			k, kept, ok := node.Find(root.Request)
			if !ok || !kept || k.Why != Slow || len(k.Records) != 2 {
				t.Errorf("%s: kept %v for %v with %d records", name, kept, k.Why, len(k.Records))
			}
			if v := k.View(true); v.Kind != "span" || v.Name != "nightly" || v.App != "" || v.Deployment != "" {
				t.Errorf("%s: %+v", name, v.Request)
			}
		}
	})
}

// TestOpenSpans: the node decides whether the spans of a program are sampled, and drops those that are short and not sampled.
func TestOpenSpans(t *testing.T) {
	t.Parallel()
	node := New()
	n := 0
	node.Export(func(*Record) { n++ })
	report := json.RawMessage(`[{"request":"a","id":"1","kind":"span","name":"x","root":true,"open":true,"begin":5,"end":6}]`)
	for _, c := range []struct {
		ratio float64
		spans int
	}{{0, 0}, {1, 1}} {
		node.SetRatio(c.ratio)
		if err := node.Report(report); err != nil || n != c.spans {
			t.Errorf("with the ratio %v %d spans were sampled: %v", c.ratio, n, err)
		}
	}
	if _, kept, _ := node.Find(call.ParseID("a")); !kept {
		t.Error("a sampled span of a program is not kept")
	}
}
