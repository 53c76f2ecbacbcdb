package fleet

import (
	"fmt"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/journal"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
)

// GoBackLocked notes the fact by which the application goes back to the revision before, for the causes of its events and those of its deployments; 0 for a deploy of another caller.
func (a *Application) GoBackLocked(id uint64) {
	a.causes.GoBack(id)
	for _, d := range a.Deployments {
		if id != 0 {
			d.Causes.Retarget(id)
		}
	}
}

// ownLocked is the state of the application by itself. An application whose deploy was superseded goes on to be deployed, until the other deploy has come.
func (a *Application) ownLocked() helvetype.ApplicationState {
	if a.Yields && a.Own != helvetype.ApplicationDeleting {
		return helvetype.ApplicationDeploying
	}
	return a.Own
}

// FireLocked changes the state of a replica by an event.
func (r *Replica) FireLocked(event states.Event, facts states.Facts, inputs map[string]string) {
	causes := &r.Dep.Causes
	cause := causes.ReplicaCause(event, r.State, r.Before.Event, r.LastEvent)
	if ev, ok := r.Dep.App.fleet.Journal.Fire(r.Object(), states.State(r.State), event, facts, cause, inputs); ok {
		r.State, r.LastEvent = helvetype.ReplicaState(ev.To), ev.ID
		causes.ReplicaMoved(event, ev.ID)
		r.Dep.changedLocked()
		r.recordLocked(ev.Reason, ev.Message)
		if r.State != helvetype.ReplicaRunning {
			r.Health.Leave()
		}
	}
}

// EndedLocked is the error of the calls that a replica still executes when it has stopped. Where cut calls have not finished within the grace, an event says so, with the decision of the autoscaler that
// the stop follows, and the text is for the log. For example, a stream of ten minutes runs at a replica that the autoscaler does not need any more: with a graceful_shutdown_timeout_s of 20 s it is cut after these.
func (r *Replica) EndedLocked(cut int, grace time.Duration) (text string, err error) {
	stopped := "replica " + r.ID + " has stopped"
	if cut == 0 {
		return "", call.NewError(helvetype.ReasonReplicaUnavailable, stopped)
	}
	limit := fmt.Sprintf("%g s (graceful_shutdown_timeout_s of %s)", grace.Seconds(), r.Dep.Name)
	text = fmt.Sprintf("calls were not over within %s: %d", limit, cut)
	if decision := r.scaledDownLocked(); decision != "" {
		stopped += ", because the autoscaler needs fewer replicas,"
		text += "; the autoscaler needs fewer replicas: " + decision
	}
	r.Dep.App.fleet.Journal.NoteWith(r.Object(), string(r.State), "calls_unfinished", text, r.LastEvent, map[string]string{"calls": strconv.Itoa(cut), "grace_s": short(grace.Seconds())})
	return text, call.NewError(helvetype.ReasonReplicaUnavailable, stopped+" and the call was not over within "+limit)
}

// scaledDownLocked is the decision of the autoscaler that the stop of a replica follows; "" for another cause.
func (r *Replica) scaledDownLocked() string {
	const steps = 4 // from the stop of a replica to the change of its deployment, and to the decision
	id := r.LastEvent
	for range steps {
		e, ok := r.Dep.App.fleet.events.Find(id)
		if !ok || e.Reason == string(states.AutoscaleDown) {
			return e.Message
		}
		id = e.Cause
	}
	return ""
}

// Object names the replica in events.
func (r *Replica) Object() helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindReplica, App: r.Dep.App.Name, Deployment: r.Dep.Name, Replica: r.ID}
}

// Object names the deployment in events.
func (d *Deployment) Object() helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindDeployment, App: d.App.Name, Deployment: d.Name}
}

// ExitInputs are the facts of the end of a process.
func ExitInputs(x *helvetype.Exit) map[string]string {
	in := map[string]string{"code": strconv.Itoa(x.Code), "signal": x.Signal}
	if x.OutOfMemory { // else it may be so too: the limit of a container around the node is not one of Helve's
		in["out_of_memory"] = "true"
	}
	return in
}

// NoteLocked brings the states of all deployments and applications up to date.
func (f *Fleet) NoteLocked() {
	for _, a := range f.SortedLocked() {
		a.NoteAllLocked()
	}
}

// NoteAllLocked brings the states of the application and its deployments up to date.
func (a *Application) NoteAllLocked() { a.NoteTheseLocked(a.SortedLocked()) }

// NoteTheseLocked is noteAllLocked where no other deployments than these have changed. They are sorted by name.
func (a *Application) NoteTheseLocked(of []*Deployment) {
	if event := a.factsLocked().Event(); event.ChangesTarget() && a.Shown.State != states.State(a.ownLocked()) {
		a.NoteLocked(event, a.factsLocked().Facts())
	}
	for _, d := range of {
		d.noteLocked()
	}
	facts := a.factsLocked()
	a.NoteLocked(facts.Event(), facts.Facts())
}

func (d *Deployment) noteLocked() {
	facts := d.factsLocked()
	d.MoveLocked(facts.Event(), facts.Facts(), facts.Ready)
}

