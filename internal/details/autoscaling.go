package details

import (
	"cmp"
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
)

// AutoscalingDetail is the state of a deployment's autoscaler, in the form of the reference.
type AutoscalingDetail struct {
	ScalingStatus string            `json:"scaling_status"` // UPSCALING, DOWNSCALING or STABLE
	Decisions     []ScalingDecision `json:"decisions"`
	Metrics       json.RawMessage   `json:"metrics"` // an object: see autoscalingMetrics
	MetricsHealth string            `json:"metrics_health"`
	Errors        []string          `json:"errors"`
}

// ScalingDecision is a change of the number of replicas.
type ScalingDecision struct {
	TimestampS      float64 `json:"timestamp_s"`
	Reason          string  `json:"reason"`
	PrevNumReplicas int     `json:"prev_num_replicas"`
	CurrNumReplicas int     `json:"curr_num_replicas"`
	Policy          string  `json:"policy"`
}

// defaultPolicy is the reference's name of the policy that scales by the number of calls.
const defaultPolicy = "default_autoscaling_policy"

// autoscalingMetrics are the numbers that the autoscaler decides by. The names up to current_replicas are the reference's look at its own; the others say why.
type autoscalingMetrics struct {
	TotalRequests   float64            `json:"total_num_requests"`
	QueuedRequests  int                `json:"total_queued_requests"`
	RunningRequests int                `json:"total_running_requests"`
	TargetReplicas  int                `json:"target_num_replicas"`
	CurrentReplicas int                `json:"current_num_replicas"`
	DesiredReplicas int                `json:"desired_num_replicas"`
	MinReplicas     int                `json:"min_replicas"`
	MaxReplicas     int                `json:"max_replicas"`
	TargetOngoing   float64            `json:"target_ongoing_requests"`
	Reason          string             `json:"reason"`
	Blocked         string             `json:"blocked,omitempty"`
	Custom          map[string]float64 `json:"aggregated_metrics,omitempty"`
}

// autoscalingDetail is the autoscaler of a deployment; nil without one.
func autoscalingDetail(s helvetype.DeploymentStatus) *AutoscalingDetail {
	a := s.Autoscaling
	if a == nil {
		return nil
	}
	d := &AutoscalingDetail{ScalingStatus: "STABLE", MetricsHealth: cmp.Or(a.Health, helvetype.AutoscalingHealthy), Decisions: []ScalingDecision{}, Errors: []string{}}
	if s.Status == helvetype.DeploymentUpscaling || s.Status == helvetype.DeploymentDownscaling {
		d.ScalingStatus = string(s.Status)
	}
	for _, c := range a.Decisions {
		d.Decisions = append(d.Decisions, ScalingDecision{seconds(c.At), c.Reason, c.From, c.To, cmp.Or(c.Policy, defaultPolicy)})
	}
	d.Errors = append(d.Errors, a.Errors...)
	d.Metrics, _ = json.Marshal(autoscalingMetrics{ //nolint:errcheck // numbers and texts
		TotalRequests: a.Calls, QueuedRequests: a.Queued, RunningRequests: a.Running, TargetReplicas: a.Target, CurrentReplicas: s.Ready, DesiredReplicas: a.Desired,
		MinReplicas: a.Least, MaxReplicas: a.Most, TargetOngoing: a.TargetOngoing, Reason: a.Reason, Blocked: a.Blocked, Custom: a.Metrics,
	})
	return d
}
