package helvetype

import "time"

// The columns of [Figures] and [Series]. A figure is null where it is not known: for example, the latency of a deployment that had no call in the last minute.
const (
	// ColumnRate is calls, or HTTP requests, that have ended, a second; in an [Update] those of the last 5 to 10 seconds.
	ColumnRate = "rate"
	// ColumnErrorRate is calls that have failed, or HTTP requests with a status of 500 or more, a second.
	ColumnErrorRate = "error_rate"
	// ColumnRejectedRate is calls that have failed before their start, because too many waited, a second.
	ColumnRejectedRate = "rejected_rate"
	// ColumnP50 is the number of milliseconds in which half of the calls have ended; in an [Update] of those of the last minute.
	ColumnP50 = "p50_ms"
	// ColumnP90 is the number of milliseconds in which 90 of 100 calls have ended.
	ColumnP90 = "p90_ms"
	// ColumnP99 is the number of milliseconds in which 99 of 100 calls have ended.
	ColumnP99 = "p99_ms"
	// ColumnWait is the time in milliseconds, on average, that the calls which have got a slot had waited for it.
	ColumnWait = "wait_ms"
	// ColumnQueued is the number of calls that wait for a slot.
	ColumnQueued = "queued"
	// ColumnRunning is the number of calls that hold a slot; of an application, at its ingress; of the node, HTTP requests that are not answered yet.
	ColumnRunning = "running"
	// ColumnReady is the number of replicas that take calls, of all revisions: in a rollout the old ones count too.
	ColumnReady = "ready"
	// ColumnWanted is the number of replicas that there should be.
	ColumnWanted = "wanted"
	// ColumnCalls is the number of calls that were started so far, as in [Calls].
	ColumnCalls = "calls"
	// ColumnErrors is the number of those that have failed so far.
	ColumnErrors = "errors"
	// ColumnMemory is the memory of the process in bytes; of a deployment, of the processes of its replicas.
	ColumnMemory = "memory_bytes"
	// ColumnCPU is the use of processors by the process, in percent of one processor.
	ColumnCPU = "cpu_percent"
	// ColumnLoopDelay is by how many milliseconds timers of the event loop were late, on average. Replicas in Python have it.
	ColumnLoopDelay = "loop_delay_ms"
	// ColumnGoroutines is the number of goroutines of the node.
	ColumnGoroutines = "goroutines"
	// ColumnMachineCPU is the use of all processors of the machine, in percent of all.
	ColumnMachineCPU = "machine_cpu_percent"
	// ColumnMachineMemory is the memory of the machine in use, in bytes.
	ColumnMachineMemory = "machine_memory_bytes"
	// ColumnMachineLoad is the number of programs of the machine that ran or wanted to, on average in the last minute.
	ColumnMachineLoad = "machine_load"
)

// Figures are numbers of several objects, a column for each kind of number. Columns[c][i] is the number c of the object Names[i].
type Figures struct {
	// Names are the names of the objects: applications, deployments, ids of replicas or ids of edges.
	Names []string `json:"names"`
	// Columns has the numbers by the name of the column, such as [ColumnRate]. null is a number that is not known.
	Columns map[string][]*float64 `json:"columns"`
}

// Update is an item of the stream GET /api/v1/updates. The first item of a stream is whole. A later item has the objects that have changed, each as it is now, the figures that have
// changed, and the objects that are gone; what it does not have is as before.
type Update struct {
	// At is the time of the item.
	At time.Time `json:"at"`
	// Whole says that the item has all objects: a reader forgets those that it had.
	Whole bool `json:"whole,omitempty"`
	// Node is the node itself.
	Node *NodeUpdate `json:"node,omitempty"`
	// Applications are sorted by name.
	Applications []ApplicationUpdate `json:"applications,omitempty"`
	// Deployments are those of the application that the reader has asked for.
	Deployments []DeploymentUpdate `json:"deployments,omitempty"`
	// Replicas are the replicas of the deployment that the reader has asked for, or of all deployments of the node.
	Replicas []ReplicaUpdate `json:"replicas,omitempty"`
	// Edges are all edges of the application that the reader has asked for. An item has them if there is one more or less.
	Edges []Edge `json:"edges,omitempty"`
	// Problems say what is wrong in the node now, as GET /api/v1/why.
	Problems *Overview `json:"problems,omitempty"`
	// Figures are the numbers of the objects.
	Figures UpdateFigures `json:"figures,omitzero"`
	// Gone are objects that are no more.
	Gone []Object `json:"gone,omitempty"`
}

// UpdateFigures are the numbers of an [Update]. Objects for which the same columns have changed are in one of the elements of a list.
type UpdateFigures struct {
	// Node has the numbers of the node by the name of the column; all of them, if one has changed.
	Node map[string]*float64 `json:"node,omitempty"`
	// Applications are by the names of applications.
	Applications []Figures `json:"applications,omitempty"`
	// Deployments are by the names of the deployments of the application that the reader has asked for.
	Deployments []Figures `json:"deployments,omitempty"`
	// Replicas are by the ids of replicas.
	Replicas []Figures `json:"replicas,omitempty"`
	// Edges are by the ids of edges.
	Edges []Figures `json:"edges,omitempty"`
}

