package helve

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Error is what every failed call returns: a code, a reason, where it happened, and what the user's method said.
// errors.Is and errors.As see the method's own error when it failed in this process.
type Error = call.Error

// The reasons of package helvetype, where each is described, under short names.
const (
	Backpressure          = helvetype.ReasonBackpressure
	DeploymentUnavailable = helvetype.ReasonDeploymentUnavailable
	ReplicaUnavailable    = helvetype.ReasonReplicaUnavailable
	ReplicaDied           = helvetype.ReasonReplicaDied
	MayHaveRun            = helvetype.ReasonMayHaveRun
	Deadline              = helvetype.ReasonDeadline
	Cancelled             = helvetype.ReasonCancelled
	NoMethod              = helvetype.ReasonNoMethod
	BadInput              = helvetype.ReasonBadInput
	UnsupportedMedia      = helvetype.ReasonUnsupportedMedia
	MethodNotAllowed      = helvetype.ReasonMethodNotAllowed
	TooLarge              = helvetype.ReasonTooLarge
	Cycle                 = helvetype.ReasonCycle
	DepthExceeded         = helvetype.ReasonDepth
	Lost                  = helvetype.ReasonDataLoss
	User                  = helvetype.ReasonUser
	Fault                 = helvetype.ReasonInternal
)

// CodeOf is the code of err: OK for nil, Canceled and DeadlineExceeded for a context's errors, Unknown for others.
func CodeOf(err error) helvetype.Code {
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
func ReasonOf(err error) helvetype.Reason {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason
	}
	return ""
}

// Public is an error whose code and message clients outside the system see, also when a method returns it wrapped; what wraps it
// is for the log. Of every other error they see the code.
func Public(code helvetype.Code, message string) error {
	return &Error{Code: code, Reason: call.User, Message: message, Public: message}
}

// The codes of package helvetype, with gRPC's names and numbers. For example, a method returns Public(NotFound, "no such user").
const (
	OK                 = helvetype.CodeOK
	Canceled           = helvetype.CodeCanceled
	Unknown            = helvetype.CodeUnknown
	InvalidArgument    = helvetype.CodeInvalidArgument
	DeadlineExceeded   = helvetype.CodeDeadlineExceeded
	NotFound           = helvetype.CodeNotFound
	AlreadyExists      = helvetype.CodeAlreadyExists
	PermissionDenied   = helvetype.CodePermissionDenied
	ResourceExhausted  = helvetype.CodeResourceExhausted
	FailedPrecondition = helvetype.CodeFailedPrecondition
	Aborted            = helvetype.CodeAborted
	OutOfRange         = helvetype.CodeOutOfRange
	Unimplemented      = helvetype.CodeUnimplemented
	Internal           = helvetype.CodeInternal
	Unavailable        = helvetype.CodeUnavailable
	DataLoss           = helvetype.CodeDataLoss
	Unauthenticated    = helvetype.CodeUnauthenticated
)
