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
	for _, e := range a.Errors {
		text += "; " + brief(e)
	}
	return text
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
