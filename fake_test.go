package helve_test

import (
	"context"
	"errors"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestFakes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := helve.MethodFunc(func(ctx context.Context, n int) (int, error) {
		switch {
		case n < 0:
			panic("negative")
		case helve.ModelIDFrom(ctx) != "":
			return len(helve.ModelIDFrom(ctx)), nil
		case n == 0:
			return 0, errors.New("zero")
		}
		return n + 1, nil
	})
	if v, err := m.Call(ctx, 1); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if v, err := m.RemoteFrom(ctx, m.Remote(ctx, 1)).Result(ctx); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if v, err := m.With(helve.ModelID("abc")).Call(ctx, 1); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	_, err := m.Call(ctx, 0)
	fixture.WantReason(t, err, helve.User)
	_, err = m.Remote(ctx, -1).Result(ctx)
	fixture.WantReason(t, err, helve.User)
	res, err := m.Broadcast(ctx, 4).Results(ctx)
	if err != nil || len(res) != 1 || res[0].Value != 5 || res[0].Replica != "fake" {
		t.Errorf("%v, %v", res, err)
	}
	sel, err := m.Choose(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Dispatch(ctx, sel, 1).Result(ctx); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	s := helve.StreamFunc(fixture.CountUp)
	for way, call := range fixture.BothWays(s) {
		if got, err := fixture.Collect(call(ctx, 3)); len(got) != 3 || helve.ReasonOf(err) != helve.User {
			t.Errorf("%s: %v, %v", way, got, err)
		}
	}
}
