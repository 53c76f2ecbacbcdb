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

// TestMore: the advice for calls that wait names the number of replicas, the bound only where that holds the number, and else the autoscaler.
func TestMore(t *testing.T) {
	t.Parallel()
	of := func(target, desired, most int, blocked string) *helvetype.Autoscaling {
		return &helvetype.Autoscaling{Target: target, Desired: desired, Least: 1, Most: most, Blocked: blocked}
	}
	const bound = "helve set shop/D autoscaling_config.max_replicas=N lets the autoscaler go above 4"
	for name, c := range map[string]struct {
		a         *helvetype.Autoscaling
		now, past string
	}{
		"no autoscaler":    {nil, "helve scale shop/D N adds replicas", "helve scale shop/D N adds replicas"},
		"held by a bound":  {of(4, 15, 4, "max_replicas"), bound, bound},
		"at a bound":       {of(4, 4, 4, ""), "asks for no more replicas: helve set shop/D autoscaling_config.target_ongoing_requests=N, below", bound},
		"grows":            {of(2, 3, 4, ""), "its autoscaler adds replicas, and helve why shop/D", "its autoscaler adds replicas, and helve why shop/D"},
		"is about to grow": {func() *helvetype.Autoscaling { a := of(2, 2, 4, ""); a.Queued, a.TargetOngoing = 9, 2; return a }(), "helve why shop/D says when", "helve why shop/D says when"},
		"enough":           {of(2, 2, 4, ""), "asks for no more replicas", "helve why shop/D says when its autoscaler adds replicas"},
		"held by a hold":   {of(2, 2, 4, "a rollout is under way"), "helve why shop/D says when", "helve why shop/D says when"},
		"of max_downscale": {of(2, 2, 4, "max_downscale_factor"), "helve why shop/D says when", "helve why shop/D says when"},
	} {
		d := helvetype.DeploymentStatus{Wanted: 2, Ready: 2, Autoscaling: c.a}
		for past, want := range map[bool]string{false: c.now, true: c.past} {
			if got := more("shop/D", d, past); !strings.Contains(got, want) {
				t.Errorf("%s, past %t: %s", name, past, got)
			}
		}
	}
}

// TestAdviceBesideAutoscaler: no answer names helve scale for a deployment with an autoscaler, which refuses that command: not that about calls that wait, about slow requests, about one request.
func TestAdviceBesideAutoscaler(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentHealthy, Wanted: 4, Ready: 4, Calls: helvetype.Calls{Queued: 9, Running: 12}, LastMinute: &helvetype.LastMinute{Seconds: 60, Calls: 9, Rejected: 3},
		Autoscaling: &helvetype.Autoscaling{Target: 4, Desired: 15, Least: 1, Most: 4, Blocked: "max_replicas"},
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d}}}}
	wait, load := piece("wait", "b", "a", "Ranker", 2, 1400), piece("span", "b", "a", "Ranker", 2, 1400)
	load.Name, load.Attributes = "load of model cats", map[string]any{"model": "cats"}
	full := piece("call", "a", "r", "Ranker", 1, 1)
	full.Reason = string(helvetype.ReasonBackpressure)
	advice := map[string]string{}
	for _, of := range []helvetype.Object{shop(), shop("Ranker")} {
		e, _ := Explain(of, s, kept{}, at)
		advice[of.String()] = e.Next
	}
	for name, heavy := range map[string]helvetype.Span{"slow for slots": wait, "slow for models": load} {
		requests := []helvetype.RequestTrace{slowRequest(1, 1500, heavy), slowRequest(2, 1500, heavy), slowRequest(3, 1500, heavy)}
		e := helvetype.Explanation{Object: shop()}
		Measure(&e, s.Applications["shop"], Load{SlowFrom: time.Second, Requests: requests})
		advice[name] = e.Next
		_, advice["one "+name] = Request(&requests[0], s, kept{})
	}
	rejected := request(3, 503, full)
	rejected.Reason = string(helvetype.ReasonBackpressure)
	_, advice["rejected"] = Request(rejected, s, kept{})
	if len(advice) != 7 {
		t.Fatal(advice)
	}
	for name, next := range advice {
		if strings.Contains(next, "helve scale") || !strings.Contains(next, "helve set shop/Ranker autoscaling_config.max_replicas=N lets the autoscaler go above 4") {
			t.Errorf("%s: %s", name, next)
		}
	}
}

