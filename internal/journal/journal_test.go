package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
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
	j := New(events, slog.New(slog.DiscardHandler), false)
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

// TestFailuresInTheLog: the log of a durable node has one line for each failure of a deploy, and that of another node has none.
func TestFailuresInTheLog(t *testing.T) {
	t.Parallel()
	app := helvetype.Object{Kind: helvetype.KindApplication, App: "app"}
	dep := helvetype.Object{Kind: helvetype.KindDeployment, App: "app", Deployment: "D"}
	for name, test := range map[string]struct {
		of    helvetype.Object
		from  helvetype.ApplicationState
		event states.Event
		facts states.Facts
		want  string
	}{
		"a first deploy": {app, helvetype.ApplicationDeploying, states.GiveUp, states.Facts{Error: "bad\nTraceback"}, `"a deploy has failed; nothing of the application runs" app=app revision=3 error="bad\nTraceback"`},
		"a roll-back":    {app, helvetype.ApplicationRunning, states.RollBack, states.Facts{Error: "bad", Revision: "4"}, `"a deploy has failed; revision 3 serves on" app=app revision=4 error=bad`},
		"another start":  {dep, "UPDATING", states.StartFailed, states.Facts{Error: "bad"}, `"a replica has failed to start; the start is tried again" app=app deployment=D error=bad`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, durable := range []bool{true, false} {
				var log bytes.Buffer
				j := New(telemetry.NewEvents(nil), slog.New(slog.NewTextHandler(&log, nil)), durable)
				s := states.Shown{State: states.State(test.from)}
				for range 3 { // for example, three replicas
					j.Move(&s, test.of, test.event, test.facts, 0, map[string]string{"revision": "3"})
				}
				switch lines := strings.Count(log.String(), "\n"); {
				case !durable && lines > 0:
					t.Errorf("the log of a node that is not durable: %s", &log)
				case durable && (lines != 1 || !strings.Contains(log.String(), "level=WARN msg="+test.want)):
					t.Errorf("%s; want one line with %s", &log, test.want)
				}
			}
		})
	}
}

// TestAgesAreNoEvents: a state whose message changes in its age, or in the amounts of a wait for room, alone is one event, and the message that users see has the age as it is.
func TestAgesAreNoEvents(t *testing.T) {
	t.Parallel()
	events := telemetry.NewEvents(nil)
	j := New(events, slog.New(slog.DiscardHandler), false)
	s := states.Shown{State: "UPDATING"}
	o := helvetype.Object{Kind: helvetype.KindDeployment, App: "app", Deployment: "D"}
	for _, step := range []struct {
		message string
		events  uint64
	}{
		{"replica D#1 has waited for pip for 14s", 1},
		{"replica D#1 has waited for pip for 19s", 1},
		{"replica D#1 has waited for pip for 1m0s", 1},
		{"replica D#1 has waited for a GPU for 14s", 2},
		{"replica D#1 has waited for a GPU for long", 3},
		{"replica D#2 has waited for a GPU for 14s", 4},
		{"replica D#2 waits for room on the node: needs 2 CPUs, and 1 of 4 are free: shop/E#1 holds 3", 5},
		{"replica D#2 waits for room on the node: needs 2 CPUs, and 1.5 of 4 are free: shop/E#1, F#2 hold 2.5", 5},
		{"replica D#3 waits for room on the node: needs 2 CPUs, and 1.5 of 4 are free: shop/E#1, F#2 hold 2.5", 6},
	} {
		j.Move(&s, o, states.Deploy, states.Facts{Otherwise: step.message}, 0, nil)
		if n := events.Last(); n != step.events || s.Message != step.message {
			t.Errorf("%d events and the message %q, want %d and %q", n, s.Message, step.events, step.message)
		}
	}
}

// TestUnstored: a change that is not stored is an event, and a line in the log of a durable node.
func TestUnstored(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	events := telemetry.NewEvents(nil)
	New(events, slog.New(slog.NewTextHandler(&log, nil)), true).NoteUnstored("app", errors.New("no space left on device"))
	if all, _ := events.Since(0, 10); len(all) != 1 || all[0].Reason != "not_stored" || all[0].Object.App != "app" {
		t.Errorf("%+v", all)
	}
	if !strings.Contains(log.String(), `app=app error="no space left on device"`) {
		t.Errorf("%s", &log)
	}
}
