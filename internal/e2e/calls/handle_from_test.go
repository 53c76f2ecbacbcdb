package calls_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestHandleFrom(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		labs := fixture.StartLabs(t, r, map[string]helve.Options{"A": {}, "B": {}}, func(name string) *fixture.Lab {
			return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
				if name == "B" {
					return n + 1, nil
				}
				if _, err := helve.HandleFrom[*fixture.Lab](ctx, "C"); helve.ReasonOf(err) != helve.DeploymentUnavailable {
					return 0, errors.Join(errors.New("a handle to nothing"), err)
				}
				h, err := helve.HandleFrom[*fixture.Lab](ctx, "B")
				if err != nil {
					return 0, err
				}
				return helve.MethodOf(h, (*fixture.Lab).Do).Call(ctx, n)
			}}
		})
		if v, err := labs["A"].Do.Call(t.Context(), 1); v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		ds := labs["A"].System.Status().Applications["labs"].Deployments["A"]
		for len(ds.DynamicUses) == 0 && t.Context().Err() == nil { // workers tell it beside the call
			ds = labs["A"].System.Status().Applications["labs"].Deployments["A"]
		}
		if !slices.Equal(ds.DynamicUses, []string{"B"}) || len(ds.Uses) != 0 {
			t.Errorf("%+v", ds)
		}
		if _, err := helve.HandleFrom[*fixture.Lab](t.Context(), "A"); helve.ReasonOf(err) != helve.BadInput {
			t.Errorf("outside: %v", err)
		}
	})
}