// NodeUpdate describes a node.
type NodeUpdate struct {
	// ID is the id of the node.
	ID string `json:"id"`
	// Version is the version of its executable.
	Version string `json:"version"`
	// PID is its process.
	PID int `json:"pid"`
	// StartedAt is the time of its start.
	StartedAt time.Time `json:"started_at"`
	// URLs are those of the HTTP ingress.
	URLs []string `json:"urls,omitempty"`
	// Draining says that the node is closing, and waits for the calls that run.
	Draining bool `json:"draining,omitempty"`
	// Durable says that its applications outlive it.
	Durable bool `json:"durable,omitempty"`
	// Machine is the machine of the node.
	Machine Machine `json:"machine"`
	// Resources has what the node gives out, as in [Status], without Used.
	Resources map[string]Resource `json:"resources,omitempty"`
}

// Machine is the machine of a node. Numbers that the system does not say are 0.
type Machine struct {
	// System is the operating system and the architecture, such as linux/amd64.
	System string `json:"system"`
	// CPUs is the number of processors.
	CPUs int `json:"cpus"`
	// Memory is in bytes.
	Memory uint64 `json:"memory_bytes,omitempty"`
	// GPUs are the GPUs of the machine; nil without the tool of their driver.
	GPUs []GPU `json:"gpus,omitempty"`
}

// GPU is a GPU of a machine. A number that the driver does not know is null.
type GPU struct {
	// Index is the number of the GPU, as replicas have it in CUDA_VISIBLE_DEVICES.
	Index string `json:"index"`
	// Name is the name of its kind.
	Name string `json:"name"`
	// Busy is the part of the time in which a program ran on it, in percent.
	Busy *float64 `json:"busy_percent"`
	// Used is its memory in use, in bytes.
	Used *float64 `json:"memory_used_bytes"`
	// Free is its memory that is free, in bytes.
	Free *float64 `json:"memory_free_bytes"`
}

// ApplicationUpdate describes an application. Its figures are rate, error_rate, p50_ms, p90_ms and p99_ms of its HTTP requests, running, ready and wanted of all its replicas, and memory_bytes of their processes. An application
// without a route has the rates of the calls that come from outside of it, and no latencies.
type ApplicationUpdate struct {
	// Name is the name of the application.
	Name string `json:"name"`
	// Status is the state in one word.
	Status ApplicationState `json:"status"`
	// Message gives the cause of a state other than RUNNING.
	Message string `json:"message,omitempty"`
	// DeployedAt is the time of the deploy of the revision that is the target now, as [ApplicationStatus] has it.
	DeployedAt time.Time `json:"deployed_at"`
	// RoutePrefix is the path under which HTTP serves the application; "" without HTTP.
	RoutePrefix string `json:"route_prefix,omitempty"`
	// Ingress is the deployment that answers its HTTP requests; "" for none.
	Ingress string `json:"ingress,omitempty"`
	// Revision is the number of the revision that should run; 0 for an application that could not be deployed.
	Revision int `json:"revision,omitempty"`
	// Deployments are the names of its deployments, sorted.
	Deployments []string `json:"deployments"`
	// Rollout is the change from one revision to another; nil while there is none.
	Rollout *Rollout `json:"rollout,omitempty"`
	// FailedDeploy is the newest deploy, if it has changed nothing.
	FailedDeploy *FailedDeploy `json:"failed_deploy,omitempty"`
	// Counts are the replicas of all its deployments by state.
	Counts ReplicaCounts `json:"replica_counts"`
}

// ReplicaCounts are numbers of replicas by what they do. A replica is in one of them, but for NotReady and Ejected, which are among Running.
type ReplicaCounts struct {
	// Starting is the number of those that start.
	Starting int `json:"starting,omitempty"`
	// Recovering is the number of those whose workers a new node looks for.
	Recovering int `json:"recovering,omitempty"`
	// Running is the number of those that run.
	Running int `json:"running,omitempty"`
	// Stopping is the number of those that stop.
	Stopping int `json:"stopping,omitempty"`
	// NotReady is the number of those that run, and whose readiness check does not pass.
	NotReady int `json:"not_ready,omitempty"`
	// Ejected is the number of those that run, and get no calls because calls to them have failed.
	Ejected int `json:"ejected,omitempty"`
}

