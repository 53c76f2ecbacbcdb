package secret

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// UserConfig is a user config as a replica gets it, with values in the place of placeholders. Its error is one of the replica, as if it had refused the config:
// for example, a change of the config to ${env:KEY} without that variable on the node leaves the config before in use.
func (r *Resolver) UserConfig(config json.RawMessage) (json.RawMessage, error) {
	config, err := r.Config(config)
	if err != nil {
		return nil, call.NewError(helvetype.ReasonUser, fmt.Sprintf("user_config: %s", err))
	}
	return config, nil
}

// Hide is the error of a replica without the values of r. For example, a constructor fails with "cannot log in with hunter2", and the status, the
// events and the log have "cannot log in with ***".
func (r *Resolver) Hide(err error) error {
	if err == nil || !r.Hides() {
		return err
	}
	text := err.Error()
	shown := r.Scrub(text)
	if e, ok := errors.AsType[*call.Error](err); ok {
		trace := r.Scrub(e.Traceback)
		if shown == text && trace == e.Traceback {
			return err
		}
		own := *e
		own.Message, own.Public, own.Traceback = r.Scrub(e.Message), r.Scrub(e.Public), trace
		own.Cause, own.Known, own.Pickle = nil, nil, nil // they have the text, too
		return &own
	}
	if shown == text {
		return err
	}
	return &hiddenError{shown, err}
}

// hiddenError is an error with another text.
type hiddenError struct {
	text  string
	cause error
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.cause }
