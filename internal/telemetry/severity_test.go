package telemetry_test

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestSeverity: an event has a severity of its state and its reason, also one of a node before that has written none.
func TestSeverity(t *testing.T) {
	t.Parallel()
	all := []struct {
		of   helvetype.Event
		want string
	}{
		{helvetype.Event{From: "RUNNING", Reason: "died"}, "error"},
		{helvetype.Event{From: "STOPPING", Reason: "died"}, "warning"},
		{helvetype.Event{From: "STOPPING", Reason: "stopped"}, "info"},
		{helvetype.Event{From: "HEALTHY", To: "UNHEALTHY", Reason: "replica_failed"}, "error"},
		{helvetype.Event{From: "UPDATING", To: "UPDATING", Reason: "replica_startup_failed"}, "warning"},
		{helvetype.Event{From: "UPDATING", To: "DEPLOY_FAILED", Reason: "replica_startup_failed"}, "error"},
		{helvetype.Event{From: "UNHEALTHY", To: "HEALTHY", Reason: "recovered"}, "info"},
		{helvetype.Event{From: "UNHEALTHY", To: "UNHEALTHY", Reason: "autoscale_up"}, "info"},
		{helvetype.Event{From: "UNHEALTHY", To: "UNHEALTHY", Reason: "replica_failed"}, "error"},
		{helvetype.Event{From: "RUNNING", To: "RUNNING", Reason: "not_ready"}, "warning"},
		{helvetype.Event{Reason: "rollout_paused"}, "warning"},
		{helvetype.Event{Reason: "rollout_paused", Inputs: map[string]string{"by": "anna"}}, "info"},
		{helvetype.Event{Reason: "build_failed"}, "error"},
	}
	events, before := telemetry.NewEvents(nil), []helvetype.Event(nil)
	for i, x := range all {
		events.Emit(x.of)
		x.of.ID = uint64(i) + 1
		before = append(before, x.of)
	}
	next := telemetry.NewEvents(nil)
	next.Resume(before, func(helvetype.Event) {})
	for _, e := range []*telemetry.Events{events, next} {
		got, _ := e.Since(0, len(all))
		for i, x := range all {
			if got[i].Severity != x.want {
				t.Errorf("%+v: %s, want %s", x.of, got[i].Severity, x.want)
			}
		}
	}
}

// TestSeverityOfStates: each transition of the table into a bad state is an error, and each into a good one is none.
func TestSeverityOfStates(t *testing.T) {
	t.Parallel()
	for _, r := range states.Table() {
		got := telemetry.Severity(helvetype.Event{Object: helvetype.Object{Kind: r.Kind}, From: string(r.From), To: string(r.To), Reason: r.Reason})
		switch r.To {
		case "UNHEALTHY", "DEPLOY_FAILED":
			if r.From != r.To && got != helvetype.SeverityError {
				t.Errorf("%+v: %s", r, got)
			}
		case "HEALTHY", "RUNNING", "STARTING":
			if got != helvetype.SeverityInfo {
				t.Errorf("%+v: %s", r, got)
			}
		}
	}
}
