package secret_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/secret"
)

// TestErrorsAreHidden: no part of the error of a replica has a value that the node has put into its user config.
func TestErrorsAreHidden(t *testing.T) {
	t.Parallel()
	secrets := &secret.Resolver{Source: secret.Source{Env: func(string) (string, bool) { return "hunter2", true }}}
	config, err := secrets.UserConfig(json.RawMessage(`{"password":"${!env:PW}"}`))
	if err != nil || string(config) != `{"password":"hunter2"}` {
		t.Fatalf("%s, %v", config, err)
	}
	e := call.NewError(helvetype.ReasonUser, "cannot log in with hunter2")
	e.Traceback, e.Pickle = "raise hunter2", []byte("hunter2")
	for _, err := range []error{e, errors.New("no hunter2")} {
		got := secrets.Hide(err)
		if strings.Contains(got.Error(), "hunter2") || !strings.Contains(got.Error(), "***") {
			t.Errorf("%v", got)
		}
		if e, ok := errors.AsType[*call.Error](got); ok && strings.Contains(e.Traceback+string(e.Pickle), "hunter2") {
			t.Errorf("%+v", e)
		}
	}
	other := errors.New("another error")
	if secrets.Hide(other) != other || (*secret.Resolver)(nil).Hide(e) != e {
		t.Error("an error without a value has changed")
	}
	secrets.Env = func(string) (string, bool) { return "", false }
	if _, err := secrets.UserConfig(json.RawMessage(`["${!env:PW}"]`)); err == nil || !strings.Contains(err.Error(), "user_config: ${env:PW}: the node has no environment variable PW") {
		t.Error(err)
	}
}