// DeploymentUpdate describes a deployment. Its figures are rate, error_rate, rejected_rate, p50_ms, p90_ms, p99_ms, wait_ms, queued, running, calls, errors and memory_bytes.
type DeploymentUpdate struct {
	// App is the name of the application.
	App string `json:"app"`
	// Name is the name of the deployment.
	Name string `json:"name"`
	// Status is the state in one word.
	Status DeploymentState `json:"status"`
	// Trigger is the cause of the state in one word.
	Trigger DeploymentTrigger `json:"status_trigger"`
	// Message gives the cause of a state other than HEALTHY.
	Message string `json:"message,omitempty"`
	// Wanted is the number of replicas that the deployment should have.
	Wanted int `json:"wanted"`
	// Ready is the number of replicas of the current revision that take calls.
	Ready int `json:"ready"`
	// Counts are its replicas by state.
	Counts ReplicaCounts `json:"replica_counts"`
	// Failures is the number of starts and replicas that have failed since the last deploy, or since all was well.
	Failures int `json:"failures,omitempty"`
	// MaxFailures is the number of failures at which a deploy that is under way is given up.
	MaxFailures int `json:"max_failures,omitempty"`
	// Scaling describes the autoscaler; nil for a deployment without one.
	Scaling *ScalingUpdate `json:"autoscaling,omitempty"`
	// Uses has the names of the deployments that this one calls, as the graph declares them.
	Uses []string `json:"uses,omitempty"`
	// DynamicUses has the names of the deployments whose handles the replicas asked for at run time.
	DynamicUses []string `json:"dynamic_uses,omitempty"`
	// Cycle describes the circle in which calls of the deployment wait for each other's slots; "" for none.
	Cycle string `json:"cycle,omitempty"`
	// LastExit describes the last end of a replica that nothing had asked to stop, without its lines.
	LastExit *Exit `json:"last_exit,omitempty"`
	// FirstFailure is the first of the last row of failures.
	FirstFailure *Failure `json:"first_failure,omitempty"`
	// Next says what will be tried next; "" if all is well.
	Next string `json:"next,omitempty"`
	// NextAt is the time of that; zero if it depends on another event.
	NextAt time.Time `json:"next_at,omitzero"`
}

// ScalingUpdate describes an autoscaler: see the fields of the same names in [Autoscaling].
type ScalingUpdate struct {
	// Target is the number of replicas that the autoscaler has decided.
	Target int `json:"target"`
	// Desired is the number that the load asks for, before the bounds.
	Desired int `json:"desired"`
	// Least is the lower bound.
	Least int `json:"min_replicas"`
	// Most is the upper bound.
	Most int `json:"max_replicas"`
	// Blocked says why the deployment has not the number that its load asks for; "" if it has.
	Blocked string `json:"blocked,omitempty"`
	// Reason says in one sentence how the number came about.
	Reason string `json:"reason,omitempty"`
	// Policy is the import path of a custom policy; "" for the autoscaler's own.
	Policy string `json:"policy,omitempty"`
	// Health says whether the autoscaler has the numbers that it decides by.
	Health string `json:"metrics_health"`
	// Errors are the errors of the policy and of the metrics that the replicas report.
	Errors []string `json:"errors,omitempty"`
	// Decision is the last change of the number; nil for none.
	Decision *ScalingDecision `json:"decision,omitempty"`
}

// ReplicaUpdate describes a replica, without the lines of its last exit, the stacks of a worker that does not answer, and the numbers that are figures: rate, error_rate, running, calls, errors,
// memory_bytes, cpu_percent and loop_delay_ms.
type ReplicaUpdate struct {
	// App is the name of the application.
	App string `json:"app"`
	// Deployment is the name of the deployment.
	Deployment string `json:"deployment"`
	ReplicaStatus
	// Models are the models that the replica has loaded or is loading.
	Models []string `json:"models,omitempty"`
}

// The values of [Edge].Kind.
const (
	// EdgeHTTP is an edge from HTTP clients to the ingress of an application.
	EdgeHTTP = "http"
	// EdgeDeployment is an edge from a deployment, of this or of another application.
	EdgeDeployment = "deployment"
	// EdgeDriver is an edge from programs outside of replicas.
	EdgeDriver = "driver"
)

// Edge says that one deployment is called by another caller. Its figures are rate, error_rate and wait_ms, as a deployment has them, of the calls of this caller alone.
type Edge struct {
	// ID names the edge in an application, for example "http>Gateway", "Gateway>Ranker" or "other/Client>Gateway".
	ID string `json:"id"`
	// Kind is http, deployment or driver.
	Kind string `json:"kind"`
	// FromApp is the application of the calling deployment, if it is another one; "" for this one.
	FromApp string `json:"from_app,omitempty"`
	// From is the deployment that calls; "" for HTTP clients and drivers.
	From string `json:"from,omitempty"`
	// To is the deployment that is called.
	To string `json:"to"`
	// Declared says that the graph, or a handle that a replica has asked for, has the edge. Others are known by their calls.
	Declared bool `json:"declared,omitempty"`
}

// Series is the answer to GET /api/v1/series: the numbers of one object in the last hour, in steps of the same length.
type Series struct {
	// Step is the length of a step in seconds.
	Step float64 `json:"step_s"`
	// From is the begin of the first step. Number i is of the time from From+i*Step to From+(i+1)*Step; counts of what is there, such as queued, are of the end of the step.
	From time.Time `json:"from"`
	// Columns has the numbers by the name of the column. All have the same length. null is a number that is not known, for example while the object was not there.
	Columns map[string][]*float64 `json:"columns"`
	// Units has the unit of each column: "1/s", "ms", "bytes", "%" or "" for a count.
	Units map[string]string `json:"units"`
	// Decisions are the changes of the number of replicas in this time by the autoscaler of the deployment, the oldest first.
	Decisions []ScalingDecision `json:"decisions,omitempty"`
}
