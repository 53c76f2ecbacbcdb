package helvetype

import "time"

// The reasons why a node keeps a request.
const (
	// KeptFailed is the reason of a request that has failed.
	KeptFailed = "failed"
	// KeptSlow is the reason of a request that took longer than the limit of the node for slow requests, or was among the slowest of its route in a minute.
	KeptSlow = "slow"
	// KeptSampled is the reason of a request whose spans are exported.
	KeptSampled = "sampled"
)

// Request is an HTTP request, or a call of a handle outside of methods, that has ended.
type Request struct {
	// ID is the id of the request, which all its calls have in common.
	ID string `json:"request_id"`
	// TraceID is the id of its trace, in hex.
	TraceID string `json:"trace_id"`
	// Kind is http for an HTTP request, span for the outermost span of a program outside of methods, else the kind of its first call: call, stream or broadcast.
	Kind string `json:"kind"`
	// Name is the name of a span of a program; empty for others.
	Name string `json:"name,omitempty"`
	// App is the application that it went to; empty for a span of a program.
	App string `json:"app"`
	// Deployment is the deployment that it went to; empty if it came to none.
	Deployment string `json:"deployment,omitempty"`
	// Method is the method of the deployment; empty if it came to none.
	Method string `json:"method,omitempty"`
	// Route is the prefix of the route of an HTTP request.
	Route string `json:"route,omitempty"`
	// Status is the status of the answer to an HTTP request.
	Status int `json:"status,omitempty"`
	// Reason is the reason of the failure; empty for none.
	Reason string `json:"reason,omitempty"`
	// Message is the text of the failure; empty for none.
	Message string `json:"message,omitempty"`
	// FailedAt is the call that the failure comes from, for example shop/Ledger.Append; empty if that is the first call of the request, and for none.
	FailedAt string `json:"failed_at,omitempty"`
	// Started is when the request came.
	Started time.Time `json:"started"`
	// Milliseconds is how long the request took.
	Milliseconds float64 `json:"duration_ms"`
	// Kept says why the node keeps the request: failed, slow or sampled. It is empty for a request that is not kept, or has not ended: then only the newest
	// records of it are there.
	Kept string `json:"kept,omitempty"`
	// Sampled says that the request is sampled, also if it is kept for another reason.
	Sampled bool `json:"sampled,omitempty"`
}

// RequestList has requests that a node keeps.
type RequestList struct {
	// Requests has the newest request first.
	Requests []Request `json:"requests"`
	// SlowFrom is the number of milliseconds from which on a request is slow; 0 for none. A request of the list that is kept as slow and took less was among the slowest of its route in a minute.
	SlowFrom float64 `json:"slow_from_ms,omitempty"`
	// DroppedFailed counts the failed requests since the start of the node that were not kept, because there were too many in a short time.
	DroppedFailed uint64 `json:"dropped_failed,omitempty"`
	// DroppedSlow counts the slow requests that were not kept for the same reason.
	DroppedSlow uint64 `json:"dropped_slow,omitempty"`
}

// RequestQuery chooses requests that a node keeps. Empty fields choose all.
type RequestQuery struct {
	// App is the application of the request.
	App string
	// Kept is failed, slow or sampled; sampled chooses all sampled requests, also those that have failed or were slow.
	Kept string
	// Status is the status of the answer.
	Status int
	// LongerThan is the least time that the request took.
	LongerThan time.Duration
	// Limit is the largest number of requests; 0 for 100.
	Limit int
}

// RequestTrace is a request with the calls that it has made.
type RequestTrace struct {
	Request
	// Sentence says why the request has failed, or what took its time.
	Sentence string `json:"sentence"`
	// Next names the command or the option that comes next; "" for none.
	Next string `json:"next,omitempty"`
	// Spans are what took time in the request, in the order of their begins: the request itself, calls, waits for slots, and spans of user code. Calls that took less
	// than a millisecond and did not fail are among them only if the request is sampled.
	Spans []Span `json:"spans"`
	// Running says that calls of the request wait or run now.
	Running bool `json:"running,omitempty"`
	// Missed is the number of spans without room.
	Missed int `json:"missed,omitempty"`
}

// Span is one piece of work in a request.
type Span struct {
	// ID is in hex. A wait has the id of its call, and so has the wait for its arguments in Go.
	ID string `json:"id"`
	// Parent is the span in which this one lies, in hex. It is empty for none, and may be of a span that is not in the list.
	Parent string `json:"parent,omitempty"`
	// Caller is the call whose method has made this one, in hex, if Parent is another span in that, such as one of user code. It is empty for none.
	Caller string `json:"caller,omitempty"`
	// Kind is http, call, stream, broadcast, wait (for a slot), arguments (the wait for results of other calls that are its arguments), batch, or span (of user code).
	Kind string `json:"kind"`
	// Name is the name of a span of user code, or of the function of a batch.
	Name string `json:"name,omitempty"`
	// App is the application of the call.
	App string `json:"app,omitempty"`
	// Deployment is the deployment of the call.
	Deployment string `json:"deployment,omitempty"`
	// Method is the method of the call.
	Method string `json:"method,omitempty"`
	// Replica is the replica that ran the call; empty if none has.
	Replica string `json:"replica,omitempty"`
	// Origin is the queue of a wait.
	Origin string `json:"origin,omitempty"`
	// WithoutReplica is the part of a wait, in milliseconds, in which the deployment had no replica that gets calls. In the other part its replicas were busy.
	WithoutReplica float64 `json:"without_replica_ms,omitempty"`
	// Started is when the work began.
	Started time.Time `json:"started"`
	// Milliseconds is how long the work took.
	Milliseconds float64 `json:"duration_ms"`
	// Open says that the work has not ended: its duration is the time until now.
	Open bool `json:"open,omitempty"`
	// WaitsFor is the reason why an open call waits, as in [Call].
	WaitsFor string `json:"waits_for,omitempty"`
	// Attempt is how often the call was sent before, and lost.
	Attempt int `json:"attempt,omitempty"`
	// RunsAgain says that this attempt was lost, and the call has run again.
	RunsAgain bool `json:"runs_again,omitempty"`
	// Reason is the reason of the failure; empty for none.
	Reason string `json:"reason,omitempty"`
	// Message is the text of the failure; empty for none.
	Message string `json:"message,omitempty"`
	// FailedAt is the call below this one that the failure comes from; empty for a failure of its own.
	FailedAt string `json:"failed_at,omitempty"`
	// Attributes are the values that user code has noted.
	Attributes map[string]any `json:"attributes,omitempty"`
	// Links are the spans of other calls that the work belongs to, such as those whose inputs are in a batch, in hex.
	Links []string `json:"links,omitempty"`
}
