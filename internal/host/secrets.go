package host

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/secret"
)

// Secrets are the values that the node puts in the place of placeholders; nil for an application without a node of its own, in a test.
func (a *App) Secrets() *secret.Resolver {
	if a == nil {
		return nil
	}
	return a.workers.set.Secrets
}

// userConfig is a user config as a replica gets it, with values in the place of placeholders. Its error is one of the replica, as if it had refused the config:
// for example, a change of the config to ${env:KEY} without that variable on the node leaves the config before in use.
func userConfig(secrets *secret.Resolver, config json.RawMessage) (json.RawMessage, error) {
	config, err := secrets.Config(config)
	if err != nil {
		return nil, call.NewError(helvetype.ReasonUser, fmt.Sprintf("user_config: %s", err))
	}
	return config, nil
}

// hidden is the error of a replica without the values of secrets. For example, a constructor fails with "cannot log in with hunter2", and the status, the
// events and the log have "cannot log in with ***".
func hidden(secrets *secret.Resolver, err error) error {
	if err == nil || !secrets.Hides() {
		return err
	}
	text := err.Error()
	shown := secrets.Scrub(text)
	if e, ok := errors.AsType[*call.Error](err); ok {
		trace := secrets.Scrub(e.Traceback)
		if shown == text && trace == e.Traceback {
			return err
		}
		own := *e
		own.Message, own.Public, own.Traceback = secrets.Scrub(e.Message), secrets.Scrub(e.Public), trace
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
