package metrics

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

var update = flag.Bool("update", false, "write the golden file anew")

type source telemetry.Snapshot

func (s source) Metrics() telemetry.Snapshot { return telemetry.Snapshot(s) }

func example() source {
	var fast, dead telemetry.Calls
	for _, took := range []time.Duration{time.Microsecond, 3 * time.Millisecond, time.Hour} {
		fast.Begin()
		fast.End(took, took == time.Hour)
	}
	fast.Begin()
	dead.Begin()
	gone := dead.Counts()
	gone.Settle()
	total := fast.Counts()
	total.Add(gone)
	var routed, unrouted telemetry.Requests
	var others telemetry.Calls // requests above the bound of series
	for _, failed := range []bool{false, true} {
		others.Begin()
		others.End(time.Second, failed)
	}
	routed.End("GET", 200, 3*time.Millisecond)
	routed.End("GET", 503, time.Microsecond)
	unrouted.End("PROPFIND", 404, time.Hour)
	var requests []telemetry.RequestCounts
	for _, q := range routed.Counts() {
		q.Route, q.Application = "/", "app"
		requests = append(requests, q)
	}
	requests = append(requests, unrouted.Counts()...)
	requests = append(requests, telemetry.RequestCounts{Route: "/", Application: "app", Method: telemetry.Other, Calls: others.Counts()})
	return source{Version: "1.2.3", HTTP: "http://127.0.0.1:8000", Events: 9, Requests: requests, Ongoing: 4, Disk: &telemetry.Disk{Writes: 6, Syncs: 12, Failing: true}, Applications: []telemetry.Application{{
		Name: "app", Route: "/", State: helvetype.ApplicationRunning, SharedMemory: &helvetype.SharedMemory{Size: 1 << 20, Leased: 3 << 16},
		Deployments: []telemetry.Deployment{{
			Name: "D", State: helvetype.DeploymentUnhealthy, Wanted: 2, Queued: 5, Starts: 7, Calls: total, Replicas: []telemetry.Replica{
				{ID: "D#001", State: helvetype.ReplicaRunning, Started: true, Healthy: true, Running: 1, Calls: fast.Counts()},
				{ID: "D#000", Started: true, Calls: gone},
				{ID: "D#002", State: helvetype.ReplicaStarting},
			},
		}},
	}}}
}

func scrape(t *testing.T, s Source) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(s).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestNamesAndLabels compares the answer with testdata/metrics.txt, without the numbers of the Go runtime and the process.
func TestNamesAndLabels(t *testing.T) {
	t.Parallel()
	var ours strings.Builder
	for line := range strings.Lines(scrape(t, example())) {
		if strings.Contains(line, "ray_") || strings.Contains(line, "helve_") {
			ours.WriteString(line)
		}
	}
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(ours.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), ours.String()); diff != "" {
		t.Error(diff)
	}
}

// TestStatesOfDeployments: each state has its number of the reference.
func TestStatesOfDeployments(t *testing.T) {
	t.Parallel()
	for state, want := range map[helvetype.DeploymentState]string{
		helvetype.DeploymentDeployFailed: "1", helvetype.DeploymentUnhealthy: "2", helvetype.DeploymentUpdating: "3",
		helvetype.DeploymentUpscaling: "4", helvetype.DeploymentDownscaling: "5", helvetype.DeploymentHealthy: "6",
	} {
		s := source{Applications: []telemetry.Application{{Name: "app", Deployments: []telemetry.Deployment{{Name: "D", State: state}}}}}
		if line := `ray_serve_deployment_status{application="app",deployment="D"} ` + want + "\n"; !strings.Contains(scrape(t, s), line) {
			t.Errorf("%s: no %s", state, line)
		}
	}
}

// TestNodesDoNotShareARegistry: two nodes in one process are asked, again and again.
func TestNodesDoNotShareARegistry(t *testing.T) {
	t.Parallel()
	for range 2 {
		first, second := scrape(t, example()), scrape(t, source{Version: "2"})
		if !strings.Contains(first, `helve_node_info{version="1.2.3"} 1`) || strings.Contains(second, "1.2.3") || !strings.Contains(second, "go_goroutines") {
			t.Errorf("%s\n%s", first, second)
		}
	}
}
