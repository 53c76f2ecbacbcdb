// Package spec is the plain data of applications and deployments: their graph, and the options of each deployment with defaults and
// checks ([Options]). Names are those of Ray Serve where it has the thing. The package imports the standard library only.
package spec

import (
	"encoding/json"
	"maps"
	"math"
	"strings"
	"time"
)

// Isolation says where the replicas of a Go deployment live.
type Isolation string

// The places.
const (
	InNode  Isolation = "node"
	Process Isolation = "process"
	// Socket and Pipe are Process without the process, for tests: the worker is a goroutine of the node's process, connected by a
	// socket pair or, for fake time, by a pair of pipes in memory. They are for whole systems, not for options.
	Socket Isolation = "socket"
	Pipe   Isolation = "pipe"
	// Attached is InNode in a node to which the program is attached, for tests with package helvetest.
	Attached Isolation = "attached"
)

// Policy names a way to pick a replica.
type Policy string

// The policies. Custom is a policy that the deployment's own Go code brings.
const (
	PowerOfTwo     Policy = "power_of_two_choices"
	RoundRobin     Policy = "round_robin"
	ConsistentHash Policy = "consistent_hash"
	Custom         Policy = "custom"
)

// Bounds of more than one option.
const (
	// MaxReplicas bounds num_replicas, so that a slip of the keyboard does not start a million processes.
	MaxReplicas = 100_000
	// MaxDuration bounds every time. It is long enough to say "never", and can still be added to the time of the day and travel
	// as a number of seconds.
	MaxDuration = 100 * 365 * 24 * time.Hour
	// leastMemory, leastCPUs and leastOpenFiles are the least that a worker can start with. The kernel's CPU quota is at least 1 ms of 100 ms.
	leastMemory    = 16 << 20
	leastCPUs      = 0.01
	leastOpenFiles = 16
	// leastShare is the least share that is more than 0, to be written in messages.
	leastShare = 1e-9
)

// A new option touches four places: a field of [Options], a row of [optionTable], a field of helve.Options of the name that the
// row gives, and the code that uses it. JSON, files, checks, defaults, sources, Python (serve/_options.py) and the reference
// (docs/options.md) come from the row; `go run ./internal/spec/gen` writes the two files.

// Options are the options of a deployment as its code, a file or an operator set them. An option that is not set is zero here and
// has its default in [Effective]. Sources says where each value that is set comes from, by the option's path, for example
// "limits.memory". A value that is not zero needs no entry: it is set in code. So a literal is simply Options{NumReplicas: 2}; a
// zero that is meant, such as a graceful_shutdown_timeout_s of 0, has an entry.
type Options struct {
	NumReplicas              int
	MaxOngoingRequests       int
	MaxQueuedRequests        int // -1 for no limit
	UserConfig               json.RawMessage
	GracefulShutdownTimeout  time.Duration
	GracefulShutdownWaitLoop time.Duration // without effect
	HealthCheckPeriod        time.Duration
	HealthCheckTimeout       time.Duration
	HealthFailures           int
	ReadinessPeriod          time.Duration
	ReadinessTimeout         time.Duration
	ReadinessFailures        int
	ReadinessSuccesses       int
	Ejection                 Ejection
	ConstructTimeout         time.Duration
	MaxConstructorRetries    int
	WarmSpare                bool            // of Python
	AutoscalingConfig        json.RawMessage // an object, checked by [kind] autoscaling; nil for a number of replicas that stays
	MaxReplicasPerNode       int             // 0 for no limit
	RollingUpdatePercentage  float64
	MaxSurgePercent          int
	Rollout                  Rollout
	Backpressure             Backpressure
	LoggingConfig            json.RawMessage // an object; workers apply it
	Resources                Resources
	RequestRouter            RequestRouter
	RoutingStatsPeriod       time.Duration
	RoutingStatsTimeout      time.Duration
	Isolation                Isolation
	Env                      map[string]string
	Dir                      string
	PyModules                []string
	Excludes                 []string
	Pip                      Pip
	Limits                   Limits
	UnresponsiveAfter        time.Duration
	MaxUnresponsive          time.Duration // 0 for never
	StrictCodec              bool
	Version                  string
	Default                  string

	Sources map[string]Source
}

