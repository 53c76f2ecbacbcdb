package ingress_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

var buildBlock = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("block")
	h := helve.Deploy(app, "Subject", fixture.NewSubject, helve.Options{})
	app.Ingress(helve.ActionOf(h, (*fixture.Subject).Block))
	return app, nil
})

// TestClientGoesAway: the end of an HTTP request ends the context of the method that serves it.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildBlock, func(t *testing.T, s *helve.System) {
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h, err := helve.HandleOf[*fixture.Subject](s, "block", "Subject")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			r, err := http.DefaultTransport.RoundTrip(request)
			if err == nil {
				r.Body.Close()
			}
			done <- err
		}()
		if _, err := helve.ActionOf(h, (*fixture.Subject).AwaitStarted).Call(t.Context(), helve.None{}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := helve.ActionOf(h, (*fixture.Subject).AwaitCancelled).Call(t.Context(), helve.None{}); err != nil {
			t.Error(err)
		}
	})
}
