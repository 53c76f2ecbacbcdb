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
}

// New makes a journal that keeps its events in events.
func New(events *telemetry.Events, log *slog.Logger) *Journal {
	return &Journal{machine: states.NewMachine(), events: events, log: log}
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
		s.State, s.Message, s.Reason = states.State(ev.To), ev.Message, ev.Reason
	}
	return ev.ID
}

// Note records a fact about an object whose state stays as it is. For example, pip has installed the packages of a replica that starts.
func (j *Journal) Note(o helvetype.Object, state, reason, message string, cause uint64) {
	j.events.Emit(helvetype.Event{Object: o, From: state, To: state, Reason: reason, Message: message, Cause: cause})
}
