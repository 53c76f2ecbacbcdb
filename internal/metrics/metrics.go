// Package metrics shows the numbers of a node to Prometheus, under the names and labels of the reference, so that its dashboards find them:
// for example ray_serve_deployment_request_counter_total{application, deployment, replica, route}. The numbers are read when Prometheus
// asks; no event is counted twice, and no call pays for it. The label values are names of applications, deployments and replicas, their
// routes, HTTP statuses and the nine methods of HTTP, never a text that a client chooses.
//
// Only programs with a command line of Helve's, and those that import the public package metrics, link the package: client_golang makes an executable about
// 4 MB larger.
package metrics

import (
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Source is the node.
type Source interface {
	Metrics() telemetry.Snapshot
}

// Handler answers GET /metrics for a node. It has a registry of its own: two nodes in one process do not see each other's numbers.
func Handler(s Source) http.Handler {
	r, programs := prometheus.NewPedanticRegistry(), prometheus.NewRegistry()
	programs.MustRegister(&userCollector{s, ownNames()})
	r.MustRegister(&collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(prometheus.Gatherers{r, programs}, promhttp.HandlerOpts{Registry: r, EnableOpenMetrics: true})
}

// prefix is in front of the reference's names, as its exporter has it: dashboards ask for it.
const prefix = "ray_"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The metrics. Names and labels are the reference's, but for those that begin with helve_.
var ( //nolint:gochecknoglobals // constants
	requests   = desc(prefix+"serve_deployment_request_counter_total", "Calls that the replica has started.", "application", "deployment", "replica", "route")
	failures   = desc(prefix+"serve_deployment_error_counter_total", "Calls of the replica that have failed, also those that died with its process.", "application", "deployment", "replica", "route")
	latency    = desc(prefix+"serve_deployment_processing_latency_ms", "Time from the start of a call at the replica to its end.", "application", "deployment", "replica", "route")
	processing = desc(prefix+"serve_replica_processing_queries", "Calls that the replica runs now.", "application", "deployment", "replica")
	healthy    = desc(prefix+"serve_deployment_replica_healthy", "1 while the replica serves, else 0.", "application", "deployment", "replica")
	starts     = desc(prefix+"serve_deployment_replica_starts_total", "1 for each replica that has become ready.", "application", "deployment", "replica")
	queued     = desc(prefix+"serve_deployment_queued_queries", "Calls that wait for a slot of the deployment.", "application", "deployment")
	ongoing    = desc(prefix+"serve_num_ongoing_requests_at_replicas", "Calls that the replicas of the deployment run now.", "application", "deployment")
	routed     = desc(prefix+"serve_num_router_requests_total", "Calls that the deployment has started, in all its replicas, also those that are gone.", "application", "deployment", "route")
	wanted     = desc(prefix+"serve_autoscaling_target_replicas", "Replicas that the deployment should have.", "application", "deployment")
	deployment = desc(prefix+"serve_deployment_status", "1 deploy failed, 2 unhealthy, 3 updating, 4 upscaling, 5 downscaling, 6 healthy.", "application", "deployment")
	app        = desc(prefix+"serve_application_status", "1 deploy failed, 2 unhealthy, 3 not started, 4 deleting, 5 deploying, 6 running.", "application")
	answered   = desc(prefix+"serve_num_http_requests_total", "HTTP requests that have ended.", "route", "method", "application", "status_code")
	refused    = desc(prefix+"serve_num_http_error_requests_total", "HTTP requests that have ended with a status of 400 or more.", "route", "error_code", "method", "application")
	answering  = desc(prefix+"serve_http_request_latency_ms", "Time from the header of an HTTP request to the end of its answer.", "method", "route", "application", "status_code")
	open       = desc(prefix+"serve_num_ongoing_http_requests", "HTTP requests that are not answered yet.", "node_id", "node_ip_address")
	proxies    = desc(prefix+"serve_proxy_status", "1 while the HTTP ingress serves.", "node_id", "node_ip_address")

	ready  = desc("helve_deployment_replica_starts_total", "Replicas of the deployment that have become ready, also those that are gone.", "application", "deployment")
	late   = desc("helve_deployment_late_calls_total", "Calls that returned after the end of their context, and kept their callers waiting.", "application", "deployment")
	lost   = desc("helve_deployment_failed_calls_total", "Calls of all replicas of the deployment that have failed, also of those that are gone.", "application", "deployment")
	shared = desc("helve_shared_memory_bytes", "Shared memory for large values, by what it is used for.", "application", "use")
	events = desc("helve_events_total", "Transitions of applications, deployments and replicas.")
	writes = desc("helve_state_writes_total", "Transactions and blobs that the node has written to its state directory.")
	syncs  = desc("helve_state_syncs_total", "Calls of fsync and fdatasync for them.")
	failed = desc("helve_state_failing", "1 while the state cannot be written, for example because the disk is full, else 0.")
	info   = desc("helve_node_info", "1, with the version of the node.", "version")
)

type collector struct{ source Source }

func described() []*prometheus.Desc {
	return []*prometheus.Desc{
		requests, failures, latency, processing, healthy, starts, queued, ongoing, routed, wanted, deployment, app, answered, refused, answering, open, proxies, ready, late, lost, shared, events, writes, syncs, failed, info,
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range described() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Metrics()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(info, 1, s.Version)
	count(events, s.Events)
	if d := s.Disk; d != nil {
		count(writes, d.Writes)
		count(syncs, d.Syncs)
		failing := 0.0
		if d.Failing {
			failing = 1
		}
		gauge(failed, failing)
	}
	if u, err := url.Parse(s.HTTP); err == nil && s.HTTP != "" {
		host, _, _ := net.SplitHostPort(u.Host)
		gauge(proxies, 1, "local", host)
		gauge(open, float64(s.Ongoing), "local", host)
	}
	for _, q := range s.Requests {
		status := telemetry.Other
		if q.Status != 0 {
			status = strconv.Itoa(q.Status)
		}
		count(answered, q.Calls.Started, q.Route, q.Method, q.Application, status)
		if q.Calls.Failed > 0 {
			count(refused, q.Calls.Failed, q.Route, status, q.Method, q.Application)
		}
		ch <- histogram(answering, q.Calls, q.Method, q.Route, q.Application, status)
	}
	for _, a := range s.Applications {
		gauge(app, applicationStates[a.State], a.Name)
		if m := a.SharedMemory; m != nil {
			for use, bytes := range map[string]uint64{"size": m.Size, "leased": m.Leased, "published": m.Published, "filled": m.Filled} {
				gauge(shared, float64(bytes), a.Name, use)
			}
		}
		for _, d := range a.Deployments {
			gauge(deployment, deploymentStates[d.State], a.Name, d.Name)
			gauge(wanted, float64(d.Wanted), a.Name, d.Name)
			gauge(queued, float64(d.Queued), a.Name, d.Name)
			count(routed, d.Calls.Started, a.Name, d.Name, a.Route)
			count(lost, d.Calls.Failed, a.Name, d.Name)
			count(ready, d.Starts, a.Name, d.Name)
			count(late, d.Calls.Late, a.Name, d.Name)
			running := 0
			for _, r := range d.Replicas {
				running += r.Running
				labels := []string{a.Name, d.Name, r.ID, a.Route}
				count(requests, r.Calls.Started, labels...)
				count(failures, r.Calls.Failed, labels...)
				ch <- histogram(latency, r.Calls, labels...)
				if r.Started {
					count(starts, 1, a.Name, d.Name, r.ID)
				}
				if r.State == "" {
					continue
				}
				gauge(processing, float64(r.Running), a.Name, d.Name, r.ID)
				well := 0.0
				if r.Healthy {
					well = 1
				}
				gauge(healthy, well, a.Name, d.Name, r.ID)
			}
			gauge(ongoing, float64(running), a.Name, d.Name)
		}
	}
}

// histogram is the latencies of calls, in the cumulative buckets of Prometheus.
func histogram(d *prometheus.Desc, k telemetry.Counts, labels ...string) prometheus.Metric {
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range telemetry.Bounds() {
		sum += k.Buckets[i]
		buckets[bound] = sum
	}
	return prometheus.MustNewConstHistogram(d, k.Ended(), float64(k.Busy.Nanoseconds())/1e6, buckets, labels...)
}

// The reference's numbers for states.
var (
	applicationStates = map[helvetype.ApplicationState]float64{ //nolint:gochecknoglobals // a constant
		helvetype.ApplicationDeployFailed: 1, helvetype.ApplicationUnhealthy: 2, helvetype.ApplicationNotStarted: 3,
		helvetype.ApplicationDeleting: 4, helvetype.ApplicationDeploying: 5, helvetype.ApplicationRunning: 6,
	}
	deploymentStates = map[helvetype.DeploymentState]float64{ //nolint:gochecknoglobals // a constant
		helvetype.DeploymentDeployFailed: 1, helvetype.DeploymentUnhealthy: 2, helvetype.DeploymentUpdating: 3,
		helvetype.DeploymentUpscaling: 4, helvetype.DeploymentDownscaling: 5, helvetype.DeploymentHealthy: 6,
	}
)
