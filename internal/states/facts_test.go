package states_test

import (
	"fmt"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
)

// app and dep are the facts as a node has them.
type app struct {
	status, message string
	deployments     []view
}

type view struct {
	name, status, message string
	current               bool
}

type dep struct {
	ready, former, wanted, failures int
	gaveUp                          bool
	app, message, slow              string
}

// deploymentBefore is the node's own computation of a deployment's status, from before there was a table.
func deploymentBefore(d dep) (status, message string) {
	missing := d.ready < d.wanted
	status = "HEALTHY"
	switch {
	case d.gaveUp:
		status, message = "DEPLOY_FAILED", d.message
	case d.app == "DELETING":
		status = "UPDATING"
	case missing && d.failures > 0 && d.app != "DEPLOYING":
		status, message = "UNHEALTHY", d.message
	case missing && d.failures > 0:
		status, message = "UPDATING", d.message
	case missing || d.former > 0:
		status = "UPDATING"
	}
	if message == "" && missing {
		message = d.slow
	}
	return status, message
}

// applicationBefore is the node's own computation of an application's status, but for an application that was rolled back.
func applicationBefore(a app) (status, message string) {
	badness := map[string]int{"HEALTHY": 0, "UPDATING": 1, "UNHEALTHY": 2, "DEPLOY_FAILED": 3}
	of := map[string]string{"HEALTHY": "RUNNING", "UPDATING": "DEPLOYING", "UNHEALTHY": "UNHEALTHY", "DEPLOY_FAILED": "DEPLOY_FAILED"}
	status, message = a.status, a.message
	if status == "RUNNING" && message != "" {
		return "DEPLOY_FAILED", message
	}
	worst := "HEALTHY"
	for _, d := range a.deployments {
		if !d.current {
			continue
		}
		if badness[d.status] > badness[worst] {
			worst = d.status
			if a.status != "DEPLOY_FAILED" && d.message != "" {
				message = fmt.Sprintf("deployment %s: %s", d.name, d.message)
			}
		}
	}
	if a.status == "RUNNING" {
		status = of[worst]
	}
	return status, message
}

// TestDeploymentsAsBefore: in every state, the facts lead to the status and message that the node gave before.
func TestDeploymentsAsBefore(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	o := helvetype.Object{Kind: helvetype.KindDeployment, App: "a", Deployment: "D"}
	cases := 0
	for _, d := range deployments() {
		facts := states.DeploymentFacts{
			Wanted: d.wanted, Ready: d.ready, Former: d.former, Failures: d.failures, GaveUp: d.gaveUp,
			Application: helvetype.ApplicationState(d.app), Error: d.message, Waits: d.slow,
		}
		status, message := deploymentBefore(d)
		for _, from := range statesOf(helvetype.KindDeployment) {
			if from == "UPSCALING" || from == "DOWNSCALING" { // no state of a node's before
				continue
			}
			cases++
			ev, err := m.Fire(o, from, facts.Event(), facts.Facts(), 0)
			if err != nil || ev.To != status || ev.Message != message {
				t.Errorf("%+v from %s: %s %q, before %s %q: %v", d, from, ev.To, ev.Message, status, message, err)
			}
		}
	}
	if cases < 1000 {
		t.Errorf("%d cases", cases)
	}
}

