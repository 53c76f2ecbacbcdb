package answer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
)

// TestEvent: one line per event, also for a message of several lines.
func TestEvent(t *testing.T) {
	t.Parallel()
	e := helvetype.Event{
		ID: 8, Object: helvetype.Object{Kind: helvetype.KindReplica, App: "a", Deployment: "D", Replica: "D#1"}, From: "RUNNING", Reason: "died", Cause: 3,
		Message: "killed\nline\nline",
	}
	if got, want := Event(e)[len("15:04:05.000"):], "  #8  replica a/D/D#1  RUNNING -> (gone)  died (because of #3): killed (and 2 more lines)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCalls: a tree for each request, the reasons of waits, and the number of the calls that are not in the list.
func TestCalls(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	got := Calls(helvetype.CallList{Unlisted: 3, Calls: []helvetype.Call{
		{ID: "1", App: "a", Deployment: "D", Method: "M", Replica: "D#1", RequestID: "r1", State: helvetype.CallRunning, Since: ago(time.Minute), Stream: true, WaitsFor: "its call 2 to E.N"},
		{ID: "5", Parent: "4", App: "a", Deployment: "S", Method: "tokens", Replica: "S#1", RequestID: "r3", State: helvetype.CallRunning, Since: ago(50 * time.Second), Stream: true, CallerEnded: true},
		{ID: "7", App: "a", Deployment: "S", Method: "tokens", Replica: "S#1", RequestID: "r4", State: helvetype.CallRunning, Since: ago(45 * time.Second), Stream: true, UnreadSince: ago(12 * time.Second)},
		{ID: "8", App: "a", Deployment: "S", Method: "tokens", Replica: "S#1", RequestID: "r4", State: helvetype.CallRunning, Since: ago(44 * time.Second), Stream: true, UnreadSince: ago(100 * time.Millisecond)},
		{ID: "2", Parent: "1", App: "a", Deployment: "E", Method: "N", Replica: "E#1", RequestID: "r1", State: helvetype.CallRunning, Since: ago(40 * time.Second), WaitsFor: "its call 3 to D.M"},
		{ID: "3", Parent: "2", App: "a", Deployment: "D", RequestID: "r1", Origin: "worker", State: helvetype.CallWaiting, Since: ago(30 * time.Second), WaitsFor: "a slot of a/D, in a circle of calls"},
		{ID: "6", App: "a", Deployment: "D", RequestID: "r2", Origin: "proxy", State: helvetype.CallWaiting, Since: ago(time.Second), WaitsFor: "a slot of a/D, in a circle of calls"},
	}}, now)
	want := `request r1
  1m0s   running  a/D.M in D#1, HTTP or a stream
  40s    running    a/E.N in E#1
  30s    waiting      a/D.(default): waits for a slot of a/D, in a circle of
                        calls
request r3
  50s    running  a/S.tokens in S#1, HTTP or a stream, its caller has ended
request r4
  45s    running  a/S.tokens in S#1, HTTP or a stream, its reader has read
                    nothing, or too little, for 12s
  44s    running  a/S.tokens in S#1, HTTP or a stream
request r2
  1s     waiting  a/D.(default), from proxy: waits for a slot of a/D, in a
                    circle of calls
3 more calls wait or run
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
