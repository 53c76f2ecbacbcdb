package why

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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

// failingPolicy adds that the policy of a deployment fails, with its traceback and the next step, whatever else is wrong: the policy of a revision that serves fails also while another deploy has failed.
func failingPolicy(e *helvetype.Explanation, app, name string, d helvetype.DeploymentStatus) {
	prefix := ""
	if e.Object.Kind == helvetype.KindApplication {
		prefix = "deployment " + name + ": "
	}
	text := policyFails(d.Autoscaling, prefix)
	if text == "" || strings.Contains(e.Sentence, text) {
		return
	}
	e.Sentence += "; " + text
	if all := details(d.Autoscaling.Errors[0]); all != "" {
		e.Detail = strings.TrimPrefix(e.Detail+"\n\n"+all, "\n\n")
	}
	if e.Next == "" || strings.HasPrefix(e.Next, failedList) {
		e.Next = fmt.Sprintf("correct the policy, and deploy it again; helve logs %s has what it prints", app)
	} else {
		e.Next += fmt.Sprintf("; correct the policy %s too: helve logs %s has what it prints", d.Autoscaling.Policy, app)
	}
}

// more is the advice for calls that wait, or have waited, for slots of a deployment. The argument of is the deployment's name, with the name of its application. The command that raises a bound is named only where that bound holds the number; past says that
// the calls have waited before, when the bound may have been reached. For example, a deployment with 1 to 4 replicas has 4, and its load asks for 15: max_replicas holds the number. With 2 replicas of 4 the autoscaler adds some by itself.
// The zero status is that of a deployment that is gone.
func more(of string, d helvetype.DeploymentStatus, past bool) string {
	switch a := d.Autoscaling; {
	case a == nil:
		return "helve scale " + of + " N adds replicas"
	case a.Blocked == "max_replicas" || past && a.Most > 0 && a.Target >= a.Most:
		return fmt.Sprintf("helve set %s autoscaling_config.max_replicas=N lets the autoscaler go above %d", of, a.Most)
	case a.Desired > a.Target || d.Ready < d.Wanted:
		return "its autoscaler adds replicas, and helve why " + of + " says by which rule"
	case past || a.Blocked != "" || a.Policy != "" || above(d):
		return "helve why " + of + " says when its autoscaler adds replicas"
	}
	return fmt.Sprintf("its autoscaler asks for no more replicas: helve set %s autoscaling_config.target_ongoing_requests=N, below max_ongoing_requests, makes it ask for them", of)
}

// above says that a deployment has more calls than its ready replicas should have: the autoscaler is about to add replicas, within its bounds. Calls that wait are no such sign where max_ongoing_requests is below the target.
func above(d helvetype.DeploymentStatus) bool {
	a := d.Autoscaling
	return float64(a.Queued+a.Running) > a.TargetOngoing*float64(d.Ready)
}

// The times for which the calls and the starts of a deployment that scales are no trouble.
const (
	drains    = 10 * time.Second // after a step up, in which its queue is worked off
	longStart = time.Minute      // the start of a replica
)

// settled is a status without the effects of scaling that goes as it should: a deployment that scales is as it should be. Calls wait for slots while replicas start, and for a moment
// after that; replicas that are not needed any more finish their calls. For example, a load of 30 calls comes to 1 replica: 27 wait for two seconds, while 3 more replicas start. Calls that wait although the
// number is held, by max_replicas for example, are trouble, and so are starts that fail, that wait for room, or that take long.
func settled(s helvetype.Status, now time.Time) helvetype.Status {
	s.Applications = maps.Clone(s.Applications)
	for name, a := range s.Applications {
		a.Deployments = maps.Clone(a.Deployments)
		for name, d := range a.Deployments {
			a.Deployments[name] = settledDeployment(d, now)
		}
		s.Applications[name] = a
	}
	return s
}

func settledDeployment(d helvetype.DeploymentStatus, now time.Time) helvetype.DeploymentStatus {
	if d.Failures > 0 || d.Message != "" {
		return d
	}
	replicas, starting, stuck := make([]helvetype.ReplicaStatus, 0, len(d.Replicas)), 0, false
	for _, r := range d.Replicas {
		switch {
		case r.State == helvetype.ReplicaStopping && d.Status == helvetype.DeploymentDownscaling && r.Unresponsive == nil:
			continue
		case r.State != helvetype.ReplicaStarting:
		case r.Wait != nil && r.Wait.Reason != "" || now.Sub(r.StartedAt) > longStart:
			stuck = true
		default:
			starting++
			r.Wait = nil
		}
		replicas = append(replicas, r)
	}
	if d.Replicas = replicas; stuck {
		return d
	}
	grows := d.Status == helvetype.DeploymentUpscaling && starting > 0
	if a := d.Autoscaling; a != nil && a.Blocked != "max_replicas" {
		decides := a.Blocked == "" && a.Policy == "" && a.Target < a.Most && above(d)
		grows = grows || decides || now.Sub(a.LastUp) < drains
	}
	if grows {
		d.Calls.Queued = 0
	}
	return d
}

// Lasting is a load without the requests that have waited for a replica or a slot of a deployment before that had grown to the number that its load needs. events has the events of the node. For example, 30 calls come to 1 replica, which
// become 4 within two seconds: the calls of these two seconds have waited, and no call waits any more. A call that waits after that, because 4 is max_replicas, stays in the load.
func (l Load) Lasting(app string, a helvetype.ApplicationStatus, events Events, now time.Time) Load {
	grown := map[string]time.Time{}
	for name, d := range a.Deployments {
		if d.Autoscaling == nil || d.Autoscaling.LastUp.IsZero() {
			continue
		}
		at := d.Autoscaling.LastUp
		for _, ev := range events.History(helvetype.Object{Kind: helvetype.KindDeployment, App: app, Deployment: name}) {
			if ev.From == string(helvetype.DeploymentUpscaling) && ev.To != ev.From && ev.Time.After(at) {
				at = ev.Time
				break
			}
		}
		if d.Status == helvetype.DeploymentUpscaling {
			at = now
		}
		grown[name] = at
	}
	l.Requests = slices.DeleteFunc(slices.Clone(l.Requests), func(r helvetype.RequestTrace) bool {
		t := treeOf(&r)
		if t.root < 0 {
			return false
		}
		h := t.spans[t.heaviest()]
		return h.Kind == "wait" && h.App == app && h.Started.Before(grown[h.Deployment])
	})
	return l
}
