package helve

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/call"
)

// Error is what every failed call returns: a code, a reason, where it happened, and what the user's method said.
// errors.Is and errors.As see the method's own error when it failed in this process.
type Error = call.Error

// Code classifies an error, with gRPC's names and numbers.
type Code = call.Code

// Reason says which rule of Helve produced an error; docs/errors.md lists them with their code and HTTP status.
type Reason = call.Reason

// The reasons that a program may want to tell apart.
const (
	Backpressure          = call.Backpressure
	DeploymentUnavailable = call.DeploymentUnavailable
	ReplicaUnavailable    = call.ReplicaUnavailable
	ReplicaDied           = call.ReplicaDied
	Deadline              = call.Deadline
	Cancelled             = call.Cancelled
	NoMethod              = call.NoMethod
	BadInput              = call.BadInput
	TooLarge              = call.TooLarge
	User                  = call.User
)

// CodeOf is the code of err: OK for nil, Canceled and DeadlineExceeded for a context's errors, Unknown for others.
func CodeOf(err error) Code {
	switch e, ok := errors.AsType[*Error](err); {
	case err == nil:
		return call.OK
	case ok:
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return call.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return call.Canceled
	}
	return call.Unknown
}

// ReasonOf is the reason of err, "" when it is not an [*Error].
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// Public is an error whose code and message clients outside the system see, also when a method returns it wrapped; what wraps it
// is for the log. Of every other error they see the code.
func Public(code Code, message string) error {
	return &Error{Code: code, Reason: call.User, Message: message, Public: message}
}

// The codes that a method may want to give to [Public]; the others are gRPC's numbers.
const (
	InvalidArgument    = call.InvalidArgument
	NotFound           = call.NotFound
	AlreadyExists      = call.AlreadyExists
	PermissionDenied   = call.PermissionDenied
	ResourceExhausted  = call.ResourceExhausted
	FailedPrecondition = call.FailedPrecondition
	Unavailable        = call.Unavailable
	Internal           = call.Internal
	Unauthenticated    = call.Unauthenticated
)
