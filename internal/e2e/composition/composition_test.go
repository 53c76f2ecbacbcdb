package composition_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestFillFunctionThatPanics(t *testing.T) {
	t.Parallel()
	type inner struct{ A int }
	type input struct{ Inner *inner }
	src := helve.MethodFunc(fixture.Double)
	use := helve.MethodFunc(func(_ context.Context, in input) (int, error) { return in.Inner.A, nil })
	fill := func(in *input) *int { return &in.Inner.A }
	_, err := use.RemoteWith(t.Context(), input{}, helve.Fill(fill, src.Remote(t.Context(), 1))).Result(t.Context())
	fixture.WantReason(t, err, helve.BadInput)
	// A field behind a pointer is not one of the input.
	_, err = use.RemoteWith(t.Context(), input{&inner{}}, helve.Fill(fill, src.Remote(t.Context(), 1))).Result(t.Context())
	fixture.WantReason(t, err, helve.BadInput)
}

func TestComposition(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			app := helve.NewApp("sum")
			h := helve.Deploy(app, "Sum", func(context.Context) (*Sum, error) { return &Sum{}, nil }, fixture.OneSlot())
			app.Ingress(helve.MethodOf(h, (*Sum).Double))
			return app, nil
		})
		h, err := helve.HandleOf[*Sum](sys, "sum", "Sum")
		if err != nil {
			t.Fatal(err)
		}
		twice, add := helve.MethodOf(h, (*Sum).Double), helve.MethodOf(h, (*Sum).Add)
		ctx := t.Context()
		// One still running response feeds two later calls; every call goes to the one slot there is.
		a := twice.Remote(ctx, 5)
		b, c := twice.RemoteFrom(ctx, a), twice.RemoteFrom(ctx, a)
		sum := add.RemoteWith(ctx, Pair{Plus: 100},
			helve.Fill(func(in *Pair) *int { return &in.A }, b), helve.Fill(func(in *Pair) *int { return &in.B }, c))
		if v, err := sum.Result(ctx); v != 140 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		// A chain does not deadlock, in any order of waiting.
		x := twice.RemoteFrom(ctx, twice.RemoteFrom(ctx, twice.Remote(ctx, 1)))
		if vs, err := helve.All(ctx, x, a, b); err != nil || !slices.Equal(vs, []int{8, 10, 20}) {
			t.Errorf("%v, %v", vs, err)
		}
		if v, err := add.RemoteWith(ctx, Pair{A: 1, B: 2}).Result(ctx); v != 3 || err != nil {
			t.Errorf("nothing to fill: %d, %v", v, err)
		}
		twiceField := add.RemoteWith(ctx, Pair{},
			helve.Fill(func(in *Pair) *int { return &in.A }, a), helve.Fill(func(in *Pair) *int { return &in.A }, b))
		_, err = twiceField.Result(ctx)
		fixture.WantReason(t, err, helve.BadInput)
		elsewhere := new(int)
		_, err = add.RemoteWith(ctx, Pair{}, helve.Fill(func(*Pair) *int { return elsewhere }, a)).Result(ctx)
		fixture.WantReason(t, err, helve.BadInput)
	})
}

type Pair struct{ A, B, Plus int }

type Sum struct{}

func (*Sum) Double(_ context.Context, n int) (int, error) { return 2 * n, nil }
func (*Sum) Add(_ context.Context, p Pair) (int, error)   { return p.A + p.B + p.Plus, nil }

func TestUpstreamErrorArrivesAsItself(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var downstream atomic.Int64
		labs := fixture.StartLabs(t, r, map[string]helve.Options{"A": fixture.OneSlot(), "B": fixture.OneSlot()}, func(name string) *fixture.Lab {
			return &fixture.Lab{OnDo: func(_ context.Context, n int) (int, error) {
				if name == "A" {
					return 0, &fixture.Quota{Text: "no more"}
				}
				downstream.Add(1)
				return n, nil
			}}
		})
		up := labs["A"].Do.Remote(t.Context(), 1)
		for _, resp := range []*helve.Response[int]{labs["B"].Do.RemoteFrom(t.Context(), up), labs["B"].Do.RemoteFrom(t.Context(), labs["B"].Do.RemoteFrom(t.Context(), up))} {
			_, err := resp.Result(t.Context())
			var e *helve.Error
			if !errors.As(err, &e) || e.Deployment() != "A" || e.Type() != "*fixture.Quota" || e.Message() != "no more" {
				t.Errorf("%+v", err)
			}
		}
		if v, err := labs["B"].Do.Call(t.Context(), 3); v != 3 || err != nil || downstream.Load() != 1 {
			t.Errorf("downstream after its upstream failed: %d, %v, ran %d times", v, err, downstream.Load())
		}
		if _, err := helve.All(t.Context(), labs["B"].Do.Remote(t.Context(), 1), up); helve.ReasonOf(err) != helve.User {
			t.Errorf("All: %v", err)
		}
	})
}

func TestUnresolvedArgumentsDoNotCountAsQueued(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		release := make(fixture.Latch)
		labs := fixture.StartLabs(t, r, map[string]helve.Options{
			"A": {MaxOngoingRequests: new(100)}, "B": {MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)},
		}, func(name string) *fixture.Lab {
			return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
				if name == "A" {
					return n, release.Wait(ctx)
				}
				return n, nil
			}}
		})
		up := labs["A"].Do.Remote(t.Context(), 1)
		var waiting []*helve.Response[int]
		for range 10 {
			waiting = append(waiting, labs["B"].Do.RemoteFrom(t.Context(), up))
		}
		waiting[9].Cancel()
		if v, err := labs["B"].Do.Call(t.Context(), 5); v != 5 || err != nil {
			t.Errorf("with ten calls waiting for arguments: %d, %v", v, err)
		}
		close(release)
		answered := 0
		for i, w := range waiting {
			switch _, err := w.Result(t.Context()); {
			case err == nil:
				answered++
			case i == 9:
				fixture.WantReason(t, err, helve.Cancelled)
			default:
				fixture.WantReason(t, err, helve.Backpressure)
			}
		}
		if answered == 0 {
			t.Error("none of the calls ran")
		}
	})
}
