package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// policyOf is a deployment that runs, and whose policy fails.
func policyOf(change func(*helvetype.Autoscaling)) helvetype.DeploymentStatus {
	a := &helvetype.Autoscaling{
		Policy: "scaling:f", Health: helvetype.AutoscalingDelayed, PolicyFailedSince: at,
		Errors: []string{"ZeroDivisionError: division by zero\nTraceback (most recent call last):\n  File \"/srv/scaling.py\", line 9, in f\n    return 1 / 0\nZeroDivisionError: division by zero"},
	}
	if change != nil {
		change(a)
	}
	return helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 2, Ready: 2, Autoscaling: a}
}

// TestFailingPolicies: a policy that fails is trouble of its deployment, its application and the node.
func TestFailingPolicies(t *testing.T) {
	t.Parallel()
	unanswered := func(a *helvetype.Autoscaling) { a.Health = helvetype.AutoscalingUnavailable }
	together := func(a *helvetype.Autoscaling) { a.PolicyScope = "application" }
	const holds = ", scaling:f, has no answer since 2026-01-02T03:04:05.000Z, and the last answer holds: ZeroDivisionError: division by zero (in f, scaling.py line 9)"
	for name, c := range map[string]struct {
		of   helvetype.Object
		app  map[string]helvetype.DeploymentStatus
		want string
	}{
		"a deployment":       {shop("D"), map[string]helvetype.DeploymentStatus{"D": policyOf(nil)}, "; its autoscaling policy" + holds},
		"an application":     {shop(), map[string]helvetype.DeploymentStatus{"D": policyOf(nil)}, "; deployment D: its autoscaling policy" + holds},
		"before any answer":  {shop("D"), map[string]helvetype.DeploymentStatus{"D": policyOf(unanswered)}, "and it has not answered yet, so the number of replicas stays: ZeroDivisionError"},
		"one policy for all": {shop(), map[string]helvetype.DeploymentStatus{"D": policyOf(together), "E": policyOf(together)}, "; the autoscaling_policy of the application" + holds},
	} {
		a := helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning, Deployments: c.app}
		e, _ := Explain(c.of, helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": a}}, kept{}, at.Add(time.Minute))
		if !strings.Contains(e.Sentence, c.want) || strings.Count(e.Sentence, "ZeroDivisionError") != 1 {
			t.Errorf("%s: %s\nwant %s", name, e.Sentence, c.want)
		}
		if e.Next != "correct the policy, and deploy it again; helve logs shop has what it prints" || !strings.Contains(e.Detail, "return 1 / 0") {
			t.Errorf("%s: next %s\n%s", name, e.Next, e.Detail)
		}
	}
	o := overview(map[string]helvetype.ApplicationStatus{"a-well": runsWith(helvetype.DeploymentStatus{}), "b-policy": runsWith(policyOf(nil)), "c-failed": {Status: helvetype.ApplicationDeployFailed, Message: "bad code"}})
	if len(o.Troubles) != 2 || o.Troubles[1].Object.App != "b-policy" || !strings.HasPrefix(o.Sentence, "2 of 3 applications are not as they should be") {
		t.Errorf("%+v", o)
	}
}
