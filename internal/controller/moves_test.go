package controller_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/controller"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// modelKind has replicas of the fourth kind that each have one model, which has the id of its replica.
type modelKind struct {
	fourthKind
	loads *loadsAhead
}

// loadsAhead are the loads of models before a call asks for them.
type loadsAhead struct {
	mu   sync.Mutex
	ids  []string
	load func(ctx context.Context) error
}

// modelReplica is a replica of the fourth kind with a model.
type modelReplica struct {
	*fourthReplica
	scope *instance.Scope
	loads *loadsAhead
}

func (r *modelReplica) Scope() *instance.Scope { return r.scope }
func (r *modelReplica) Unused() map[string]time.Duration {
	return map[string]time.Duration{r.ID(): time.Second}
}

func (r *modelReplica) LoadAhead(ctx context.Context, id string, _ time.Duration) error {
	r.loads.mu.Lock()
	r.loads.ids = append(r.loads.ids, id)
	r.loads.mu.Unlock()
	return r.loads.load(ctx)
}

func (h *modelKind) Start(ctx context.Context, l host.Launch) (host.Replica, error) {
	r, err := h.fourthKind.Start(ctx, l)
	if err != nil {
		return nil, err
	}
	m := &modelReplica{r.(*fourthReplica), new(instance.Scope), h.loads} //nolint:forcetypeassert // of the line above
	m.scope.AddLoader("model").Has(m)
	m.SetModels([]string{l.ID})
	l.Models(m, []string{l.ID})
	return m, nil
}

// TestModelsMoveBeforeAnEnd: the event of a model that moves has the stop of its replica as its cause, and that the change of the number. A load without end holds up no stop for longer than the grace.
func TestModelsMoveBeforeAnEnd(t *testing.T) {
	t.Parallel()
	const grace = 20 * time.Second
	for name, x := range map[string]struct {
		load   func(ctx context.Context) error
		reason string // of the event
		after  time.Duration
	}{
		"moves":     {func(context.Context) error { time.Sleep(3 * time.Second); return nil }, "model_moved", 3 * time.Second},
		"fails":     {func(context.Context) error { return errors.New("no disk") }, "model_not_moved", 0},
		"never end": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "model_not_moved", grace / 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, cd, rs, events := slog.New(slog.DiscardHandler), codec.New(), &fourthReplicas{}, telemetry.NewEvents(nil)
				loads := &loadsAhead{load: x.load}
				var c *controller.Controller
				workers := host.NewWorkers(host.Settings{Logger: log, Codec: cd, Node: "local", Changed: func() { c.Wake() }})
				c = controller.New(controller.Settings{
					Logger: log, Node: "local", Codec: cd, Workers: workers, Events: events,
					Proxy: proxy.New(proxy.Settings{Logger: log, Apps: func() map[string]bool { return c.Readiness() }}),
					Host:  func(d *host.Deployment) host.Host { return &modelKind{fourthKind{d, rs}, loads} },
				})
				defer func() {
					draining, cancel := serving.Draining(context.Background(), c.Closing())
					defer cancel()
					if err := c.Close(context.Background(), draining); err != nil {
						t.Error(err)
					}
					workers.Close(errors.New("the node has closed"))
					if n := len(loads.ids); n != 1 {
						t.Errorf("%d loads: the end of the node moves nothing", n)
					}
				}()
				if err := c.Deploy(t.Context(), fourthApp(spec.Options{NumReplicas: 2, GracefulShutdownTimeout: grace})); err != nil {
					t.Fatal(err)
				}
				before := rs.alive()
				if err := c.Scale(t.Context(), "app", "D", 1, "test", ""); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if x.after > 0 {
					time.Sleep(x.after - time.Nanosecond)
					synctest.Wait()
					if n := len(rs.alive()); n != 2 {
						t.Fatalf("%d replicas before the model has moved", n)
					}
					time.Sleep(time.Nanosecond)
					synctest.Wait()
				}
				alive := rs.alive()
				if len(alive) != 1 {
					t.Fatalf("%v are left", alive)
				}
				gone := before[1-slices.Index(before, alive[0])]
				all, _ := events.Since(0, 1000)
				i := slices.IndexFunc(all, func(e helvetype.Event) bool { return e.Reason == x.reason })
				if i < 0 {
					t.Fatalf("no event %s", x.reason)
				}
				e := all[i]
				of := map[string]string{"model_moved": alive[0], "model_not_moved": gone}[x.reason]
				stop, _ := events.Find(e.Cause)
				if e.Object.Replica != of || stop.Object.Replica != gone || stop.To != string(helvetype.ReplicaStopping) || stop.Cause == 0 {
					t.Errorf("%+v, because of %+v", e, stop)
				}
				if !slices.Equal(loads.ids, []string{gone}) {
					t.Error(loads.ids)
				}
			})
		})
	}
}