// MoveLocked changes the state of a deployment by an event.
func (d *Deployment) MoveLocked(event states.Event, facts states.Facts, ready int) {
	id := d.App.fleet.Journal.Move(&d.Shown, d.Object(), event, facts, d.Causes.Cause(event, &d.App.causes),
		map[string]string{"ready": strconv.Itoa(ready), "wanted": strconv.Itoa(d.Wanted)})
	if id != 0 {
		d.Causes.Moved(event, id, &d.App.causes)
	}
	if a := d.App; a.Deployments[d.Name] != d {
		return // another has its name by now
	} else if d.Shown.Well() {
		delete(a.unwell, d.Name)
	} else {
		a.unwell[d.Name] = d
	}
}

// NoteLocked changes the state of an application by an event.
func (a *Application) NoteLocked(event states.Event, facts states.Facts) {
	worst := func() *journal.Deployment {
		if d := a.Deployments[a.factsLocked().Worst()]; d != nil {
			return &d.Causes
		}
		return nil
	}
	id := a.fleet.Journal.Move(&a.Shown, helvetype.Object{Kind: helvetype.KindApplication, App: a.Name}, event, facts, a.causes.Cause(event, worst),
		map[string]string{"revision": fmt.Sprint(a.Current.Number)})
	if id != 0 {
		a.causes.Moved(event, id)
	}
}

// factsLocked decide the state of the deployment.
func (d *Deployment) factsLocked() states.DeploymentFacts {
	f := states.DeploymentFacts{
		Wanted: d.Wanted, Failures: d.Failures.Number(), GaveUp: d.GaveUp, RolledBack: d.RolledBack, Application: d.App.ownLocked(), Error: d.Message, Waits: d.slowLocked(),
	}
	for _, r := range d.Replicas {
		if out := r.outLocked(); out != "" {
			f.CountOut(out, r.ID, r.TakesLocked(), r.Of == d.Now)
			continue
		}
		f.Count(r.State, r.Of == d.Now)
		if r.Outdated && r.State == helvetype.ReplicaRunning { // it serves until another takes its place
			f.Former++
		}
	}
	if f.Followed(d.Scaling) {
		d.Scaling = states.NotScaling
	}
	f.Scaling, f.Renumbered, f.Auto = d.Scaling, d.renumbered, d.Asked.Scaled || d.followsLoadLocked()
	return f
}

// factsLocked decide the state of the application. The states of its deployments are up to date.
func (a *Application) factsLocked() states.ApplicationFacts {
	f := states.ApplicationFacts{Own: a.ownLocked(), Error: a.StartError, RolledBack: a.RolledBack, End: a.End}
	for name, d := range a.unwell {
		f.Deployments = append(f.Deployments, states.DeploymentView{
			Name: name, State: d.Shown.State, Message: d.Shown.Message, Leaving: d.Now.Revision != a.Current,
		})
	}
	return f
}

// NoteStarving records that calls wait while streams and connections hold all slots. The state of the deployment stays.
func (d *Deployment) NoteStarving(text string) { d.noteCalls("slots_held", text) }

// NoteCycle records that calls wait for each other in a circle. The state of the deployment stays.
func (d *Deployment) NoteCycle(text string) { d.noteCalls("cycle", text) }

func (d *Deployment) noteCalls(reason, text string) {
	f := d.App.fleet
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Journal.Note(d.Object(), string(d.Shown.State), reason, text, 0)
}

const (
	// StallLeast is the shortest stall of an event loop that is an event: shorter ones are in the answers to why only.
	StallLeast = time.Second
	// StallEvery is the least time between two events about stalls of a replica.
	StallEvery = time.Minute
)

// stalls are those of a replica since its last event about one.
type stalls struct {
	at      time.Time // of that event
	number  int
	longest time.Duration
}

// NoteStall records that the event loop of a replica did not turn for a time, and where its code stood. The state of the replica stays. Of the stalls of a replica one in a minute is an event, with the number of those
// before it that were none. For example, a replica that blocks its loop for 2 s again and again has an event each minute, which says "and 25 times before".
func (f *Fleet) NoteStall(app, deployment, id string, took time.Duration, place, request string) {
	if took < StallLeast {
		return
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	a := f.Apps[app]
	if a == nil || a.Deployments[deployment] == nil {
		return
	}
	r := a.Deployments[deployment].Replicas[id]
	if r == nil {
		return
	}
	s, now := &r.stalls, time.Now()
	if !s.at.IsZero() && now.Sub(s.at) < StallEvery {
		s.number, s.longest = s.number+1, max(s.longest, took)
		return
	}
	text := fmt.Sprintf("the event loop was blocked for %s: it stood in %s, in request %s", took.Round(time.Millisecond), place, request)
	if s.number > 0 {
		text += fmt.Sprintf("; and %d times since %s, for up to %s", s.number, s.at.UTC().Format("15:04:05"), s.longest.Round(time.Millisecond))
	}
	f.Journal.Note(r.Object(), string(r.State), "event_loop_blocked", text, 0)
	*s = stalls{at: now}
}

// Routed lists the deployments of the node as callers see them.
func (f *Fleet) Routed() (all []*serving.Deployment) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	for _, a := range f.Apps {
		for _, d := range a.Deployments {
			all = append(all, d.Serving)
		}
	}
	return all
}
