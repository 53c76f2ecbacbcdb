package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestApplicationThatStarts: requests to an application that starts are answered with 503 and the reason, whatever other application has a
// shorter prefix of their path. A path without an application stays 404, also when the start has failed.
func TestApplicationThatStarts(t *testing.T) {
	t.Parallel()
	slow := func(name, prefix string, construct func(context.Context) error) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp(name)
			app.RoutePrefix(prefix)
			h := helve.Deploy(app, "Lab", func(ctx context.Context) (*fixture.Lab, error) {
				return &fixture.Lab{OnDo: fixture.Double}, construct(ctx)
			}, helve.Options{MaxConstructorRetries: new(1)})
			app.Ingress(helve.MethodOf(h, (*fixture.Lab).Do))
			return app, nil
		}
	}
	s, url := served(t, helve.Config{}, slow("shop", "/shop", func(context.Context) error { return nil }))
	for _, prefix := range []string{"/shop/cart", "/other"} {
		for _, fails := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fails %v", prefix, fails), func(t *testing.T) {
				hold := make(fixture.Latch)
				deployed := make(chan error, 1)
				go func() {
					deployed <- s.Deploy(t.Context(), slow("late", prefix, func(ctx context.Context) error {
						if err := hold.Wait(ctx); err != nil || !fails {
							return err
						}
						return errors.New("no database")
					}))
				}()
				post := func(path string) (int, string, string) {
					r := fixture.PostText(t, t.Context(), url+path, "2", "Content-Type", "application/json")
					defer r.Body.Close()
					text, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					return r.StatusCode, r.Header.Get("Retry-After"), string(text)
				}
				fixture.Eventually(t, func() string {
					status, after, text := post(prefix + "/item")
					if status != http.StatusServiceUnavailable || after != "1" || text != "application \"late\" is starting" {
						return fmt.Sprintf("%d, %q, %s", status, after, text)
					}
					return ""
				})
				if status, _, text := post("/nowhere"); status != http.StatusNotFound || !strings.Contains(text, "Ping http") {
					t.Errorf("another path: %d, %s", status, text)
				}
				if _, _, text := get(t, url+"/-/routes"); strings.Contains(text, "late") {
					t.Errorf("the routes have an application that does not run: %s", text)
				}
				close(hold)
				if err := <-deployed; (err != nil) != fails {
					t.Fatal(err)
				}
				want := http.StatusOK
				if fails && prefix == "/other" {
					want = http.StatusNotFound
				}
				if status, _, text := post(prefix); status != want {
					t.Errorf("when the start has ended: %d, %s; want %d", status, text, want)
				}
				if !fails {
					if err := s.Delete(t.Context(), "late"); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
