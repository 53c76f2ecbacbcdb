package journal

import (
	"cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
)

// Application has the ids of the events of one application that may cause others. The zero value has none.
type Application struct {
	progress uint64 // the newest of a deployment since the last of the application
	target   uint64 // the newest by which its target has changed
	back     uint64 // the fact by which it goes back to the revision before; 0 while it does not
}

// Cause is the id of the event that leads to an event of the application; 0 where no event does. worst finds the deployment that
// the application is as bad as; nil for none.
func (a *Application) Cause(event states.Event, worst func() *Deployment) uint64 {
	switch event {
	case states.Deploy, states.RollBack:
		return a.back
	case states.Delete: // of the target itself
		return 0
	case states.DepMissing, states.DepUnhealthy, states.DepFailed, states.GiveUp:
		if d := worst(); d != nil {
			return d.last
		}
		return 0
	}
	return a.progress
}

// GoBack notes the fact by which the application goes back to the revision before; 0 where a deploy of another caller has come.
func (a *Application) GoBack(id uint64) { a.back = id }

// Moved notes an event of the application.
func (a *Application) Moved(event states.Event, id uint64) {
	a.progress = 0
	if event.ChangesTarget() {
		a.target = id
	}
}

// Deployment has the ids of the events of one deployment and its replicas that may cause others. The zero value has none.
type Deployment struct {
	// The newest events of its replicas since its own last event.
	progress uint64 // a replica was ready, or has stopped
	failure  uint64 // a replica failed
	loss     uint64 // a replica went out of service

	last     uint64 // that changed the state of the deployment
	target   uint64 // by which its target has changed
	decision uint64 // of the autoscaler, which the state of the deployment does not show yet
}

// Cause is the id of the event that leads to an event of the deployment; 0 where no event does.
func (d *Deployment) Cause(event states.Event, of *Application) uint64 {
	switch event {
	case states.Deploy, states.Delete:
		return of.target
	case states.ScaleUp, states.ScaleDown: // of the target itself, but for a deploy that sets the number of an autoscaler
		return d.decision
	case states.AutoscaleUp, states.AutoscaleDown:
		return cmp.Or(d.decision, d.target)
	case states.Failed, states.StartFailed, states.Unready, states.GiveUp:
		return d.failure
	case states.RollBack:
		return cmp.Or(d.failure, d.target)
	case states.Missing: // without a loss it is that of the target
		return cmp.Or(d.loss, d.target)
	}
	return cmp.Or(d.progress, d.target) // without a replica that was ready the target alone has changed
}

// Failure is the id of the newest failure of a replica; of the last event of the deployment, if that tells of it.
func (d *Deployment) Failure() uint64 { return cmp.Or(d.failure, d.last) }

// Retarget notes a fact that has changed the target of the deployment without an event of its own. For example, its application goes back to the revision before.
func (d *Deployment) Retarget(id uint64) { d.target = id }

// Decided notes a decision of the autoscaler, by which the target of the deployment changes.
func (d *Deployment) Decided(id uint64) { d.decision, d.target = id, id }

// Moved notes an event of the deployment. The events of its replicas before it cause no other.
func (d *Deployment) Moved(event states.Event, id uint64, of *Application) {
	d.last, of.progress = id, id
	d.progress, d.failure, d.loss, d.decision = 0, 0, 0, 0
	if event.ChangesTarget() {
		d.target = id
	}
}

// ReplicaCause is the id of the event that leads to an event of a replica of the deployment, which is in a state; 0 where no event does. former is
// the event that ended the replica before it in its place, and last its own last one. For example, a replica is ready because it was
// started, and a health check that fails, the end of a process, and an error of a constructor are no consequence of another event.
func (d *Deployment) ReplicaCause(event states.Event, state helvetype.ReplicaState, former, last uint64) uint64 {
	switch event {
	case states.Restart:
		return former
	case states.Start, states.Stop:
		return d.target
	case states.Ready:
		return last
	case states.Stopped:
		if state == helvetype.ReplicaStopping {
			return last
		}
		return d.target // the start was given up
	}
	return 0
}

// ReplicaMoved notes an event of a replica of the deployment.
func (d *Deployment) ReplicaMoved(event states.Event, id uint64) {
	switch event {
	case states.Ready, states.Stopped:
		d.progress = id
	case states.Stop, states.Replace, states.Died, states.StartFailed, states.Lost:
		d.loss = id
	}
}

// Failed notes the event of the failure that the deployment tells of.
func (d *Deployment) Failed(id uint64) { d.failure = id }
