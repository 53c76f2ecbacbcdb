package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
)

// fire applies an event to an object that is in a state, records the transition, and gives it. An event that the table does not have
// in this state is a mistake in the program: the log says so, and the state stays.
func (c *Controller) fire(o helvetype.Object, from states.State, event states.Event, facts states.Facts, cause uint64, inputs map[string]string) (helvetype.Event, bool) {
	ev, err := c.machine.Fire(o, from, event, facts, cause)
	if err != nil {
		c.log.Error("a transition that the table does not have", "error", err)
		return helvetype.Event{}, false
	}
	ev.Inputs = inputs
	ev.ID = c.set.Events.Emit(ev)
	return ev, true
}

// fireLocked changes the state of a replica by an event.
func (r *replica) fireLocked(event states.Event, facts states.Facts, inputs map[string]string) {
	cause := r.causeLocked(event)
	o := helvetype.Object{Kind: helvetype.KindReplica, App: r.dep.app.name, Deployment: r.dep.name, Replica: r.id}
	if ev, ok := r.dep.app.c.fire(o, states.State(r.state), event, facts, cause, inputs); ok {
		r.state, r.lastEvent = helvetype.ReplicaState(ev.To), ev.ID
		switch event {
		case states.Ready, states.Stopped:
			r.dep.progress = ev.ID
		case states.Stop, states.Replace, states.Died, states.StartFailed, states.Lost:
			r.dep.loss = ev.ID
		}
		r.recordLocked(ev.Reason, ev.Message)
	}
}

// causeLocked is the id of the event that leads to an event of a replica; 0 where no event does. For example, a replica is ready because it was
// started, and a health check that fails, the end of a process, and an error of a constructor are no consequence of another event.
func (r *replica) causeLocked(event states.Event) uint64 {
	switch event {
	case states.Restart:
		return r.before.event
	case states.Start, states.Stop:
		return r.dep.target
	case states.Ready:
		return r.lastEvent
	case states.Stopped:
		if r.state == helvetype.ReplicaStopping {
			return r.lastEvent
		}
		return r.dep.target // the start was given up
	}
	return 0
}

// exitInputs are the facts of the end of a process.
func exitInputs(x *helvetype.Exit) map[string]string {
	return map[string]string{"code": strconv.Itoa(x.Code), "signal": x.Signal, "out_of_memory": strconv.FormatBool(x.OutOfMemory)}
}

// moveLocked fires the event for an object that is shown as s, unless neither state nor message change by it. It returns the id of the
// recorded event, 0 for none.
func (c *Controller) moveLocked(s *states.Shown, o helvetype.Object, event states.Event, facts states.Facts, cause uint64, inputs map[string]string) uint64 {
	if !c.machine.Changes(o.Kind, s, event, facts) {
		return 0
	}
	ev, ok := c.fire(o, s.State, event, facts, cause, inputs)
	if ok {
		s.State, s.Message, s.Reason = states.State(ev.To), ev.Message, ev.Reason
	}
	return ev.ID
}

// noteLocked brings the states of all deployments and applications up to date. An event of a deployment names the event of its replicas that led
// to it, and an event of an application that of its deployments. For example: a replica dies (event 7), so its deployment is UNHEALTHY
// (event 8, cause 7), so its application is UNHEALTHY (event 9, cause 8). The other way round, a change of the target goes from the application to
// its deployments and to their replicas: the application is DELETING (event 20), so its deployment is UPDATING (event 21, cause 20), so its
// replica stops (event 22, cause 21).
func (c *Controller) noteLocked() {
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		a := c.apps[name]
		if event := a.factsLocked().Event(); event.ChangesTarget() && a.shown.State != states.State(a.status) {
			a.noteLocked(event, a.factsLocked().Facts())
		}
		for _, dep := range slices.Sorted(maps.Keys(a.deployments)) {
			a.deployments[dep].noteLocked()
		}
		facts := a.factsLocked()
		a.noteLocked(facts.Event(), facts.Facts())
	}
}

