package traces_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// span is a span as a receiver reads it.
type span struct {
	TraceID, SpanID, ParentSpanID, Name, StartTimeUnixNano string
	Kind                                                   int
	Attributes                                             []struct {
		Key   string
		Value map[string]any
	}
	Links  []struct{ TraceID, SpanID string }
	Status struct{ Code int }
}

// attribute is the value of an attribute as text; "" without one.
func (s *span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			for _, v := range a.Value {
				return fmt.Sprint(v)
			}
		}
	}
	return ""
}

// receiver is a receiver of spans.
type receiver struct {
	url string

	mu     sync.Mutex
	spans  []span
	header http.Header // of the last request
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var v struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []span }
			}
		}
		if err := json.NewDecoder(q.Body).Decode(&v); err != nil || q.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", q.URL, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.header = q.Header
		for _, of := range v.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

// tree is a trace below a span as text: a line for each span, with its name and the shown attributes, below the line of its parent, sorted. Behind the name of a span with links are
// the numbers of its links within the trace, and of all.
func (r *receiver) tree(trace, parent string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	below, known := map[string][]*span{}, map[string]bool{}
	for i := range r.spans {
		if s := &r.spans[i]; s.TraceID == trace && s.attribute("helve.kind") != "wait" && s.attribute("helve.kind") != "arguments" { // how long a call waits is of the machine
			below[s.ParentSpanID] = append(below[s.ParentSpanID], s)
			known[s.SpanID] = true
		}
	}
	var show func(parent, indent string) string
	show = func(parent, indent string) string {
		var blocks []string
		for _, s := range below[parent] {
			var b strings.Builder
			b.WriteString(indent + s.Name)
			for _, key := range []string{"n", "late", "size"} {
				if v := s.attribute(key); v != "" {
					fmt.Fprintf(&b, " %s=%s", key, v)
				}
			}
			if len(s.Links) > 0 {
				inside := 0
				for _, l := range s.Links {
					if l.TraceID == trace && known[l.SpanID] {
						inside++
					}
				}
				fmt.Fprintf(&b, " links=%d/%d", inside, len(s.Links))
			}
			if s.Status.Code != 0 {
				b.WriteString(" failed")
			}
			blocks = append(blocks, b.String()+"\n"+show(s.SpanID, indent+"  "))
		}
		slices.Sort(blocks)
		return strings.Join(blocks, "")
	}
	return show(parent, "")
}

// await waits for a trace.
func (r *receiver) await(t *testing.T, trace, parent, want string) {
	t.Helper()
	fixture.Eventually(t, func() string {
		if got := r.tree(trace, parent); got != want {
			return fmt.Sprintf("the trace is\n%swant\n%s", got, want)
		}
		return ""
	})
}
