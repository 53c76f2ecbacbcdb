package errors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestRegisteredErrors(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildErrors, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[*Failing](s, "errors", "Failing")
		if err != nil {
			t.Fatal(err)
		}
		fail := helve.MethodOf(h, (*Failing).Fail)
		_, err = fail.Call(t.Context(), "value")
		if !errors.Is(err, errNotFound) {
			t.Errorf("%v is not errNotFound", err)
		}
		_, err = fail.Remote(t.Context(), "type").Result(t.Context())
		if e, ok := errors.AsType[*QuotaError](err); !ok || e.Left != 3 || e.Who != "me" {
			t.Errorf("%v is no QuotaError", err)
		}
		_, err = fail.Call(t.Context(), "other")
		if errors.Is(err, errNotFound) || err == nil {
			t.Errorf("%v", err)
		}
		fixture.WantReason(t, err, helve.User)
	})
}

var errNotFound = errors.New("not found")

type QuotaError struct {
	Left int
	Who  string
}

func (e *QuotaError) Error() string { return fmt.Sprintf("%s has %d left", e.Who, e.Left) }

type Failing struct{}

func (*Failing) Fail(_ context.Context, how string) (int, error) {
	switch how {
	case "value":
		return 0, fmt.Errorf("looking: %w", errNotFound)
	case "type":
		return 0, fmt.Errorf("looking: %w", &QuotaError{3, "me"})
	}
	return 0, errors.New("another")
}

var buildErrors = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("errors")
	app.Errors(errNotFound, (*QuotaError)(nil))
	h := helve.Deploy(app, "Failing", func(context.Context) (*Failing, error) { return &Failing{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Failing).Fail))
	return app, nil
})
