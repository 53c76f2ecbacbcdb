package deploy

import (
	"errors"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
)

// ErrClosing is the error of a change that comes when the node closes, or hands over to the next node: then that makes the change.
var ErrClosing = errors.New("the node is closing") //nolint:gochecknoglobals // a constant

// ErrSuperseded is the error of a deploy that was under way when another one of the same application came: the last deploy wins.
var ErrSuperseded = errors.New("another deploy has taken its place") //nolint:gochecknoglobals // a constant

// ErrChanged is the error of a change of the options of a revision that is not the target any more: see [App.Changes].
var ErrChanged = errors.New("another deploy has taken its place since its options were read") //nolint:gochecknoglobals // a constant

// The errors of changes of a rollout, and of scaling: the application has none that goes on or could be resumed, or has one and must have none.
var (
	ErrNoRollout = errors.New("no rollout goes on")     //nolint:gochecknoglobals // a constant
	ErrRollout   = errors.New("a rollout is under way") //nolint:gochecknoglobals // a constant
	// ErrAutoscaled is the error of a number of replicas that is set by hand or by a program.
	ErrAutoscaled = errors.New("its autoscaler sets the number of replicas") //nolint:gochecknoglobals // a constant
	// ErrStuck is the error of a deploy whose rollout has failed and does not go back by itself. The rollout waits for an operator.
	ErrStuck = errors.New("its rollout has failed, and is paused because automatic_rollback is off") //nolint:gochecknoglobals // a constant
)

// Undo says which revision an automatic rollback takes back, and why.
type Undo struct {
	Revision int
	Reason   string
	Event    uint64 // that says so
}

// Refused says that a replica did not start because of its user config, or perhaps: its process ended, or was ended.
func Refused(err error) bool {
	if _, ok := errors.AsType[*host.OverdueError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*call.Error](err); ok {
		return strings.EqualFold(e.Method, "Reconfigure")
	}
	e, ended := errors.AsType[*host.EndedError](err)
	return ended && e.Begun
}

// Permanent says that a start has failed in a way that no other attempt heals: the code is not there or is no Python, or the time for
// one attempt, which is long, was over. For example, a constructor whose database does not answer yet is tried again, and a constructor that
// imports a module that is not installed is not.
func Permanent(err error) bool {
	e, ok := errors.AsType[*call.Error](err)
	if !ok {
		return false
	}
	if e.Method == "import" || e.Reason == helvetype.ReasonDeadline { // the first is the worker's name of the step
		return true
	}
	switch e.Type[strings.LastIndexByte(e.Type, '.')+1:] {
	case "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "TabError", "PickleError", "PicklingError", "UnpicklingError", "BindError":
		return true
	}
	return false
}
