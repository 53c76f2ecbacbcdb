package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// waiting is an application whose Front uses Ranker, and Ranker uses Model, which is not ready.
func waiting(model helvetype.DeploymentStatus) helvetype.Status {
	starts := func(id, waits string) []helvetype.ReplicaStatus {
		return []helvetype.ReplicaStatus{{ID: id, State: helvetype.ReplicaStarting, StartedAt: at, Wait: &helvetype.Wait{For: waits, Since: at}}}
	}
	model.Status, model.Trigger, model.Wanted = helvetype.DeploymentUpdating, helvetype.TriggerConfigUpdateStarted, 1
	if model.Replicas == nil && model.Failures == 0 {
		model.Replicas = starts("M#3", "its constructor")
	}
	return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationDeploying, Deployments: map[string]helvetype.DeploymentStatus{
		"Front": {
			Status: helvetype.DeploymentUpdating, Trigger: helvetype.TriggerConfigUpdateStarted, Wanted: 1, Uses: []string{"Cache", "Ranker"}, Replicas: starts("F#1", "the deployments that it uses"), Next: "1 replica in its start",
		},
		"Ranker": {Status: helvetype.DeploymentUpdating, Wanted: 1, Uses: []string{"Model", "Front"}, Replicas: starts("R#2", "the deployments that it uses"), Next: "1 replica in its start"},
		"Model":  model,
		"Cache":  {Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1},
	}}}}
}

// TestChainOfWaits: an application, and each deployment of it that waits, tells of the deployment at the end of the waits.
func TestChainOfWaits(t *testing.T) {
	t.Parallel()
	fails := helvetype.DeploymentStatus{
		Failures: 2, Message: "shop/Model.constructor: no file\nTraceback (most recent call last):\n  File \"/srv/m.py\", line 7, in __init__\n    raise ValueError(\"no file\")\nValueError: no file",
		Next: "the start of 1 replica", NextAt: at.Add(time.Minute),
	}
	const failure = "deployment Model: shop/Model.constructor: no file (ValueError in __init__, m.py line 7)"
	const next = "deployment Model: the start of 1 replica, at 2026-01-02T03:05:05.000Z"
	const loads = "replica M#3 of deployment Model waits for its constructor since 2026-01-02T03:04:05.000Z"
	for name, x := range map[string]struct {
		of         helvetype.Object
		model      helvetype.DeploymentStatus
		want, next string
		detail     bool
	}{
		"an application whose Model fails": {shop(), fails, "application shop is DEPLOYING; " + failure + "; deployment Front waits for Ranker, and Ranker waits for Model", next, true},
		"its ingress": {
			shop("Front"), fails, "deployment shop/Front is UPDATING (CONFIG_UPDATE_STARTED): 0 of 1 replica gets calls; " + failure + "; deployment Front waits for Ranker, and Ranker waits for Model", next, true,
		},
		"an application whose Model loads": {
			shop(), helvetype.DeploymentStatus{Next: "1 replica in its start"}, "application shop is DEPLOYING; " + loads + "; deployment Front waits for Ranker, and Ranker waits for Model", "helve profile shop/Model/M#3 --stacks shows where its start stands", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, ok := Explain(x.of, waiting(x.model), kept{}, at)
			if !ok || e.Sentence != x.want || e.Next != x.next || (e.Detail != "") != x.detail {
				t.Errorf("got  %s\nwant %s\nnext %q, want %q; detail %q", e.Sentence, x.want, e.Next, x.next, e.Detail)
			}
		})
	}
}