// Effective are options with every default filled in, and a source for every option.
type Effective Options

// RequestRouter says how the router of a deployment picks replicas. The two numbers are for [ConsistentHash].
type RequestRouter struct {
	Policy           Policy
	VirtualNodes     int
	FallbackReplicas int
}

// Limits bound a deployment's worker process; a zero field is no limit. They are no requests for placement, as the fields of
// the same names in the reference's ray_actor_options are.
type Limits struct {
	Memory    int64   // bytes
	CPUs      float64 // cores: 1.5 is one and a half
	OpenFiles int     // descriptors
	// FromResources has memory and CPUs that are not set be those of [Resources].
	FromResources bool
}

// Backpressure says how HTTP answers a request that the limit of queued calls has refused.
type Backpressure struct {
	StatusCode int           // 503 or 429
	RetryAfter time.Duration // for the header Retry-After; 0 for no header
}

// Rollout says how an update replaces replicas. Its numbers of replicas are shares: "2" or "25%". See [Effective.Surge], [Effective.Unavailable] and
// [Effective.Steps].
type Rollout struct {
	MaxSurge          string
	MaxUnavailable    string
	Steps             []string
	StepPause         time.Duration // [UntilResume] for no limit
	MinReady          time.Duration
	ProgressDeadline  time.Duration
	AutomaticRollback bool
	ErrorRate         ErrorRate
}

// ErrorRate says when the failed calls of a new revision send it back.
type ErrorRate struct {
	Enabled  bool
	MinCalls int
	Window   time.Duration
	Factor   float64
	Points   float64 // percent points
}

// Ejection says when a replica whose calls fail gets no calls for a while.
type Ejection struct {
	Enabled    bool
	Failures   int
	EjectFor   time.Duration
	MaxPercent int
}

// Resources are the amounts that one replica asks of its node, with the names of the reference's ray_actor_options. They are no limits of the
// process, which are [Limits].
type Resources struct {
	CPUs              float64
	GPUs              float64
	Memory            int64 // bytes
	ObjectStoreMemory int64 // bytes, without effect
	AcceleratorType   string
	Custom            map[string]float64
	LabelSelector     Selector
	FallbackStrategy  []Alternative
}

// Pip are Python packages that the environment of a worker has beside the interpreter's own.
type Pip struct {
	Packages       []string // lines of a requirements file
	InstallOptions []string // arguments of pip install, for example "--no-index"
	Version        string   // of pip, for example "==24.0"
	Check          bool     // pip check must succeed after the installation
}

