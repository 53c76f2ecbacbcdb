package spec

import "time"

// ApplicationStatus is the reference's ApplicationStatus.
type ApplicationStatus string

// The statuses of an application.
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

// The statuses of a deployment.
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
	ReplicaRunning  ReplicaState = "RUNNING"
	ReplicaStopping ReplicaState = "STOPPING"
)

// Status is what runs.
type Status struct {
	Applications map[string]ApplicationStatusInfo `json:"applications"`
}

// ApplicationStatusInfo is the state of one application; Message says why it is not RUNNING.
type ApplicationStatusInfo struct {
	Status      ApplicationStatus               `json:"status"`
	Message     string                          `json:"message"`
	Deployments map[string]DeploymentStatusInfo `json:"deployments"`
}

// DeploymentStatusInfo is the state of one deployment.
type DeploymentStatusInfo struct {
	Status   DeploymentStatus `json:"status"`
	Message  string           `json:"message"`
	Replicas []ReplicaStatus  `json:"replicas"`
	// Uses are the deployments that the graph says it calls; DynamicUses those whose handles its replicas asked for.
	Uses        []string `json:"uses,omitempty"`
	DynamicUses []string `json:"dynamic_uses,omitempty"`
}

// ReplicaStatus is one replica; PID is its worker's, 0 for one in the node's process.
type ReplicaStatus struct {
	ID        string       `json:"replica_id"`
	State     ReplicaState `json:"state"`
	PID       int          `json:"pid,omitempty"`
	StartedAt time.Time    `json:"started_at"`
}
