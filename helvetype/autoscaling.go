package helvetype

import (
	"encoding/json"
	"time"
)

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
	// Blocked says why the deployment has not the number that its load asks for, for example "max_replicas", or "a rollout is under way". It is "" if it has.
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
	// PolicyFailedSince is the time from which on a custom policy has no answer, for the reason in Errors: its last answer holds. It is zero while the policy answers.
	PolicyFailedSince time.Time `json:"policy_failed_since,omitzero"`
	// Metrics are the metrics that the replicas report for a custom policy, by name.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Health says whether the autoscaler has the numbers that it decides by: "healthy", "delayed" or "unavailable".
	Health string `json:"metrics_health"`
	// Errors are the errors of the policy, since the last time that all was well, with the tracebacks of its code.
	Errors []string `json:"errors,omitempty"`
	// Decisions are the last changes of the number, the oldest first.
	Decisions []ScalingDecision `json:"decisions,omitempty"`
}

// Outside says that the number is out of the bounds, which have just changed: the autoscaler brings it within them in a moment.
func (a *Autoscaling) Outside() bool { return a.Target < a.Least || a.Target > a.Most }

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

// AutoscalingOptions has the number of replicas of a deployment follow its load: the calls that wait and run. A field that is zero has its default.
//
// For example, a deployment that is often idle, and grows to ten replicas in a burst:
//
//	helve.Options{Autoscaling: &helvetype.AutoscalingOptions{MinReplicas: new(0), MaxReplicas: 10, TargetOngoingRequests: 4}}
type AutoscalingOptions struct {
	// MinReplicas is the lower bound. Default 1. With 0 the last replica ends when no call comes for a while, and the next call starts one.
	MinReplicas *int
	// MaxReplicas is the upper bound. Default 1.
	MaxReplicas int
	// InitialReplicas is the number of the first deploy, and of one that changes Autoscaling. Default: MinReplicas.
	InitialReplicas *int
	// TargetOngoingRequests is the number of calls, waiting and running, that a replica should have. Default 2.
	TargetOngoingRequests float64
	// UpscaleDelay is how long more replicas must be due before the number grows. Nil: it follows the load adaptively, within a second or two.
	UpscaleDelay *time.Duration
	// DownscaleDelay is how long fewer replicas must be due before the number shrinks. Nil: it follows the load adaptively, after a minute or so.
	DownscaleDelay *time.Duration
	// DownscaleToZeroDelay is DownscaleDelay for the last replica. Nil: that of the others.
	DownscaleToZeroDelay *time.Duration
	// LookBackPeriod is the time over which the load counts, where a delay is set. Default 30 s.
	LookBackPeriod *time.Duration
	// Policy decides in the place of the load. Nil: the load decides.
	Policy *AutoscalingPolicy
	// Options are other fields of autoscaling_config, by the names of docs/options.md, for example "panic_window_s". Nil for none.
	Options map[string]any
}

// MarshalJSON writes the autoscaling_config, as files have it.
func (a AutoscalingOptions) MarshalJSON() ([]byte, error) {
	all := map[string]any{}
	for name, v := range a.Options {
		all[name] = v
	}
	if a.MinReplicas != nil {
		all["min_replicas"] = *a.MinReplicas
	}
	if a.MaxReplicas != 0 {
		all["max_replicas"] = a.MaxReplicas
	}
	if a.InitialReplicas != nil {
		all["initial_replicas"] = *a.InitialReplicas
	}
	if a.TargetOngoingRequests != 0 {
		all["target_ongoing_requests"] = a.TargetOngoingRequests
	}
	if a.Policy != nil {
		all["policy"] = a.Policy
	}
	for name, d := range map[string]*time.Duration{
		"upscale_delay_s": a.UpscaleDelay, "downscale_delay_s": a.DownscaleDelay, "downscale_to_zero_delay_s": a.DownscaleToZeroDelay, "look_back_period_s": a.LookBackPeriod,
	} {
		if d != nil {
			all[name] = d.Seconds()
		}
	}
	return json.Marshal(all)
}