// TestRolloutThatWaits: an application whose rollout waits at a step, or is paused, says so with the command that goes on.
func TestRolloutThatWaits(t *testing.T) {
	t.Parallel()
	for state, next := range map[string]string{
		"waiting": "helve resume shop begins step 2; helve rollback shop, or another deploy, ends it",
		"paused":  "the rollout of revision 4 is paused: helve resume shop goes on with it; helve rollback shop, or another deploy, ends it",
	} {
		s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
			Status: helvetype.ApplicationDeploying, Deployments: map[string]helvetype.DeploymentStatus{"Model": {Status: helvetype.DeploymentUpdating, Wanted: 2, Ready: 2}},
			Rollout: &helvetype.Rollout{From: 3, To: 4, State: state, Since: at, Step: 1, Steps: 2, Message: "Model: 1 of 2 replicas are new and ready"},
		}}}
		want := "; the rollout from revision 3 to 4 is " + state + " since 2026-01-02T03:04:05.000Z: Model: 1 of 2 replicas are new and ready"
		for _, of := range []helvetype.Object{shop(), shop("Model")} {
			if e, ok := Explain(of, s, kept{}, at); !ok || !strings.HasSuffix(e.Sentence, want) || e.Next != next {
				t.Errorf("%s\nwant %s\nnext %q, want %q", e.Sentence, want, e.Next, next)
			}
		}
	}
}

// TestFirstOfFailures: an application that went back began to do so with the first of the failures.
func TestFirstOfFailures(t *testing.T) {
	t.Parallel()
	events := kept{
		{ID: 1, Object: shop("Ranker", "R#4"), From: "STARTING", Reason: "start_failed", Message: "no file", Time: at.Add(time.Minute)},
		{ID: 2, Object: shop(), From: "DEPLOYING", To: "DEPLOYING", Reason: "rolled_back", Message: "no file", Cause: 1, Time: at.Add(time.Minute)},
		{ID: 3, Object: shop(), From: "DEPLOYING", To: "DEPLOY_FAILED", Reason: "roll_back", Message: "revision 2 was rolled back: no file", Cause: 2, Time: at.Add(time.Minute)},
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
		Status: helvetype.ApplicationDeployFailed, Message: "revision 2 was rolled back: no file",
		Deployments: map[string]helvetype.DeploymentStatus{"Ranker": {Status: helvetype.DeploymentDeployFailed, FirstFailure: &helvetype.Failure{Replica: "R#1", At: at, Error: "no file"}}},
	}}}
	e, _ := Explain(shop(), s, events, at)
	if want := "application shop is DEPLOY_FAILED: revision 2 was rolled back: no file. It began at 2026-01-02T03:04:05.000Z with replica shop/Ranker/R#1: failed"; e.Sentence != want {
		t.Errorf("got  %s\nwant %s", e.Sentence, want)
	}
}

// TestBeginOfDeploy: an application that is DEPLOYING began to be so with the deploy, and not when its message changed last.
func TestBeginOfDeploy(t *testing.T) {
	t.Parallel()
	events := kept{
		{ID: 1, Object: shop(), To: "DEPLOYING", Reason: "deploy", Time: at.Add(-time.Hour)},
		{ID: 2, Object: shop(), From: "DEPLOYING", To: "RUNNING", Reason: "ready", Time: at.Add(-time.Minute)},
		{ID: 3, Object: shop(), From: "RUNNING", To: "DEPLOYING", Reason: "deploy", Time: at},
		{ID: 4, Object: shop("Ranker"), From: "HEALTHY", To: "UPDATING", Reason: "config_update_started", Cause: 3, Time: at},
		{ID: 5, Object: shop(), From: "DEPLOYING", To: "DEPLOYING", Reason: "deploy", Message: "deployment Ranker: no database", Time: at.Add(time.Minute)},
		{ID: 6, Object: shop("Ranker"), From: "UPDATING", To: "UPDATING", Reason: "config_update_started", Message: "no database", Cause: 5, Time: at.Add(time.Minute)},
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
		Status: helvetype.ApplicationDeploying, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": {Status: helvetype.DeploymentUpdating, Wanted: 1}},
	}}}
	if e, _ := Explain(shop("Ranker"), s, events, at); !strings.Contains(e.Sentence, "It began at 2026-01-02T03:04:05.000Z with application shop: deploy") {
		t.Error(e.Sentence)
	}
}
