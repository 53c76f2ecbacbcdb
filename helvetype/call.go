package helvetype

import "time"

// The states of a call in a list.
const (
	// CallWaiting is the state of a call that has no slot yet, or waits in the control queue of a replica.
	CallWaiting = "waiting"
	// CallRunning is the state of a call that a replica executes.
	CallRunning = "running"
)

// Call is one call that waits or runs in a node.
type Call struct {
	// ID names the call.
	ID string `json:"id"`
	// Parent is the id of the call whose method made this one. It is empty for a call from outside.
	Parent string `json:"parent,omitempty"`
	// RequestID is the id of the request, which all calls of a composition have in common.
	RequestID string `json:"request_id"`
	// TraceID is the id of the trace that the call is in, in hex.
	TraceID string `json:"trace_id"`
	// App is the application of the method that is called.
	App string `json:"app"`
	// Deployment is the deployment of the method that is called.
	Deployment string `json:"deployment"`
	// Method is the name of the method that is called.
	Method string `json:"method"`
	// Replica is the id of the replica that runs the call. It is empty for a call that waits for a slot.
	Replica string `json:"replica,omitempty"`
	// Origin is the queue in which the call waits: the proxy, a driver, or the deployment that calls.
	Origin string `json:"origin,omitempty"`
	// State is waiting or running.
	State string `json:"state"`
	// Since is the time at which the call began to wait, or to run.
	Since time.Time `json:"since"`
	// WaitsFor is the reason of a call's wait. A running call has one while a call that it has made waits or runs.
	WaitsFor string `json:"waits_for,omitempty"`
	// Stream is true for a running call that streams or serves HTTP, which may last long and do nothing.
	Stream bool `json:"stream,omitempty"`
	// CallerEnded is true if the call was made by a method that has returned. For example, a stream that its caller has abandoned holds its slot until it ends.
	CallerEnded bool `json:"caller_ended,omitempty"`
	// UnreadSince is the time from which on a stream, or an answer over HTTP, waits for its reader: as many items as may wait for the reader do, and the reader has taken none since, or too few to make room. It is zero
	// for a call that does not wait for its reader.
	UnreadSince time.Time `json:"unread_since,omitzero"`
}

// CallList has the calls of a node.
type CallList struct {
	// Calls has the oldest call first.
	Calls []Call `json:"calls"`
	// Unlisted is the number of other calls that wait or run: calls over the limit of the list, calls that run on the goroutine of their
	// caller (Call in one process), and calls between replicas of one Go worker under slots that the node has lent to it. No call that came
	// over HTTP is among them while it runs.
	Unlisted int `json:"unlisted"`
}