// deployments are the facts of a node in all combinations.
func deployments() (all []dep) {
	for _, app := range []string{"DEPLOYING", "RUNNING", "DEPLOY_FAILED", "DELETING"} {
		for wanted := range 3 {
			for ready := range 4 {
				for former := range 2 {
					for failures := range 2 {
						for _, gaveUp := range []bool{false, true} {
							for _, message := range []string{"", "boom"} {
								for _, slow := range []string{"", "it waits"} {
									all = append(all, dep{ready, former, wanted, failures, gaveUp, app, message, slow})
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// TestApplicationsAsBefore: the same for applications, with two deployments in all combinations of states.
func TestApplicationsAsBefore(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	o := helvetype.Object{Kind: helvetype.KindApplication, App: "a"}
	var views []view
	for _, status := range []string{"HEALTHY", "UPDATING", "UNHEALTHY", "DEPLOY_FAILED"} {
		for _, message := range []string{"", "boom"} {
			for _, current := range []bool{true, false} {
				views = append(views, view{"", status, message, current})
			}
		}
	}
	const rolled = "revision 2 was rolled back: no"
	for _, own := range []struct {
		status, message, failure, rolledBack string
	}{
		{"DEPLOYING", "", "", ""}, {"RUNNING", "", "", ""}, {"RUNNING", rolled, "no", "2"}, {"DEPLOY_FAILED", "no", "no", ""},
		{"DELETING", "", "", ""}, {"DELETING", "no", "no", ""}, {"DELETING", rolled, "no", "2"},
	} {
		for _, a := range views {
			for _, b := range views {
				a.name, b.name = "A", "B"
				now := app{own.status, own.message, []view{a, b}}
				facts := states.ApplicationFacts{
					Own: helvetype.ApplicationState(own.status), Error: own.failure, RolledBack: own.rolledBack,
					Deployments: []states.DeploymentView{ // in another order: names decide
						{Name: "B", State: states.State(b.status), Message: b.message, Leaving: !b.current},
						{Name: "A", State: states.State(a.status), Message: a.message, Leaving: !a.current},
					},
				}
				status, message := applicationBefore(now)
				for _, from := range statesOf(helvetype.KindApplication) {
					if from == "DELETING" && own.status != "DELETING" { // no other facts are possible
						continue
					}
					ev, err := m.Fire(o, from, facts.Event(), facts.Facts(), 0)
					if err != nil || ev.To != status || ev.Message != message {
						t.Errorf("%+v from %s: %s %q, before %s %q: %v", now, from, ev.To, ev.Message, status, message, err)
					}
				}
			}
		}
	}
}

// TestUnhealthyDeployment: an application whose deployment is unhealthy is unhealthy, or worse.
func TestUnhealthyDeployment(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	o := helvetype.Object{Kind: helvetype.KindApplication, App: "a"}
	unhealthy := 0
	for _, d := range deployments() {
		facts := states.DeploymentFacts{
			Wanted: d.wanted, Ready: d.ready, Former: d.former, Failures: d.failures, GaveUp: d.gaveUp, Application: helvetype.ApplicationState(d.app),
		}
		tr, ok := m.Next(helvetype.KindDeployment, "HEALTHY", facts.Event())
		if !ok || tr.To != "UNHEALTHY" {
			continue
		}
		unhealthy++
		application := states.ApplicationFacts{
			Own: helvetype.ApplicationState(d.app), Deployments: []states.DeploymentView{{Name: "A", State: "HEALTHY"}, {Name: "D", State: tr.To}},
		}
		ev, err := m.Fire(o, "RUNNING", application.Event(), application.Facts(), 0)
		if err != nil || ev.To != "UNHEALTHY" && ev.To != "DEPLOY_FAILED" {
			t.Errorf("%+v: the application is %s: %v", d, ev.To, err)
		}
	}
	if unhealthy == 0 {
		t.Error("no deployment was unhealthy")
	}
}

// TestRolledBack: a deployment whose form in the newest revision was given up is DEPLOY_FAILED while the form before serves, and shows
// trouble of the form before first.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	for name, x := range map[string]struct {
		facts  states.DeploymentFacts
		status states.State
		want   string
	}{
		"serves":        {states.DeploymentFacts{Wanted: 1, Ready: 1}, "DEPLOY_FAILED", "no"},
		"replica died":  {states.DeploymentFacts{Wanted: 1, Failures: 1, Error: "killed"}, "UNHEALTHY", "killed"},
		"gets replicas": {states.DeploymentFacts{Wanted: 2, Ready: 1, Scaling: states.ScalingUp}, "DEPLOY_FAILED", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x.facts.Application, x.facts.RolledBack = helvetype.ApplicationRunning, "no"
			tr, ok := m.Next(helvetype.KindDeployment, "DEPLOY_FAILED", x.facts.Event())
			if message := tr.Fill(x.facts.Facts()); !ok || tr.To != x.status || message != x.want {
				t.Errorf("%s %q; want %s %q", tr.To, message, x.status, x.want)
			}
		})
	}
}

// TestTriggers: every reason of a deployment has a word of the reference, and deleting shows at once.
func TestTriggers(t *testing.T) {
	t.Parallel()
	seen := map[helvetype.DeploymentTrigger]bool{}
	for _, tr := range of(helvetype.KindDeployment) {
		seen[states.Trigger(tr.Reason)] = true
	}
	if len(seen) != 9 {
		t.Errorf("%v", seen)
	}
	s := states.Shown{State: "UPDATING", Reason: "config_update_started"}
	if !states.NewMachine().Changes(helvetype.KindDeployment, &s, states.Delete, states.Facts{}) {
		t.Error("a deployment that is UPDATING does not show that it is being deleted")
	}
}

// TestScaling: a change of the number of replicas shows as scaling, and hides neither an update nor a failure.
func TestScaling(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	for _, x := range []struct {
		name  string
		from  states.State
		facts states.DeploymentFacts
		want  states.State
	}{
		{"more are wanted", "HEALTHY", states.DeploymentFacts{Wanted: 2, Ready: 1, Scaling: states.ScalingUp}, "UPSCALING"},
		{"they are still starting", "UPSCALING", states.DeploymentFacts{Wanted: 2, Ready: 1, Scaling: states.ScalingUp}, "UPSCALING"},
		{"they run", "UPSCALING", states.DeploymentFacts{Wanted: 2, Ready: 2, Scaling: states.ScalingUp}, "HEALTHY"},
		{"fewer are wanted", "HEALTHY", states.DeploymentFacts{Wanted: 1, Ready: 2, Scaling: states.ScalingDown}, "DOWNSCALING"},
		{"they have stopped", "DOWNSCALING", states.DeploymentFacts{Wanted: 1, Ready: 1, Scaling: states.ScalingDown}, "HEALTHY"},
		{"the other direction", "UPSCALING", states.DeploymentFacts{Wanted: 1, Ready: 2, Scaling: states.ScalingDown}, "DOWNSCALING"},
		{"one fails", "UPSCALING", states.DeploymentFacts{Wanted: 2, Ready: 1, Failures: 1, Scaling: states.ScalingUp}, "UNHEALTHY"},
		{"while it is unhealthy", "UNHEALTHY", states.DeploymentFacts{Wanted: 3, Ready: 1, Scaling: states.ScalingUp}, "UNHEALTHY"},
		{"while it is updating", "UPDATING", states.DeploymentFacts{Wanted: 3, Ready: 1, Scaling: states.ScalingUp}, "UPDATING"},
		{"a deploy meanwhile", "UPSCALING", states.DeploymentFacts{
			Wanted: 3, Ready: 1, Scaling: states.ScalingUp, Application: helvetype.ApplicationDeploying,
		}, "UPDATING"},
		{"a deploy of another number alone", "HEALTHY", states.DeploymentFacts{
			Wanted: 3, Ready: 1, Scaling: states.ScalingUp, Renumbered: true, Application: helvetype.ApplicationDeploying,
		}, "UPSCALING"},
		{"a lower number alone", "HEALTHY", states.DeploymentFacts{
			Wanted: 1, Ready: 3, Scaling: states.ScalingDown, Renumbered: true, Application: helvetype.ApplicationDeploying,
		}, "DOWNSCALING"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			tr, ok := m.Next(helvetype.KindDeployment, x.from, x.facts.Event())
			if !ok || tr.To != x.want {
				t.Errorf("from %s with %s: %s, want %s", x.from, x.facts.Event(), tr.To, x.want)
			}
		})
	}
	scaling := states.ApplicationFacts{Own: helvetype.ApplicationRunning, Deployments: []states.DeploymentView{{Name: "D", State: "UPSCALING"}}}
	if got := scaling.Event(); got != states.DepMissing {
		t.Errorf("the application of a deployment that scales: %s", got)
	}
}
