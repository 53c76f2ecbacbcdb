package cancellation_test

import (
	"context"
	"errors"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestChildrenOfACall: cancelling reaches the calls that a method has made, its normal end does not.
func TestChildrenOfACall(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		started, ended := make(chan struct{}, 8), make(chan error, 8)
		release := make(fixture.Latch)
		var labs map[string]fixture.RunningLab
		labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *fixture.Lab {
			return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
				if name == "B" {
					started <- struct{}{}
					select {
					case <-ctx.Done():
					case <-release:
					}
					ended <- ctx.Err()
					return n, ctx.Err()
				}
				down := labs["B"].In(ctx).Do
				switch n {
				case 0: // waits for its child
					return down.Remote(ctx, 1).Result(ctx)
				case 1: // leaves it running
					down.Remote(ctx, 1)
				case 2: // leaves it running, detached
					down.Remote(helve.Detach(ctx), 1)
					<-ctx.Done()
				}
				return n, nil
			}}
		})
		up := labs["A"].Do
		for _, call := range []func(context.Context, int) error{
			func(ctx context.Context, n int) error { _, err := up.Remote(ctx, n).Result(t.Context()); return err },
			func(ctx context.Context, n int) error { _, err := up.Call(ctx, n); return err },
		} {
			// The parent is cancelled: so is the child.
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, 1)
			go func() { errs <- call(ctx, 0) }()
			<-started
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the child saw %v", err)
			}
			fixture.WantReason(t, <-errs, helve.Cancelled)

			// The parent has returned; then its caller's context ends: the child runs on.
			ctx, cancel = context.WithCancel(t.Context())
			if err := call(ctx, 1); err != nil {
				t.Error(err)
			}
			<-started
			cancel()
			release <- struct{}{}
			if err := <-ended; err != nil {
				t.Errorf("a child that its parent left running saw %v", err)
			}

			// Detached: it survives the parent's cancellation.
			ctx, cancel = context.WithCancel(t.Context())
			go func() { errs <- call(ctx, 2) }()
			<-started
			cancel()
			fixture.WantReason(t, <-errs, helve.Cancelled)
			release <- struct{}{}
			if err := <-ended; err != nil {
				t.Errorf("a detached child saw %v", err)
			}
		}
	})
}
