package metrics

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/machine"
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
	waits := telemetry.NewDurations(telemetry.Bounds())
	waits.Observe(30 * time.Millisecond)
	lifecycle := telemetry.NewLifecycle()
	lifecycle.AutoscalingFailed("ValueError")
	for _, d := range []*telemetry.Durations{lifecycle.Startup, lifecycle.Initialization, lifecycle.Shutdown, lifecycle.Reconfigure, lifecycle.HealthCheck, lifecycle.RoutingStats, lifecycle.AutoscalingStats} {
		d.Observe(3 * time.Second)
	}
	lifecycle.HealthFailures.Add(2)
	var routed, unrouted telemetry.Requests
	var others telemetry.Calls // requests above the bound of series
	for _, failed := range []bool{false, true} {
		others.Begin()
		others.End(time.Second, failed)
	}
	routed.End("GET", 200, 3*time.Millisecond, nil)
	routed.End("GET", 503, time.Microsecond, &[16]byte{15: 0xab})
	unrouted.End("PROPFIND", 404, time.Hour, nil)
	var requests []telemetry.RequestCounts
	for _, q := range routed.Counts() {
		q.Route, q.Application = "/", "app"
		requests = append(requests, q)
	}
	requests = append(requests, unrouted.Counts()...)
	requests = append(requests, telemetry.RequestCounts{Route: "/", Application: "app", Method: telemetry.Other, Calls: others.Counts()})
	return source{Version: "1.2.3", HTTP: "http://127.0.0.1:8000", Events: 9, Requests: requests, Ongoing: 4, Serving: true,
		Transitions: []telemetry.TransitionCount{{Kind: helvetype.KindReplica, Reason: "died", Application: "app", Deployment: "D", Number: 3}},
		References:  helvetype.References{Bytes: 100, Results: 2, Refused: 1}, Loop: telemetry.Loop{Number: 12, Last: time.Millisecond},
		Disk: &telemetry.Disk{Writes: 6, Syncs: 12, Failing: true}, Spans: telemetry.Spans{Sent: 40, Dropped: 2}, Applications: []telemetry.Application{{
			Name: "app", Route: "/", Ingress: "D", State: helvetype.ApplicationRunning, SharedMemory: &helvetype.SharedMemory{Size: 1 << 20, Leased: 3 << 16},
			Deployments: []telemetry.Deployment{{
				Name: "D", State: helvetype.DeploymentUnhealthy, Wanted: 2, Queued: 5, Rejected: 9, Memory: 3 << 20, Starts: 7, Calls: total, Autoscaling: &helvetype.Autoscaling{Target: 2, Desired: 3, Calls: 7.5, TargetOngoing: 2, Policy: "scaling:by_hour", PolicyTook: 1500 * time.Microsecond}, Origins: map[string]int{"": 2, "app/E": 3},
				Callers: map[telemetry.Caller]telemetry.CallerCounts{{Kind: telemetry.FromHTTP}: {Ended: 5, Failed: 1, Waited: 1500 * time.Millisecond}, {Kind: telemetry.FromDeployment, App: "app", Deployment: "E"}: {Ended: 3}, {Kind: telemetry.FromDriver}: {Ended: 2}},
				Waits:   waits.Counts(), Lifecycle: lifecycle.Counts(), Replicas: []telemetry.Replica{
					{ID: "D#001", State: helvetype.ReplicaRunning, Started: true, Healthy: true, Running: 1, Utilization: 12.5, Calls: fast.Counts(), Memory: 3 << 20, CPU: 1500 * time.Millisecond, GPUMemory: 2 << 30},
					{ID: "D#000", Started: true, Calls: gone},
					{ID: "D#002", State: helvetype.ReplicaStarting},
				},
			}},
		}}}
}

