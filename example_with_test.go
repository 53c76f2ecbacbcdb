package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Cart answers with the replica that ran the call.
type Cart struct{}

func (Cart) Add(ctx context.Context, _ string) (string, error) { return helve.ReplicaFrom(ctx).ID, nil }

func buildCart() (*helve.App, error) {
	app := helve.NewApp("cart")
	h := helve.Deploy(app, "Cart", func(context.Context) (Cart, error) { return Cart{}, nil }, helve.Options{
		NumReplicas:        new(3),
		MaxOngoingRequests: new(100),
		Routing:            helve.ConsistentHash{},
	})
	app.Ingress(helve.MethodOf(h, Cart.Add))
	return app, nil
}

// With derives a method whose calls have options. Here all calls of one session go to one of three replicas.
func ExampleMethod_With() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildCart)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[Cart](system, "cart", "Cart")
	if err != nil {
		log.Fatal(err)
	}
	add := helve.MethodOf(h, Cart.Add).With(helve.SessionID("ada"), helve.Idempotent)

	replicas := map[string]bool{}
	for range 20 {
		replica, err := add.Call(ctx, "book")
		if err != nil {
			log.Fatal(err)
		}
		replicas[replica] = true
	}
	fmt.Println(len(replicas), "replica")
	// Output: 1 replica
}
