package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Speaker is a deployment that Receptionist calls.
type Speaker struct{ greeting string }

func (s *Speaker) SayHi(_ context.Context, name string) (string, error) {
	return s.greeting + " " + name + "!", nil
}

// Receptionist holds the method of the other deployment.
type Receptionist struct{ sayHi helve.Method[string, string] }

func (r *Receptionist) Greet(ctx context.Context, name string) (string, error) {
	return r.sayHi.Call(ctx, name)
}

func buildReception() (*helve.App, error) {
	app := helve.NewApp("reception")
	speaker := helve.Deploy(app, "Speaker", func(context.Context) (*Speaker, error) {
		return &Speaker{greeting: "Hello"}, nil
	}, helve.Options{NumReplicas: new(2)})
	sayHi := helve.MethodOf(speaker, (*Speaker).SayHi)
	receptionist := helve.Deploy(app, "Receptionist", func(context.Context) (*Receptionist, error) {
		return &Receptionist{sayHi: sayHi}, nil
	}, helve.Options{Uses: []helve.Target{sayHi}})
	app.Ingress(helve.MethodOf(receptionist, (*Receptionist).Greet))
	return app, nil
}

// An application of two deployments, one of which calls the other.
func Example() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildReception)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)

	ingress, err := system.Ingress("reception")
	if err != nil {
		log.Fatal(err)
	}
	greet := helve.MethodNamed[string, string](ingress, "Greet")
	fmt.Println(greet.Call(ctx, "world"))
	// Output: Hello world! <nil>
}
