package workers_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// readEvents gives the events of a directory for log files, by their ids.
func readEvents(t *testing.T, dir string) map[uint64]helvetype.Event {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "events_node.log"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint64]helvetype.Event{}
	for line := range strings.Lines(string(b)) {
		if _, text, ok := strings.Cut(line, " helve "); ok && strings.HasSuffix(line, "\n") {
			var e helvetype.Event
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			all[e.ID] = e
		}
	}
	return all
}

// TestCausesOfEvents: from the deploy over the death of a worker to the end, each event names the event that led to it. The end of a process
// is the consequence of no event.
func TestCausesOfEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := helve.Config{Isolation: helve.Process, LogDir: dir}.Run(t.Context(), fixture.BuildGo)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background()) //nolint:errcheck // it is closed below
	for _, r := range s.Status().Applications["go"].Deployments["Subject"].Replicas[:1] {
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	// is tells whether an event is of a kind and has a reason.
	is := func(e helvetype.Event, kind, reason string) bool { return e.Object.Kind == kind && e.Reason == reason }
	count := func(kind, reason string) (n int) {
		for _, e := range readEvents(t, dir) {
			if is(e, kind, reason) {
				n++
			}
		}
		return n
	}
	fixture.Eventually(t, func() string {
		if count(helvetype.KindApplication, "deployment_unhealthy") == 0 || count(helvetype.KindApplication, "ready") < 2 {
			return "the application does not run again"
		}
		return ""
	})
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	fixture.Eventually(t, func() string {
		if count(helvetype.KindApplication, "deleted") == 0 {
			return "the application has no end in the log"
		}
		return ""
	})
	const app, deployment, replica = helvetype.KindApplication, helvetype.KindDeployment, helvetype.KindReplica
	type of struct{ kind, reason string }
	wants := map[of][]of{ // the cause of each; nil for none
		{app, "deploy"}:                         nil,
		{deployment, "config_update_started"}:   {{app, "deploy"}},
		{replica, "start"}:                      {{deployment, "config_update_started"}},
		{replica, "died"}:                       nil,
		{replica, "restart"}:                    {{replica, "died"}},
		{replica, "ready"}:                      {{replica, "start"}, {replica, "restart"}},
		{deployment, "config_update_completed"}: {{replica, "ready"}},
		{deployment, "replica_failed"}:          {{replica, "died"}},
		{deployment, "recovered"}:               {{replica, "ready"}},
		{app, "deployment_unhealthy"}:           {{deployment, "replica_failed"}},
		{app, "ready"}:                          {{deployment, "config_update_completed"}, {deployment, "recovered"}},
		{app, "delete"}:                         nil,
		{deployment, "deleting"}:                {{app, "delete"}},
		{replica, "stop"}:                       {{deployment, "deleting"}},
		{replica, "stopped"}:                    {{replica, "stop"}},
		{deployment, "deleted"}:                 {{replica, "stopped"}},
		{app, "deleted"}:                        {{deployment, "deleted"}},
	}
	events, seen := readEvents(t, dir), map[of]bool{}
	for id := range uint64(len(events)) {
		e := events[id+1]
		what := of{e.Object.Kind, e.Reason}
		seen[what] = true
		want, known := wants[what]
		cause := events[e.Cause]
		switch {
		case !known:
			t.Errorf("#%d %s %s %s: a transition that this test does not expect", e.ID, e.Object.Kind, e.Object, e.Reason)
		case e.Cause == 0 && want == nil:
		case e.Cause >= e.ID || !slices.Contains(want, of{cause.Object.Kind, cause.Reason}):
			t.Errorf("#%d %s %s %s: the cause is #%d %s %s %s, want one of %v", e.ID, e.Object.Kind, e.Object, e.Reason, e.Cause, cause.Object.Kind, cause.Object, cause.Reason, want)
		case e.Object.Deployment != "" && cause.Object.Deployment != "" && cause.Object.Deployment != e.Object.Deployment,
			is(e, replica, "ready") && cause.Object != e.Object, is(e, replica, "stopped") && cause.Object != e.Object:
			t.Errorf("#%d %s %s: its cause #%d is of %s", e.ID, e.Object, e.Reason, e.Cause, cause.Object)
		}
	}
	for what := range wants {
		if !seen[what] {
			t.Errorf("no event %v", what)
		}
	}
}
