package helvetype

import "time"

// ApplicationState is the state of an application in one word, one of Ray Serve's.
type ApplicationState string

// The states of an application. An application that has started is in the state of its worst deployment.
const (
	// ApplicationNotStarted is the state of a name that no application has.
	ApplicationNotStarted ApplicationState = "NOT_STARTED"
	// ApplicationDeploying is the state while a revision starts.
	ApplicationDeploying ApplicationState = "DEPLOYING"
	// ApplicationDeployFailed is the state after a revision could not be started. The revision before serves, if there was one.
	ApplicationDeployFailed ApplicationState = "DEPLOY_FAILED"
	// ApplicationRunning is the state in which every deployment has its replicas.
	ApplicationRunning ApplicationState = "RUNNING"
	// ApplicationUnhealthy is the state in which a deployment misses replicas that have failed.
	ApplicationUnhealthy ApplicationState = "UNHEALTHY"
	// ApplicationDeleting is the state from the request to delete the application until its last replica has stopped.
	ApplicationDeleting ApplicationState = "DELETING"
)

// DeploymentState is the state of a deployment in one word, one of Ray Serve's.
type DeploymentState string

// The states of a deployment.
const (
	// DeploymentUpdating is the state while a revision of the deployment starts, and while the deployment is being deleted.
	DeploymentUpdating DeploymentState = "UPDATING"
	// DeploymentHealthy is the state in which the deployment has its replicas.
	DeploymentHealthy DeploymentState = "HEALTHY"
	// DeploymentUnhealthy is the state in which replicas are missing because some have failed.
	DeploymentUnhealthy DeploymentState = "UNHEALTHY"
	// DeploymentUpscaling is the state after the number of wanted replicas has grown, until they run.
	DeploymentUpscaling DeploymentState = "UPSCALING"
	// DeploymentDownscaling is the state after the number of wanted replicas has fallen, until the others have stopped.
	DeploymentDownscaling DeploymentState = "DOWNSCALING"
	// DeploymentDeployFailed is the state after replicas of a new form of the deployment could not be started. The replicas of the form
	// before serve, if there was one.
	DeploymentDeployFailed DeploymentState = "DEPLOY_FAILED"
)

// DeploymentTrigger is the cause of a deployment's state in one word, one of Ray Serve's.
type DeploymentTrigger string

// The triggers.
const (
	// TriggerUnspecified is the trigger of a deployment that has recovered, or that misses replicas none of which has failed.
	TriggerUnspecified DeploymentTrigger = "UNSPECIFIED"
	// TriggerConfigUpdateStarted is the trigger of a deploy, and of a change of the number of replicas.
	TriggerConfigUpdateStarted DeploymentTrigger = "CONFIG_UPDATE_STARTED"
	// TriggerConfigUpdateCompleted is the trigger of a deployment whose deploy is over.
	TriggerConfigUpdateCompleted DeploymentTrigger = "CONFIG_UPDATE_COMPLETED"
	// TriggerUpscaleCompleted is the trigger of a deployment that has the replicas of a larger number.
	TriggerUpscaleCompleted DeploymentTrigger = "UPSCALE_COMPLETED"
	// TriggerDownscaleCompleted is the trigger of a deployment that has the replicas of a smaller number.
	TriggerDownscaleCompleted DeploymentTrigger = "DOWNSCALE_COMPLETED"
	// TriggerAutoscaling is the trigger of a deployment that gets more or fewer replicas because of its load.
	TriggerAutoscaling DeploymentTrigger = "AUTOSCALING"
	// TriggerReplicaStartupFailed is the trigger of a deployment with replicas that could not be started.
	TriggerReplicaStartupFailed DeploymentTrigger = "REPLICA_STARTUP_FAILED"
	// TriggerHealthCheckFailed is the trigger of a deployment whose replicas have ended, or have failed their health check.
	TriggerHealthCheckFailed DeploymentTrigger = "HEALTH_CHECK_FAILED"
	// TriggerDeleting is the trigger of a deployment that is being deleted.
	TriggerDeleting DeploymentTrigger = "DELETING"
)

