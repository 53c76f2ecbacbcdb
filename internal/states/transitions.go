// Package states is the table of the states of applications, deployments and replicas: in a state, an event leads to the next state, with
// a reason and a message. It is pure. For example, a deployment that is HEALTHY gets the event replica_failed and is UNHEALTHY, with the
// reason replica_failed and the error of the replica as its message. docs/state-machines.md shows the table. Where the facts are known and
// not the event, [DeploymentFacts] and [ApplicationFacts] derive the event from them.
package states

import (
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// State is the state of an application, a deployment or a replica.
type State string

// Absent is the state of an object before it exists and after it is gone.
const Absent State = ""

// Event is a thing that happens to an object and may change its state.
type Event string

// The events. Most happen to objects of one kind.
const (
	Start         Event = "start"          // a replica is started
	Restart       Event = "restart"        // a replica is started in the place of a failed replica
	Recover       Event = "recover"        // a replica of the node before is found in the node's state
	Ready         Event = "ready"          // a replica takes calls; a deployment, or an application, has all its replicas
	Stop          Event = "stop"           // a replica is not wanted any more
	Replace       Event = "replace"        // a replica runs and is of no use: its health checks fail, or it has a wrong user config
	Stopped       Event = "stopped"        // a replica has ended as it should, or its start was given up
	Died          Event = "died"           // the process of a replica has ended, and nothing had asked it to
	StartFailed   Event = "start_failed"   // a replica could not be started
	Lost          Event = "lost"           // the process of a replica of the node before has not come back
	Deploy        Event = "deploy"         // a revision starts
	ScaleUp       Event = "scale_up"       // more replicas are wanted
	ScaleDown     Event = "scale_down"     // fewer replicas are wanted
	AutoscaleUp   Event = "autoscale_up"   // more replicas are wanted by the load
	AutoscaleDown Event = "autoscale_down" // fewer replicas are wanted by the load
	Missing       Event = "missing"        // a deployment misses replicas, and none has failed
	Failed        Event = "failed"         // a deployment misses replicas because some have failed
	Unready       Event = "unready"        // a deployment misses replicas because some that run get no calls
	GiveUp        Event = "give_up"        // the start of a revision is given up
	RollBack      Event = "roll_back"      // the revision before runs again, because the start of the newest was given up; its deployment too
	DepMissing    Event = "dep_missing"    // a deployment of the application is UPDATING
	DepUnhealthy  Event = "dep_unhealthy"  // a deployment of the application is UNHEALTHY
	DepFailed     Event = "dep_failed"     // a deployment of the application is DEPLOY_FAILED, and the application had started
	Delete        Event = "delete"         // the application is deleted
	Deleted       Event = "deleted"        // the last replica has stopped
)

// Transition is a row of the table.
type Transition struct {
	Kind   string // helvetype.KindApplication, KindDeployment or KindReplica
	From   State
	Event  Event
	To     State
	Reason string // in one word, for programs: for deployments the reference's status trigger where it has one
	// Message is a template of the message of the state. {error}, {deployment} and {revision} are replaced by the facts. If one
	// of these is not known the message is [Facts].Otherwise.
	Message string
}

// ChangesTarget says that the event of an application or a deployment is a change of its target.
func (e Event) ChangesTarget() bool {
	switch e {
	case Deploy, ScaleUp, ScaleDown, AutoscaleUp, AutoscaleDown, Delete:
		return true
	}
	return false
}

// Facts fill the message of a transition.
type Facts struct {
	Error      string // of the last failure
	Deployment string // the name of the deployment that an application's state comes from
	Revision   string // the number of a revision
	Otherwise  string // the message of a state that has none of its own
}

// The states, by shorter names.
const (
	appDeploying = State(helvetype.ApplicationDeploying)
	appFailed    = State(helvetype.ApplicationDeployFailed)
	appRunning   = State(helvetype.ApplicationRunning)
	appUnhealthy = State(helvetype.ApplicationUnhealthy)
	appDeleting  = State(helvetype.ApplicationDeleting)

	depUpdating    = State(helvetype.DeploymentUpdating)
	depHealthy     = State(helvetype.DeploymentHealthy)
	depUnhealthy   = State(helvetype.DeploymentUnhealthy)
	depFailed      = State(helvetype.DeploymentDeployFailed)
	depUpscaling   = State(helvetype.DeploymentUpscaling)
	depDownscaling = State(helvetype.DeploymentDownscaling)

	repStarting   = State(helvetype.ReplicaStarting)
	repRecovering = State(helvetype.ReplicaRecovering)
	repRunning    = State(helvetype.ReplicaRunning)
	repStopping   = State(helvetype.ReplicaStopping)
)

// rows are transitions of one kind from several states.
type rows struct {
	from    []State
	event   Event
	to      State
	reason  string
	message string
}

// reasonAutoscale is the reason of a deployment that scales by its load: it is as well as a HEALTHY one.
const reasonAutoscale = "autoscaling"

// Messages that several transitions have.
const (
	ofError      = "{error}"
	ofDeployment = "deployment {deployment}: {error}"
	rolledBack   = "revision {revision} was rolled back: {error}"
)

func replicaRows() []rows {
	return []rows{
		{[]State{Absent}, Start, repStarting, "start", ""},
		{[]State{Absent}, Restart, repStarting, "restart", ""},
		{[]State{Absent}, Recover, repRecovering, "recover", ""},
		{[]State{repStarting, repRecovering}, Ready, repRunning, "ready", ""},
		{[]State{repStarting}, StartFailed, Absent, "start_failed", ofError},
		{[]State{repRecovering}, Lost, Absent, "lost", ofError},
		{[]State{repRunning}, Stop, repStopping, "stop", ""},
		{[]State{repRunning}, Replace, repStopping, "replace", ofError},
		{[]State{repStarting, repRecovering, repStopping}, Stopped, Absent, "stopped", ""},
		{[]State{repRunning, repStopping}, Died, Absent, "died", ofError},
	}
}

// deploymentRows follow the reference, with one exception: there a replica that fails its health check while its revision
// starts makes the deployment DEPLOY_FAILED at once, here the deployment is UPDATING until its start is given up.
//
// A controller looks at the facts and not at each change, so nearly every state follows every other: between two looks a
// deployment may have lost a replica, and been given up.
func deploymentRows() []rows {
	scaling := []State{depUpscaling, depDownscaling}
	settled := []State{depHealthy, depUnhealthy, depFailed}
	all := append(append([]State{depUpdating}, scaling...), settled...)
	return []rows{
		{append([]State{Absent}, all...), Deploy, depUpdating, "config_update_started", ""},
		{[]State{depUpdating}, Ready, depHealthy, "config_update_completed", ""},
		{[]State{depUpscaling}, Ready, depHealthy, "upscale_completed", ""},
		{[]State{depDownscaling}, Ready, depHealthy, "downscale_completed", ""},
		{settled, Ready, depHealthy, "recovered", ""},
		{all, StartFailed, depUpdating, "replica_startup_failed", ofError},
		{all, GiveUp, depFailed, "replica_startup_failed", ofError},
		{all, RollBack, depFailed, "replica_startup_failed", ofError},
		{all, Failed, depUnhealthy, "replica_failed", ofError},
		{all, Unready, depUnhealthy, "replica_not_ready", ofError},
		{append([]State{depUpdating}, settled...), Missing, depUpdating, "replica_missing", ""},
		{[]State{depUpscaling}, Missing, depUpscaling, "upscale", ""},
		{[]State{depDownscaling}, Missing, depUpdating, "replica_missing", ""},
		{append([]State{depHealthy}, scaling...), ScaleUp, depUpscaling, "upscale", ""},
		{append([]State{depHealthy}, scaling...), ScaleDown, depDownscaling, "downscale", ""},
		{append([]State{depHealthy}, scaling...), AutoscaleUp, depUpscaling, reasonAutoscale, ""},
		{append([]State{depHealthy}, scaling...), AutoscaleDown, depDownscaling, reasonAutoscale, ""},
		{[]State{depUpdating}, AutoscaleUp, depUpdating, "config_update_started", ""},
		{[]State{depUpdating}, AutoscaleDown, depUpdating, "config_update_started", ""},
		{[]State{depUnhealthy}, AutoscaleUp, depUnhealthy, "replica_failed", ofError},
		{[]State{depUnhealthy}, AutoscaleDown, depUnhealthy, "replica_failed", ofError},
		{[]State{depFailed}, AutoscaleUp, depFailed, "replica_startup_failed", ofError},
		{[]State{depFailed}, AutoscaleDown, depFailed, "replica_startup_failed", ofError},
		{[]State{depUpdating}, ScaleUp, depUpdating, "config_update_started", ""}, // the number is a part of the update
		{[]State{depUpdating}, ScaleDown, depUpdating, "config_update_started", ""},
		{[]State{depUnhealthy}, ScaleUp, depUnhealthy, "replica_failed", ofError}, // a failure is not hidden by scaling
		{[]State{depUnhealthy}, ScaleDown, depUnhealthy, "replica_failed", ofError},
		{[]State{depFailed}, ScaleUp, depFailed, "replica_startup_failed", ofError},
		{[]State{depFailed}, ScaleDown, depFailed, "replica_startup_failed", ofError},
		{all, Delete, depUpdating, "deleting", ""},
		{all, Deleted, Absent, "deleted", ""},
	}
}

// applicationRows: an application that has started is in the state of its worst deployment. An application that is being deleted
// stays so until it is gone.
func applicationRows() []rows {
	all := []State{appDeploying, appRunning, appUnhealthy, appFailed}
	return []rows{
		{append([]State{Absent}, all...), Deploy, appDeploying, "deploy", ofDeployment},
		{all, Ready, appRunning, "ready", ""},
		{all, GiveUp, appFailed, "give_up", ofError},
		{all, RollBack, appFailed, "roll_back", rolledBack},
		{all, DepMissing, appDeploying, "deployment_updating", ofDeployment},
		{all, DepUnhealthy, appUnhealthy, "deployment_unhealthy", ofDeployment},
		{all, DepFailed, appFailed, "deployment_failed", ofDeployment},
		{append([]State{appDeleting}, all...), Delete, appDeleting, "delete", ofDeployment},
		{[]State{appDeleting}, Deleted, Absent, "deleted", ""},
	}
}

// Table has every transition, by kind.
func Table() []Transition {
	var table []Transition
	for _, k := range []struct {
		kind string
		rows []rows
	}{
		{helvetype.KindApplication, applicationRows()}, {helvetype.KindDeployment, deploymentRows()}, {helvetype.KindReplica, replicaRows()},
	} {
		for _, r := range k.rows {
			for _, from := range r.from {
				table = append(table, Transition{k.kind, from, r.event, r.to, r.reason, r.message})
			}
		}
	}
	return table
}

type origin struct {
	kind  string
	from  State
	event Event
}

// index is the table by kind, state and event.
func index() map[origin]Transition {
	all := map[origin]Transition{}
	for _, t := range Table() {
		all[origin{t.Kind, t.From, t.Event}] = t
	}
	return all
}

// Machine looks transitions up. Its methods may be called from any goroutine.
type Machine struct{ transitions map[origin]Transition }

// NewMachine makes a machine of the table.
func NewMachine() *Machine { return &Machine{index()} }

// Next is the transition of an event in a state. false: the event cannot happen in this state.
func (m *Machine) Next(kind string, from State, event Event) (Transition, bool) {
	t, ok := m.transitions[origin{kind, from, event}]
	return t, ok
}

// Shown is the state of a deployment or an application as its last transition left it.
type Shown struct {
	State   State
	Message string
	Reason  string // of the transition
}

// Changes says whether an event changes the state or the message of an object. An event that ends the trouble of an object, and leaves its
// state, changes the message alone, to none; it is no transition to show. The request to delete a deployment that is UPDATING is one, because
// users see the reason. For example, a deployment that is UPDATING with the message
// that a start takes long is UPDATING without one as soon as the start goes on. Nor is it a transition when the age at the end of the message grows: the
// message of the object grows with it. The same holds for the amounts and holders in the message of a replica that waits for room: other applications start and stop replicas meanwhile.
func (m *Machine) Changes(kind string, s *Shown, event Event, facts Facts) bool {
	t, ok := m.Next(kind, s.State, event)
	if !ok || t.To != s.State {
		return true
	}
	message := t.Fill(facts)
	if message == "" || factOf(message) == factOf(s.Message) {
		s.Message = message
	}
	return message != s.Message || event == Delete && t.Reason != s.Reason
}

// RoomOnNode is the name of the wait of a replica that finds no room: see package room.
const RoomOnNode = "room on the node"

// factOf is a message without the age at its end, and without the amounts of a wait for room. For example, "replica D#1 has waited for pip for 14s" is "replica D#1 has waited for pip", and "replica D#1 waits for room on the
// node: needs 2 CPUs, and 1 of 4 are free: shop/E#1 holds 3" is "replica D#1 waits for room on the node".
func factOf(message string) string {
	const age, room = " for ", " waits for " + RoomOnNode
	if replica, _, ok := strings.Cut(message, room); ok {
		return replica + room
	}
	i := strings.LastIndex(message, age)
	if i < 0 {
		return message
	}
	if _, err := time.ParseDuration(message[i+len(age):]); err != nil {
		return message
	}
	return message[:i]
}

// Trigger is the reference's word for the reason of a deployment's transition.
func Trigger(reason string) helvetype.DeploymentTrigger {
	switch reason {
	case "config_update_started", "upscale", "downscale":
		return helvetype.TriggerConfigUpdateStarted
	case "config_update_completed":
		return helvetype.TriggerConfigUpdateCompleted
	case "upscale_completed":
		return helvetype.TriggerUpscaleCompleted
	case "downscale_completed":
		return helvetype.TriggerDownscaleCompleted
	case "replica_startup_failed":
		return helvetype.TriggerReplicaStartupFailed
	case "replica_failed", "replica_not_ready":
		return helvetype.TriggerHealthCheckFailed
	case "deleting":
		return helvetype.TriggerDeleting
	case reasonAutoscale:
		return helvetype.TriggerAutoscaling
	}
	return helvetype.TriggerUnspecified
}

// IllegalError says that an event happened in a state in which it cannot: a mistake in the program. Tests fail of it, and a node
// logs it and keeps the state.
type IllegalError struct {
	Object helvetype.Object
	From   State
	Event  Event
}

func (e *IllegalError) Error() string {
	return fmt.Sprintf("%s %s is %s, in which there is no event %s", e.Object.Kind, e.Object, orAbsent(e.From), e.Event)
}

func orAbsent(s State) string {
	if s == Absent {
		return "absent"
	}
	return string(s)
}

// Fire applies an event to an object, and gives the event to record in telemetry. cause is the id of the recorded event that led to
// this one, 0 for none. From and To are equal in the result if the state stays; then there may be another message.
//
// Example: replica D#1 dies, which is recorded as event 7. Its deployment is HEALTHY.
//
//	ev, err := machine.Fire(deployment, "HEALTHY", states.Failed, states.Facts{Error: "killed"}, 7)
//
// gives {From: HEALTHY, To: UNHEALTHY, Reason: replica_failed, Message: killed, Cause: 7}.
func (m *Machine) Fire(o helvetype.Object, from State, event Event, facts Facts, cause uint64) (helvetype.Event, error) {
	t, ok := m.Next(o.Kind, from, event)
	if !ok {
		return helvetype.Event{}, &IllegalError{o, from, event}
	}
	return helvetype.Event{
		Object: o, From: string(from), To: string(t.To), Reason: t.Reason, Message: t.Fill(facts), Cause: cause,
	}, nil
}

// Fill gives the message of a transition.
func (t Transition) Fill(f Facts) string {
	message := t.Message
	for name, value := range map[string]string{"{error}": f.Error, "{deployment}": f.Deployment, "{revision}": f.Revision} {
		if value == "" && strings.Contains(t.Message, name) {
			return f.Otherwise
		}
	}
	if message == "" {
		return f.Otherwise
	}
	return strings.NewReplacer("{error}", f.Error, "{deployment}", f.Deployment, "{revision}", f.Revision).Replace(message)
}
