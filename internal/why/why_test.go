package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) //nolint:gochecknoglobals // a constant

// kept has events by their ids.
type kept []helvetype.Event

func (k kept) History(o helvetype.Object) (own []helvetype.Event) {
	for _, ev := range k {
		if ev.Object == o {
			own = append(own, ev)
		}
	}
	return own
}

func (k kept) Find(id uint64) (helvetype.Event, bool) {
	for _, ev := range k {
		if ev.ID == id {
			return ev, true
		}
	}
	return helvetype.Event{}, false
}

func (k kept) Replicas(app, deployment string) (all []helvetype.Event) {
	for _, ev := range k {
		if o := ev.Object; o.Kind == helvetype.KindReplica && o.App == app && o.Deployment == deployment {
			all = append(all, ev)
		}
	}
	return all
}

func shop(path ...string) helvetype.Object {
	o := helvetype.Object{Kind: helvetype.KindApplication, App: "shop"}
	if len(path) > 0 {
		o.Kind, o.Deployment = helvetype.KindDeployment, path[0]
	}
	if len(path) > 1 {
		o.Kind, o.Replica = helvetype.KindReplica, path[1]
	}
	return o
}

// crash is a replica that dies, with what follows.
func crash() (helvetype.Status, kept) {
	events := kept{
		{ID: 1, Object: shop(), To: "DEPLOYING", Reason: "deploy", Inputs: map[string]string{"revision": "1"}},
		{ID: 3, Object: shop("Ranker", "R#2"), From: "RUNNING", Reason: "died", Message: "killed by SIGKILL"},
		{ID: 4, Object: shop("Ranker"), From: "HEALTHY", To: "UNHEALTHY", Reason: "replica_failed", Message: "killed by SIGKILL", Cause: 3},
		{ID: 5, Object: shop(), From: "RUNNING", To: "UNHEALTHY", Reason: "deployment_unhealthy", Message: "deployment Ranker: killed by SIGKILL", Cause: 4},
		{ID: 6, Object: shop("Ranker", "R#3"), To: "STARTING", Reason: "restart", Cause: 3},
		{ID: 7, Object: shop("Ranker", "R#0"), From: "RUNNING", To: "STOPPING", Reason: "replace", Message: "replica R#0 failed 3 health checks: no"},
		{ID: 8, Object: shop("Ranker", "R#0"), From: "STOPPING", Reason: "stopped", Cause: 7},
	}
	for i := range events {
		events[i].Time = at.Add(time.Duration(i) * time.Second)
	}
	d := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentUnhealthy, Trigger: helvetype.TriggerHealthCheckFailed, Message: "killed by SIGKILL", Wanted: 2, Ready: 1, Failures: 3,
		FirstFailure: &helvetype.Failure{Replica: "R#1", At: at, Error: "ValueError: no model"}, Next: "the start of 1 replica", NextAt: at.Add(time.Minute),
		Replicas: []helvetype.ReplicaStatus{
			{ID: "R#3", State: helvetype.ReplicaStarting, StartedAt: at, Wait: &helvetype.Wait{For: "its constructor", Since: at}, LastExit: &helvetype.Exit{Replica: "R#2", Reason: "killed by SIGKILL", At: at}},
			{ID: "R#4", State: helvetype.ReplicaRunning, StartedAt: at, NotReady: &helvetype.Condition{Since: at, Reason: "its readiness check failed: cold", Next: "the next readiness check", NextAt: at}},
			{ID: "R#5", State: helvetype.ReplicaRunning, StartedAt: at, Ejected: &helvetype.Condition{Since: at, Reason: "5 calls in a row failed"}},
			{ID: "R#6", State: helvetype.ReplicaRunning, StartedAt: at, Ready: true},
			{ID: "R#7", State: helvetype.ReplicaStopping, StartedAt: at},
		},
	}
	return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
		Status: helvetype.ApplicationUnhealthy, Message: "deployment Ranker: killed by SIGKILL", Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d},
	}, "fine": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"A": {Status: helvetype.DeploymentHealthy}}}}}, events
}

