package lifecycle_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Rack is a replica whose method waits for ever, whatever its context says.
type Rack struct{ exit *exit }

// exit ends the calls of all racks of a worker: an ejected one gets no call that could.
type exit struct {
	once sync.Once
	done chan struct{}
}

func (*Rack) Near(_ context.Context, b fixture.Box) (bool, error) { return b.Inside != nil, nil }

func (r *Rack) Wait(context.Context, int) (int, error) {
	<-r.exit.done
	return 0, nil
}

// Free ends all calls of Wait.
func (r *Rack) Free(context.Context, int) (int, error) {
	r.exit.once.Do(func() { close(r.exit.done) })
	return 0, nil
}

// Counter calls the rack that is in its own worker.
type Counter struct {
	near helve.Method[fixture.Box, bool]
	wait helve.Method[int, int]
}

// Beside returns when calls are function calls.
func (c *Counter) Beside(ctx context.Context, _ int) (int, error) {
	for {
		if near, err := c.near.Call(ctx, fixture.Box{Inside: new(int)}); near || err != nil {
			return 0, err
		}
	}
}

// Call waits on its own goroutine.
func (c *Counter) Call(ctx context.Context, in int) (int, error) { return c.wait.Call(ctx, in) }

// Remote waits for another goroutine.
func (c *Counter) Remote(ctx context.Context, in int) (int, error) {
	return c.wait.Remote(ctx, in).Result(ctx)
}

var buildNested = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("nested")
	o := helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(100), Ejection: helvetype.EjectionOptions{ConsecutiveFailures: 3, EjectFor: time.Hour}}
	f := &exit{done: make(chan struct{})}
	rack := helve.Deploy(app, "Rack", func(context.Context) (*Rack, error) { return &Rack{f}, nil }, o)
	counter := helve.Deploy(app, "Counter", func(context.Context) (*Counter, error) {
		return &Counter{helve.MethodOf(rack, (*Rack).Near), helve.MethodOf(rack, (*Rack).Wait)}, nil
	}, helve.Options{MaxOngoingRequests: new(100), Uses: []helve.Target{rack}})
	app.Ingress(helve.MethodOf(counter, (*Counter).Call))
	return app, nil
})

// TestEjectionInsideWorker: calls between replicas of one worker, which the node does not see, never return. The replica that does not answer is ejected as any other.
func TestEjectionInsideWorker(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*Counter, context.Context, int) (int, error){"Call": (*Counter).Call, "Remote": (*Counter).Remote} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sys := helvetest.Start(t, helve.Config{Isolation: helve.Process}, buildNested)
			counter, err := helve.HandleOf[*Counter](sys, "nested", "Counter")
			if err != nil {
				t.Fatal(err)
			}
			rack, err := helve.HandleOf[*Rack](sys, "nested", "Rack")
			if err != nil {
				t.Fatal(err)
			}
			ejected := func() (n int) {
				for _, r := range sys.Status().Applications["nested"].Deployments["Rack"].Replicas {
					if r.Ejected != nil {
						n++
					}
				}
				return n
			}
			if _, err := helve.MethodOf(counter, (*Counter).Beside).Call(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			method := helve.MethodOf(counter, f)
			for ejected() == 0 && !t.Failed() { // without the ejection the test does not end
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if _, err := method.Remote(ctx, 0).Result(ctx); err == nil {
					t.Error("a call of a method that waits for ever has ended well")
				}
				cancel()
			}
			if n := ejected(); n != 1 {
				t.Errorf("%d of 2 replicas are ejected", n)
			}
			if _, err := helve.MethodOf(rack, (*Rack).Free).Broadcast(t.Context(), 0).Results(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
