package routing_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestChooseAndDispatch(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				labs := fixture.StartLabs(t, r, map[string]helve.Options{
					"A": {NumReplicas: new(2), MaxOngoingRequests: new(1)}, "B": {},
				}, func(string) *fixture.Lab { return &fixture.Lab{OnDo: fixture.Double} })
				a, ctx := labs["A"].Do, t.Context()
				replica := helve.MethodNamed[int, int](labs["A"].Handle, "Do") // another method of the deployment may be dispatched
				one, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				two, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if one.Replica() == two.Replica() || one.Node() == "" {
					t.Errorf("%s, %s", one.Replica(), two.Replica())
				}
				third := a.Remote(ctx, 3) // both slots are reserved
				synctest.Wait()
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if _, err := third.Result(short); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a reserved slot was given away: %v", err)
				}
				if v, err := replica.Dispatch(ctx, one, 21).Result(ctx); v != 42 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
				if v, err := third.Result(ctx); v != 6 || err != nil {
					t.Errorf("the slot of a dispatched call: %d, %v", v, err)
				}
				for sel, reason := range map[*helve.Selection]helvetype.Reason{one: helve.BadInput, nil: helve.BadInput} {
					_, err := a.Dispatch(ctx, sel, 1).Result(ctx)
					fixture.WantReason(t, err, reason)
				}
				_, err = labs["B"].Do.Dispatch(ctx, two, 1).Result(ctx)
				fixture.WantReason(t, err, helve.BadInput)
				two.Release()
				two.Release()
				_, err = a.Dispatch(ctx, two, 1).Result(ctx)
				fixture.WantReason(t, err, helve.ReplicaUnavailable)

				// No dispatch uses these selections: they return by themselves.
				held, err := a.Choose(ctx)
				if err != nil {
					t.Fatal(err)
				}
				chosen, stop := context.WithCancel(ctx)
				if _, err := a.Choose(chosen); err != nil {
					t.Fatal(err)
				}
				stop()
				synctest.Wait()
				start := time.Now()
				if vs, err := helve.All(ctx, a.Remote(ctx, 1), a.Remote(ctx, 2)); err != nil || !slices.Equal(vs, []int{2, 4}) || time.Since(start) != 0 {
					t.Errorf("%v, %v after %v", vs, err, time.Since(start))
				}
				if _, err = a.Choose(ctx); err != nil {
					t.Fatal(err)
				}
				if v, err := a.Remote(ctx, 1).Result(ctx); v != 2 || err != nil || time.Since(start) != helve.SelectionTime {
					t.Errorf("%d, %v after %v", v, err, time.Since(start))
				}
				synctest.Wait()
				_, err = a.Dispatch(ctx, held, 1).Result(ctx)
				fixture.WantReason(t, err, helve.ReplicaUnavailable)
			})
		})
	}
}

// Closing is an instance that says whether it was closed.
type Closing struct{ closed atomic.Bool }

func (c *Closing) Closed(context.Context, int) (bool, error) { return c.closed.Load(), nil }
func (c *Closing) Close(context.Context) error               { c.closed.Store(true); return nil }

func TestDispatchToAStoppedReplica(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			a := helve.NewApp("closing")
			h := helve.Deploy(a, "C", func(context.Context) (*Closing, error) { return &Closing{}, nil },
				helve.Options{GracefulShutdownTimeout: new(time.Second)})
			a.Ingress(helve.MethodOf(h, (*Closing).Closed))
			return a, nil
		})
		h, err := helve.HandleOf[*Closing](sys, "closing", "C")
		if err != nil {
			t.Fatal(err)
		}
		closed := helve.MethodOf(h, (*Closing).Closed)
		sel, err := closed.Choose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.Delete(t.Context(), "closing"); err != nil {
			t.Fatal(err)
		}
		was, err := closed.Dispatch(t.Context(), sel, 1).Result(t.Context())
		if fixture.WantReason(t, err, helve.ReplicaUnavailable); was {
			t.Error("a method ran on a closed instance")
		}
	})
}
