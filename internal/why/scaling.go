package why

import (
	"fmt"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// scaling describes the autoscaler of a deployment: the number that it wants, the reason, the obstacle, and the last change; "" for a deployment without an autoscaler.
func scaling(d helvetype.DeploymentStatus) string {
	a := d.Autoscaling
	if a == nil {
		return ""
	}
	text := fmt.Sprintf("; its autoscaler wants %s (%d to %d)", count(a.Target, "replica"), a.Least, a.Most)
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	if a.Blocked != "" && !strings.Contains(a.Reason, a.Blocked) {
		text += "; " + a.Blocked
	}
	if n := len(a.Decisions); n > 0 {
		last := a.Decisions[n-1]
		text += fmt.Sprintf("; the last change, at %s, was from %d to %d", stamp(last.At), last.From, last.To)
		if last.Reason != a.Reason {
			text += ": " + last.Reason
		}
	}
	return text
}

// policyFails says that the custom autoscaling policy of a deployment fails; "" for one that answers, or has not failed yet. The text of a policy of the whole application is the same for all its deployments.
func policyFails(a *helvetype.Autoscaling, prefix string) string {
	if a == nil || a.PolicyFailedSince.IsZero() || len(a.Errors) == 0 {
		return ""
	}
	of := prefix + "its autoscaling policy"
	if a.PolicyScope == "application" {
		of = "the autoscaling_policy of the application"
	}
	holds := "the last answer holds"
	if a.Health == helvetype.AutoscalingUnavailable {
		holds = "it has not answered yet, so the number of replicas stays"
	}
	return fmt.Sprintf("%s, %s, has no answer since %s, and %s: %s", of, a.Policy, stamp(a.PolicyFailedSince), holds, brief(a.Errors[0]))
}

// more is the command that gives a deployment more replicas.
func more(app, name string, d helvetype.DeploymentStatus) string {
	of := app + "/" + name
	switch a := d.Autoscaling; {
	case a == nil:
		return "helve scale " + of + " N adds replicas"
	case a.Target >= a.Most:
		return fmt.Sprintf("helve set %s autoscaling_config.max_replicas=N lets the autoscaler go above %d", of, a.Most)
	default:
		return "its autoscaler adds replicas, and helve why " + of + " says by which rule"
	}
}
