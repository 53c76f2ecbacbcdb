package lifecycle_test

import (
	"context"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestSeveralApplicationsAndSystems(t *testing.T) {
	t.Parallel()
	fixture.EachRunner(t, func(t *testing.T, r helvetest.Runner) {
		os := map[string]helve.Options{"Lab": {}}
		times := func(k int) func(string) *fixture.Lab {
			return func(string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(_ context.Context, n int) (int, error) { return k * n, nil }}
			}
		}
		one := helvetest.Start(t, r.Config, fixture.BuildLabs("x", os, times(2)))
		two := helvetest.Start(t, r.Config, fixture.BuildLabs("x", os, times(3)))
		if err := one.Deploy(t.Context(), fixture.BuildLabs("y", os, times(5))); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		x, y, z := fixture.LabsOf(t, one, "x", os)["Lab"], fixture.LabsOf(t, one, "y", os)["Lab"], fixture.LabsOf(t, two, "x", os)["Lab"]
		if v, err := z.Do.RemoteFrom(ctx, y.Do.RemoteFrom(ctx, x.Do.Remote(ctx, 1))).Result(ctx); v != 30 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		if err := one.Deploy(ctx, fixture.BuildLabs("y", os, times(7))); err != nil {
			t.Fatal(err)
		}
		for range 20 { // a handle from before reaches the new revision alone
			if v, err := y.Do.Call(ctx, 1); v != 7 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
		}
		if err := one.Delete(ctx, "y"); err != nil {
			t.Fatal(err)
		}
		_, err := y.Do.Call(ctx, 1)
		fixture.WantReason(t, err, helve.DeploymentUnavailable)
		if v, err := x.Do.Call(ctx, 1); v != 2 || err != nil {
			t.Errorf("the other application after a delete: %d, %v", v, err)
		}
		if err := one.Deploy(ctx, fixture.BuildLabs("y", os, times(7))); err != nil {
			t.Errorf("deployed again: %v", err)
		}
		if v, err := fixture.LabsOf(t, one, "y", os)["Lab"].Do.Call(ctx, 1); v != 7 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}
