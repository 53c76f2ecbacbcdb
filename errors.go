package helve

import (
	"context"

	"github.com/helve-serve/helve/internal/call"
)

// Error is what every failed call returns: a code, a reason, where it happened, and what the user's method said.
// errors.Is and errors.As see the method's own error when it failed in this process.
type Error = call.Error

// Code classifies an error, with gRPC's names and numbers.
type Code = call.Code

// Reason says which rule of Helve produced an error; docs/errors.md lists them with their code and HTTP status.
type Reason = call.Reason

// The reasons, all that there are.
const (
	Backpressure          = call.Backpressure          // the caller's queue is full
	DeploymentUnavailable = call.DeploymentUnavailable // it does not exist, failed to start, or was deleted
	ReplicaUnavailable    = call.ReplicaUnavailable    // the replica or the node cannot be reached
	ReplicaDied           = call.ReplicaDied           // the worker ended while it was running the call
	MayHaveRun            = call.MayHaveRun            // nobody can know whether it ran
	Deadline              = call.Deadline              // the deadline passed
	Cancelled             = call.Cancelled             // the caller cancelled or went away
	NoMethod              = call.NoMethod              // the deployment has no such method
	BadInput              = call.BadInput              // the argument does not fit
	UnsupportedMedia      = call.UnsupportedMedia      // an HTTP content type that the method does not take
	MethodNotAllowed      = call.MethodNotAllowed      // an HTTP method other than those of the ingress
	TooLarge              = call.TooLarge              // a body, an argument or a result over its limit
	Cycle                 = call.Cycle                 // calls that wait for each other
	DepthExceeded         = call.DepthExceeded         // calls that are nested 64 deep
	Lost                  = call.Lost                  // a value was lost with its owner
	User                  = call.User                  // the method returned an error, raised, or panicked
	Fault                 = call.Fault                 // a fault of Helve's own
)

// CodeOf is the code of err: OK for nil, Canceled and DeadlineExceeded for a context's errors, Unknown for others.
func CodeOf(err error) Code {
	switch e := call.ErrorIn(err); {
	case err == nil:
		return call.OK
	case e != nil:
		return e.Code
	case call.Is(err, context.DeadlineExceeded):
		return call.DeadlineExceeded
	case call.Is(err, context.Canceled):
		return call.Canceled
	}
	return call.Unknown
}

// ReasonOf is the reason of err, "" when it is not an [*Error].
func ReasonOf(err error) Reason {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason
	}
	return ""
}

// Public is an error whose code and message clients outside the system see, also when a method returns it wrapped; what wraps it
// is for the log. Of every other error they see the code.
func Public(code Code, message string) error {
	return &Error{Code: code, Reason: call.User, Message: message, Public: message}
}

// The codes: gRPC's names and numbers. A method gives one to [Public].
const (
	OK                 = call.OK
	Canceled           = call.Canceled
	Unknown            = call.Unknown
	InvalidArgument    = call.InvalidArgument
	DeadlineExceeded   = call.DeadlineExceeded
	NotFound           = call.NotFound
	AlreadyExists      = call.AlreadyExists
	PermissionDenied   = call.PermissionDenied
	ResourceExhausted  = call.ResourceExhausted
	FailedPrecondition = call.FailedPrecondition
	Aborted            = call.Aborted
	OutOfRange         = call.OutOfRange
	Unimplemented      = call.Unimplemented
	Internal           = call.Internal
	Unavailable        = call.Unavailable
	DataLoss           = call.DataLoss
	Unauthenticated    = call.Unauthenticated
)
