package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Doubler doubles a number.
type Doubler struct{}

func (Doubler) Double(_ context.Context, n int) (int, error) { return 2 * n, nil }

func buildDoubler() (*helve.App, error) {
	app := helve.NewApp("doubler")
	h := helve.Deploy(app, "Doubler", func(context.Context) (Doubler, error) { return Doubler{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, Doubler.Double))
	return app, nil
}

// Remote sends calls at once, so that they run at the same time. RemoteFrom passes a result on that is not there yet.
func ExampleMethod_RemoteFrom() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildDoubler)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[Doubler](system, "doubler", "Doubler")
	if err != nil {
		log.Fatal(err)
	}
	double := helve.MethodOf(h, Doubler.Double)

	one, ten := double.Remote(ctx, 1), double.Remote(ctx, 10)
	fmt.Println(helve.All(ctx, one, ten))

	fmt.Println(double.RemoteFrom(ctx, ten).Result(ctx))
	// Output:
	// [2 20] <nil>
	// 40 <nil>
}
