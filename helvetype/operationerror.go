package helvetype

import "strings"

// OperationError is the error of an operation that an author has asked for. The REST API answers with it as JSON and with the HTTP status of its code, and
// the command line prints it. The codes that operations use, with their statuses:
//
//	CodeInvalidArgument     400  the file or an argument is wrong; Mistakes has the places
//	CodeUnauthenticated     401  there is no token, or the node does not know it
//	CodePermissionDenied    403  the role of the author does not allow the operation
//	CodeNotFound            404  there is no such application, deployment, replica or revision
//	CodeAborted             409  another deploy has come before this one ran
//	CodeFailedPrecondition  412  the generation is not the one that the author has seen, or the object is in a state that does not allow the operation
//	CodeUnimplemented       501  the node cannot do this
//	CodeUnavailable         503  the node is closing, or hands over to the next one
type OperationError struct {
	// Code classifies the error.
	Code Code `json:"code"`
	// Message says what is wrong, in one sentence or a few lines.
	Message string `json:"error"`
	// Next is the command or the change to try next; "" for none.
	Next string `json:"next,omitempty"`
	// Mistakes are the mistakes of a file, in its order.
	Mistakes []Mistake `json:"mistakes,omitempty"`
	// Err is the cause within this process; nil for none.
	Err error `json:"-"`
}

// Mistake is a mistake in a file.
type Mistake struct {
	// File is the name of the file.
	File string `json:"file,omitempty"`
	// Line is the number of the line, from 1; 0 for none.
	Line int `json:"line,omitempty"`
	// Column is the place in the line, from 1; 0 for none.
	Column int `json:"column,omitempty"`
	// Path is the path of the field, for example "applications[0].deployments[1].num_replicas".
	Path string `json:"path,omitempty"`
	// Message says what is wrong.
	Message string `json:"message"`
	// Excerpt has the line of the file with a caret below the place.
	Excerpt string `json:"excerpt,omitempty"`
}

// Error has the message, and the next command on a line of its own.
func (e *OperationError) Error() string {
	if e.Next == "" {
		return e.Message
	}
	return strings.TrimRight(e.Message, "\n") + "\n" + e.Next
}

// Unwrap is the cause within this process.
func (e *OperationError) Unwrap() error { return e.Err }
