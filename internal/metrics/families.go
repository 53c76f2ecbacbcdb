package metrics

import (
	"cmp"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// The families of the node. Names and labels are the reference's with the prefix of its exporter, but for those that begin with helve_. A label that the
// reference has and that has no meaning here is empty, which is the same as absent for Prometheus: actor_id, because the router is no actor; handle, because all
// handles of a process to a deployment have one router, except where calls are told apart by where they come from.

// prefix is in front of the reference's names, as its exporter has it: dashboards ask for it.
const prefix = "ray_"

// bit is 1 for true.
func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// writeNode writes the numbers of the node as a whole.
func writeNode(p *page, s *telemetry.Snapshot) {
	p.family("helve_node_info", gauge, "1, with the version of the node.")
	p.line(label("", "version", s.Version), 1)
	p.family("helve_events_total", counter, "Transitions of applications, deployments and replicas.")
	p.whole("", s.Events)
	p.family("helve_transitions_total", counter, "Events by object and reason, since the process has started: for example a replica that died, or a rollout that was paused.")
	for _, t := range s.Transitions {
		p.whole(label(label(label(label("", "application", t.Application), "deployment", t.Deployment), "kind", t.Kind), "reason", t.Reason), t.Number)
	}
	p.family("helve_references", gauge, "Results of calls that are kept for references.")
	p.line("", float64(s.References.Results))
	p.family("helve_references_bytes", gauge, "Memory of the results that are kept for references.")
	p.line("", float64(s.References.Bytes))
	p.family("helve_references_refused_total", counter, "Results for which there was no room.")
	p.whole("", s.References.Refused)
	p.family("helve_spans_total", counter, "Spans of sampled requests, by result: sent to the receiver of OpenTelemetry, or dropped.")
	p.whole(label("", "result", "dropped"), s.Spans.Dropped)
	p.whole(label("", "result", "sent"), s.Spans.Sent)
	if d := s.Disk; d != nil {
		p.family("helve_state_writes_total", counter, "Transactions and blobs that the node has written to its state directory.")
		p.whole("", d.Writes)
		p.family("helve_state_syncs_total", counter, "Calls of fsync and fdatasync for them.")
		p.whole("", d.Syncs)
	}
	p.family("helve_state_failing", gauge, "1 while the state cannot be written, for example because the disk is full, else 0: also of a node that keeps its state in memory.")
	p.line("", bit(s.Disk != nil && s.Disk.Failing))
	p.family(prefix+"serve_controller_num_control_loops", gauge, "Turns of the controller's loop. A turn comes with a change, and not by a clock.")
	p.line(label("", "actor_id", ""), float64(s.Loop.Number))
	p.family(prefix+"serve_controller_control_loop_duration_s", gauge, "Duration of the last turn of the controller's loop.")
	p.line("", s.Loop.Last.Seconds())
	if u, err := url.Parse(s.HTTP); err == nil && s.HTTP != "" {
		host, _, _ := net.SplitHostPort(u.Host)
		labels := label(label("", "node_id", "local"), "node_ip_address", host)
		p.family(prefix+"serve_proxy_status", gauge, "2 while the HTTP ingress serves, 4 while it drains.")
		status := proxyHealthy
		if !s.Serving {
			status = proxyDraining
		}
		p.line(labels, status)
		p.family(prefix+"serve_num_ongoing_http_requests", gauge, "HTTP requests that are not answered yet.")
		p.line(labels, float64(s.Ongoing))
	}
}

// The reference's numbers for the states of a proxy.
const (
	proxyHealthy  = 2.0
	proxyDraining = 4.0
)

// writeRequests writes the requests of HTTP.
func writeRequests(p *page, s *telemetry.Snapshot, shown detail) {
	ingress := map[string]string{}
	for _, a := range s.Applications {
		ingress[a.Name] = a.Ingress
	}
	type row struct {
		answered, refused, byDeployment string
		of                              *telemetry.RequestCounts
	}
	rows := make([]row, len(s.Requests))
	for i := range s.Requests {
		q := &s.Requests[i]
		status := telemetry.Other
		if q.Status != 0 {
			status = strconv.Itoa(q.Status)
		}
		app := label("", "application", q.Application)
		route := label(label("", "method", q.Method), "route", q.Route)
		rows[i] = row{label(app+","+route, "status_code", status), label(app, "error_code", status) + "," + route, "", q}
		if d := ingress[q.Application]; d != "" {
			rows[i].byDeployment = label(label(app, "deployment", d), "error_code", status) + "," + route
		}
	}
	p.family(prefix+"serve_num_http_requests_total", counter, "HTTP requests that have ended.")
	for _, r := range rows {
		p.whole(r.answered, r.of.Calls.Started)
	}
	p.family(prefix+"serve_num_http_error_requests_total", counter, "HTTP requests that have ended with a status of 400 or more.")
	for _, r := range rows {
		if r.of.Calls.Failed > 0 {
			p.whole(r.refused, r.of.Calls.Failed)
		}
	}
	p.family(prefix+"serve_num_deployment_http_error_requests_total", counter, "HTTP requests that have ended with a status of 400 or more, with the ingress deployment of the application.")
	for _, r := range rows {
		if r.of.Calls.Failed > 0 && r.byDeployment != "" {
			p.whole(r.byDeployment, r.of.Calls.Failed)
		}
	}
	p.family(prefix+"serve_http_request_latency_ms", histogram, "Time from the header of an HTTP request to the end of its answer.")
	bounds := telemetry.Bounds()
	for _, r := range rows {
		k := &r.of.Calls
		p.histogram(r.answered, bounds, k.Buckets[:len(bounds)+1], milliseconds(k.Busy), shown, r.of.Exemplars)
	}
}

// view is a deployment with its labels.
type view struct {
	*telemetry.Deployment
	app      *telemetry.Application
	labels   string // application and deployment
	replicas []replicaView
	running  int
}

type replicaView struct {
	*telemetry.Replica
	labels string // application, deployment and replica
	routed string // and route
}

func views(s *telemetry.Snapshot) (all []view) {
	for i := range s.Applications {
		a := &s.Applications[i]
		app := label("", "application", a.Name)
		for j := range a.Deployments {
			v := view{Deployment: &a.Deployments[j], app: a}
			v.labels = label(app, "deployment", v.Name)
			for k := range v.Replicas {
				r := replicaView{Replica: &v.Replicas[k]}
				r.labels = label(v.labels, "replica", r.ID)
				r.routed = label(r.labels, "route", a.Route)
				v.running += r.Running
				v.replicas = append(v.replicas, r)
			}
			all = append(all, v)
		}
	}
	return all
}

// waits are the waits of all calls for a slot: those that found one at once are in the first bucket.
func (v *view) waits() telemetry.DurationCounts {
	k := v.Waits
	if at := k.Count(); len(k.Buckets) > 0 && v.Calls.Started > at {
		k.Buckets = slices.Clone(k.Buckets)
		k.Buckets[0] += v.Calls.Started - at
	}
	return k
}

// unhandled are the labels of a deployment's router, beside handle.
func (v *view) unhandled() string { return `actor_id="",` + v.labels }

// writeApplications writes the numbers of applications, deployments and replicas.
func writeApplications(p *page, s *telemetry.Snapshot, all []view, d details) {
	p.family(prefix+"serve_application_status", gauge, "1 deploy failed, 2 unhealthy, 3 not started, 4 deleting, 5 deploying, 6 running.")
	for _, a := range s.Applications {
		p.line(label("", "application", a.Name), applicationStates[a.State])
	}
	p.family("helve_shared_memory_bytes", gauge, "Shared memory for large values, by what it is used for.")
	for _, a := range s.Applications {
		if m := a.SharedMemory; m != nil {
			uses := map[string]uint64{"size": m.Size, "leased": m.Leased, "published": m.Published, "filled": m.Filled}
			for _, use := range slices.Sorted(maps.Keys(uses)) {
				p.line(label(label("", "application", a.Name), "use", use), float64(uses[use]))
			}
		}
	}
	writeDeployments(p, all, d.others)
	writeFailures(p, s, all)
	writeRouters(p, all, d)
	writeLifecycles(p, all, d.lifecycles())
	writeReplicas(p, all, d.replicas)
}

func writeDeployments(p *page, all []view, shown detail) {
	for _, f := range []struct {
		name, kind, help string
		value            func(v *view) float64
	}{
		{prefix + "serve_deployment_status", gauge, "1 deploy failed, 2 unhealthy, 3 updating, 4 upscaling, 5 downscaling, 6 healthy.", func(v *view) float64 { return deploymentStates[v.State] }},
		{prefix + "serve_autoscaling_target_replicas", gauge, "Replicas that the deployment should have.", func(v *view) float64 { return float64(v.Wanted) }},
		{"helve_deployment_failed_calls_total", counter, "Calls of all replicas of the deployment that have failed, also of those that are gone.", func(v *view) float64 { return float64(v.Calls.Failed) }},
		{"helve_deployment_cancelled_calls_total", counter, "Calls of all replicas of the deployment that their callers have ended, such as streams that their readers have closed. They have not failed.", func(v *view) float64 { return float64(v.Calls.Cancelled) }},
		{"helve_deployment_rejected_calls_total", counter, "Calls to the deployment that have failed at once, because too many calls of their origin waited for a slot (max_queued_requests).", func(v *view) float64 { return float64(v.Rejected) }},
		{"helve_deployment_late_calls_total", counter, "Calls that returned after the end of their context, and kept their callers waiting.", func(v *view) float64 { return float64(v.Calls.Late) }},
		{"helve_deployment_replica_starts_total", counter, "Replicas of the deployment that have become ready, also those that are gone.", func(v *view) float64 { return float64(v.Starts) }},
	} {
		p.family(f.name, f.kind, f.help)
		for i := range all {
			p.line(all[i].labels, f.value(&all[i]))
		}
	}
	for _, f := range []struct {
		name, help string
		value      func(a *helvetype.Autoscaling) float64
	}{
		{"serve_autoscaling_desired_replicas", "Replicas that the load of the deployment asks for, before the bounds of its autoscaling_config.", func(a *helvetype.Autoscaling) float64 { return float64(a.Desired) }},
		{"serve_autoscaling_total_requests", "Calls that wait and run, by which the autoscaler decides.", func(a *helvetype.Autoscaling) float64 { return a.Calls }},
		{"serve_autoscaling_target_ongoing_requests", "Calls that a replica should have (target_ongoing_requests).", func(a *helvetype.Autoscaling) float64 { return a.TargetOngoing }},
	} {
		p.family(prefix+f.name, gauge, f.help)
		for i := range all {
			if a := all[i].Autoscaling; a != nil {
				p.line(all[i].labels, f.value(a))
			}
		}
	}
	p.family(prefix+"serve_autoscaling_policy_execution_time_ms", gauge, "Time of the last answer of the custom policy of the deployment.")
	for i := range all {
		if a := all[i].Autoscaling; a != nil && a.Policy != "" {
			p.line(all[i].labels+",policy_scope=\""+cmp.Or(a.PolicyScope, "deployment")+"\"", milliseconds(a.PolicyTook))
		}
	}
	p.family("helve_deployment_memory_bytes", gauge, "Memory that the processes of the replicas of the deployment occupy, with parts that they share.")
	for i := range all {
		if all[i].Memory > 0 {
			p.line(all[i].labels, float64(all[i].Memory))
		}
	}
	p.family("helve_deployment_processing_latency_ms", histogram, "Time from the start of a call at a replica of the deployment to its end, also of replicas that are gone.")
	bounds := telemetry.Bounds()
	for i := range all {
		if k := &all[i].Calls; k.Started > 0 {
			p.histogram(all[i].labels, bounds, k.Buckets[:len(bounds)+1], milliseconds(k.Busy), shown, nil)
		}
	}
}

// writeFailures writes how often replicas of each deployment have failed. The families of helve_transitions_total begin with the first event, so that Prometheus
// sees no growth at it; these begin at 0.
func writeFailures(p *page, s *telemetry.Snapshot, all []view) {
	type key struct{ reason, app, deployment string }
	numbers := map[key]uint64{}
	for _, t := range s.Transitions {
		if t.Kind == helvetype.KindReplica {
			numbers[key{t.Reason, t.Application, t.Deployment}] += t.Number
		}
	}
	for _, f := range []struct{ name, reason, help string }{
		{"helve_deployment_replica_deaths_total", string(states.Died), "Replicas of the deployment whose process has ended, and nothing had asked it to."},
		{"helve_deployment_start_failures_total", string(states.StartFailed), "Replicas of the deployment that could not be started."},
	} {
		p.family(f.name, counter, f.help)
		for i := range all {
			p.whole(all[i].labels, numbers[key{f.reason, all[i].app.Name, all[i].Name}])
		}
	}
}

// writeRouters writes the numbers of the routers: calls that wait, and how long.
func writeRouters(p *page, all []view, d details) {
	p.family(prefix+"serve_num_router_requests_total", counter, "Calls that were sent to a replica of the deployment.")
	for _, v := range all {
		p.whole(label(label(v.unhandled(), "handle", ""), "route", v.app.Route), v.Calls.Started)
	}
	p.family(prefix+"serve_handle_request_counter_total", counter, "Calls of handles to the deployment that were sent to a replica.")
	for _, v := range all {
		p.whole(label(label(v.labels, "handle", ""), "route", v.app.Route), v.Calls.Started)
	}
	p.family(prefix+"serve_deployment_queued_queries", gauge, "Calls that wait for a slot, by where they come from (handle): a deployment, a driver, or the HTTP ingress, which is empty.")
	for _, v := range all {
		for _, o := range origins(v.Origins) {
			p.line(label(v.unhandled(), "handle", o.name), float64(o.number))
		}
	}
	writeCallers(p, all)
	p.family(prefix+"serve_num_ongoing_requests_at_replicas", gauge, "Calls that run at replicas of the deployment.")
	for _, v := range all {
		p.line(label(v.unhandled(), "handle", ""), float64(v.running))
	}
	for _, f := range []struct {
		name, help string
		value      func(v *view) float64
	}{
		{"serve_num_scheduling_tasks", "Calls that the router is to place: those that wait for a slot.", func(v *view) float64 { return float64(v.Queued) }},
		{"serve_num_scheduling_tasks_in_backoff", "0: the router does not try again and again, a slot that becomes free is given to a call that waits.", func(*view) float64 { return 0 }},
	} {
		p.family(prefix+f.name, gauge, f.help)
		for i := range all {
			v := &all[i]
			p.line(`actor_id="",`+label("", "app", v.app.Name)+","+v.labels+`,handle_source=""`, f.value(v))
		}
	}
	p.family(prefix+"serve_request_router_fulfillment_time_ms", histogram, "Time that a call waited for a slot. A call that found one at once is in the first bucket.")
	for i := range all {
		p.durations(all[i].unhandled()+`,handle_source=""`, all[i].waits(), d.others)
	}
	p.family(prefix+"serve_request_router_queue_len", gauge, "Calls that run at the replica, as the router sees it.")
	for _, v := range all {
		for _, r := range v.replicas {
			if r.State != "" && (r.Running > 0 || d.replicas.zeros()) {
				p.line(label(v.unhandled()+`,handle_source=""`, "replica_id", r.ID), float64(r.Running))
			}
		}
	}
}

// callerLines is the number of lines of each caller of a deployment.
const callerLines = 3

// callersMax is the number of callers of one deployment that have lines: the first by name. The graph of a program declares few callers of a deployment.
const callersMax = 50

// writeCallers writes the calls of deployments by where they come from.
func writeCallers(p *page, all []view) {
	type row struct {
		labels string
		of     telemetry.CallerCounts
	}
	var rows []row
	for i := range all {
		for _, c := range callers(all[i].Callers) {
			rows = append(rows, row{label(all[i].labels, "caller", callerName(c)), all[i].Callers[c]})
		}
	}
	p.family("helve_deployment_caller_calls_total", counter, "Calls of the deployment that have ended, by their caller: a deployment, http for clients of HTTP, or driver for programs outside of replicas.")
	for _, r := range rows {
		p.whole(r.labels, r.of.Ended)
	}
	p.family("helve_deployment_caller_failed_calls_total", counter, "Calls of the deployment that have failed, by their caller.")
	for _, r := range rows {
		p.whole(r.labels, r.of.Failed)
	}
	p.family("helve_deployment_caller_wait_seconds_total", counter, "Time that the calls of the caller have waited for slots.")
	for _, r := range rows {
		p.line(r.labels, r.of.Waited.Seconds())
	}
}

// callers are the callers that have lines, by name.
func callers(of map[telemetry.Caller]telemetry.CallerCounts) []telemetry.Caller {
	all := slices.SortedFunc(maps.Keys(of), func(x, y telemetry.Caller) int { return cmp.Compare(callerName(x), callerName(y)) })
	return all[:min(len(all), callersMax)]
}

// callerName is the label of a caller, for example app/Gateway.
func callerName(c telemetry.Caller) string {
	switch c.Kind {
	case telemetry.FromHTTP:
		return "http"
	case telemetry.FromDriver:
		return "driver"
	default:
		return c.App + "/" + c.Deployment
	}
}

// originsMax is the number of origins of one deployment that have a line each: each driver is one.
const originsMax = 50

type origin struct {
	name   string
	number int
}

// origins are the calls that wait by origin, those without calls too for the HTTP ingress, whose name is empty. Above the bound origins are one line.
func origins(of map[string]int) (all []origin) {
	all = append(all, origin{"", of[""]})
	rest := 0
	for _, name := range slices.Sorted(maps.Keys(of)) {
		switch {
		case name == "":
		case len(all) > originsMax:
			rest += of[name]
		default:
			all = append(all, origin{name, of[name]})
		}
	}
	if rest > 0 {
		all = append(all, origin{telemetry.Other, rest})
	}
	return all
}

func writeLifecycles(p *page, all []view, shown detail) {
	for _, f := range []struct {
		name, help string
		of         func(k *telemetry.LifecycleCounts) telemetry.DurationCounts
	}{
		{"serve_replica_startup_latency_ms", "Time from the decision to start a replica until it is ready: a cold start.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.Startup }},
		{"serve_replica_initialization_latency_ms", "Time of the constructor of a replica.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.Initialization }},
		{"serve_replica_reconfigure_latency_ms", "Time in which a replica has taken a user config.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.Reconfigure }},
		{"serve_replica_shutdown_duration_ms", "Time from the decision to stop a replica until it is gone.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.Shutdown }},
		{"serve_health_check_latency_ms", "Time of health checks.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.HealthCheck }},
		{"serve_routing_stats_delay_ms", "Time of the answers of replicas for routing policies.", func(k *telemetry.LifecycleCounts) telemetry.DurationCounts { return k.RoutingStats }},
	} {
		p.family(prefix+f.name, histogram, f.help)
		for i := range all {
			p.durations(all[i].labels, f.of(&all[i].Lifecycle), shown)
		}
	}
	for _, f := range []struct {
		name, more, help string
		of               func(k *telemetry.LifecycleCounts) uint64
	}{
		{"serve_health_check_failures_total", `,replica=""`, "Health checks that have failed.", func(k *telemetry.LifecycleCounts) uint64 { return k.HealthFailures }},
		{"serve_routing_stats_error_total", `,error_type="",replica=""`, "Questions for routing policies that a replica did not answer.", func(k *telemetry.LifecycleCounts) uint64 { return k.RoutingFailures }},
	} {
		p.family(prefix+f.name, counter, f.help)
		for i := range all {
			p.whole(all[i].labels+f.more, f.of(&all[i].Lifecycle))
		}
	}
	writeAutoscalingStats(p, all, shown)
}

// writeAutoscalingStats writes series for deployments whose replicas report numbers alone: most have none.
func writeAutoscalingStats(p *page, all []view, shown detail) {
	p.family(prefix+"serve_user_autoscaling_stats_latency_ms", histogram, "Time of the answers of replicas for autoscaling policies.")
	for i := range all {
		if k := all[i].Lifecycle.AutoscalingStats; k.Count() > 0 {
			p.durations(all[i].labels+`,replica=""`, k, shown)
		}
	}
	p.family(prefix+"serve_record_autoscaling_stats_failed_total", counter, "Questions for autoscaling policies that a replica did not answer.")
	for i := range all {
		failures := all[i].Lifecycle.AutoscalingFailures
		for _, name := range slices.Sorted(maps.Keys(failures)) {
			p.whole(label(all[i].labels, "exception_name", name)+`,replica=""`, failures[name])
		}
	}
}

func writeReplicas(p *page, all []view, shown detail) {
	each := func(f func(r *replicaView)) {
		for i := range all {
			for j := range all[i].replicas {
				f(&all[i].replicas[j])
			}
		}
	}
	p.family(prefix+"serve_deployment_request_counter_total", counter, "Calls that the replica has begun.")
	each(func(r *replicaView) { p.whole(r.routed, r.Calls.Started) })
	p.family(prefix+"serve_deployment_error_counter_total", counter, "Calls of the replica that have failed or that their callers have ended, also those that died with its process.")
	each(func(r *replicaView) {
		if n := r.Calls.Failed + r.Calls.Cancelled; n > 0 || shown.zeros() { // the reference counts both
			p.whole(r.routed, n)
		}
	})
	p.family(prefix+"serve_deployment_processing_latency_ms", histogram, "Time from the start of a call at the replica to its end.")
	bounds := telemetry.Bounds()
	each(func(r *replicaView) {
		if r.Calls.Started > 0 {
			p.histogram(r.routed, bounds, r.Calls.Buckets[:len(bounds)+1], milliseconds(r.Calls.Busy), shown, nil)
		}
	})
	p.family(prefix+"serve_deployment_replica_starts_total", counter, "1 once the replica has become ready.")
	each(func(r *replicaView) {
		if r.Started {
			p.whole(r.labels, 1)
		}
	})
	for _, f := range []struct {
		name, help string
		value      func(r *replicaView) float64
	}{
		{"serve_replica_processing_queries", "Calls that run at the replica.", func(r *replicaView) float64 { return float64(r.Running) }},
		{"serve_deployment_replica_healthy", "1 while the replica serves and answers, else 0.", func(r *replicaView) float64 { return bit(r.Healthy) }},
		{"serve_replica_utilization_percent", "Use of the slots of the replica in the last ten minutes.", func(r *replicaView) float64 { return r.Utilization }},
	} {
		p.family(prefix+f.name, gauge, f.help)
		each(func(r *replicaView) {
			if r.State != "" {
				p.line(r.labels, f.value(r))
			}
		})
	}
	if !shown.zeros() { // a large page has the memory of deployments
		return
	}
	p.family("helve_replica_memory_bytes", gauge, "Memory that the process of the replica occupies, with parts that it shares. Replicas in one process have the same number. A page of very many replicas leaves it out.")
	each(func(r *replicaView) {
		if r.Memory > 0 {
			p.line(r.labels, float64(r.Memory))
		}
	})
	p.family("helve_replica_gpu_memory_bytes", gauge, "Memory of GPUs that the process of the replica uses, with the processes that it has started, as the driver says. A page of very many replicas leaves it out.")
	each(func(r *replicaView) {
		if r.GPUMemory > 0 {
			p.line(r.labels, float64(r.GPUMemory))
		}
	})
	p.family("helve_replica_cpu_seconds_total", counter, "Time of processors that the process of the replica has used. Replicas in one process have the same number. A page of very many replicas leaves it out.")
	each(func(r *replicaView) {
		if r.Memory > 0 {
			p.line(r.labels, r.CPU.Seconds())
		}
	})
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
