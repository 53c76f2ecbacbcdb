package journal

import (
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestCausesGoUp: a death of a replica causes an event of its deployment, and that one an event of the application.
func TestCausesGoUp(t *testing.T) {
	t.Parallel()
	var a Application
	var d Deployment
	if got := d.ReplicaCause(states.Died, helvetype.ReplicaRunning, 0, 3); got != 0 {
		t.Errorf("the end of a process has the cause %d", got)
	}
	d.ReplicaMoved(states.Died, 7)
	if got := d.Cause(states.Missing, &a); got != 7 {
		t.Errorf("a deployment that misses a replica has the cause %d, want 7", got)
	}
	d.Moved(states.Missing, 8, &a)
	if got := a.Cause(states.DepMissing, func() *Deployment { return &d }); got != 8 {
		t.Errorf("its application has the cause %d, want 8", got)
	}
	if got := a.Cause(states.DepMissing, func() *Deployment { return nil }); got != 0 {
		t.Errorf("without a deployment the cause is %d", got)
	}
	if got := d.Cause(states.Missing, &a); got != 0 {
		t.Errorf("one death causes a second event: %d", got)
	}
}

// TestCausesGoDown: a change of the target of an application causes that of its deployment, and that one the stop of a replica.
func TestCausesGoDown(t *testing.T) {
	t.Parallel()
	var a Application
	var d Deployment
	a.Moved(states.Delete, 20)
	if got := d.Cause(states.Delete, &a); got != 20 {
		t.Errorf("the deployment has the cause %d, want 20", got)
	}
	d.Moved(states.Delete, 21, &a)
	if got := d.ReplicaCause(states.Stop, helvetype.ReplicaRunning, 0, 3); got != 21 {
		t.Errorf("the stop has the cause %d, want 21", got)
	}
	if got := d.ReplicaCause(states.Stopped, helvetype.ReplicaStopping, 0, 22); got != 22 {
		t.Errorf("the end of the stop has the cause %d, want 22", got)
	}
	if got := d.ReplicaCause(states.Restart, "", 5, 0); got != 5 {
		t.Errorf("a restart has the cause %d, want 5", got)
	}
}

// TestIllegal: an event that the table does not have leaves the state, and is not recorded.
func TestIllegal(t *testing.T) {
	t.Parallel()
	events := telemetry.NewEvents(nil)
	j := New(events, slog.New(slog.DiscardHandler))
	o := helvetype.Object{Kind: helvetype.KindReplica, App: "app", Deployment: "D", Replica: "D#1"}
	if _, ok := j.Fire(o, states.State(helvetype.ReplicaStopping), states.Ready, states.Facts{}, 0, nil); ok {
		t.Error("a replica that stops is ready")
	}
	if n := events.Last(); n != 0 {
		t.Errorf("%d events", n)
	}
	j.Note(o, "STARTING", "packages_installed", "pip has ended", 0)
	if n := events.Last(); n != 1 {
		t.Errorf("%d events after a note", n)
	}
}
