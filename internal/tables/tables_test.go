package tables

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
)

// busy is an application with calls in the last minute, and processes whose memory is known.
func busy() details.AppDetails {
	pid := 3123456
	return details.AppDetails{Status: "RUNNING", Revision: 3, LastDeployedTimeS: 9990, Deployments: map[string]details.DeploymentDetails{
		"Classifier": {
			Name: "Classifier", Status: "HEALTHY", TargetNumReplicas: 2, Calls: helvetype.Calls{Running: 3, Total: 12345, Errors: 2}, LastMinute: &helvetype.LastMinute{Seconds: 60, Calls: 600, Mean: 63.9, P99: 1263},
			Replicas: []details.ReplicaDetails{
				{ReplicaID: "Classifier#001", State: "RUNNING", PID: &pid, StartTimeS: 9990, Memory: 512 << 20, CPU: 97.4},
				{ReplicaID: "Classifier#002", State: "RUNNING", PID: &pid, StartTimeS: 9990, Memory: 3 << 30, GPUMemory: 31 << 30, LastExit: &helvetype.Exit{Replica: "Classifier#000", Reason: "killed by SIGKILL"}, Restarts: 1},
			},
		},
		"Front": {Name: "Front", Status: "HEALTHY", TargetNumReplicas: 1},
	}}
}

// TestColumns: the times of the last minute, and memory and processors, are in the tables where they are known and have room.
func TestColumns(t *testing.T) {
	t.Parallel()
	for width, want := range map[int]string{
		130: `
application shop   RUNNING   revision 3, deployed 10s ago
  DEPLOYMENT   STATUS    REPLICAS   QUEUED   RUNNING   CALLS   ERRORS   MEAN   P99
  Classifier   HEALTHY   2/2        0        3         12345   2        64ms   1.3s
  Front        HEALTHY   0/1        0        0         0       0        -      -
  REPLICA          STATE     PID       AGE   RESTARTS   MEMORY                   CPU
  Classifier#001   RUNNING   3123456   10s   0          512 MiB                  97%
  Classifier#002   RUNNING   3123456   10s   1          3.0 GiB + 31.0 GiB GPU   0%    Classifier#000 ended: killed by SIGKILL
`,
		80: `
application shop   RUNNING   revision 3, deployed 10s ago
  DEPLOYMENT  STATUS   REPLICAS  QUEUED  RUNNING  CALLS  ERRORS  MEAN  P99
  Classifier  HEALTHY  2/2       0       3        12345  2       64ms  1.3s
  Front       HEALTHY  0/1       0       0        0      0       -     -
  REPLICA          STATE     PID       AGE   RESTARTS   MEMORY
  Classifier#001   RUNNING   3123456   10s   0          512 MiB
  Classifier#002   RUNNING   3123456   10s   1          3.0 GiB + 31.0 GiB GPU
      Classifier#000 ended: killed by SIGKILL
`,
	} {
		var b strings.Builder
		Application(&b, "shop", busy(), time.Unix(10000, 0), width)
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%d columns: %s", width, diff)
		}
	}
	app := busy()
	d := app.Deployments["Classifier"]
	d.Calls.Rejected, d.Status = 7, "UNHEALTHY"
	app.Deployments["Classifier"] = d
	var b strings.Builder
	Application(&b, "shop", app, time.Unix(10000, 0), 80)
	if got := b.String(); strings.Contains(got, "MEAN") || !strings.Contains(got, "ERRORS  REJECTED") {
		t.Error(got)
	}
}

// TestFailingPolicy: the line of the autoscaler names a policy that has no answer.
func TestFailingPolicy(t *testing.T) {
	t.Parallel()
	now := time.Unix(10000, 0)
	a := &helvetype.Autoscaling{Target: 2, Least: 1, Most: 4, Reason: "the policy asks for 2", Policy: "scaling:f", PolicyFailedSince: now.Add(-12 * time.Second), Errors: []string{"ValueError: x\nTraceback"}}
	if got, want := scaling(a, now), "2 of 1 to 4; the policy asks for 2; the policy scaling:f has no answer for 12s: ValueError: x"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