// optionTable has a row per option, in the order of docs/options.md. Defaults and bounds equal Ray Serve's where it has the option. It
// has no limit for the time of a constructor: the default here is long enough for models of tens of gigabytes.
var optionTable = rows( //nolint:gochecknoglobals // a constant
	row("num_replicas", "NumReplicas", Lightweight, integer(1, MaxReplicas), 1,
		func(o *Options) *int { return &o.NumReplicas },
		"Number of replicas."),
	row("max_ongoing_requests", "MaxOngoingRequests", Lightweight, integer(1, 1<<30), 5,
		func(o *Options) *int { return &o.MaxOngoingRequests },
		"Number of calls that one replica executes at a time, over all callers."),
	row("max_queued_requests", "MaxQueuedRequests", Lightweight, integer(1, math.MaxInt).or(-1, "no limit"), -1,
		func(o *Options) *int { return &o.MaxQueuedRequests },
		"Number of calls of one origin that may wait for a slot. A call above it fails at once with reason `backpressure`."),
	row("user_config", "UserConfig", NeedsReconfigure, anyJSON(), nil,
		func(o *Options) *json.RawMessage { return &o.UserConfig },
		"Value that the instance's Reconfigure (Python: `reconfigure`) gets before the replica is ready, and again when it changes."),
	row("graceful_shutdown_timeout_s", "GracefulShutdownTimeout", Lightweight, seconds(), 20*time.Second,
		func(o *Options) *time.Duration { return &o.GracefulShutdownTimeout },
		"Time in which a replica that stops may finish its calls."),
	row("graceful_shutdown_wait_loop_s", "", Lightweight, seconds(), 2*time.Second,
		func(o *Options) *time.Duration { return &o.GracefulShutdownWaitLoop },
		"Accepted because programs for Ray Serve pass it, and without effect: a replica that stops knows at once when its last call has ended."),
	row("health_check_period_s", "HealthCheckPeriod", Lightweight, seconds().positive(), 10*time.Second,
		func(o *Options) *time.Duration { return &o.HealthCheckPeriod },
		"Time between two health checks of a replica, give or take a tenth."),
	row("health_check_timeout_s", "HealthCheckTimeout", Lightweight, seconds().positive(), 30*time.Second,
		func(o *Options) *time.Duration { return &o.HealthCheckTimeout },
		"Time that one health check may take."),
	row("health_check_failure_threshold", "HealthCheckFailures", Lightweight, integer(1, 1000), 3,
		func(o *Options) *int { return &o.HealthFailures },
		"Number of health checks in a row that fail before a replica is replaced."),
	row("readiness_check_period_s", "ReadinessPeriod", Lightweight, seconds().positive(), 5*time.Second,
		func(o *Options) *time.Duration { return &o.ReadinessPeriod },
		"Time between two readiness checks (CheckReady, Python: `check_ready`) of a replica, give or take a tenth."),
	row("readiness_check_timeout_s", "ReadinessTimeout", Lightweight, seconds().positive(), 5*time.Second,
		func(o *Options) *time.Duration { return &o.ReadinessTimeout },
		"Time that one readiness check may take."),
	row("readiness_failure_threshold", "ReadinessFailures", Lightweight, integer(1, 1000), 1,
		func(o *Options) *int { return &o.ReadinessFailures },
		"Number of readiness checks in a row that fail before a replica gets no more calls."),
	row("readiness_success_threshold", "ReadinessSuccesses", Lightweight, integer(1, 1000), 1,
		func(o *Options) *int { return &o.ReadinessSuccesses },
		"Number of readiness checks in a row that succeed before it gets calls again."),
	group("ejection_config", "Ejection", func(o *Options) *Ejection { return &o.Ejection },
		row("enabled", "Enabled", Lightweight, boolean(), true,
			func(e *Ejection) *bool { return &e.Enabled },
			"Whether a replica whose calls fail for reasons of the system gets no calls for a while. Errors of the deployment's code do not count."),
		row("consecutive_failures", "ConsecutiveFailures", Lightweight, integer(1, 10_000), 5,
			func(e *Ejection) *int { return &e.Failures },
			"Number of such failures in a row."),
		row("eject_s", "EjectFor", Lightweight, seconds().positive(), 5*time.Second,
			func(e *Ejection) *time.Duration { return &e.EjectFor },
			"Time until the replica is tried again. It doubles each time, up to 16 times this time."),
		row("max_percent", "MaxPercent", Lightweight, integer(0, 100), 50,
			func(e *Ejection) *int { return &e.MaxPercent },
			"Percent of the replicas of the deployment that may be without calls for this reason. The last one never is."),
	),
	row("construct_timeout_s", "ConstructTimeout", Lightweight, seconds().positive(), 20*time.Minute,
		func(o *Options) *time.Duration { return &o.ConstructTimeout },
		"Time in which a replica must be ready: constructor, user config and first health check."),
	row("max_constructor_retry_count", "MaxConstructorRetries", Lightweight, integer(1, math.MaxInt), 20,
		func(o *Options) *int { return &o.MaxConstructorRetries },
		"Number of failed starts, at most three times the number of replicas, after which a deployment that never ran is given up."),
	row("warm_spare", "WarmSpare", Lightweight, boolean(), false,
		func(o *Options) *bool { return &o.WarmSpare },
		"Whether a Python process waits for the next start of a replica, with the modules of the deployment imported: see [policies](policies.md#a-warm-spare)."),
	row("autoscaling_config", "Autoscaling", Lightweight, autoscaling(), nil,
		func(o *Options) *json.RawMessage { return &o.AutoscalingConfig },
		"Bounds and pace of an autoscaler, which has the number of replicas follow the load. A deployment with it starts with `initial_replicas`, else `min_replicas`."),
	row("max_replicas_per_node", "MaxReplicasPerNode", Lightweight, integer(1, 100).or(0, "no limit"), 0,
		func(o *Options) *int { return &o.MaxReplicasPerNode },
		"Number of replicas that one node may have. The other replicas wait, and the status says so."),
	row("rolling_update_percentage", "", Lightweight, number(leastShare, 1), 0.2,
		func(o *Options) *float64 { return &o.RollingUpdatePercentage },
		"Share of the replicas that an update replaces at a time, at least one. `rollout_config.max_surge` and `max_surge_percent` replace it."),
	row("max_surge_percent", "", Lightweight, integer(0, 100), 0,
		func(o *Options) *int { return &o.MaxSurgePercent },
		"Percent of the replicas that an update may start beside the wanted number. 0, if it is set: old replicas stop before new ones start."),
	group("rollout_config", "Rollout", func(o *Options) *Rollout { return &o.Rollout },
		row("max_surge", "MaxSurge", Lightweight, shareOfReplicas(), "",
			func(r *Rollout) *string { return &r.MaxSurge },
			"Replicas that an update may start beside the wanted number. Default: by `max_surge_percent` if it is set, else by `rolling_update_percentage`."),
		row("max_unavailable", "MaxUnavailable", Lightweight, shareOfReplicas(), "",
			func(r *Rollout) *string { return &r.MaxUnavailable },
			"Replicas of the wanted number that may be missing while an update goes on. Default: 0, or with a surge of 0 by `rolling_update_percentage`."),
		row("steps", "Steps", Lightweight, shareList(), nil,
			func(r *Rollout) *[]string { return &r.Steps },
			"Numbers of new replicas at which an update stops for a while, for example `[1, \"25%\"]`."),
		row("step_pause_s", "StepPause", Lightweight, seconds().or(UntilResume, "until resume"), UntilResume,
			func(r *Rollout) *time.Duration { return &r.StepPause },
			"Time that an update waits at each step."),
		row("min_ready_s", "MinReady", Lightweight, seconds(), 0,
			func(r *Rollout) *time.Duration { return &r.MinReady },
			"Time that a new replica must have been ready before it counts for the update."),
		row("progress_deadline_s", "ProgressDeadline", Lightweight, seconds().positive(), 10*time.Minute,
			func(r *Rollout) *time.Duration { return &r.ProgressDeadline },
			"Time without a further ready replica after which an update has failed."),
		row("automatic_rollback", "AutomaticRollback", Lightweight, boolean(), true,
			func(r *Rollout) *bool { return &r.AutomaticRollback },
			"Whether the revision before comes back by itself when an update fails."),
		group("error_rate", "ErrorRate", func(r *Rollout) *ErrorRate { return &r.ErrorRate },
			row("enabled", "Enabled", Lightweight, boolean(), true,
				func(e *ErrorRate) *bool { return &e.Enabled },
				"Whether an update fails when too many calls of the new revision fail."),
			row("min_calls", "MinCalls", Lightweight, integer(1, 1<<30), 100,
				func(e *ErrorRate) *int { return &e.MinCalls },
				"Number of calls of the new revision within the window before their failures count."),
			row("window_s", "Window", Lightweight, seconds().positive(), time.Minute,
				func(e *ErrorRate) *time.Duration { return &e.Window },
				"Time of which calls are counted, and for which the new revision is watched when all its replicas are there."),
			row("factor", "Factor", Lightweight, number(1, 1000), 2,
				func(e *ErrorRate) *float64 { return &e.Factor },
				"Times the share of failed calls of the old revision that the new one's must exceed."),
			row("points", "Points", Lightweight, number(0, 100), 5,
				func(e *ErrorRate) *float64 { return &e.Points },
				"Percent points by which it must exceed the old one's, too."),
		),
	),
	group("backpressure_config", "Backpressure", func(o *Options) *Backpressure { return &o.Backpressure },
		row("status_code", "StatusCode", Lightweight, statusCode(), 503,
			func(b *Backpressure) *int { return &b.StatusCode },
			"Status of the HTTP answer to a request that is over `max_queued_requests`."),
		row("retry_after_s", "RetryAfter", Lightweight, seconds(), time.Second,
			func(b *Backpressure) *time.Duration { return &b.RetryAfter },
			"Time in the header `Retry-After` of that answer, as whole seconds; 0 is no header."),
	),
	row("logging_config", "", NewReplicas, object(), nil,
		func(o *Options) *json.RawMessage { return &o.LoggingConfig },
		"Settings of a Python replica's logger: `encoding`, `log_level`, `logs_dir`, `enable_access_log`, `additional_log_standard_attrs`."),
	group("ray_actor_options", "", func(o *Options) *Resources { return &o.Resources },
		row("num_cpus", "", NewReplicas, number(0, 1<<20), 1,
			func(r *Resources) *float64 { return &r.CPUs },
			"Cores that a replica asks for. A replica waits for them on a node that was started with `--num-cpus`; else they are recorded."),
		row("num_gpus", "GPUs", NewReplicas, number(0, 1<<20), 0,
			func(r *Resources) *float64 { return &r.GPUs },
			"GPUs that a Python replica asks for: a whole number, or a part of one that it shares. Its process sees them alone, see [resources](resources.md#gpus)."),
		row("memory", "", NewReplicas, integer[int64](0, math.MaxInt64).in("bytes"), 0,
			func(r *Resources) *int64 { return &r.Memory },
			"Bytes of memory that a replica asks for, given out on a node with `--memory`; else they are recorded. `limits.memory` bounds the process."),
		row("object_store_memory", "", NewReplicas, integer[int64](0, math.MaxInt64).in("bytes"), 0,
			func(r *Resources) *int64 { return &r.ObjectStoreMemory },
			"Bytes of shared memory that a replica asks for. They are recorded."),
		row("accelerator_type", "", NewReplicas, text(), "",
			func(r *Resources) *string { return &r.AcceleratorType },
			"Kind of GPU that a replica asks for, such as `A100`. A replica waits if the node has another kind."),
		row("resources", "", NewReplicas, quantities(), nil,
			func(r *Resources) *map[string]float64 { return &r.Custom },
			"Numbers of other things that a replica asks for, by their names: see `--resources` of `helve start` in [resources](resources.md)."),
		row[Resources, Selector]("label_selector", "", NewReplicas, labelSelector(), nil,
			func(r *Resources) *Selector { return &r.LabelSelector },
			"Labels that the node must have: `value`, `!value`, `in(a,b)` or `!in(a,b)` for each. See `--labels` of `helve start` in [resources](resources.md)."),
		row[Resources, []Alternative]("fallback_strategy", "", NewReplicas, alternativeList(), nil,
			func(r *Resources) *[]Alternative { return &r.FallbackStrategy },
			"Other label selectors, in their order, for a replica of which no node with the first ones has room."),
	),
	group("request_router", "Routing", func(o *Options) *RequestRouter { return &o.RequestRouter },
		row("policy", "", Lightweight, choice(PowerOfTwo, RoundRobin, ConsistentHash).hidden(Custom), PowerOfTwo,
			func(r *RequestRouter) *Policy { return &r.Policy },
			"Way in which the router picks a replica. In Go the type of `Routing` says it."),
		row("virtual_nodes", "VirtualNodes", Lightweight, integer(1, 100_000), 100,
			func(r *RequestRouter) *int { return &r.VirtualNodes },
			"Points of one replica on the ring of `consistent_hash`."),
		row("fallback_replicas", "Fallbacks", Lightweight, integer(0, MaxReplicas), 2,
			func(r *RequestRouter) *int { return &r.FallbackReplicas },
			"Replicas on the ring that follow the owner of a session, and take its calls when the owner is full."),
	),
	row("request_routing_stats_period_s", "RoutingStatsPeriod", Lightweight, seconds().positive(), 10*time.Second,
		func(o *Options) *time.Duration { return &o.RoutingStatsPeriod },
		"Time between two questions for the routing stats of a replica, give or take a tenth. They are asked where the routing policy is the deployment's own."),
	row("request_routing_stats_timeout_s", "RoutingStatsTimeout", Lightweight, seconds().positive(), 30*time.Second,
		func(o *Options) *time.Duration { return &o.RoutingStatsTimeout },
		"Time that the answer with routing stats may take."),
	inGoOnly(row("isolation", "Isolation", NewReplicas, choice(InNode, Process), InNode,
		func(o *Options) *Isolation { return &o.Isolation },
		"Place of the replicas: the node's process, or a worker process. Python replicas have a process each.")),
	group("runtime_env", "", func(o *Options) *Options { return o },
		inProcesses(row("env_vars", "Env", NewReplicas, variables(), nil,
			func(o *Options) *map[string]string { return &o.Env },
			"Variables of the worker's environment, beside the node's own, which they replace.")),
		inProcesses(row("working_dir", "Dir", NewReplicas, text(), "",
			func(o *Options) *string { return &o.Dir },
			"Directory of the worker; the node's if it is not set. Python modules are found there before the program's own. For Python also a .zip file with one.")),
		row("py_modules", "", NewReplicas, textList(), nil,
			func(o *Options) *[]string { return &o.PyModules },
			"Directories and files of Python modules, and archives (.zip, .whl) of some, that workers can import."),
		row("excludes", "", Lightweight, textList(), nil,
			func(o *Options) *[]string { return &o.Excludes },
			"Files of `working_dir` and `py_modules` that a durable node does not keep, as patterns of a `.gitignore` file."),
		group("pip", "", func(o *Options) *Pip { return &o.Pip },
			row("packages", "", NewReplicas, textList(), nil,
				func(p *Pip) *[]string { return &p.Packages },
				"Lines of a requirements file. pip installs these Python packages for the workers; the packages of the interpreter stay: see [environments](environments.md)."),
			row("pip_install_options", "", NewReplicas, textList(), nil,
				func(p *Pip) *[]string { return &p.InstallOptions },
				"Arguments of `pip install`, for example `--no-index`."),
			row("pip_version", "", NewReplicas, text(), "",
				func(p *Pip) *string { return &p.Version },
				"Version of pip, for example `==24.0`. Without it pip is that of the interpreter."),
			row("pip_check", "", NewReplicas, boolean(), false,
				func(p *Pip) *bool { return &p.Check },
				"Whether the packages must fit each other, by `pip check`."),
		),
	),
	group("limits", "Limits", func(o *Options) *Limits { return &o.Limits },
		inProcesses(row("memory", "Memory", NewReplicas, integer[int64](leastMemory, math.MaxInt64).or(0, "no limit").in("bytes"), 0,
			func(l *Limits) *int64 { return &l.Memory },
			"Bytes of memory that the worker process may have.")),
		inProcesses(row("num_cpus", "CPUs", NewReplicas, number(leastCPUs, 1<<20).or(0, "no limit"), 0,
			func(l *Limits) *float64 { return &l.CPUs },
			"Cores' worth of CPU time that the worker process may use.")),
		inProcesses(row("open_files", "OpenFiles", NewReplicas, integer(leastOpenFiles, 1<<31-1).or(0, "no limit"), 0,
			func(l *Limits) *int { return &l.OpenFiles },
			"File descriptors that the worker process may have open.")),
		inProcesses(row("from_resources", "", NewReplicas, boolean(), false,
			func(l *Limits) *bool { return &l.FromResources },
			"Whether `memory` and `num_cpus`, where they are not set, are those of `ray_actor_options`. For Python deployments.")),
	),
	row("unresponsive_after_s", "UnresponsiveAfter", NewReplicas, seconds().positive(), 5*time.Second,
		func(o *Options) *time.Duration { return &o.UnresponsiveAfter },
		"Time after which a worker that does not answer the node, or a Python event loop that stands, is reported with stacks."),
	row("max_unresponsive_s", "MaxUnresponsive", Lightweight, seconds(), 0,
		func(o *Options) *time.Duration { return &o.MaxUnresponsive },
		"Time after which an unresponsive worker is killed and replaced; 0 is never."),
	inGoOnly(row("strict_codec", "StrictCodec", NewReplicas, boolean(), false,
		func(o *Options) *bool { return &o.StrictCodec },
		"Calls between deployments of one process are encoded and decoded, as between processes.")),
	row("version", "Version", NewReplicas, text(), "",
		func(o *Options) *string { return &o.Version },
		"Version of the deployment's code."),
	inGoOnly(row("default", "Default", NewReplicas, text(), "",
		func(o *Options) *string { return &o.Default },
		"Method that a call reaches which names none. If it is not set: the ingress method, else `Call`.")),
)