// ProxyState is the state of the HTTP ingress of a node in one word, one of Ray Serve's.
type ProxyState string

// The states of an ingress.
const (
	// ProxyHealthy is the state in which the ingress takes requests.
	ProxyHealthy ProxyState = "HEALTHY"
	// ProxyDraining is the state after the drain of the node has begun.
	ProxyDraining ProxyState = "DRAINING"
)

// ReplicaState is the state of a replica in one word, one of Ray Serve's.
type ReplicaState string

// The states of a replica.
const (
	// ReplicaStarting is the state until the constructor has returned and the first health check has passed.
	ReplicaStarting ReplicaState = "STARTING"
	// ReplicaRecovering is the state of a replica whose worker outlived its node, while the next node looks for the worker.
	ReplicaRecovering ReplicaState = "RECOVERING"
	// ReplicaRunning is the state in which the replica takes calls.
	ReplicaRunning ReplicaState = "RUNNING"
	// ReplicaStopping is the state while the replica finishes the calls that it runs and stops.
	ReplicaStopping ReplicaState = "STOPPING"
)

// Status is a copy of the state of everything that a node runs.
type Status struct {
	// Applications has the status of each application by its name.
	Applications map[string]ApplicationStatus `json:"applications"`
	// Proxies has the state of the HTTP ingress of each node that has one, by the id of the node.
	Proxies map[string]ProxyState `json:"proxies,omitempty"`
	// References counts the results that the node keeps for callers in other processes. It is nil until the first one.
	References *References `json:"references,omitempty"`
	// TargetCapacity is the percentage of all numbers of replicas that runs; nil for all. At 0 no replica runs, and calls wait.
	TargetCapacity *float64 `json:"target_capacity,omitempty"`
	// Resources has what the node gives out, by the name of the thing, and what replicas hold of it: see [ResourceCPU]. A thing that the node does not have and no replica has asked for is left out.
	Resources map[string]Resource `json:"resources,omitempty"`
}

// References counts results that a node keeps until they are read. Bytes of a result that lie in shared memory are in
// [SharedMemory] instead.
type References struct {
	// Bytes is the memory that the results occupy now.
	Bytes int64 `json:"bytes"`
	// Results is the number of results that are kept now.
	Results int `json:"results"`
	// Refused is the number of results, since the node has started, for which there was no room.
	Refused uint64 `json:"refused"`
}

// SharedMemory is the account of the memory through which an application's large values pass between its workers. The first
// four fields are bytes of whole slabs of 64 KiB.
type SharedMemory struct {
	// Size is the size of the memory.
	Size uint64 `json:"size"`
	// Leased is the part that workers may write into.
	Leased uint64 `json:"leased"`
	// Published is the part that holds values which processes may read.
	Published uint64 `json:"published"`
	// Filled is the part that occupies memory of the machine.
	Filled uint64 `json:"filled"`
	// Buffers is the number of values that are published.
	Buffers int `json:"buffers"`
	// References is the number of references to published values.
	References int `json:"references"`
	// Full is the number of leases, since the memory was made, for which there was no room.
	Full uint64 `json:"full"`
	// Rejected is the number of requests of workers, since the memory was made, that broke the rules of the memory.
	Rejected uint64 `json:"rejected"`
}

