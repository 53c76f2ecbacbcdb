package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// overview is the answer about applications without events.
func overview(apps map[string]helvetype.ApplicationStatus) helvetype.Overview {
	s := helvetype.Status{Applications: apps}
	return Overview(s, func(app string, s helvetype.Status) helvetype.Explanation {
		e, _ := Explain(helvetype.Object{Kind: helvetype.KindApplication, App: app}, s, kept{}, at)
		return e
	}, 0, at)
}

// TestOverviewOfRequestsGivenUp: requests whose clients have left while they waited are named beside the calls, of which none has failed.
func TestOverviewOfRequestsGivenUp(t *testing.T) {
	t.Parallel()
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": runsWith(helvetype.DeploymentStatus{LastMinute: &helvetype.LastMinute{Seconds: 60, Calls: 160}})}}
	for left, want := range map[int]string{
		24: "none of the 160 calls of the last minute failed; 24 requests were given up by their clients", 1: "failed; 1 request was given up by its client", 0: "none of the 160 calls of the last minute failed",
	} {
		if o := Overview(s, func(string, helvetype.Status) helvetype.Explanation { return helvetype.Explanation{} }, left, at); !strings.HasSuffix(o.Sentence, want) {
			t.Errorf("%s, want %s", o.Sentence, want)
		}
	}
}

func runsWith(d helvetype.DeploymentStatus) helvetype.ApplicationStatus {
	return helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"D": d}}
}

// TestOverview: the applications with trouble are named, the worst first, and the others are counted.
func TestOverview(t *testing.T) {
	t.Parallel()
	well := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 2, Ready: 2}
	slow, full, down := well, well, well
	full.Calls.Queued = 40
	slow.LastExit = &helvetype.Exit{Replica: "D#0", At: at, Reason: "exit status 3"}
	full.LastMinute = &helvetype.LastMinute{Seconds: 60, Calls: 90, Rejected: 10, Errors: 2}
	down.Status, down.Ready, down.Failures, down.Message = helvetype.DeploymentUnhealthy, 0, 3, "no database"
	apps := map[string]helvetype.ApplicationStatus{
		"a-ended": runsWith(slow), "b-full": runsWith(full), "c-well": runsWith(well),
		"d-rollout": {Status: helvetype.ApplicationDeploying, Rollout: &helvetype.Rollout{From: 1, To: 2, State: "paused"}, Deployments: map[string]helvetype.DeploymentStatus{"D": well}},
		"e-down":    {Status: helvetype.ApplicationUnhealthy, Message: "no database", Deployments: map[string]helvetype.DeploymentStatus{"D": down}},
		"f-failed":  {Status: helvetype.ApplicationDeployFailed, Message: "bad code", Deployments: map[string]helvetype.DeploymentStatus{"D": well}},
	}
	o := overview(apps)
	var names []string
	for _, x := range o.Troubles {
		names = append(names, x.Object.App)
		if x.Next == "" {
			t.Errorf("%s has no command that comes next: %s", x.Object.App, x.Sentence)
		}
	}
	if got, want := strings.Join(names, " "), "e-down b-full f-failed d-rollout a-ended"; got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
	if want := "5 of 6 applications are not as they should be; 10 of 12 replicas get calls; 0 calls run now, and 40 calls wait; 12 of the 100 calls of the last minute failed, 10 because a queue was full"; o.Sentence != want {
		t.Errorf("got  %s\nwant %s", o.Sentence, want)
	}
}

// TestOverviewOfCalm: a node without trouble says so with numbers.
func TestOverviewOfCalm(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1, Calls: helvetype.Calls{Running: 1}, LastMinute: &helvetype.LastMinute{Seconds: 60, Calls: 1}}
	for want, apps := range map[string]map[string]helvetype.ApplicationStatus{
		"no application runs": {},
		"all is well: 1 application with 1 deployment runs; 1 of 1 replica gets calls; 1 call runs now, and none waits; none of the 1 call of the last minute failed": {"a": runsWith(d)},
	} {
		if o := overview(apps); o.Sentence != want || o.Troubles == nil || len(o.Troubles) != 0 {
			t.Errorf("%+v\nwant %s", o, want)
		}
	}
}

// TestFailedCalls: of a chain of deployments whose calls fail, the last one is named.
func TestFailedCalls(t *testing.T) {
	t.Parallel()
	failed := &helvetype.LastMinute{Seconds: 60, Calls: 40, Errors: 4}
	a := helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{
		"Front": {Uses: []string{"Ranker"}, Wanted: 1, Ready: 1, LastMinute: failed}, "Ranker": {Wanted: 1, Ready: 1, LastMinute: failed, Calls: helvetype.Calls{Errors: 4}},
	}}
	e, _ := Explain(shop(), helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": a}}, kept{}, at.Add(time.Minute))
	if want := "; deployment Ranker: 4 of the 40 calls of the last 60 s have failed"; !strings.HasSuffix(e.Sentence, "has its replicas"+want) || !strings.HasPrefix(e.Next, failedList) {
		t.Errorf("%s\nnext %s", e.Sentence, e.Next)
	}
}
