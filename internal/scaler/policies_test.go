package scaler

import (
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/policy"
)

// TestReportOfFailure: the event of a failing policy says that its last answer holds only if there is one.
func TestReportOfFailure(t *testing.T) {
	t.Parallel()
	three := 3.0
	for _, c := range []struct {
		last *float64
		want string
	}{{nil, "has not answered yet, so the number of replicas stays: no table"}, {&three, "has no answer, and the last one holds: no table"}} {
		s := &Scaler{}
		s.report(&scaled{}, fleet.Scaled{}, policy.Advice{Replicas: c.last, Failure: &policy.Failure{Err: errors.New("no table")}})
		if len(s.notes) != 1 || !strings.HasSuffix(s.notes[0].message, c.want) {
			t.Errorf("%+v, want %s", s.notes, c.want)
		}
	}
}

// TestUnansweredIsTheHold: while a policy has not answered, the status has that as the cause of the number, and not the window of the load.
func TestUnansweredIsTheHold(t *testing.T) {
	t.Parallel()
	d := &helvetype.Autoscaling{Blocked: "stable_window_s", Reason: "0.0 calls in the last 6 s / 2 a replica = 0.0; it waits for stable_window_s"}
	if (&scaled{policy: "A"}).describePolicy(d); d.Reason != unanswered || d.Blocked != unanswered {
		t.Errorf("%+v", d)
	}
}

// TestKindOfFailure: failures that differ in a number or an address alone are one, and leave one event.
func TestKindOfFailure(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{
		{"no answer for 31.5 s", "no answer for 62 s"},
		{"<Model object at 0x7f3a12bc> is no number", "<Model object at 0x7f3a99de> is no number"},
	} {
		if kindOfFailure(same[0]) != kindOfFailure(same[1]) {
			t.Errorf("%q and %q are two", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{"", "ValueError: 1"}, {"ValueError: 1", "TypeError: 1"}} {
		if kindOfFailure(other[0]) == kindOfFailure(other[1]) {
			t.Errorf("%q and %q are one", other[0], other[1])
		}
	}
}