// ApplicationStatus is the status of one application.
type ApplicationStatus struct {
	// Status is the state in one word.
	Status ApplicationState `json:"status"`
	// Message gives the cause of a state other than RUNNING.
	Message string `json:"message"`
	// DeployedAt is the time of the deploy of the revision that is the target now. A rollback is a deploy of its own, also one that the node makes by itself: it is the time of the rollback, and not that of the revision that
	// is repeated. After a deploy that has failed it is the time of the revision that stays; the [History] has the time of each.
	DeployedAt time.Time `json:"deployed_at"`
	// RoutePrefix is the path under which HTTP serves the application. It is empty for an application without HTTP.
	RoutePrefix string `json:"route_prefix,omitempty"`
	// Deployments has the status of each deployment by its name.
	Deployments map[string]DeploymentStatus `json:"deployments"`
	// Rollout is the change from one revision to another; nil while there is none.
	Rollout *Rollout `json:"rollout,omitempty"`
	// SharedMemory is nil for an application that has never had a worker.
	SharedMemory *SharedMemory `json:"shared_memory,omitempty"`
	// Requests are the HTTP requests of the last minute to the application, of which Errors have a status of 500 or more; nil for an application that has had none since the node has started.
	Requests *LastMinute `json:"last_minute_requests,omitempty"`
	// FailedDeploy is the newest deploy, if it has left the application as it was, because its code could not be built or the node refused it. nil for others.
	FailedDeploy *FailedDeploy `json:"failed_deploy,omitempty"`
}

// FailedDeploy is a deploy that has changed nothing of its application. For example, a file has a new import_path whose module raises an exception when it is
// imported: the application goes on as it is. An application that was not there before has no deployment then, and is in the status until it is deleted, or deployed.
type FailedDeploy struct {
	// At is the time of the failure.
	At time.Time `json:"at"`
	// By is the name of the author.
	By string `json:"by,omitempty"`
	// Source is the source of the apply, as in [ApplyRequest].
	Source string `json:"source,omitempty"`
	// Error is the error, with the traceback of the user's code if there is one.
	Error string `json:"error"`
}