// Effective fills in the defaults.
func (o Options) Effective() Effective {
	o.Sources = optionTable.fill(&o, o.Sources)
	return Effective(o)
}

// Validate lists every option that is out of range.
func (o Options) Validate() []error {
	return append(optionTable.validate(&o, o.Sources), o.checkTogether()...)
}

// From is the options with another source of the values at a path and below it, as far as they are set. For example, the runtime_env of a file is put under that of a deployment, and is of
// the file.
func (o Options) From(path string, source Source) Options {
	sources := maps.Clone(o.Sources)
	for at := range sources {
		if at == path || strings.HasPrefix(at, path+".") {
			sources[at] = source
		}
	}
	o.Sources = sources
	return o
}

// Merge is the options with a layer over them: a JSON object whose null clears an option or a group, and in which an absent option
// is kept. The error lists every mistake of the layer's form; ranges are for [Options.Validate].
//
// For example, limits of {"memory": 1073741824, "num_cpus": 2} from code, under {"limits": {"num_cpus": null, "open_files": 99}} from a
// file, are 1 GiB from code and 99 open files from the file.
func (o Options) Merge(layer json.RawMessage, from Source) (Options, error) {
	var errs []error
	o.Sources, errs = optionTable.merge(&o, o.Sources, layer, from)
	return o, joined(errs)
}

