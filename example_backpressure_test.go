package helve_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Oven bakes one thing at a time, until it is opened.
type Oven struct{ open chan struct{} }

func (o *Oven) Bake(ctx context.Context, dish string) (string, error) {
	select {
	case <-o.open:
		return dish + " is baked", nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// A full queue refuses calls at once, so that callers can shed load or try elsewhere.
func ExampleError_Reason() {
	ctx := context.Background()
	oven := &Oven{open: make(chan struct{})}
	system, err := helve.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("kitchen")
		h := helve.Deploy(app, "Oven", func(context.Context) (*Oven, error) { return oven, nil }, helve.Options{
			MaxOngoingRequests: new(1), // one call runs
			MaxQueuedRequests:  new(1), // and one waits
		})
		app.Ingress(helve.MethodOf(h, (*Oven).Bake))
		return app, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Oven](system, "kitchen", "Oven")
	if err != nil {
		log.Fatal(err)
	}
	bake := helve.MethodOf(h, (*Oven).Bake)

	bread, cake := bake.Remote(ctx, "bread"), bake.Remote(ctx, "cake")
	_, err = bake.Call(ctx, "pie")
	var e *helve.Error
	if errors.As(err, &e) && e.Reason() == helve.Backpressure {
		fmt.Println("the queue of", e.Deployment(), "is full")
	}

	close(oven.open)
	fmt.Println(helve.All(ctx, bread, cake))
	// Output:
	// the queue of Oven is full
	// [bread is baked cake is baked] <nil>
}
