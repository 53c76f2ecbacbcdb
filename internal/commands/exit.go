package commands

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

// Exit statuses of commands.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitNotRunning  = 5
	exitUnreachable = 6
	exitInterrupted = 130
)

// ExitStatus is a row of the table of exit statuses, which help and documentation have.
type ExitStatus struct {
	Status  int
	Meaning string
}

// ExitStatuses is the table of all exit statuses.
func ExitStatuses() []ExitStatus {
	return []ExitStatus{
		{0, "the command has done its work; `run` and `start` have drained"},
		{exitFailed, "a failure: a module that cannot be imported, a constructor that raises, a node that has ended"},
		{exitUsage, "wrong usage: a flag, a variable, an argument, or a mistake in a file; the error names the place"},
		{exitNotFound, "the node has no such application, deployment, replica or revision"},
		{exitRefused, "the node refuses: the role of the token, another change that came before, a state that does not allow it; `--wait`: another deploy took the place of this one"},
		{exitNotRunning, "`deploy`, `rollback` and `set` with `--wait`: an application does not run; the revision before serves, if there was one"},
		{exitUnreachable, "no node answers, or it is closing: the command may be given again later"},
		{exitInterrupted, "Ctrl-C: of `run` before the applications were ready, or a second one that cut calls off; of a command that waits, whose change goes on"},
	}
}

// UsageError is the mistake of a user in a flag or an argument.
type UsageError struct{ Err error }

// Error is the text of the mistake.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap is the mistake.
func (e UsageError) Unwrap() error { return e.Err }

// usage makes a [UsageError].
func usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// coded is an error with an exit status.
type coded struct {
	status int
	error
}

func (c coded) Unwrap() error { return c.error }

// hinted is an error with the command to try next.
type hinted struct {
	error
	next string
}

func (h hinted) Unwrap() error { return h.error }

// WithNext is an error with the command to try next, unless the error has one. next is without its label: "helve history shop lists the revisions".
func WithNext(err error, next string) error {
	if err == nil || strings.Contains(textOf(err), nextLine) || StatusOf(err) == exitInterrupted {
		return err
	}
	return hinted{err, next}
}

// nextLine begins the line with the command to try next.
const nextLine = "\nnext: "

// Interrupted is the error of a command that was interrupted while it waited.
func Interrupted(err error) error { return coded{exitInterrupted, err} }

// Unreachable is the error of a command whose node does not answer.
func Unreachable(err error) error { return coded{exitUnreachable, err} }

// StatusOf is the exit status of a command whose result is an error; 0 for nil.
func StatusOf(err error) int {
	if err == nil {
		return 0
	}
	if c, ok := errors.AsType[coded](err); ok {
		return c.status
	}
	if errors.As(err, new(UsageError)) {
		return exitUsage
	}
	if _, ok := errors.AsType[*rest.UnreachableError](err); ok {
		return exitUnreachable
	}
	if e, ok := errors.AsType[*helvetype.OperationError](err); ok {
		return statusOfCode(e.Code)
	}
	return exitFailed
}

// statusOfCode is the exit status of a refusal of the node; exitFailed for a code that is none.
func statusOfCode(code helvetype.Code) int {
	switch code {
	case helvetype.CodeInvalidArgument:
		return exitUsage
	case helvetype.CodeNotFound:
		return exitNotFound
	case helvetype.CodeUnauthenticated, helvetype.CodePermissionDenied, helvetype.CodeAborted, helvetype.CodeFailedPrecondition, helvetype.CodeAlreadyExists:
		return exitRefused
	case helvetype.CodeUnavailable:
		return exitUnreachable
	}
	return exitFailed
}

// TextOf is an error for people: the mistakes of a file each with its place, and the command to try next on a line of its own. It is fit for a terminal.
func TextOf(err error) string { return shown.Safe(textOf(err)) }

func textOf(err error) string {
	if h, ok := errors.AsType[hinted](err); ok {
		return textOf(h.error) + nextLine + h.next
	}
	e, ok := errors.AsType[*helvetype.OperationError](err)
	if !ok {
		if errors.As(err, new(x509.UnknownAuthorityError)) {
			return err.Error() + nextLine + "give --ca with the file of the authority that has signed the certificate of the node"
		}
		if errors.As(err, new(*rest.UnreachableError)) {
			return err.Error() + nextLine + "look whether the node runs there, or give --address of another one"
		}
		return err.Error()
	}
	var b strings.Builder
	if len(e.Mistakes) == 0 {
		b.WriteString(strings.TrimRight(e.Message, "\n"))
	}
	for i, m := range e.Mistakes {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(mistake(m))
	}
	if e.Next != "" {
		b.WriteString(nextLine + strings.TrimRight(e.Next, "\n"))
	}
	return b.String()
}

// mistake is a mistake of a file, for example "serve.yaml:4:9: num_replicas: must be at least 0", with the line of the file below it.
func mistake(m helvetype.Mistake) string {
	text := m.File
	for _, n := range []int{m.Line, m.Column} {
		if n > 0 {
			text += fmt.Sprintf(":%d", n)
		}
	}
	if text != "" {
		text += ": "
	}
	if m.Path != "" && !strings.Contains(m.Message, m.Path) {
		text += m.Path + ": "
	}
	text += m.Message
	if m.Excerpt != "" {
		text += "\n" + strings.TrimRight(m.Excerpt, "\n")
	}
	return text
}
