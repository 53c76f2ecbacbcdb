package telemetry

import "github.com/helve-serve/helve/helvetype"

// Severity is how bad an event is. A bad state that an object enters counts before the reason: for example, replica_startup_failed makes a deployment DEPLOY_FAILED, which is an error, or leaves it UPDATING while the start is
// tried again, which is a warning. A replica that ends while it stops is a warning, and one that ends while it runs is an error.
func Severity(e helvetype.Event) string {
	// Deployments have bad states of the same names as applications. An object that is in one may have events that are no failure, such as a decision of the autoscaler.
	bad := e.To == string(helvetype.ApplicationUnhealthy) || e.To == string(helvetype.ApplicationDeployFailed)
	if bad && e.From != e.To {
		return helvetype.SeverityError
	}
	switch e.Reason {
	case "died":
		if e.From == string(helvetype.ReplicaStopping) {
			return helvetype.SeverityWarning
		}
		return helvetype.SeverityError
	case "start_failed", "lost", "replace", "replica_failed", "deployment_unhealthy", "deployment_failed", "give_up", "roll_back", "rolled_back", "build_failed", "not_stored":
		return helvetype.SeverityError
	case "replica_startup_failed", "replica_not_ready", "not_ready", "kept", "ejected", "not_ejected", "calls_unfinished", "slots_held", "cycle", "event_loop_blocked", "flapping", "waits_for_room", "surge_does_not_fit",
		"resources_exceeded", "model_not_moved", "policy_failed", "node_restarted":
		return helvetype.SeverityWarning
	case "rollout_paused":
		if e.Inputs["by"] == "" { // else a person has paused it
			return helvetype.SeverityWarning
		}
	}
	return helvetype.SeverityInfo
}
