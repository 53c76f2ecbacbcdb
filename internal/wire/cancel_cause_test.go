package wire

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestCancelCause: a CANCEL that arrives at about the deadline counts as the end of the deadline.
func TestCancelCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			left, after time.Duration
			want        error
		}{
			{0, time.Hour, context.Canceled},
			{time.Minute, 0, context.Canceled},
			{time.Minute, time.Minute - time.Second, context.Canceled},
			{time.Minute, time.Minute - time.Millisecond, context.DeadlineExceeded},
			{time.Minute, time.Minute, context.DeadlineExceeded},
			{time.Millisecond, 0, context.Canceled},
			{time.Millisecond, time.Millisecond / 2, context.Canceled},
			{time.Millisecond, time.Millisecond, context.DeadlineExceeded},
		} {
			in := &Incoming{Left: c.left}
			if c.left > 0 {
				in.Deadline = time.Now().Add(c.left)
			}
			time.Sleep(c.after)
			if got := in.cancelCause(); got != c.want { //nolint:errorlint // these themselves
				t.Errorf("%s of %s: %v", c.after, c.left, got)
			}
		}
	})
}
