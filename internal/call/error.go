package call

import (
	"context"
	"errors"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// Row is one line of the error table: a [helvetype.Reason] with its code, HTTP status and exception in Python.
type Row struct {
	Reason helvetype.Reason
	Code   helvetype.Code
	HTTP   int
	Python string // exception class; "" stands for the user's own type
}

// Table is the only error table: Go, the wire, HTTP and Python use it. The status 499 is nginx's "client closed request", as in
// Ray Serve.
var Table = [...]Row{
	{helvetype.ReasonBackpressure, helvetype.CodeResourceExhausted, 503, "BackPressureError"},
	{helvetype.ReasonDeploymentUnavailable, helvetype.CodeUnavailable, 503, "DeploymentUnavailableError"},
	{helvetype.ReasonReplicaUnavailable, helvetype.CodeUnavailable, 500, "ReplicaUnavailableError"},
	{helvetype.ReasonReplicaDied, helvetype.CodeUnavailable, 500, "RayServeException"},
	{helvetype.ReasonMayHaveRun, helvetype.CodeUnavailable, 500, "RayServeException"},
	{helvetype.ReasonDeadline, helvetype.CodeDeadlineExceeded, 408, "TimeoutError"},
	{helvetype.ReasonCancelled, helvetype.CodeCanceled, 499, "RequestCancelledError"},
	{helvetype.ReasonNoMethod, helvetype.CodeUnimplemented, 500, "RayServeException"},
	{helvetype.ReasonBadInput, helvetype.CodeInvalidArgument, 400, "TypeError"},
	{helvetype.ReasonUnsupportedMedia, helvetype.CodeInvalidArgument, 415, "TypeError"},
	{helvetype.ReasonMethodNotAllowed, helvetype.CodeUnimplemented, 405, "TypeError"},
	{helvetype.ReasonTooLarge, helvetype.CodeResourceExhausted, 413, "RayServeException"},
	{helvetype.ReasonCycle, helvetype.CodeFailedPrecondition, 500, "RayServeException"},
	{helvetype.ReasonDepth, helvetype.CodeFailedPrecondition, 500, "RayServeException"},
	{helvetype.ReasonDataLoss, helvetype.CodeDataLoss, 500, "RayServeException"},
	{helvetype.ReasonUser, helvetype.CodeUnknown, 500, ""},
	{helvetype.ReasonInternal, helvetype.CodeInternal, 500, "RayServeException"},
}

// RowOf finds the row of a reason. An unknown reason, which a newer peer may send, has the row of an internal failure.
func RowOf(r helvetype.Reason) Row {
	for _, row := range Table {
		if row.Reason == r {
			return row
		}
	}
	return Row{r, helvetype.CodeInternal, 500, "RayServeException"}
}

// Error is the error of a failed call. Users see it as a *helve.Error ([PublicError]). It is immutable once it is returned, and safe
// to share.
type Error struct {
	Code    helvetype.Code
	Reason  helvetype.Reason
	Message string // for logs and for callers inside the system

	App, Deployment, Method, Replica string // the place of the failure, as far as it is known
	RequestID                        string

	Public    string       // the message for clients outside the system; such clients see the code if it is empty
	Type      string       // the type of the user's error, in Go or Python
	Traceback string       // the user's traceback or panic stack
	Pickle    []byte       // a Python exception, opaque to Go
	Remote    bool         // the error crossed a process boundary
	Logged    bool         // the replica's process has logged it; it stays in this process
	HTTP      int          // the status of the HTTP answer that the deployment wants for calls that it refuses: 503 or 429; 0 for the one of [Table]
	Retry     int          // seconds in the header Retry-After of that answer; 0 for none
	Known     []KnownError // the parts of Cause that another process can make again, in the order of its tree

	Cause error // stays in this process; errors of users are in it as [Guard] gives them
}

// KnownError names an error that every process of an application knows: an error that the application has registered, or an
// error of package context.
type KnownError struct {
	Name  string
	Value []byte // the fields in MessagePack, if the error is registered by its type
}

// NewError makes an error with the code that [Table] gives to the reason.
func NewError(r helvetype.Reason, message string) *Error {
	return &Error{Code: RowOf(r).Code, Reason: r, Message: message}
}

// Error returns the place, the message and the reason in one line. For example:
// "shop/Cart.Add: the deployment was deleted (deployment_unavailable)".
func (e *Error) Error() string {
	if e == nil {
		return "a nil *helve.Error that is not nil as an error"
	}
	var b strings.Builder
	if e.App != "" {
		b.WriteString(e.App)
		b.WriteByte('/')
	}
	b.WriteString(e.Deployment)
	if e.Method != "" {
		b.WriteByte('.')
		b.WriteString(e.Method)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Reason != helvetype.ReasonUser {
		b.WriteString(" (")
		b.WriteString(string(e.Reason))
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the cause, so that errors.Is and errors.As see the error that the user's method returned.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Cause
}

// Is reports whether target is e under its other type ([PublicError]), or the error of package context that has e's reason. For
// example, errors.Is(err, context.DeadlineExceeded) also holds for a deadline that passed in another process.
func (e *Error) Is(target error) bool {
	if e == nil {
		return false
	}
	if o, ok := Own(target); ok {
		return o == e
	}
	switch target {
	case context.DeadlineExceeded:
		return e.Reason == helvetype.ReasonDeadline
	case context.Canceled:
		return e.Reason == helvetype.ReasonCancelled
	}
	return false
}

// At returns e with the place and the request of info where e has none. It copies e, because errors are shared.
func (e *Error) At(info *Info) *Error {
	if e.Deployment != "" && e.RequestID != "" {
		return e
	}
	c := *e
	if c.Deployment == "" && info.Place != nil {
		c.App, c.Deployment, c.Method = info.App, info.Deployment, short(info.Method)
		if c.Replica == "" {
			c.Replica = info.Replica
		}
	}
	if c.RequestID == "" {
		c.RequestID = info.Request.String()
	}
	return &c
}

// FromContext returns the cause of the end of ctx as an *Error with reason deadline or cancelled.
func FromContext(ctx context.Context) *Error {
	cause := Cause(ctx)
	if cause == nil {
		cause = context.Canceled
	}
	return FromCause(cause)
}

// EndOf returns the cause of the end of ctx, guarded because it may be a user's error.
func EndOf(ctx context.Context) error { return Guard(Cause(ctx)) }

// FromCause is FromContext for the cause of a context. A cause that is an *Error stays itself.
func FromCause(cause error) *Error {
	if e := ErrorIn(cause); e != nil {
		return AsError(e)
	}
	r := helvetype.ReasonCancelled
	if late(cause) {
		r = helvetype.ReasonDeadline
	}
	e := NewError(r, TextOf(cause))
	e.Cause = Hold(cause, e.Message)
	return e
}

// late reports whether the cause of a context's end is its deadline.
func late(cause error) bool {
	switch cause { //nolint:errorlint // the usual causes, without a walk
	case context.Canceled:
		return false
	case context.DeadlineExceeded:
		return true
	}
	if e := ErrorIn(cause); e != nil {
		return e.Reason == helvetype.ReasonDeadline
	}
	return Is(cause, context.DeadlineExceeded)
}

// AsError returns err as an *Error: itself if it is one, else a user error that wraps it. Only the outermost error counts,
// because an error that wraps an *Error has a text of its own.
func AsError(err error) *Error {
	e, ok := Own(err)
	switch {
	case !ok:
		text := TextOf(err)
		return &Error{Code: helvetype.CodeUnknown, Reason: helvetype.ReasonUser, Message: text, Cause: Hold(err, text)}
	case e == nil:
		return NewError(helvetype.ReasonUser, e.Error())
	case e.Reason != "" && trusted(e.Cause):
		return e
	}
	c := *e // made by a user, as &helve.Error{}
	c.Cause = Guard(e.Cause)
	if c.Message == "" {
		c.Message = "an empty helve.Error"
	}
	if c.Reason == "" {
		c.Reason = helvetype.ReasonUser
		if c.Code == helvetype.CodeOK {
			c.Code = helvetype.CodeUnknown
		}
	}
	return &c
}

// ConstructorError is the text for the user when a replica does not start: the place, the error and the user's traceback. An error that
// is no [Error] stays as it is.
func ConstructorError(err error, app, deployment, replica string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	c := *e
	c.App, c.Deployment, c.Replica = app, deployment, replica
	if c.Method == "" {
		c.Method = "constructor"
	}
	switch {
	case c.Traceback != "":
		c.Message += "\n" + strings.TrimRight(c.Traceback, "\n")
	case c.Type != "" && c.Remote:
		c.Message = c.Type + ": " + c.Message
	}
	c.Traceback = ""
	return &c
}