func (d *deployment) noteLocked() {
	facts := d.factsLocked()
	d.moveLocked(facts.Event(), facts.Facts(), facts.Ready)
}

// moveLocked changes the state of a deployment by an event.
func (d *deployment) moveLocked(event states.Event, facts states.Facts, ready int) {
	var cause uint64
	switch event {
	case states.Deploy, states.Delete:
		cause = d.app.target
	case states.ScaleUp, states.ScaleDown: // of the target itself
	case states.Failed, states.StartFailed, states.GiveUp, states.RollBack:
		cause = d.failure
	case states.Missing:
		cause = d.loss
	default:
		cause = d.progress
	}
	id := d.app.c.moveLocked(&d.shown, helvetype.Object{Kind: helvetype.KindDeployment, App: d.app.name, Deployment: d.name}, event, facts, cause,
		map[string]string{"ready": strconv.Itoa(ready), "wanted": strconv.Itoa(d.wanted)})
	if id == 0 {
		return
	}
	d.lastEvent, d.app.progress = id, id
	d.progress, d.failure, d.loss = 0, 0, 0 // they cause one event
	if event.ChangesTarget() {
		d.target = id
	}
}

// noteLocked changes the state of an application by an event.
func (a *application) noteLocked(event states.Event, facts states.Facts) {
	var cause uint64
	switch event {
	case states.Deploy, states.Delete: // of the target itself
	case states.DepMissing, states.DepUnhealthy, states.DepFailed, states.GiveUp, states.RollBack:
		if d := a.deployments[a.factsLocked().Worst()]; d != nil {
			cause = d.lastEvent
		}
	default:
		cause = a.progress
	}
	id := a.c.moveLocked(&a.shown, helvetype.Object{Kind: helvetype.KindApplication, App: a.name}, event, facts, cause,
		map[string]string{"revision": fmt.Sprint(a.current.number)})
	if id == 0 {
		return
	}
	a.progress = 0
	if event.ChangesTarget() {
		a.target = id
	}
}

// factsLocked decide the state of the deployment.
func (d *deployment) factsLocked() states.DeploymentFacts {
	f := states.DeploymentFacts{
		Wanted: d.wanted, Failures: d.failures.Number(), GaveUp: d.gaveUp, RolledBack: d.rolledBack, Application: d.app.status, Error: d.message, Waits: d.slowLocked(),
	}
	for _, r := range d.replicas {
		switch {
		case r.state == helvetype.ReplicaStopping && r.of == d.now:
			f.Stopping++
		case r.state != helvetype.ReplicaRunning:
		case r.of != d.now:
			f.Former++
		default:
			f.Ready++
		}
	}
	if f.Followed(d.scaling) {
		d.scaling = states.NotScaling
	}
	f.Scaling = d.scaling
	return f
}

// factsLocked decide the state of the application. The states of its deployments are up to date.
func (a *application) factsLocked() states.ApplicationFacts {
	f := states.ApplicationFacts{Own: a.status, Error: a.startError, RolledBack: a.rolledBack}
	for name, d := range a.deployments {
		f.Deployments = append(f.Deployments, states.DeploymentView{
			Name: name, State: d.shown.State, Message: d.shown.Message, Leaving: d.now.revision != a.current,
		})
	}
	return f
}

// noteStarving records that calls wait while streams and connections hold all slots. The state of the deployment stays.
func (d *deployment) noteStarving(text string) {
	c := d.app.c
	c.mu.Lock()
	defer c.mu.Unlock()
	state := string(d.shown.State)
	c.set.Events.Emit(helvetype.Event{
		Object: helvetype.Object{Kind: helvetype.KindDeployment, App: d.app.name, Deployment: d.name},
		From:   state, To: state, Reason: "slots_held", Message: text,
	})
}
