package helvetype

import (
	"slices"
	"strings"
	"time"
)

// The kinds of objects that have transitions.
const (
	KindApplication = "application"
	KindDeployment  = "deployment"
	KindReplica     = "replica"
	// KindNode is the node itself: its events are the starts of a durable node.
	KindNode = "node"
)

// Object names an application, a deployment, a replica or the node. The fields below its kind are empty: for example, an object of the kind
// "deployment" has no Replica.
type Object struct {
	// Kind is one of the constants above.
	Kind string `json:"kind"`
	// App is the name of the application.
	App string `json:"app"`
	// Deployment is the name of the deployment.
	Deployment string `json:"deployment,omitempty"`
	// Replica is the id of the replica.
	Replica string `json:"replica,omitempty"`
}

// String is the path of the object, for example "hello/Downstream/Downstream#001".
func (o Object) String() string {
	parts := []string{o.App, o.Deployment, o.Replica}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
}

// The severities of events.
const (
	SeverityInfo    = "info"    // as it should be
	SeverityWarning = "warning" // to look at: for example, a start that is tried again, or a replica that gets no calls
	SeverityError   = "error"   // a failure: for example, a replica that has died, or an application that is UNHEALTHY
)

// Event is one transition of one object. Calls are no events.
type Event struct {
	// ID numbers the events of a node from 1.
	ID uint64 `json:"id"`
	// Time is the time of the transition.
	Time time.Time `json:"time"`
	// Object is the application, deployment or replica that changed.
	Object Object `json:"object"`
	// From is the state before. It is empty for an object that did not exist.
	From string `json:"from,omitempty"`
	// To is the state after. It is empty for an object that no longer exists.
	To string `json:"to,omitempty"`
	// Severity is how bad the event is: [SeverityInfo], [SeverityWarning] or [SeverityError].
	Severity string `json:"severity,omitempty"`
	// Reason names the kind of transition in one word.
	Reason string `json:"reason,omitempty"`
	// Message explains the transition.
	Message string `json:"message,omitempty"`
	// Inputs has the facts that the transition was decided from, for example {"ready": "1", "wanted": "2"}.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Cause is the id of the event that led to this one. It is 0 if there is none: for example, the end of a process is no consequence of
	// another event.
	Cause uint64 `json:"cause,omitempty"`
}