func TestExplain(t *testing.T) {
	t.Parallel()
	const next = "the start of 1 replica, at 2026-01-02T03:05:05.000Z"
	for name, c := range map[string]struct {
		of       helvetype.Object
		sentence string
		next     string
		events   string // the first bytes of the reasons in the timeline
	}{
		"an application": {shop(), "application shop is UNHEALTHY: deployment Ranker: killed by SIGKILL. It began at 2026-01-02T03:04:06.000Z with replica shop/Ranker/R#2: died",
			"deployment Ranker: " + next, "deploy died replica_failed deployment_unhealthy"},
		"a deployment": {shop("Ranker"), "deployment shop/Ranker is UNHEALTHY (HEALTH_CHECK_FAILED): 1 of 2 replicas get calls; killed by SIGKILL; " +
			"the first of 3 failures, of replica R#1 at 2026-01-02T03:04:05.000Z: ValueError: no model. It began at 2026-01-02T03:04:06.000Z with replica shop/Ranker/R#2: died",
			next, "died replica_failed"},
		"a replica that starts": {shop("Ranker", "R#3"), "replica shop/Ranker/R#3 is STARTING since 2026-01-02T03:04:09.000Z and waits for its constructor since 2026-01-02T03:04:05.000Z; " +
			"it is in the place of R#2, which ended at 2026-01-02T03:04:05.000Z: killed by SIGKILL", "", "died restart"},
		"a replica that is not ready": {shop("Ranker", "R#4"), "replica shop/Ranker/R#4 is RUNNING since 2026-01-02T03:04:05.000Z and gets no calls since 2026-01-02T03:04:05.000Z: its readiness check failed: cold",
			"the next readiness check, at 2026-01-02T03:04:05.000Z", ""},
		"an ejected replica":          {shop("Ranker", "R#5"), "replica shop/Ranker/R#5 is RUNNING since 2026-01-02T03:04:05.000Z and is ejected since 2026-01-02T03:04:05.000Z: 5 calls in a row failed", "", ""},
		"a replica that works":        {shop("Ranker", "R#6"), "replica shop/Ranker/R#6 is RUNNING since 2026-01-02T03:04:05.000Z and gets calls", "", ""},
		"a replica that stops":        {shop("Ranker", "R#7"), "replica shop/Ranker/R#7 is STOPPING since 2026-01-02T03:04:05.000Z: replica R#7 finishes its calls before it ends", "", ""},
		"a replica that is gone":      {shop("Ranker", "R#2"), "replica shop/Ranker/R#2 is gone since 2026-01-02T03:04:06.000Z (died): killed by SIGKILL", next, "died"},
		"a replica that was replaced": {shop("Ranker", "R#0"), "replica shop/Ranker/R#0 is gone since 2026-01-02T03:04:11.000Z (replace): replica R#0 failed 3 health checks: no", next, "replace stopped"},
		"an application that runs":    {helvetype.Object{Kind: helvetype.KindApplication, App: "fine"}, "application fine is RUNNING: its deployment has its replicas", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, events := crash()
			e, ok := Explain(c.of, s, events, at.Add(time.Minute))
			var reasons []string
			for _, ev := range e.Timeline {
				reasons = append(reasons, ev.Reason)
			}
			if !ok || e.Sentence != c.sentence || e.Next != c.next || strings.Join(reasons, " ") != c.events || e.Timeline == nil {
				t.Errorf("%t, %v\n%s\nwant\n%s\nnext %q, want %q", ok, reasons, e.Sentence, c.sentence, e.Next, c.next)
			}
		})
	}
	for _, o := range []helvetype.Object{shop("Nothing"), shop("Ranker", "R#9"), {Kind: helvetype.KindApplication, App: "none"}} {
		s, events := crash()
		if e, ok := Explain(o, s, events, at); ok {
			t.Errorf("%s is explained: %s", o, e.Sentence)
		}
	}
}

// TestNextAfterARollback: the answer about a deploy that went back by itself names the commands that end its state, and that about a first deploy, which has nothing to go back to, does not.
func TestNextAfterARollback(t *testing.T) {
	t.Parallel()
	const ends = "deploy a corrected revision; helve rollback shop ends this state with the revision that serves, and starts no replica"
	for name, c := range map[string]struct {
		d    helvetype.DeploymentStatus
		want string
	}{
		"an error rate": {helvetype.DeploymentStatus{Wanted: 1, Ready: 1}, ends},
		"a constructor": {helvetype.DeploymentStatus{Wanted: 1, Ready: 1, Next: "no more attempt: the form before serves; deploy a corrected revision"},
			"deployment Ranker: no more attempt: the form before serves; " + ends},
		"a first deploy": {helvetype.DeploymentStatus{Wanted: 1, Next: "no more attempt"}, "deployment Ranker: no more attempt"},
	} {
		a := helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: "revision 2 is rolled back", Deployments: map[string]helvetype.DeploymentStatus{"Ranker": c.d}}
		e, ok := Explain(shop(), helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": a}}, kept(nil), at)
		if !ok || e.Next != c.want {
			t.Errorf("%s: %q, want %q", name, e.Next, c.want)
		}
	}
}

