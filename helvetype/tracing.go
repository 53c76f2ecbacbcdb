package helvetype

// Tracing says which requests of a node are sampled and kept, and where their spans go.
type Tracing struct {
	// Ratio is the part of the requests that are sampled, of those whose client does not say it.
	Ratio float64 `json:"sampling_ratio"`
	// SlowFrom is the time in seconds from which on a request is slow, and kept; 0 for none.
	SlowFrom float64 `json:"slow_request_s"`
	// Endpoint is the receiver of spans; empty for none.
	Endpoint string `json:"otlp_endpoint"`
	// Sent is the number of spans that receivers have taken.
	Sent uint64 `json:"spans_sent"`
	// Dropped is the number of spans that no receiver has taken.
	Dropped uint64 `json:"spans_dropped"`
}

// TracingChange is a change of the tracing of a node while it runs. Fields that are nil stay.
type TracingChange struct {
	// Ratio is the part of the requests that are sampled, from 0 to 1.
	Ratio *float64 `json:"sampling_ratio,omitempty"`
	// SlowFrom is the time in seconds from which on a request is slow, 0 for none.
	SlowFrom *float64 `json:"slow_request_s,omitempty"`
	// Reset drops the changes of commands and files before: the node has the tracing with which it was started. Other fields are over that.
	Reset bool `json:"reset,omitempty"`
}
