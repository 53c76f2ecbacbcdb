package lifecycle_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
)

// Ailing is a replica whose first health check goes wrong.
type Ailing struct{ check func(context.Context) error }

func (*Ailing) Do(context.Context, int) (int, error)    { return 0, nil }
func (a *Ailing) CheckHealth(ctx context.Context) error { return a.check(ctx) }

// TestFirstHealthCheckFails: the replica is not ready, and the start says which step failed and how.
func TestFirstHealthCheckFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		check func(context.Context) error
		want  string
		after time.Duration
	}{
		"error":   {func(context.Context) error { return errors.New("no weights") }, "no weights", 0},
		"panic":   {func(context.Context) error { panic("no weights") }, "panic: no weights", 0},
		"goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, "runtime.Goexit", 0},
		"hangs":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "construct_timeout_s", time.Minute},
		"ignores": {func(context.Context) error { time.Sleep(time.Hour); return nil }, "construct_timeout_s", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start, made := time.Now(), 0
				_, err := helve.Run(t.Context(), func() (*helve.App, error) {
					app := helve.NewApp("ailing")
					h := helve.Deploy(app, "Ailing", func(context.Context) (*Ailing, error) { made++; return &Ailing{c.check}, nil },
						helve.Options{ConstructTimeout: new(time.Minute)})
					app.Ingress(helve.MethodOf(h, (*Ailing).Do))
					return app, nil
				})
				e, ok := errors.AsType[*helve.Error](err)
				if !ok || e.Method() != "CheckHealth" || e.Deployment() != "Ailing" || !strings.Contains(e.Message(), c.want) {
					t.Errorf("%v", err)
				}
				if got := time.Since(start); got != c.after || made != 1 {
					t.Errorf("after %v, %d instances", got, made)
				}
				time.Sleep(2 * time.Hour) // a check that ignores its context
			})
		})
	}
}