// DeploymentStatus is the status of one deployment.
type DeploymentStatus struct {
	// Status is the state in one word.
	Status DeploymentState `json:"status"`
	// Trigger is the cause of the state in one word.
	Trigger DeploymentTrigger `json:"status_trigger"`
	// Message gives the cause of a state other than HEALTHY.
	Message string `json:"message"`
	// Wanted is the number of replicas that the deployment should have: its option NumReplicas, the number of the last Scale, or that of its autoscaler.
	Wanted int `json:"wanted"`
	// Autoscaling describes the autoscaler of the deployment. It is nil for a deployment without one.
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`
	// Ready is the number of replicas of the current revision that take calls.
	Ready int `json:"ready"`
	// Failures is the number of starts and replicas that have failed since the last deploy, or since all was well.
	Failures int `json:"failures,omitempty"`
	// MaxFailures is the number of failures at which a deploy that is under way is given up.
	MaxFailures int `json:"max_failures,omitempty"`
	// Replicas has the status of each replica.
	Replicas []ReplicaStatus `json:"replicas"`
	// Uses has the names of the deployments that this one calls, as the graph declares them.
	Uses []string `json:"uses,omitempty"`
	// DynamicUses has the names of the deployments whose handles the replicas asked for at run time.
	DynamicUses []string `json:"dynamic_uses,omitempty"`
	// Calls counts the calls of all replicas, including the replicas that have stopped.
	Calls Calls `json:"calls"`
	// LastMinute has the calls of the last minute; nil in the first second of the node or the deployment.
	LastMinute *LastMinute `json:"last_minute,omitempty"`
	// Cycle describes the circle in which calls of the deployment wait for each other's slots; "" for none.
	Cycle string `json:"cycle,omitempty"`
	// LastExit describes the last end of a replica that nothing had asked to stop. It is nil until the first one.
	LastExit *Exit `json:"last_exit,omitempty"`
	// FirstFailure is the first of the last row of failures, with the traceback of the user's code. It stays after the deployment has recovered or its
	// revision was rolled back, until the next deploy or the next row.
	FirstFailure *Failure `json:"first_failure,omitempty"`
	// Next says what will be tried next, for example "the start of 1 replica"; "" if all is well.
	Next string `json:"next,omitempty"`
	// NextAt is the time of that; zero if it depends on another event.
	NextAt time.Time `json:"next_at,omitzero"`
}

// Failure is the failure of a replica: of its start, of its process, or of its health checks.
type Failure struct {
	// Replica is the id of the replica.
	Replica string `json:"replica_id"`
	// At is the time of the failure.
	At time.Time `json:"at"`
	// Error is the error, with the traceback of the user's code if there is one.
	Error string `json:"error"`
}

// Calls counts the calls of a deployment. A call that ran in a worker when the worker died is in Total and in Errors.
type Calls struct {
	// Queued is the number of calls that wait for a slot now.
	Queued int `json:"queued"`
	// Running is the number of calls that hold a slot now.
	Running int `json:"running"`
	// Total is the number of calls that were started.
	Total uint64 `json:"total"`
	// Errors is the number of started calls that failed. A call that its caller has ended, such as a stream that its reader has closed, has not. A call that lets the error of a call below it through has failed too.
	Errors uint64 `json:"errors"`
	// Rejected is the number of calls that failed before their start, because as many calls of their origin waited as max_queued_requests allows.
	Rejected uint64 `json:"rejected"`
	// Late is the number of calls that ran on their caller's goroutine and returned after the end of their context. Methods
	// that ignore their context keep callers waiting in this way.
	Late uint64 `json:"late"`
}

// LastMinute has the calls of a deployment that have ended in the last minute, of all its replicas; or the HTTP requests to an application.
type LastMinute struct {
	// Seconds is the time that the numbers are of: up to 65 s, and less for a deployment that is younger.
	Seconds float64 `json:"seconds"`
	// Calls is the number of calls that have ended.
	Calls uint64 `json:"calls"`
	// Errors is the number of calls that have failed.
	Errors uint64 `json:"errors"`
	// Rejected is the number of calls that have failed before their start, because too many waited.
	Rejected uint64 `json:"rejected"`
	// Mean is the time of a call at its replica in milliseconds, on average; 0 without calls.
	Mean float64 `json:"mean_ms"`
	// P50 is the number of milliseconds in which half of the calls have ended.
	P50 float64 `json:"p50_ms"`
	// P90 is the number of milliseconds in which 90 of 100 calls have ended.
	P90 float64 `json:"p90_ms"`
	// P99 is the number of milliseconds in which 99 of 100 calls have ended, estimated from the buckets of the latencies that the metrics have.
	P99 float64 `json:"p99_ms"`
	// Wait is the time in milliseconds, on average, that the calls which were started in this time had waited for a slot; 0 for HTTP requests.
	Wait float64 `json:"wait_ms"`
}

// ReplicaStatus is the status of one replica.
type ReplicaStatus struct {
	// ID names the replica. No other replica of the node, of any application, has or had the same id.
	ID string `json:"replica_id"`
	// State is the state in one word.
	State ReplicaState `json:"state"`
	// Revision is the number of the revision of the application that the replica is of. In a rollout it is that of the new one, of the one before, or of one whose place another deploy
	// has taken.
	Revision int `json:"revision,omitempty"`
	// Rank is the number of the replica among the replicas of its deployment, from 0 upwards.
	Rank int `json:"rank"`
	// PID is the process id of the replica's worker. It is 0 for a replica in the node's process.
	PID int `json:"pid,omitempty"`
	// GPUs are the devices that the replica's process has, as CUDA_VISIBLE_DEVICES names them. Parts of one device are held by several replicas.
	GPUs []string `json:"gpus,omitempty"`
	// Resources are the amounts that the replica has asked for and holds, by the names of [Status].Resources: CPUs, GPUs, bytes of memory, and others. It is nil for a replica that holds none.
	Resources map[string]float64 `json:"resources,omitempty"`
	// Memory is the memory of the machine that the replica's process occupies, in bytes, with the parts that it shares with other processes. Replicas in one process, such as those in the node's, have the same
	// number. It is 0 where the system does not say it.
	Memory uint64 `json:"memory_bytes,omitempty"`
	// GPUMemory is the memory of GPUs that the process uses, with the processes that it has started, in bytes, as the tool of the driver (nvidia-smi) has said in the last minute. It is 0 where the driver does
	// not say it, for example in a container that has process ids of its own.
	GPUMemory uint64 `json:"gpu_memory_bytes,omitempty"`
	// CPU is the use of processors by that process in the last 5 to 10 seconds, in percent of one processor: 250 is two and a half processors.
	CPU float64 `json:"cpu_percent,omitempty"`
	// StartedAt is the time at which the replica was started.
	StartedAt time.Time `json:"started_at"`
	// Restarts is the number of replicas in a row that ended, or failed to start, before this one took their place.
	Restarts int `json:"restarts,omitempty"`
	// LastExit describes the end of the last of these replicas. It is nil if there were none.
	LastExit *Exit `json:"last_exit,omitempty"`
	// Wait is the step that the start of the replica waits for. It is nil for a replica that has started.
	Wait *Wait `json:"wait,omitempty"`
	// Unresponsive is set while the replica's worker does not answer.
	Unresponsive *Unresponsive `json:"unresponsive,omitempty"`
	// Ready reports whether the replica gets calls: it is RUNNING, its readiness check passes, and it is not ejected.
	Ready bool `json:"ready"`
	// NotReady is set while the readiness check of a replica that runs does not pass. The replica gets calls all the same if Kept of it is set.
	NotReady *Condition `json:"not_ready,omitempty"`
	// Ejected is set while a replica that runs gets no calls because calls to it have failed for reasons of the system.
	Ejected *Condition `json:"ejected,omitempty"`
}

// Condition is a state of an object that should end, with its reason and the next attempt to end it.
type Condition struct {
	// Since is the time at which it began.
	Since time.Time `json:"since"`
	// Reason gives the cause.
	Reason string `json:"reason"`
	// Traceback is the traceback of the user's code, if there is one.
	Traceback string `json:"traceback,omitempty"`
	// Kept says why the replica gets calls all the same: "the last replica", or "" for one that gets none.
	Kept string `json:"kept,omitempty"`
	// Next says what will be tried, for example "a probe; if it passes, the replica gets calls again".
	Next string `json:"next,omitempty"`
	// NextAt is the time of that; zero if it depends on another event.
	NextAt time.Time `json:"next_at,omitzero"`
}

// Wait is the step that the start of a replica waits for.
type Wait struct {
	// For names the step, for example the constructor.
	For string `json:"for"`
	// Since is the time at which the step began.
	Since time.Time `json:"since"`
	// Reason says, for a replica that does not fit on the node, what is missing and which replicas hold it; "" for other steps.
	Reason string `json:"reason,omitempty"`
}

// Exit describes the end of a replica, or a start that failed. Code, Signal and Lines are of the replica's process: a replica
// in the node's process, or a replica that was replaced while its process was well, has a Reason only.
type Exit struct {
	// Replica is the id of the replica that ended.
	Replica string `json:"replica_id"`
	// Reason gives the cause in one line.
	Reason string `json:"reason"`
	// Code is the exit code of the process. It is -1 if a signal ended the process, or if there is no process.
	Code int `json:"code"`
	// Signal is the name of the signal that ended the process.
	Signal string `json:"signal,omitempty"`
	// OutOfMemory reports that the process ended because it ran out of memory.
	OutOfMemory bool `json:"out_of_memory,omitempty"`
	// At is the time of the end.
	At time.Time `json:"at"`
	// Lines has the last lines that the process wrote to stderr, at most 50.
	Lines []string `json:"lines,omitempty"`
}

// Unresponsive describes a worker that does not answer.
type Unresponsive struct {
	// Since is the time of the last answer.
	Since time.Time `json:"since"`
	// Stacks has the stacks of the worker's threads where the worker can still report them (Python). For other workers it has
	// the kernel's view of the process.
	Stacks string `json:"stacks"`
}
