package helvetype

import "time"

// Autoscaling describes the autoscaler of one deployment: the bounds, the load that it sees, and its last decisions.
type Autoscaling struct {
	// Target is the number of replicas that the autoscaler has decided.
	Target int `json:"target"`
	// Desired is the number that the load asks for, before the bounds.
	Desired int `json:"desired"`
	// Least is the lower bound: min_replicas under the target capacity.
	Least int `json:"min_replicas"`
	// Most is the upper bound: max_replicas under the target capacity.
	Most int `json:"max_replicas"`
	// Blocked says why the deployment has not the number that its load asks for, for example "at most 4 by max_replicas". It is "" if it has.
	Blocked string `json:"blocked,omitempty"`
	// Reason says in one sentence how the number came about.
	Reason string `json:"reason,omitempty"`
	// Calls is the load by which the autoscaler decides: calls that wait and run, over its window.
	Calls float64 `json:"calls"`
	// TargetOngoing is the number of calls that a replica should have (target_ongoing_requests).
	TargetOngoing float64 `json:"target_ongoing_requests"`
	// Queued is the number of calls that wait, as the autoscaler has counted them last.
	Queued int `json:"queued"`
	// Running is the number of calls that run, as the autoscaler has counted them last.
	Running int `json:"running"`
	// SampledAt is the time of that count; zero before the first.
	SampledAt time.Time `json:"sampled_at,omitzero"`
	// LastUp is the time of the last change to a larger number; zero for none.
	LastUp time.Time `json:"last_up,omitzero"`
	// LastDown is the time of the last change to a smaller number; zero for none.
	LastDown time.Time `json:"last_down,omitzero"`
	// Policy is the import path of a custom policy; "" for the autoscaler's own.
	Policy string `json:"policy,omitempty"`
	// PolicyScope is "application" for a policy that decides for all deployments of an application together; "" or "deployment" for others.
	PolicyScope string `json:"policy_scope,omitempty"`
	// PolicyTook is the time of the last answer of a custom policy.
	PolicyTook time.Duration `json:"policy_took_ns,omitempty"`
	// Metrics are the metrics that the replicas report for a custom policy, by name.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Health says whether the autoscaler has the numbers that it decides by: "healthy", "delayed" or "unavailable".
	Health string `json:"metrics_health"`
	// Errors are the errors of the policy and of the metrics that the replicas report, since the last time that all was well.
	Errors []string `json:"errors,omitempty"`
	// Decisions are the last changes of the number, the oldest first.
	Decisions []ScalingDecision `json:"decisions,omitempty"`
}

// The values of [Autoscaling].Health.
const (
	AutoscalingHealthy     = "healthy"
	AutoscalingDelayed     = "delayed"
	AutoscalingUnavailable = "unavailable"
)

// ScalingDecision is a change of a deployment's number of replicas by its autoscaler.
type ScalingDecision struct {
	// At is the time of the change.
	At time.Time `json:"at"`
	// From is the number of replicas before it.
	From int `json:"from"`
	// To is the number of replicas after it.
	To int `json:"to"`
	// Reason says in one sentence how the number came about.
	Reason string `json:"reason"`
	// Policy is the import path of the custom policy that has decided; "" for the autoscaler's own.
	Policy string `json:"policy,omitempty"`
}
