package worker

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestInside(t *testing.T) {
	t.Parallel()
	ended := InProcess(func(context.Context) error { return errors.New("it broke") })
	<-ended.Done()
	if e := ended.Exit(); e.Code != 1 || e.Killed || e.Reason() != "exit status 1: it broke" {
		t.Errorf("%+v: %s", e, e.Reason())
	}
	ended.Kill() // there is no process, so no signal is sent
	untilKilled := func(ctx context.Context) error { <-ctx.Done(); return nil }
	killed := InProcess(untilKilled)
	killed.Kill()
	<-killed.Done()
	if e := killed.Exit(); !e.Killed || e.Code != 0 {
		t.Errorf("%+v", e)
	}
	stopped := InProcess(untilKilled)
	stopped.Stop(t.Context(), time.Millisecond)
	if !stopped.Exit().Killed || stopped.PID() != 0 {
		t.Errorf("%+v", stopped.Exit())
	}
}