// TestOverviewOfScaling: a deployment that scales as it should is as it should be. One whose bound holds the number, or whose replicas do not start, is trouble.
func TestOverviewOfScaling(t *testing.T) {
	t.Parallel()
	starting := func(wait helvetype.Wait) []helvetype.ReplicaStatus {
		return []helvetype.ReplicaStatus{{ID: "D#1", State: helvetype.ReplicaRunning, Ready: true}, {ID: "D#2", State: helvetype.ReplicaStarting, StartedAt: at.Add(-2 * time.Second), Wait: &wait}}
	}
	for name, c := range map[string]struct {
		troubles int
		change   func(*helvetype.DeploymentStatus)
	}{
		"calls wait while a replica starts": {0, func(*helvetype.DeploymentStatus) {}},
		"the queue is worked off": {0, func(d *helvetype.DeploymentStatus) {
			d.Status, d.Ready, d.Replicas[1].State, d.Replicas[1].Wait = helvetype.DeploymentHealthy, 2, helvetype.ReplicaRunning, nil
		}},
		"a replica finishes its calls": {0, func(d *helvetype.DeploymentStatus) {
			d.Status, d.Wanted, d.Replicas[1].State, d.Calls.Queued = helvetype.DeploymentDownscaling, 1, helvetype.ReplicaStopping, 0
		}},
		"the load has just come": {0, func(d *helvetype.DeploymentStatus) {
			d.Status, d.Wanted, d.Replicas, d.Autoscaling.LastUp = helvetype.DeploymentHealthy, 1, nil, time.Time{}
			d.Autoscaling.Queued, d.Autoscaling.Running, d.Autoscaling.TargetOngoing = 9, 3, 2
		}},
		"calls wait later": {1, func(d *helvetype.DeploymentStatus) {
			d.Status, d.Ready, d.Replicas, d.Autoscaling.LastUp = helvetype.DeploymentHealthy, 2, nil, at.Add(-time.Minute)
			d.Autoscaling.Queued, d.Autoscaling.Running, d.Autoscaling.TargetOngoing = 9, 6, 20
		}},
		"the bound holds the number": {1, func(d *helvetype.DeploymentStatus) {
			d.Status, d.Ready, d.Replicas, d.Autoscaling.Blocked = helvetype.DeploymentHealthy, 2, nil, "max_replicas"
		}},
		"the start fails":      {1, func(d *helvetype.DeploymentStatus) { d.Failures, d.Message = 1, "no database" }},
		"the start takes long": {1, func(d *helvetype.DeploymentStatus) { d.Replicas[1].StartedAt = at.Add(-2 * time.Minute) }},
		"it waits for room": {1, func(d *helvetype.DeploymentStatus) {
			d.Replicas = starting(helvetype.Wait{For: "room on the node", Reason: "no GPU", Since: at})
		}},
		"a queue is full": {1, func(d *helvetype.DeploymentStatus) {
			d.LastMinute = &helvetype.LastMinute{Seconds: 60, Calls: 9, Rejected: 3}
		}},
	} {
		d := helvetype.DeploymentStatus{
			Status: helvetype.DeploymentUpscaling, Trigger: helvetype.TriggerAutoscaling, Wanted: 2, Ready: 1, Calls: helvetype.Calls{Queued: 9, Running: 3}, Replicas: starting(helvetype.Wait{For: "its constructor", Since: at}),
			Autoscaling: &helvetype.Autoscaling{Target: 2, Desired: 2, Least: 1, Most: 4, LastUp: at.Add(-2 * time.Second)},
		}
		c.change(&d)
		o := overview(map[string]helvetype.ApplicationStatus{"shop": runsWith(d)})
		if len(o.Troubles) != c.troubles {
			t.Errorf("%s: %+v", name, o)
		}
		if d.Calls.Queued > 0 && !strings.Contains(o.Sentence, "9 calls wait") {
			t.Errorf("%s: the calls are not counted: %s", name, o.Sentence)
		}
	}
}

// TestLasting: requests that have waited before a deployment had grown are over. Later requests are not, and requests to a deployment that does not scale are not.
func TestLasting(t *testing.T) {
	t.Parallel()
	up := at.Add(-30 * time.Second)
	d := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Autoscaling: &helvetype.Autoscaling{LastUp: up}}
	events := kept{{Object: shop("Ranker"), From: "UPSCALING", To: "HEALTHY", Reason: "upscale_completed", Time: up.Add(-time.Minute)}, {Object: shop("Ranker"), From: "UPSCALING", To: "HEALTHY", Reason: "upscale_completed", Time: up.Add(3 * time.Second)}}
	waits := func(since time.Duration, deployment string) helvetype.RequestTrace {
		r := slowRequest(1, 1500, piece("wait", "b", "a", deployment, 2, 1400))
		earlier := up.Add(since).Sub(r.Started)
		r.Started = r.Started.Add(earlier)
		for i := range r.Spans {
			r.Spans[i].Started = r.Spans[i].Started.Add(earlier)
		}
		return r
	}
	l := Load{Requests: []helvetype.RequestTrace{waits(-time.Second, "Ranker"), waits(2*time.Second, "Ranker"), waits(4*time.Second, "Ranker"), waits(0, "Other")}}
	for name, c := range map[string]struct {
		left   int
		change func(*helvetype.DeploymentStatus)
	}{
		"has grown":     {2, func(*helvetype.DeploymentStatus) {}},
		"grows":         {1, func(d *helvetype.DeploymentStatus) { d.Status = helvetype.DeploymentUpscaling }},
		"has not grown": {4, func(d *helvetype.DeploymentStatus) { d.Autoscaling = &helvetype.Autoscaling{} }},
		"by hand":       {4, func(d *helvetype.DeploymentStatus) { d.Autoscaling = nil }},
	} {
		d := d
		c.change(&d)
		a := helvetype.ApplicationStatus{Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d, "Other": {}}}
		if got := l.Lasting("shop", a, events, at); len(got.Requests) != c.left || len(l.Requests) != 4 {
			t.Errorf("%s: %d requests are left, want %d", name, len(got.Requests), c.left)
		}
	}
}

