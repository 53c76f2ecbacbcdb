package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
)

// TestStatusTable: the table of an application whose start waits and whose replicas have trouble.
func TestStatusTable(t *testing.T) {
	t.Parallel()
	now := time.Unix(10000, 0)
	pid, route, ingress := 7, "/", "Front"
	ago := func(d time.Duration) float64 { return float64(now.Add(-d).UnixMilli()) / 1000 }
	in := details.Instance{Applications: map[string]details.AppDetails{"app": {
		Status: "UNHEALTHY", Message: "deployment D: killed", Revision: 3, LastDeployedTimeS: ago(90 * time.Second), RoutePrefix: &route,
		DeploymentTopology: &details.Topology{IngressDeployment: &ingress},
		Deployments: map[string]details.DeploymentDetails{
			"D": {Name: "D", Status: "UNHEALTHY", Message: "killed\nits last line", TargetNumReplicas: 3, Calls: helvetype.Calls{Queued: 4, Running: 1, Total: 10, Errors: 2}, Replicas: []details.ReplicaDetails{
				{ReplicaID: "D#001", State: "RUNNING", PID: &pid, StartTimeS: ago(3 * time.Hour), Unresponsive: &helvetype.Unresponsive{Since: now.Add(-time.Minute)}},
				{ReplicaID: "D#002", State: "STARTING", PID: &pid, StartTimeS: ago(time.Second), Waits: &helvetype.Wait{For: "its constructor", Since: now.Add(-time.Second)}},
				{ReplicaID: "D#003", State: "RUNNING", PID: &pid, StartTimeS: ago(72 * time.Hour), Restarts: 2, LastExit: &helvetype.Exit{Replica: "D#000", Reason: "exit status 3\nmore"}},
			}},
			"Front": {Name: "Front", Status: "HEALTHY", TargetNumReplicas: 1, Replicas: []details.ReplicaDetails{{ReplicaID: "Front#004", State: "RUNNING", PID: &pid, InNode: true, StartTimeS: ago(0)}}},
		},
	}}}
	want := `node: helve 1.2.0, pid 42, since 2m0s, unix:/h.sock, http://h:1, durable: its
  state is in /var/lib/helve, its keeper is helve 1.1.0
admin: curl http://h:2/calls
admin over TCP: https://g:3

application app   UNHEALTHY   revision 3, deployed 1m30s ago   route /
  deployment D: killed
  DEPLOYMENT   STATUS      REPLICAS   QUEUED   RUNNING   CALLS   ERRORS
  Front        HEALTHY     1/1        0        0         0       0
  D            UNHEALTHY   2/3        4        1         10      2
  D: killed
    its last line
  REPLICA     STATE      PID      AGE    RESTARTS
  Front#004   RUNNING    (node)   0ms    0
  D#001       RUNNING    7        3h0m   0          does not answer since 1m0s
  D#002       STARTING   7        1s     0          waits for its constructor,
                                                    since 1s
  D#003       RUNNING    7        3d0h   2          D#000 ended: exit status 3
`
	got := statusTable(rest.About{Version: "1.2.0", PID: 42, HTTP: "http://h:1", URLs: []string{"unix:/h.sock", "http://h:1"}, Admin: []string{"http://h:2", "https://g:3"}, State: "/var/lib/helve", StartedAt: now.Add(-2 * time.Minute)}, "1.1.0", in, "curl http://h:2/calls", now, 80)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	d := in.Applications["app"].Deployments["D"]
	d.Calls.Rejected = 7
	in.Applications["app"].Deployments["D"] = d
	got = statusTable(rest.About{}, "", in, "curl", now, 80)
	for _, want := range []string{"CALLS  ERRORS  REJECTED\n", "0      0       0\n", "10     2       7\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	got = statusTable(rest.About{Version: "1.2.0"}, "1.2.0", details.Instance{}, "curl", time.Time{}, 80)
	if !strings.Contains(got, "no application runs") || strings.Contains(got, "keeper") || strings.Contains(got, "capacity") {
		t.Error(got)
	}
}

// TestStatusRevisions: in a rollout each replica has its revision, with a word.
func TestStatusRevisions(t *testing.T) {
	t.Parallel()
	app := details.AppDetails{Status: "DEPLOYING", Rollout: &helvetype.Rollout{From: 2, To: 4, State: "waiting"}, Deployments: map[string]details.DeploymentDetails{
		"D": {Name: "D", Replicas: []details.ReplicaDetails{{ReplicaID: "D#1", State: "RUNNING", Revision: 2}, {ReplicaID: "D#2", State: "RUNNING", Revision: 3}, {ReplicaID: "D#3", State: "RUNNING", Revision: 4}}},
	}}
	text := func() string {
		return strings.Join(strings.Fields(statusTable(rest.About{}, "", details.Instance{Applications: map[string]details.AppDetails{"app": app}}, "curl", time.Unix(10000, 0), 100)), " ")
	}
	for _, want := range []string{"revision 2 (old) D#2", "revision 3 (superseded) D#3", "revision 4 (new)"} {
		if got := text(); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	app.Rollout = nil
	if got := text(); strings.Contains(got, "(new)") {
		t.Error(got)
	}
}

// TestStatusSaysOnce: the traceback of a deployment is there once, and another one is there too. A target capacity is said where it is not 100 %.
func TestStatusSaysOnce(t *testing.T) {
	t.Parallel()
	trace := func(of string) string { return "\nTraceback (most recent call last):\n  File \"m.py\", line 4\n" + of }
	capacity := 37.5
	got := statusTable(rest.About{}, "", details.Instance{TargetCapacity: &capacity, Applications: map[string]details.AppDetails{"app": {
		Status: "DEPLOY_FAILED", Message: "no licence" + trace("E: no licence"),
		Deployments: map[string]details.DeploymentDetails{
			"A": {Name: "A", Message: "three times: no licence" + trace("E: no licence") + "\n"}, "B": {Name: "B", Message: "no port" + trace("E: no port")},
		},
	}}}, "curl", time.Time{}, 80)
	for text, want := range map[string]int{"E: no licence": 1, "E: no port": 1, "Traceback": 2, "A: three times: no licence\n": 1, "target capacity: 37.5 % of all": 1} {
		if n := strings.Count(got, text); n != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, n, want, got)
		}
	}
}
