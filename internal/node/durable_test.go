package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestSettle: a node that starts waits for its applications, but an application that does not answer holds up the others for a moment only.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ready map[string]time.Duration // when an application answers
		waits time.Duration
	}{
		{"none", nil, 0},
		{"all answer", map[string]time.Duration{"a": 0, "b": 0}, 0},
		{"the second in a moment", map[string]time.Duration{"a": 0, "b": othersTime / 2}, othersTime / 2},
		{"the second never", map[string]time.Duration{"a": 0, "b": time.Hour}, othersTime},
		{"the first late, the second never", map[string]time.Duration{"a": settleTime / 2, "b": time.Hour}, settleTime/2 + othersTime},
		{"no application", map[string]time.Duration{"a": time.Hour, "b": time.Hour}, settleTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				err := settle(t.Context(), func() map[string]bool {
					all := map[string]bool{}
					for app, at := range c.ready {
						all[app] = time.Since(begin) >= at
					}
					return all
				})
				if waited := time.Since(begin); err != nil || waited != c.waits { // fake time
					t.Errorf("waited %s, %v; want %s", waited, err, c.waits)
				}
			})
		})
	}
	t.Run("a drain", func(t *testing.T) {
		t.Parallel()
		ctx, stop := context.WithCancelCause(t.Context())
		why := errors.New("draining")
		stop(why)
		if err := settle(ctx, func() map[string]bool { return map[string]bool{"a": false} }); !errors.Is(err, why) {
			t.Error(err)
		}
	})
}
