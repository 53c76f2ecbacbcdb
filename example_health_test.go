package helve_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
)

// Pump fails its health checks after it broke. Then Helve starts another replica in its place.
type Pump struct{ broken atomic.Bool }

// CheckHealth makes Pump a helve.HealthChecker.
func (p *Pump) CheckHealth(context.Context) error {
	if p.broken.Load() {
		return errors.New("the pump is broken")
	}
	return nil
}

func (p *Pump) Break(ctx context.Context, _ helve.None) (string, error) {
	p.broken.Store(true)
	return helve.ReplicaFrom(ctx).ID, nil
}

func (p *Pump) Replica(ctx context.Context, _ helve.None) (string, error) {
	return helve.ReplicaFrom(ctx).ID, nil
}

func buildPump() (*helve.App, error) {
	app := helve.NewApp("pump")
	h := helve.Deploy(app, "Pump", func(context.Context) (*Pump, error) { return &Pump{}, nil }, helve.Options{
		HealthCheckPeriod: new(time.Millisecond),
	})
	helve.MethodOf(h, (*Pump).Break)
	app.Ingress(helve.MethodOf(h, (*Pump).Replica))
	return app, nil
}

// A replica whose instance fails three health checks in a row is replaced.
func ExampleHealthChecker() {
	ctx := context.Background()
	system, err := helve.Config{Logger: slog.New(slog.DiscardHandler)}.Run(ctx, buildPump)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Pump](system, "pump", "Pump")
	if err != nil {
		log.Fatal(err)
	}
	broken, err := helve.MethodOf(h, (*Pump).Break).Call(ctx, helve.None{})
	if err != nil {
		log.Fatal(err)
	}

	replica := helve.MethodOf(h, (*Pump).Replica)
	for {
		id, err := replica.Call(ctx, helve.None{})
		if err != nil {
			log.Fatal(err)
		}
		if id != broken {
			break
		}
	}
	fmt.Println("another replica has taken over")
	// Output: another replica has taken over
}
