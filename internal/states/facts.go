package states

import (
	"cmp"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// Scaling says that the number of wanted replicas has changed, and that the replicas have not followed yet.
type Scaling int8

// The directions of scaling.
const (
	NotScaling  Scaling = 0
	ScalingUp   Scaling = 1
	ScalingDown Scaling = -1
)

// DeploymentFacts decide the state of a deployment.
type DeploymentFacts struct {
	Wanted   int // replicas
	Ready    int // replicas of the current revision that run
	Former   int // replicas of other revisions that run
	Stopping int // replicas of the current revision that stop
	Failures int // of replicas, since the last time that all was well
	Unready  int // replicas of the current revision that run and get no calls, or get them as the last one only
	// Out says why one of these should get no calls.
	Out    string
	kept   bool // Out is of a replica that is kept
	GaveUp bool
	// RolledBack is the error of the deployment's form in the newest revision, whose start was given up; the form before serves. "" without.
	RolledBack string
	Scaling    Scaling
	Auto       bool // the autoscaler has changed the number
	Renumbered bool // the deploy of its application changes nothing of it but the number of its replicas
	// Application is its application's own state: DEPLOYING, RUNNING, DEPLOY_FAILED or DELETING.
	Application helvetype.ApplicationState
	Error       string // of the last failure
	Waits       string // the reason why the oldest start takes long; "" if none does
}

// Count adds a replica of the deployment. current says that it is of the current revision.
func (f *DeploymentFacts) Count(s helvetype.ReplicaState, current bool) {
	switch {
	case s == helvetype.ReplicaStopping && current:
		f.Stopping++
	case s == helvetype.ReplicaRunning && current:
		f.Ready++
	case s == helvetype.ReplicaRunning:
		f.Former++
	}
}

// CountOut adds a replica that runs and gets no calls, for a reason, or is kept: it should get none, and gets them as the last one.
func (f *DeploymentFacts) CountOut(reason, replica string, kept, current bool) {
	if !current {
		f.Former++
		return
	}
	f.Unready++
	what := " gets no calls: "
	if kept {
		what = " is kept, the last replica: "
	}
	out := "replica " + replica + what + reason
	if f.Out == "" || kept && !f.kept || kept == f.kept && out < f.Out { // always the same of several; the one that is kept says that the others are out
		f.Out, f.kept = out, kept
	}
}

func (f DeploymentFacts) missing() bool { return f.Ready < f.Wanted }

// Followed says that the replicas have followed a change of their number.
func (f DeploymentFacts) Followed(s Scaling) bool {
	return s == ScalingUp && f.Ready >= f.Wanted || s == ScalingDown && f.Ready <= f.Wanted && f.Stopping == 0
}

// Event is the event that the facts amount to. The first of these that holds counts, so that, for example, a deployment that
// was given up stays so while it is deleted.
func (f DeploymentFacts) Event() Event {
	deploying := f.Application == helvetype.ApplicationDeploying
	switch {
	case f.GaveUp:
		return GiveUp
	case f.Application == helvetype.ApplicationDeleting:
		return Delete
	case f.missing() && f.Failures > 0 && deploying:
		return StartFailed
	case f.missing() && f.Failures > 0:
		return Failed
	case f.missing() && f.Former == 0 && deploying && f.Renumbered && f.Scaling == ScalingUp:
		return ScaleUp
	case (f.missing() || f.Former > 0) && deploying:
		return Deploy
	case f.missing() && f.Unready > 0:
		return Unready
	case f.missing() && f.Scaling == ScalingUp && f.Auto:
		return AutoscaleUp
	case f.missing() && f.Scaling == ScalingUp:
		return ScaleUp
	case f.missing() || f.Former > 0:
		return Missing
	case f.Scaling == ScalingDown && !f.Followed(ScalingDown) && f.Auto:
		return AutoscaleDown
	case f.Scaling == ScalingDown && !f.Followed(ScalingDown):
		return ScaleDown
	}
	if f.RolledBack != "" {
		return RollBack
	}
	return Ready
}

// Facts fill the message of the event.
func (f DeploymentFacts) Facts() Facts {
	facts := Facts{Error: f.Error}
	switch f.Event() {
	case RollBack:
		facts.Error = f.RolledBack
	case Unready:
		facts.Error = f.Out
	}
	if f.missing() {
		facts.Otherwise = cmp.Or(f.Out, f.Waits)
	}
	return facts
}

// ApplicationFacts decide the state of an application.
type ApplicationFacts struct {
	// Own is the state that the application has by itself: DEPLOYING until its revision runs, DEPLOY_FAILED when that was given
	// up, DELETING, else RUNNING.
	Own         helvetype.ApplicationState
	Error       string           // of a start that was given up; "" if none was since the last deploy
	RolledBack  string           // the revision whose start was given up, if that was the last deploy and the one before runs again
	Deployments []DeploymentView // those that are not [Well] suffice
	End         string           // why the application ends, if it is not deleted: see [EndOfNode]; else ""
}

// EndOfNode is the message of an application that a durable node stops because the node itself ends. Its transitions are those of a delete.
const EndOfNode = "the node ends; the application is kept, and the next node starts it again"

// DeploymentView is a deployment as its application sees it.
type DeploymentView struct {
	Name    string
	State   State
	Message string
	// Leaving is set for a deployment that the application's current revision does not have. It does not count.
	Leaving bool
}

// badness orders the states of deployments, the worst last: the reference's ranks.
func badness(s State) int {
	return slices.Index([]State{depHealthy, depUpdating, depUnhealthy, depFailed}, unscaled(s))
}

// Well says that a deployment does not count for the state of its application: it is HEALTHY, or gone, or it scales by its load. For example, an application goes on
// RUNNING while its autoscaler adds replicas, and is DEPLOYING while an operator's scale does.
func (s *Shown) Well() bool {
	return badness(s.State) <= badness(depHealthy) || s.Reason == reasonAutoscale
}

// unscaled takes scaling for an update, as the reference does for an application.
func unscaled(s State) State {
	if s == depUpscaling || s == depDownscaling {
		return depUpdating
	}
	return s
}

// worst gives the state and the name of the worst deployment; the name is "" if all are HEALTHY. The result at is the worst of the deployments
// that have a message.
func (f ApplicationFacts) worst() (state State, name string, at DeploymentView) {
	state = depHealthy
	for _, d := range slices.SortedFunc(slices.Values(f.Deployments), func(a, b DeploymentView) int { return strings.Compare(a.Name, b.Name) }) {
		if d.Leaving || badness(d.State) <= badness(state) {
			continue
		}
		if state, name = unscaled(d.State), d.Name; d.Message != "" {
			at = d
		}
	}
	return state, name, at
}

// Worst is the name of the deployment that the state of the application comes from, "" if all are HEALTHY.
func (f ApplicationFacts) Worst() string {
	_, name, _ := f.worst()
	return name
}

// Event is the event that the facts amount to. An application that runs follows its worst deployment: for example, of two
// deployments one is HEALTHY and one UNHEALTHY, so the application is UNHEALTHY. An application whose last deploy was rolled back is
// DEPLOY_FAILED until the next one, while the revision before serves.
func (f ApplicationFacts) Event() Event {
	switch f.Own {
	case helvetype.ApplicationDeploying:
		return Deploy
	case helvetype.ApplicationDeployFailed:
		return GiveUp
	case helvetype.ApplicationDeleting:
		return Delete
	}
	switch state, _, _ := f.worst(); {
	case f.RolledBack != "":
		return RollBack
	case state == depFailed:
		return DepFailed
	case state == depUnhealthy:
		return DepUnhealthy
	case state == depUpdating:
		return DepMissing
	}
	return Ready
}

// Facts fill the message of the event.
func (f ApplicationFacts) Facts() Facts {
	own := f.Error
	if f.RolledBack != "" {
		own = Transition{Message: rolledBack}.Fill(Facts{Error: f.Error, Revision: f.RolledBack})
	}
	switch event := f.Event(); {
	case event == GiveUp || event == RollBack:
		return Facts{Error: f.Error, Revision: f.RolledBack}
	case event == Delete && f.End != "":
		return Facts{Otherwise: f.End}
	}
	_, _, at := f.worst()
	return Facts{Error: at.Message, Deployment: at.Name, Otherwise: own}
}
