package helve

import (
	"unsafe"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/proxy"
)

// Error is the error of a failed call. It has a code, a reason, the place of the failure, and the error that the user's method
// returned, which errors.Is and errors.As find if the method ran in this process or the application has registered the error
// ([App.Errors]). For example:
//
//	var e *helve.Error
//	if errors.As(err, &e) && e.Reason() == helve.Backpressure {
//		fmt.Println("the queue of", e.Deployment(), "is full")
//	}
//
// Errors are immutable and may be shared between goroutines. A method that returns the error of a call that it made passes it
// on unchanged: its own caller gets the same *Error. Methods make errors of this type with [Public] only.
type Error struct {
	// view is the error of the runtime (package internal/call) under the type of this package. The two are one piece of
	// memory, so that making one of the other needs no allocation and keeps the pointer.
	view
}

type view = call.PublicError

// public returns e under the type of this package. It is nil if e is nil.
func public(e *call.Error) *Error { return (*Error)(unsafe.Pointer(e)) }

// The conversion of public is legal as long as both types have the same memory.
var _ [unsafe.Sizeof(Error{}) - unsafe.Sizeof(call.Error{})]struct{} = [0]struct{}{}

// publicError returns an error of a package below this one as users see it.
func publicError(err error) error {
	if e, ok := err.(*call.Error); ok { //nolint:errorlint // errors.As finds the *Error in trees
		return public(e)
	}
	return err
}

// internal returns e under the type of package internal/call.
func (e *Error) internal() *call.Error { return (*call.Error)(unsafe.Pointer(e)) }

// Error returns the place, the message and the reason in one line, such as
// "shop/Cart.Add: the deployment was deleted (deployment_unavailable)". The reason [User] is left out.
func (e *Error) Error() string { return e.internal().Error() }

// Code returns the class of the failure, with gRPC's names and numbers.
func (e *Error) Code() helvetype.Code { return e.internal().Code }

// Reason returns the rule of Helve that produced the error. It is [User] for an error that a method returned and for a panic.
func (e *Error) Reason() helvetype.Reason { return e.internal().Reason }

// Message returns the text of the failure without the place, for logs and for callers inside the system.
func (e *Error) Message() string { return e.internal().Message }

// PublicMessage returns the text that clients outside the system see, which [Public] has set. Clients see the code alone if it
// is empty.
func (e *Error) PublicMessage() string { return e.internal().Public }

// App returns the name of the application in which the call failed. It is empty if the error belongs to no application.
func (e *Error) App() string { return e.internal().App }

// Deployment returns the name of the deployment that was called.
func (e *Error) Deployment() string { return e.internal().Deployment }

// Method returns the name of the method that was called.
func (e *Error) Method() string { return e.internal().Method }

// Replica returns the id of the replica that ran the call. It is empty if the call was not sent to a replica.
func (e *Error) Replica() string { return e.internal().Replica }

// RequestID returns the id of the request that the call belonged to, as in [RequestIDFrom].
func (e *Error) RequestID() string { return e.internal().RequestID }

// Type returns the name of the type of the error that the user's method returned or raised, such as "*shop.QuotaError" in Go
// or "ValueError" in Python. It is "panic" for a panic and "goexit" for runtime.Goexit. It is empty for Helve's own errors.
func (e *Error) Type() string { return e.internal().Type }

// Traceback returns the stack of a panic in Go or the traceback of an exception in Python. It is empty for other errors.
func (e *Error) Traceback() string { return e.internal().Traceback }

// Unwrap returns the error that the user's method returned, or the cause of the end of a context. It is nil if there is none,
// and if the error came from another process and the application has not registered the cause.
func (e *Error) Unwrap() error { return publicError(e.internal().Unwrap()) }

// Is reports whether e matches target beside the errors that it wraps. An error with reason deadline matches
// context.DeadlineExceeded, and one with reason cancelled matches context.Canceled, also if it came from another process.
func (e *Error) Is(target error) bool { return e.internal().Is(target) }

// As lets packages below this one find the runtime's error in e.
func (e *Error) As(target any) bool {
	p, ok := target.(**call.Error)
	if ok && e != nil {
		*p = e.internal()
	}
	return ok && e != nil
}

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

// The codes of package helvetype, with gRPC's names and numbers, under short names. For example, a method returns
// Public(NotFound, "no such user").
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

// CodeOf returns the code of err: OK for nil, that of the first [Error] in its tree, Canceled and DeadlineExceeded for a
// context's errors, Unknown for others.
func CodeOf(err error) helvetype.Code { return call.CodeOf(err) }

// ReasonOf returns the reason of the first [Error] in the tree of err. It is empty if there is none.
func ReasonOf(err error) helvetype.Reason {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason
	}
	return ""
}

// HTTPStatus returns the HTTP status that the ingress gives to err, for handlers that answer by themselves: 200 for nil, that of the first
// [Error] in its tree (docs/errors.md), 408 and 499 for a context's errors, 500 for others.
//
//	out, err := h.model.Call(r.Context(), in)
//	if err != nil {
//		http.Error(w, "the model has failed", helve.HTTPStatus(err)) // 503 if its queue is full, 408 if it took too long
//		return
//	}
func HTTPStatus(err error) int { return proxy.StatusOf(err) }

// Public makes an error whose code and message clients outside the system see, also if a method returns it wrapped. The text of
// the errors that wrap it is for the log. Of all other errors clients see the code.
func Public(code helvetype.Code, message string) error {
	return public(&call.Error{Code: code, Reason: User, Message: message, Public: message})
}
