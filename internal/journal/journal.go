// Package journal records what happens to applications, deployments and replicas. [Journal] applies an event by the table of transitions
// (package states) and keeps the transition among the events of the node; [Application] and [Deployment] know which event has caused which.
//
// An event of a deployment names the event of its replicas that led to it, and an event of an application that of its deployments. For
// example: a replica dies (event 7), so its deployment is UNHEALTHY (event 8, cause 7), so its application is UNHEALTHY (event 9, cause 8).
// The other way round, a change of the target goes from the application to its deployments and to their replicas: the application is DELETING
// (event 20), so its deployment is UPDATING (event 21, cause 20), so its replica stops (event 22, cause 21).
package journal

import (
	"log/slog"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Journal keeps the events of a node.
type Journal struct {
	machine *states.Machine
	events  *telemetry.Events
	log     *slog.Logger
	durable bool
}

// New makes a journal that keeps its events in events. The log of a durable node also has the failures of deploys: no program of the user may be there
// to print them.
func New(events *telemetry.Events, log *slog.Logger, durable bool) *Journal {
	return &Journal{machine: states.NewMachine(), events: events, log: log, durable: durable}
}

// Fire applies an event to an object that is in a state, records the transition, and gives it. An event that the table does not have
// in this state is a mistake in the program: the log says so, and the state stays.
func (j *Journal) Fire(o helvetype.Object, from states.State, event states.Event, facts states.Facts, cause uint64, inputs map[string]string) (helvetype.Event, bool) {
	ev, err := j.machine.Fire(o, from, event, facts, cause)
	if err != nil {
		j.log.Error("a transition that the table does not have", "error", err)
		return helvetype.Event{}, false
	}
	ev.Inputs = inputs
	ev.ID = j.events.Emit(ev)
	return ev, true
}

// Move fires the event for an object that is shown as s, unless neither state nor message change by it. It returns the id of the
// recorded event, 0 for none.
func (j *Journal) Move(s *states.Shown, o helvetype.Object, event states.Event, facts states.Facts, cause uint64, inputs map[string]string) uint64 {
	if !j.machine.Changes(o.Kind, s, event, facts) {
		return 0
	}
	ev, ok := j.Fire(o, s.State, event, facts, cause, inputs)
	if ok {
		j.logFailure(s.Reason, ev, facts)
		s.State, s.Message, s.Reason = states.State(ev.To), ev.Message, ev.Reason
	}
	return ev.ID
}

// Note records a fact about an object whose state stays as it is, and gives the id of the event. For example, pip has installed the packages of a replica that starts.
func (j *Journal) Note(o helvetype.Object, state, reason, message string, cause uint64) uint64 {
	return j.events.Emit(helvetype.Event{Object: o, From: state, To: state, Reason: reason, Message: message, Cause: cause})
}

// NoteWith is Note with the numbers that led to the fact.
func (j *Journal) NoteWith(o helvetype.Object, state, reason, message string, cause uint64, inputs map[string]string) (id uint64) {
	return j.events.Emit(helvetype.Event{Object: o, From: state, To: state, Reason: reason, Message: message, Cause: cause, Inputs: inputs})
}

// NoteUnstored records that the store has refused a change of an application: its disk may be full. All that runs goes on.
func (j *Journal) NoteUnstored(app string, err error) {
	j.Note(helvetype.Object{Kind: helvetype.KindApplication, App: app}, "", "not_stored", err.Error(), 0)
	if j.durable {
		j.log.Warn("a change of an application is not stored; all that runs goes on", "app", app, "error", err)
	}
}

// logFailure logs the failure of a deploy, once and not once for each replica. before is the reason of the object's state before the event.
// For example, an application of two deployments with three replicas each is given up because one replica failed: that is one line.
func (j *Journal) logFailure(before string, ev helvetype.Event, facts states.Facts) {
	revision := ev.Inputs["revision"] // the one that is the target now
	switch o := ev.Object; {
	case !j.durable:
	case o.Kind == helvetype.KindApplication && ev.Reason == "give_up":
		j.log.Warn("a deploy has failed; nothing of the application runs", "app", o.App, "revision", revision, "error", facts.Error)
	case o.Kind == helvetype.KindApplication && ev.Reason == "roll_back":
		j.log.Warn("a deploy has failed; revision "+revision+" serves on", "app", o.App, "revision", facts.Revision, "error", facts.Error)
	case o.Kind == helvetype.KindDeployment && ev.Reason == "replica_startup_failed" && ev.To == string(helvetype.DeploymentUpdating) && before != ev.Reason:
		j.log.Warn("a replica has failed to start; the start is tried again", "app", o.App, "deployment", o.Deployment, "error", facts.Error)
	}
}