// MarshalJSON writes the options that are set, by the names of files and of Python, and times in seconds.
func (o Options) MarshalJSON() ([]byte, error) { return optionTable.marshal(&o, o.Sources) }

// UnmarshalJSON reads options as code has set them. The error lists every mistake, for example a name that no option has.
func (o *Options) UnmarshalJSON(b []byte) error {
	read, err := Options{}.Merge(b, FromCode)
	*o = read
	return err
}

// FromGo reads options from a struct whose fields have the names that rows give for Go, such as helve.Options. A field that is nil or
// zero is not set. encode makes JSON of a user config.
func FromGo(public any, encode func(any) ([]byte, error)) (Options, []error) {
	var o Options
	var errs []error
	o.Sources, errs = optionTable.fromGo(&o, public, encode)
	return o, errs
}

// ToGo fills the fields of a struct such as helve.Options that are nil or zero, public being a pointer to it.
func (e Effective) ToGo(public any) { optionTable.toGo((*Options)(&e), public) }

// Changes lists the options that differ, in the order of the table.
func Changes(before, after Effective) []Change {
	return optionTable.changes((*Options)(&before), (*Options)(&after), before.Sources, after.Sources)
}

// ChangesOver are those of [Changes]. sameFiles says that the working_dir has the same files before and after: another path alone asks for no new replicas then.
func ChangesOver(before, after Effective, sameFiles bool) []Change {
	all := Changes(before, after)
	for i := range all {
		if sameFiles && all[i].Option == "runtime_env.working_dir" {
			all[i].Update = Lightweight
		}
	}
	return all
}

// GeneratedFiles are the files of the repository that come from the table, by their paths from its root.
func GeneratedFiles() map[string]string {
	return map[string]string{
		"docs/options.md":                    page(),
		"python/src/helve/serve/_options.py": pythonModule(optionTable),
	}
}
