package controller

import (
	"fmt"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/states"
)

// fireLocked changes the state of a replica by an event.
func (r *replica) fireLocked(event states.Event, facts states.Facts, inputs map[string]string) {
	causes := &r.dep.causes
	cause := causes.ReplicaCause(event, r.state, r.before.Event, r.lastEvent)
	if ev, ok := r.dep.app.c.journal.Fire(r.object(), states.State(r.state), event, facts, cause, inputs); ok {
		r.state, r.lastEvent = helvetype.ReplicaState(ev.To), ev.ID
		causes.ReplicaMoved(event, ev.ID)
		r.dep.changedLocked()
		r.recordLocked(ev.Reason, ev.Message)
		if r.state != helvetype.ReplicaRunning {
			r.health.Leave()
		}
	}
}

// object names the replica in events.
func (r *replica) object() helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindReplica, App: r.dep.app.name, Deployment: r.dep.name, Replica: r.id}
}

// object names the deployment in events.
func (d *deployment) object() helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindDeployment, App: d.app.name, Deployment: d.name}
}

// exitInputs are the facts of the end of a process.
func exitInputs(x *helvetype.Exit) map[string]string {
	return map[string]string{"code": strconv.Itoa(x.Code), "signal": x.Signal, "out_of_memory": strconv.FormatBool(x.OutOfMemory)}
}

// noteLocked brings the states of all deployments and applications up to date.
func (c *Controller) noteLocked() {
	for _, a := range c.sortedLocked() {
		a.noteAllLocked()
	}
}

// noteAllLocked brings the states of the application and its deployments up to date.
func (a *application) noteAllLocked() { a.noteTheseLocked(a.sortedLocked()) }

// noteTheseLocked is noteAllLocked where no other deployments than these have changed. They are sorted by name.
func (a *application) noteTheseLocked(of []*deployment) {
	if event := a.factsLocked().Event(); event.ChangesTarget() && a.shown.State != states.State(a.status) {
		a.noteLocked(event, a.factsLocked().Facts())
	}
	for _, d := range of {
		d.noteLocked()
	}
	facts := a.factsLocked()
	a.noteLocked(facts.Event(), facts.Facts())
}

func (d *deployment) noteLocked() {
	facts := d.factsLocked()
	d.moveLocked(facts.Event(), facts.Facts(), facts.Ready)
}

// moveLocked changes the state of a deployment by an event.
func (d *deployment) moveLocked(event states.Event, facts states.Facts, ready int) {
	id := d.app.c.journal.Move(&d.shown, d.object(), event, facts, d.causes.Cause(event, &d.app.causes),
		map[string]string{"ready": strconv.Itoa(ready), "wanted": strconv.Itoa(d.wanted)})
	if id != 0 {
		d.causes.Moved(event, id, &d.app.causes)
	}
	if a := d.app; a.deployments[d.name] != d {
		return // another has its name by now
	} else if states.Well(d.shown.State) {
		delete(a.unwell, d.name)
	} else {
		a.unwell[d.name] = d
	}
}

// noteLocked changes the state of an application by an event.
func (a *application) noteLocked(event states.Event, facts states.Facts) {
	worst := func() *journal.Deployment {
		if d := a.deployments[a.factsLocked().Worst()]; d != nil {
			return &d.causes
		}
		return nil
	}
	id := a.c.journal.Move(&a.shown, helvetype.Object{Kind: helvetype.KindApplication, App: a.name}, event, facts, a.causes.Cause(event, worst),
		map[string]string{"revision": fmt.Sprint(a.current.number)})
	if id != 0 {
		a.causes.Moved(event, id)
	}
}

// factsLocked decide the state of the deployment.
func (d *deployment) factsLocked() states.DeploymentFacts {
	f := states.DeploymentFacts{
		Wanted: d.wanted, Failures: d.failures.Number(), GaveUp: d.gaveUp, RolledBack: d.rolledBack, Application: d.app.status, Error: d.message, Waits: d.slowLocked(),
	}
	for _, r := range d.replicas {
		if out := r.outLocked(); out != "" {
			f.CountOut(out, r.id, r.takesLocked(), r.of == d.now)
			continue
		}
		f.Count(r.state, r.of == d.now)
		if r.outdated && r.state == helvetype.ReplicaRunning { // it serves until another takes its place
			f.Former++
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
	f := states.ApplicationFacts{Own: a.status, Error: a.startError, RolledBack: a.rolledBack, End: a.end}
	for name, d := range a.unwell {
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
	c.journal.Note(d.object(), string(d.shown.State), "slots_held", text, 0)
}
