package routing_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Zoo serves models.
type Zoo struct {
	models *helve.Models[*animal]
	hold   fixture.Latch
	rest   time.Duration // before Where answers
}

type animal struct {
	id     string
	closed *atomic.Int64
}

func (a *animal) Close() error { a.closed.Add(1); return nil }

func (z *Zoo) Where(ctx context.Context, _ helve.None) (string, error) {
	a, release, err := z.models.Get(ctx)
	defer release()
	if err != nil {
		return "", err
	}
	time.Sleep(z.rest)
	if a.id != helve.ModelIDFrom(ctx) {
		return "", fmt.Errorf("%s for %s", a.id, helve.ModelIDFrom(ctx))
	}
	return helve.ReplicaFrom(ctx).ID, nil
}

func (z *Zoo) Hold(ctx context.Context, _ helve.None) (where string, err error) {
	err = z.models.With(ctx, func(ctx context.Context, _ *animal) error {
		where = helve.ReplicaFrom(ctx).ID
		return z.hold.Wait(ctx)
	})
	return where, err
}

func TestModels(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var loads, closed atomic.Int64
		hold := make(fixture.Latch)
		var sys *helve.System
		t.Run("", func(t *testing.T) { // the system ends with it
			sys = helvetest.Start(t, r.Config, func() (*helve.App, error) {
				app := helve.NewApp("zoo")
				h := helve.Deploy(app, "Zoo", func(ctx context.Context) (*Zoo, error) {
					ms, err := helve.NewModels(ctx, func(_ context.Context, id string) (*animal, error) {
						loads.Add(1)
						if id == "none" {
							return nil, errors.New("there is none")
						}
						return &animal{id, &closed}, nil
					}, helve.ModelsOptions[*animal]{Max: 2})
					return &Zoo{models: ms, hold: hold}, err
				}, helve.Options{NumReplicas: new(3), MaxOngoingRequests: new(1)})
				app.Ingress(helve.MethodOf(h, (*Zoo).Where))
				return app, nil
			})
			h, err := helve.HandleOf[*Zoo](sys, "zoo", "Zoo")
			if err != nil {
				t.Fatal(err)
			}
			where, ctx := helve.MethodOf(h, (*Zoo).Where), t.Context()
			at := map[string]string{}
			for range 20 {
				for _, id := range []string{"cat", "dog", "owl"} {
					got, err := where.With(helve.ModelID(id)).Call(ctx, helve.None{})
					if err != nil || at[id] != "" && at[id] != got {
						t.Fatalf("%s at %s and %s: %v", id, at[id], got, err)
					}
					at[id] = got
				}
			}
			if at["cat"] == at["dog"] || at["dog"] == at["owl"] || at["cat"] == at["owl"] || loads.Load() != 3 {
				t.Errorf("new models go to the replica with the fewest: %v, %d loads", at, loads.Load())
			}
			_, err = where.Call(ctx, helve.None{})
			fixture.WantReason(t, err, helve.BadInput)
			for range 2 {
				_, err = where.With(helve.ModelID("none")).Call(ctx, helve.None{})
				fixture.WantReason(t, err, helve.User)
			}
			// A busy holder spills over, when the call has waited for it.
			held := helve.MethodOf(h, (*Zoo).Hold).With(helve.ModelID("cat")).Remote(ctx, helve.None{})
			for full := false; !full; {
				got, err := where.With(helve.ModelID("cat"), helve.PreferLocal).Call(ctx, helve.None{})
				if err != nil {
					t.Fatal(err)
				}
				full = got != at["cat"]
			}
			close(hold)
			if got, err := held.Result(ctx); err != nil || got != at["cat"] {
				t.Errorf("%s, %v", got, err)
			}
		})
		if n := closed.Load(); n < 4 {
			t.Errorf("%d models were closed", n)
		}
	})
}

// TestModelsThatFitStay: 8 models on 4 replicas of 2 fit exactly. Also at 80 % of the replicas' capacity, which keeps calls
// queued all the time, each model stays where it is. Calls that went to another replica as soon as theirs was full would put
// out models that others use: then every other call loads, and that never ends.
func TestModelsThatFitStay(t *testing.T) {
	t.Parallel()
	for _, load := range []float64{0.1, 0.8} {
		t.Run(fmt.Sprint(load), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const models, replicas, slots, calls, took = 8, 4, 2, 4000, 10 * time.Millisecond
				var loads atomic.Int64
				sys := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
					app := helve.NewApp("zoo")
					h := helve.Deploy(app, "Zoo", func(ctx context.Context) (*Zoo, error) {
						ms, err := helve.NewModels(ctx, func(_ context.Context, id string) (*animal, error) {
							loads.Add(1)
							time.Sleep(20 * took)
							return &animal{id, new(atomic.Int64)}, nil
						}, helve.ModelsOptions[*animal]{Max: models / replicas})
						return &Zoo{models: ms, rest: took}, err
					}, helve.Options{NumReplicas: new(replicas), MaxOngoingRequests: new(slots)})
					app.Ingress(helve.MethodOf(h, (*Zoo).Where))
					return app, nil
				})
				h, err := helve.HandleOf[*Zoo](sys, "zoo", "Zoo")
				if err != nil {
					t.Fatal(err)
				}
				where, rng, start := helve.MethodOf(h, (*Zoo).Where), rand.New(rand.NewPCG(1, 2)), time.Now()
				rate := load * replicas * slots / took.Seconds()
				var rs []*helve.Response[string]
				for i := range calls {
					time.Sleep(time.Until(start.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
					rs = append(rs, where.With(helve.ModelID(fmt.Sprint("m", rng.IntN(models)))).Remote(t.Context(), helve.None{}))
				}
				if _, err := helve.All(t.Context(), rs...); err != nil {
					t.Error(err)
				}
				late := time.Since(start) - time.Duration(calls/rate*float64(time.Second))
				t.Logf("%d calls, %d loads, the last ended %v after it could", calls, loads.Load(), late)
				if loads.Load() > 2*models || late > time.Second {
					t.Errorf("%d loads of %d models, the last call ended %v after it could", loads.Load(), models, late)
				}
			})
		})
	}
}
