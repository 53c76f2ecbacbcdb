package helve

import (
	"encoding/json"
	"time"
)

// Autoscaling has the number of replicas of a deployment follow its load: the calls that wait and run. A field that is zero has its default.
//
// For example, a deployment that is often idle, and grows to ten replicas in a burst:
//
//	helve.Options{Autoscaling: &helve.Autoscaling{MinReplicas: new(0), MaxReplicas: 10, TargetOngoingRequests: 4}}
type Autoscaling struct {
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
	// Options are other fields of autoscaling_config, by the names of docs/options.md, for example "panic_window_s". Nil for none.
	Options map[string]any
}

// config is the autoscaling_config, as files have it.
func (a Autoscaling) config() (json.RawMessage, error) {
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
	for name, d := range map[string]*time.Duration{
		"upscale_delay_s": a.UpscaleDelay, "downscale_delay_s": a.DownscaleDelay, "downscale_to_zero_delay_s": a.DownscaleToZeroDelay, "look_back_period_s": a.LookBackPeriod,
	} {
		if d != nil {
			all[name] = d.Seconds()
		}
	}
	return json.Marshal(all)
}