// TestFailingPolicyBesideAState: the policy of a deployment that fails is named beside the trouble that the state of its application has, with both tracebacks and both next steps.
func TestFailingPolicyBesideAState(t *testing.T) {
	t.Parallel()
	const trace = "ImportError: no module shop2\nTraceback (most recent call last):\n  File \"/srv/serve.py\", line 3, in <module>\nImportError: no module shop2"
	const policy = "its autoscaling policy, scaling:f, has no answer since 2026-01-02T03:04:05.000Z, and the last answer holds: ZeroDivisionError: division by zero (in f, scaling.py line 9)"
	unhealthy := policyOf(nil)
	unhealthy.Status, unhealthy.Ready, unhealthy.Message, unhealthy.Failures = helvetype.DeploymentUnhealthy, 1, "replica D#1 has died", 1
	for name, x := range map[string]struct {
		a          helvetype.ApplicationStatus
		want, next string
	}{
		"a file that was refused": {
			helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: trace, FailedDeploy: &helvetype.FailedDeploy{Error: trace, At: at, Source: "default"}},
			"has failed, and the application serves on as it was: ImportError", afterFailed + "; correct the policy scaling:f too: helve logs shop has what it prints",
		},
		"a rollback": {helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: "revision 2 was rolled back: no file"}, "no file", "; correct the policy scaling:f too: helve logs shop has what it prints"},
		"a rollout":  {helvetype.ApplicationStatus{Status: helvetype.ApplicationDeploying, Rollout: &helvetype.Rollout{From: 1, To: 2, State: "paused"}}, "paused", "; correct the policy scaling:f too: helve logs shop has what it prints"},
		"a failure":  {helvetype.ApplicationStatus{Status: helvetype.ApplicationUnhealthy, Message: "replica D#1 has died"}, "has died", "correct the policy, and deploy it again; helve logs shop has what it prints"},
	} {
		x.a.Deployments = map[string]helvetype.DeploymentStatus{"D": policyOf(nil)}
		if x.a.Status == helvetype.ApplicationUnhealthy {
			x.a.Deployments["D"] = unhealthy
		}
		e, _ := Explain(shop(), helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": x.a}}, kept{}, at.Add(time.Minute))
		if !strings.Contains(e.Sentence, x.want) || strings.Count(e.Sentence, "; deployment D: "+policy) != 1 {
			t.Errorf("%s: %s\nwant %s, and %s", name, e.Sentence, x.want, policy)
		}
		if !strings.HasSuffix(e.Next, x.next) || !strings.Contains(e.Detail, "return 1 / 0") || x.a.FailedDeploy != nil && !strings.Contains(e.Detail, "line 3, in <module>") {
			t.Errorf("%s: next %s\n%s", name, e.Next, e.Detail)
		}
		o := overview(map[string]helvetype.ApplicationStatus{"shop": x.a})
		if len(o.Troubles) != 1 || !strings.Contains(o.Troubles[0].Sentence, policy) || o.Troubles[0].Next != e.Next {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// TestTroubleBesideAFailedDeploy: after a deploy that has failed the trouble of the revision that serves is in the answer, too.
func TestTroubleBesideAFailedDeploy(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1, Calls: helvetype.Calls{Queued: 7, Running: 5}}
	a := helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: "revision 2 was rolled back: no file", Deployments: map[string]helvetype.DeploymentStatus{"D": d}}
	e, _ := Explain(shop(), helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": a}}, kept{}, at)
	if !strings.Contains(e.Sentence, "no file") || !strings.Contains(e.Sentence, "; deployment D: 7 calls wait for a slot") {
		t.Error(e.Sentence)
	}
}