// TestBackForErrors: the next command after a rollback for the error rate lists the failed calls.
func TestBackForErrors(t *testing.T) {
	t.Parallel()
	const list = "its failed calls: helve why --failed shop"
	failed := helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, Message: "revision 2 was rolled back", Deployments: map[string]helvetype.DeploymentStatus{"Ranker": {Wanted: 1, Ready: 1}}}
	returns := helvetype.ApplicationStatus{Status: helvetype.ApplicationDeploying, Rollout: &helvetype.Rollout{From: 1, To: 2, State: "rolling back"}}
	for name, c := range map[string]struct {
		a     helvetype.ApplicationStatus
		cause string
		want  bool
	}{
		"gone back":            {failed, "error_rate", true},
		"on its way back":      {returns, "error_rate", true},
		"too slow":             {failed, "progress_deadline", false},
		"an older one":         {helvetype.ApplicationStatus{Status: helvetype.ApplicationRunning}, "error_rate", false},
		"a deploy that failed": {helvetype.ApplicationStatus{Status: helvetype.ApplicationDeployFailed, FailedDeploy: &helvetype.FailedDeploy{}}, "error_rate", false},
	} {
		events := kept{{ID: 1, Object: shop(), Reason: "rolled_back", Inputs: map[string]string{"cause": c.cause}}}
		e, _ := Explain(shop(), helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": c.a}}, events, at)
		if strings.HasPrefix(e.Next, list) != c.want {
			t.Errorf("%s: %q", name, e.Next)
		}
		if name == "gone back" && !strings.HasPrefix(e.Next, list+"; deploy a corrected revision; helve rollback shop ") {
			t.Errorf("%s: %q", name, e.Next)
		}
	}
}

// TestCauseInACircle: events that name each other as causes, which a broken file of events may have, do not keep an answer from its end.
func TestCauseInACircle(t *testing.T) {
	t.Parallel()
	events := kept{{ID: 1, Object: shop(), Cause: 2}, {ID: 2, Object: shop("Ranker"), Cause: 1}}
	s, _ := crash()
	if e, ok := Explain(shop(), s, events, at); !ok || len(e.Timeline) != 2 {
		t.Errorf("%+v", e)
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	_, events := crash()
	for name, c := range map[string]struct {
		entry helvetype.RevisionEntry
		want  string
		next  string
		n     int // events
	}{
		"failed": {helvetype.RevisionEntry{Number: 1, State: "failed", Reason: "12 of 100 calls failed", At: at, By: "ann"},
			"revision 1 of application shop is failed: it was given up: 12 of 100 calls failed; deployed at 2026-01-02T03:04:05.000Z by ann", "deploy a corrected revision", 1},
		"a rollback": {helvetype.RevisionEntry{Number: 7, State: "running", RollbackOf: 5}, "revision 7 of application shop is running, to go back to revision 5", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if e := Revision("shop", c.entry, events); e.Sentence != c.want || e.Next != c.next || len(e.Timeline) != c.n {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	starting := helvetype.ReplicaStatus{State: helvetype.ReplicaStarting}
	out := func(after time.Duration) helvetype.ReplicaStatus {
		return helvetype.ReplicaStatus{State: helvetype.ReplicaRunning, NotReady: &helvetype.Condition{Next: "the next check", NextAt: at.Add(after)}}
	}
	for name, c := range map[string]struct {
		s    helvetype.DeploymentStatus
		want string
		at   time.Time
	}{
		"all is well":        {helvetype.DeploymentStatus{Wanted: 1, Ready: 1}, "", time.Time{}},
		"given up":           {helvetype.DeploymentStatus{Status: helvetype.DeploymentDeployFailed, Wanted: 1}, "no more attempt: deploy a corrected revision, or roll back", time.Time{}},
		"rolled back":        {helvetype.DeploymentStatus{Status: helvetype.DeploymentDeployFailed, Wanted: 1, Ready: 1}, "no more attempt: the form before serves; deploy a corrected revision", time.Time{}},
		"a start is delayed": {helvetype.DeploymentStatus{Wanted: 3, NextAt: at, Replicas: []helvetype.ReplicaStatus{starting}}, "the start of 2 replicas", at},
		"a start":            {helvetype.DeploymentStatus{Wanted: 1, Replicas: []helvetype.ReplicaStatus{starting}}, "1 replica in its start", time.Time{}},
		"not ready":          {helvetype.DeploymentStatus{Wanted: 2, Replicas: []helvetype.ReplicaStatus{out(2), out(1)}}, "the next check", at.Add(1)},
		"deleted":            {helvetype.DeploymentStatus{Wanted: 1, Trigger: helvetype.TriggerDeleting, NextAt: at}, "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text, when := Next(&c.s); text != c.want || !when.Equal(c.at) {
				t.Errorf("%q at %s", text, when)
			}
		})
	}
}
