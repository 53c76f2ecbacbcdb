package answer

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
)

// TestRequest: a request has a line of each span, indented by its depth, in 80 columns.
func TestRequest(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	r := helvetype.RequestTrace{
		Request:  helvetype.Request{ID: "id", TraceID: strings.Repeat("ab", 16), Kind: "http", App: "shop", Route: "/", Status: 500, Started: begin, Milliseconds: 20},
		Sentence: "request id to shop has failed: " + strings.Repeat("a long cause ", 10), Next: "helve logs shop",
		Spans: []helvetype.Span{
			{ID: "r", Kind: "http", App: "shop", Started: begin, Milliseconds: 20},
			{ID: "a", Parent: "r", Kind: "wait", App: "shop", Deployment: "Front", Origin: "ingress", Started: begin, Milliseconds: 5},
			{ID: "w", Parent: "a", Kind: "wait", App: "shop", Deployment: "Pay", Started: begin.Add(7 * time.Millisecond), Milliseconds: 3, WithoutReplica: 2},
			{ID: "a", Parent: "r", Kind: "call", App: "shop", Deployment: "Front", Method: "run", Replica: "F#1", Started: begin.Add(5 * time.Millisecond), Milliseconds: 14.5},
			{ID: "b", Parent: "a", Kind: "call", App: "shop", Deployment: "Ranker", Method: "rank", Replica: "R#1", Attempt: 1, Started: begin.Add(6 * time.Millisecond), Milliseconds: 1.2, Reason: "user", Message: "ValueError: " + strings.Repeat("long ", 60) + "\nsecond line"},
			{ID: "c", Parent: "a", Kind: "span", Name: "load", App: "shop", Deployment: "Front", Started: begin.Add(9 * time.Millisecond), Milliseconds: 3},
		},
		Missed: 2,
	}
	got := Request(r, 80)
	for _, want := range []string{
		"next: helve logs shop\n", "trace " + strings.Repeat("ab", 16),
		"    0.0 ms    20.0 ms   http / of shop: 500\n",
		"    0.0 ms     5.0 ms     wait for a slot of shop/Front, queue ingress\n",
		"    5.0 ms    14.5 ms     call shop/Front.run on F#1\n",
		"    6.0 ms     1.2 ms       call shop/Ranker.rank on R#1, attempt 2: user:\n",
		"    9.0 ms     3.0 ms       span \"load\" of shop/Front\n", "wait for a replica of shop/Pay\n", "2 more have found no room\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "second line") {
		t.Error("a traceback is in the tree")
	}
	narrow(t, got)
}

func narrow(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("a line has more than 80 columns: %q", line)
		}
	}
}

// TestRequests: a list has a row of each request, and says how many were too many to keep.
func TestRequests(t *testing.T) {
	t.Parallel()
	id := "5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55"
	got := Requests(helvetype.RequestList{DroppedSlow: 3, SlowFrom: 1000, Requests: []helvetype.Request{
		{ID: id, App: "shop", Deployment: "Front", Status: 503, Kept: "failed", Reason: "backpressure", Message: "full", Milliseconds: 20.4},
		{ID: "mine", App: "shop", Kept: "slow", Sampled: true, Milliseconds: 1200},
		{ID: "quick", App: "hop", Kept: "slow", Milliseconds: 12},
	}}, 80)
	for _, want := range []string{id, "failed: shop/Front backpressure: full", "503", "20 ms", "1200 ms", "slow, sampled: shop", "slowest of its route: hop", "0 more that have failed, and 3 that were slow"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	narrow(t, got)
	if got := Requests(helvetype.RequestList{}, 80); !strings.HasPrefix(got, "no such request is kept") {
		t.Errorf("%q", got)
	}
}

// TestOverview: the answer about a node has each trouble with its next step, and the newest ten requests.
func TestOverview(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a long cause ", 12)
	o := helvetype.Overview{Sentence: "2 of 3 applications are not as they should be; " + long, Troubles: []helvetype.Trouble{{Sentence: "application shop is UNHEALTHY: " + long, Next: "helve why shop"}}}
	var list helvetype.RequestList
	for range overviewRequests + 2 {
		list.Requests = append(list.Requests, helvetype.Request{ID: "5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55", Kept: helvetype.KeptFailed, App: "shop"})
	}
	list.SlowFrom = 1000
	list.Requests = append(list.Requests, helvetype.Request{ID: "quick", Kept: helvetype.KeptSlow, Milliseconds: 20}, helvetype.Request{ID: "sampled", Kept: helvetype.KeptSampled})
	got := Overview(o, list, 80)
	narrow(t, got)
	for text, want := range map[string]int{"\n- application shop is UNHEALTHY: a long": 1, "\n  next: helve why shop\n": 1, "5f0c4f0e-8f6a": overviewRequests, "2 more requests: helve why --failed": 1} {
		if n := strings.Count(got, text); n != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, n, want, got)
		}
	}
	if got := Overview(helvetype.Overview{Sentence: "all is well"}, helvetype.RequestList{}, 80); got != "all is well\n" {
		t.Error(got)
	}
}

// TestRequestsAreWhole: the list of failed requests has the whole first line of their errors.
func TestRequestsAreWhole(t *testing.T) {
	t.Parallel()
	long := "no rank for " + strings.Repeat("item ", 60) + "at the end"
	got := Requests(helvetype.RequestList{Requests: []helvetype.Request{{ID: "id", App: "shop", Kept: helvetype.KeptFailed, Reason: "user", Message: long + "\nTraceback"}}}, 80)
	if text := strings.Join(strings.Fields(got), " "); !strings.Contains(text, long) || strings.Contains(text, "...") {
		t.Error(got)
	}
}
