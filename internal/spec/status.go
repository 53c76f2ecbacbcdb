package spec

import "time"

// ApplicationStatus is the reference's ApplicationStatus.
type ApplicationStatus string

// The statuses of an application. One that has started is as its worst deployment is. NotStarted is for names that are unknown.
const (
	ApplicationNotStarted   ApplicationStatus = "NOT_STARTED"
	ApplicationDeploying    ApplicationStatus = "DEPLOYING"
	ApplicationDeployFailed ApplicationStatus = "DEPLOY_FAILED"
	ApplicationRunning      ApplicationStatus = "RUNNING"
	ApplicationUnhealthy    ApplicationStatus = "UNHEALTHY"
	ApplicationDeleting     ApplicationStatus = "DELETING"
)

// DeploymentStatus is the reference's DeploymentStatus.
type DeploymentStatus string

// The statuses of a deployment. Updating: its revision starts, or it is being deleted. Unhealthy: replicas are missing because some
// have failed.
const (
	DeploymentUpdating     DeploymentStatus = "UPDATING"
	DeploymentHealthy      DeploymentStatus = "HEALTHY"
	DeploymentUnhealthy    DeploymentStatus = "UNHEALTHY"
	DeploymentDeployFailed DeploymentStatus = "DEPLOY_FAILED"
)

// ReplicaState is the reference's ReplicaState.
type ReplicaState string

// The states of a replica.
const (
	ReplicaStarting ReplicaState = "STARTING"
	// ReplicaRecovering: its worker lived on when the node before this one was gone, and is being looked for.
	ReplicaRecovering ReplicaState = "RECOVERING"
	ReplicaRunning    ReplicaState = "RUNNING"
	ReplicaStopping   ReplicaState = "STOPPING"
)

// Status is what runs.
type Status struct {
	Applications map[string]ApplicationStatusInfo `json:"applications"`
	// References are the results that the node keeps for callers in other processes; nil if there never were any.
	References *References `json:"references,omitempty"`
}

// References count results that are kept until they are read. What of them lies in shared memory counts there.
type References struct {
	Bytes   int64  `json:"bytes"`
	Results int    `json:"results"`
	Refused uint64 `json:"refused"` // for want of room, ever
}

// SharedMemory is the account of the memory through which an application's large values pass between its workers, in bytes
// of whole slabs of 64 KiB.
type SharedMemory struct {
	Size       uint64 `json:"size"`
	Leased     uint64 `json:"leased"`     // that workers may write into
	Published  uint64 `json:"published"`  // that somebody may read
	Filled     uint64 `json:"filled"`     // that has memory
	Buffers    int    `json:"buffers"`    // that are published
	References int    `json:"references"` // to them
	Full       uint64 `json:"full"`       // leases refused for want of room, ever
	Rejected   uint64 `json:"rejected"`   // what workers asked that they must not, ever
}

// ApplicationStatusInfo is the state of one application; Message says why it is not RUNNING.
type ApplicationStatusInfo struct {
	Status      ApplicationStatus               `json:"status"`
	Message     string                          `json:"message"`
	RoutePrefix string                          `json:"route_prefix,omitempty"` // under which HTTP serves it; "": not at all
	Deployments map[string]DeploymentStatusInfo `json:"deployments"`
	// SharedMemory is nil for an application that has never had a worker.
	SharedMemory *SharedMemory `json:"shared_memory,omitempty"`
}

// DeploymentStatusInfo is the state of one deployment.
type DeploymentStatusInfo struct {
	Status   DeploymentStatus `json:"status"`
	Message  string           `json:"message"`
	Replicas []ReplicaStatus  `json:"replicas"`
	// Uses are the deployments that the graph says it calls; DynamicUses those whose handles its replicas asked for.
	Uses        []string `json:"uses,omitempty"`
	DynamicUses []string `json:"dynamic_uses,omitempty"`
	// Calls are those of all its replicas, also of those that are gone.
	Calls Calls `json:"calls"`
	// LastExit is how the last replica ended that nobody had asked to end; nil if none has.
	LastExit *Exit `json:"last_exit,omitempty"`
}

// Calls counts the calls of a deployment. A call that was under way in a worker that died is in Total and in Errors. Of the calls
// between replicas of one worker that dies, those are lost that the node has not heard of: at most those of the last UnresponsiveAfter.
type Calls struct {
	Queued  int    `json:"queued"`  // wait for a slot now
	Running int    `json:"running"` // hold one now
	Total   uint64 `json:"total"`   // were started
	Errors  uint64 `json:"errors"`  // of these, failed
	// Late is how many calls that ran on their caller's goroutine returned after the end of its context, as if they had not
	// seen it: methods that ignore their context keep callers waiting.
	Late uint64 `json:"late"`
}

// ReplicaStatus is one replica; PID is its worker's, 0 for one in the node's process.
type ReplicaStatus struct {
	ID        string       `json:"replica_id"`
	State     ReplicaState `json:"state"`
	PID       int          `json:"pid,omitempty"`
	StartedAt time.Time    `json:"started_at"`
	// Restarts is how many replicas in a row ended, or failed to start, before this one took their place; LastExit is
	// how the last of them ended.
	Restarts int   `json:"restarts,omitempty"`
	LastExit *Exit `json:"last_exit,omitempty"`
	// Unresponsive is set while the replica's worker does not answer.
	Unresponsive *Unresponsive `json:"unresponsive,omitempty"`
}

// Exit is how a replica ended, or why it did not start. Code, Signal and Lines are its process's; a replica in the node's
// process, or one that was replaced while its process was well, has a Reason only.
type Exit struct {
	Replica     string    `json:"replica_id"`
	Reason      string    `json:"reason"` // in one line
	Code        int       `json:"code"`   // -1 when a signal ended it, or it has none
	Signal      string    `json:"signal,omitempty"`
	OutOfMemory bool      `json:"out_of_memory,omitempty"`
	At          time.Time `json:"at"`
	Lines       []string  `json:"lines,omitempty"` // of stderr, at most 50
}

// Unresponsive says since when a worker does not answer, and what it does instead: the stacks of its threads where it can
// still tell (Python), else what the kernel says.
type Unresponsive struct {
	Since  time.Time `json:"since"`
	Stacks string    `json:"stacks"`
}