func scrape(t *testing.T, s Source, header ...string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	Handler(s).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestNamesAndLabels compares the answer with testdata/metrics.txt, without the numbers of the Go runtime, the process and the machine.
func TestNamesAndLabels(t *testing.T) {
	t.Parallel()
	var ours strings.Builder
	for line := range strings.Lines(scrape(t, example())) {
		if (strings.Contains(line, "ray_") || strings.Contains(line, "helve_")) && !strings.Contains(line, "ray_node_") && !strings.Contains(line, `resource="GPU"`) {
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

// TestReference: each metric of testdata/reference.txt that the node counts is there with its type and exactly its labels, and no other metric has a name
// of the reference's.
func TestReference(t *testing.T) {
	t.Parallel()
	types, labels := map[string]string{}, map[string]string{}
	for line := range strings.Lines(scrape(t, example())) {
		if f := strings.Fields(line); f[0] == "#" {
			if f[1] == "TYPE" {
				types[f[2]] = f[3]
			}
			continue
		}
		name, rest, _ := strings.Cut(line, "{")
		var keys []string
		for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(rest, -1) {
			if m[1] != "le" {
				keys = append(keys, m[1])
			}
		}
		slices.Sort(keys)
		name, _, _ = strings.Cut(name, " ")
		labels[strings.TrimSuffix(name, "_count")] = strings.Join(keys, ",")
	}
	text, err := os.ReadFile(filepath.Join("testdata", "reference.txt"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		name := "ray_" + f[0]
		if f[1] == "counter" {
			name += "_total"
		}
		seen[name] = true
		switch want := strings.Trim(f[2], "-"); {
		case f[3] != "node":
			if types[name] != "" {
				t.Errorf("%s is there, and should not: %s", name, line)
			}
		case types[name] != f[1] || labels[name] != want:
			t.Errorf("%s is a %q with the labels %q, want %s with %q", name, types[name], labels[name], f[1], want)
		}
	}
	for name := range types {
		if strings.HasPrefix(name, "ray_serve_") && !seen[name] {
			t.Errorf("%s is not in reference.txt", name)
		}
	}
}

// TestOpenMetrics: a scraper that asks for OpenMetrics gets exemplars with the ids of traces, counters that are described without their suffix, and an end.
func TestOpenMetrics(t *testing.T) {
	t.Parallel()
	got := scrape(t, example(), "Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
	for _, want := range []string{
		"# TYPE ray_serve_num_http_requests counter\nray_serve_num_http_requests_total{",
		`ray_serve_http_request_latency_ms_bucket{application="app",method="GET",route="/",status_code="503",le="1.0"} 1 # {trace_id="000000000000000000000000000000ab"} 0.001 `,
		"# TYPE go_goroutines gauge\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if !strings.HasSuffix(got, "\n# EOF\n") || strings.Count(got, "# EOF") != 1 {
		t.Errorf("the end is %.40q", got[len(got)-40:])
	}
}

// TestCompression: an answer is compressed for a client that takes it, and only then.
func TestCompression(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{"gzip": true, "deflate, gzip;q=0.5": true, "": false, "gzip;q=0": false, "identity": false} {
		if got := strings.HasPrefix(scrape(t, example(), "Accept-Encoding", accept), "\x1f\x8b"); got != want {
			t.Errorf("%q: compressed is %v", accept, got)
		}
	}
}

// BenchmarkScrape is a scrape of 1,000 replicas in ten deployments, compressed as Prometheus asks for it.
func BenchmarkScrape(b *testing.B) {
	s := thousand()
	h := Handler(s)
	var n, plain int
	for b.Loop() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		h.ServeHTTP(w, r)
		n = w.Body.Len()
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	plain = w.Body.Len()
	b.ReportMetric(float64(n), "B/sent")
	b.ReportMetric(float64(plain), "B/page")
}

// thousand is a node with 1,000 replicas that have executed calls.
func thousand() source {
	s := source{Version: "1", HTTP: "http://127.0.0.1:8000"}
	a := telemetry.Application{Name: "app", Route: "/", Ingress: "D0", State: helvetype.ApplicationRunning}
	for i := range 10 {
		d := telemetry.Deployment{Name: fmt.Sprintf("D%d", i), State: helvetype.DeploymentHealthy, Lifecycle: telemetry.NewLifecycle().Counts()}
		for j := range 100 {
			var calls telemetry.Calls
			for k := range 100 {
				calls.Begin()
				calls.End(time.Duration(i*j*k)*time.Microsecond, k == 7)
			}
			d.Calls.Add(calls.Counts())
			d.Replicas = append(d.Replicas, telemetry.Replica{ID: fmt.Sprintf("D%d#%03d", i, j), State: helvetype.ReplicaRunning, Started: true, Healthy: true, Calls: calls.Counts()})
		}
		a.Deployments = append(a.Deployments, d)
	}
	s.Applications = []telemetry.Application{a}
	return s
}

// TestGPUs: a number that the driver does not know has no line, and a machine without GPUs has no family.
func TestGPUs(t *testing.T) {
	t.Parallel()
	p := &page{names: map[string]bool{}}
	writeGPUs(p, nil)
	if len(p.b) != 0 {
		t.Errorf("without GPUs: %q", p.b)
	}
	writeGPUs(p, []machine.GPU{{Index: "0", Name: "NVIDIA H200", Percent: 37, Used: 1024, Free: 142747}, {Index: "1", Name: `NVIDIA H200 "NVL"`, Percent: -1, Used: -1, Free: -1}})
	want := `# HELP ray_node_gpus_available 1 for each GPU of the machine.
# TYPE ray_node_gpus_available gauge
ray_node_gpus_available{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 1
ray_node_gpus_available{GpuDeviceName="NVIDIA H200 \"NVL\"",GpuIndex="1"} 1
# HELP ray_node_gpus_utilization Use of the GPU, in percent: the part of the time in which a program ran on it.
# TYPE ray_node_gpus_utilization gauge
ray_node_gpus_utilization{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 37
# HELP ray_node_gram_used Memory of the GPU in use, in megabytes.
# TYPE ray_node_gram_used gauge
ray_node_gram_used{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 1024
# HELP ray_node_gram_available Memory of the GPU that is free, in megabytes.
# TYPE ray_node_gram_available gauge
ray_node_gram_available{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 142747
`
	if diff := cmp.Diff(want, string(p.b)); diff != "" {
		t.Error(diff)
	}
}
