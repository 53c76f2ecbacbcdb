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

// TestCalls: a table for people, and the number of the calls that are not in it.
func TestCalls(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	got := Calls(helvetype.CallList{Unlisted: 3, Calls: []helvetype.Call{
		{App: "a", Deployment: "D", Method: "M", Replica: "D#1", RequestID: "r1", State: helvetype.CallRunning, Since: now.Add(-time.Minute)},
		{App: "a", Deployment: "D", RequestID: "r2", Origin: "proxy", State: helvetype.CallWaiting, Since: now.Add(-time.Second), WaitsFor: "a slot of a/D"},
	}}, now)
	want := `AGE    STATE     METHOD          REPLICA   ORIGIN   REQUEST
1m0s   running   a/D.M           D#1       -        r1
1s     waiting   a/D.(default)   -         proxy    r2, waits for a slot of a/D
3 more calls wait or run
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
