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

// TestEventsOfHangingPolicy: of a policy that hangs and hangs again, with another failure each time, the first failure and the first answer after it are events.
func TestEventsOfHangingPolicy(t *testing.T) {
	t.Parallel()
	s, e, three := &Scaler{}, &scaled{}, 3.0
	report := func(failure string) {
		a := policy.Advice{Replicas: &three}
		if failure != "" {
			a.Failure = &policy.Failure{Err: errors.New(failure)}
		}
		s.report(e, fleet.Scaled{}, a)
	}
	report("")
	for range 3 {
		for range 5 {
			for _, failure := range []string{"it has not answered within 2 s", "its call before has not returned", "its process has ended (signal: killed)"} {
				report(failure)
			}
		}
		report("")
		report("")
	}
	var got []string
	for _, n := range s.notes {
		got = append(got, n.reason)
		if n.reason == "policy_failed" && !strings.HasSuffix(n.message, ": it has not answered within 2 s") {
			t.Error(n.message)
		}
	}
	if want := strings.Repeat("policy_failed policy_answers ", 3); strings.Join(got, " ")+" " != want {
		t.Errorf("%v, want %s", got, want)
	}
}
