package helvetype

// Code classifies a failure. Names and numbers are gRPC's (https://grpc.io/docs/guides/status-codes/), so that a code means
// the same in Helve, in gRPC and in HTTP gateways.
type Code uint32

// The codes are all of gRPC's. Helve's own failures use some of them (docs/errors.md); a method may give any of them to its
// error with helve.Public.
const (
	CodeOK                 Code = 0
	CodeCanceled           Code = 1
	CodeUnknown            Code = 2
	CodeInvalidArgument    Code = 3
	CodeDeadlineExceeded   Code = 4
	CodeNotFound           Code = 5
	CodeAlreadyExists      Code = 6
	CodePermissionDenied   Code = 7
	CodeResourceExhausted  Code = 8
	CodeFailedPrecondition Code = 9
	CodeAborted            Code = 10
	CodeOutOfRange         Code = 11
	CodeUnimplemented      Code = 12
	CodeInternal           Code = 13
	CodeUnavailable        Code = 14
	CodeDataLoss           Code = 15
	CodeUnauthenticated    Code = 16
)

// String returns gRPC's name of the code, such as "NotFound". A number that gRPC does not define is "Unknown".
func (c Code) String() string {
	names := [...]string{
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
		"Internal", "Unavailable", "DataLoss", "Unauthenticated",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return "Unknown"
}

// Reason names the rule of Helve that produced an error. It is finer than [Code]: for example, a full queue and a body over
// its limit both have [CodeResourceExhausted], with [ReasonBackpressure] and [ReasonTooLarge]. Reasons are stable, so programs
// may switch on them; docs/errors.md gives the code, HTTP status and Python exception of each.
type Reason string

// The reasons are all that Helve gives to an error.
const (
	ReasonBackpressure          Reason = "backpressure"           // The queue of the caller is full.
	ReasonDeploymentUnavailable Reason = "deployment_unavailable" // The deployment does not exist, failed to start, or was deleted.
	ReasonReplicaUnavailable    Reason = "replica_unavailable"    // The replica or the node cannot be reached.
	ReasonReplicaDied           Reason = "replica_died"           // The worker ended while it ran the call.
	ReasonMayHaveRun            Reason = "may_have_run"           // The connection was lost, and the call may have run.
	ReasonDeadline              Reason = "deadline"               // The deadline has passed.
	ReasonCancelled             Reason = "cancelled"              // The caller cancelled the call, or its client went away.
	ReasonNoMethod              Reason = "no_method"              // The deployment has no such method.
	ReasonBadInput              Reason = "bad_input"              // The argument does not fit the method.
	ReasonUnsupportedMedia      Reason = "unsupported_media"      // The method does not take the HTTP content type.
	ReasonMethodNotAllowed      Reason = "method_not_allowed"     // The ingress does not take the HTTP method.
	ReasonTooLarge              Reason = "too_large"              // A body, an argument or a result is over its limit.
	ReasonCycle                 Reason = "cycle"                  // Calls wait for each other in a circle.
	ReasonDepth                 Reason = "depth"                  // Calls are nested 64 deep.
	ReasonDataLoss              Reason = "data_loss"              // A value was lost with its owner.
	ReasonUser                  Reason = "user"                   // The method returned an error, raised one, or panicked.
	ReasonInternal              Reason = "internal"               // Helve itself failed.
)
