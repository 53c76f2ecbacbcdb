// Hello is the smallest application: an ingress that calls a second deployment.
//
//	go run ./examples/hello
//	curl -d world http://127.0.0.1:8000
package main

import (
	"context"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

// Downstream greets.
type Downstream struct{ greeting string }

// SayHi greets name.
func (d *Downstream) SayHi(_ context.Context, name string) (string, error) {
	return d.greeting + " " + name + "!", nil
}

// Ingress is the deployment that clients reach.
type Ingress struct{ sayHi helve.Method[string, string] }

// Greet asks Downstream.
func (i *Ingress) Greet(ctx context.Context, name string) (string, error) {
	return i.sayHi.Remote(ctx, name).Result(ctx)
}

// Build makes the application.
func Build() (*helve.App, error) {
	app := helve.NewApp("hello")
	down := helve.Deploy(app, "Downstream", func(context.Context) (*Downstream, error) {
		return &Downstream{greeting: "Hello"}, nil
	}, helve.Options{NumReplicas: new(2)})
	sayHi := helve.MethodOf(down, (*Downstream).SayHi)
	ingress := helve.Deploy(app, "Ingress", func(context.Context) (*Ingress, error) {
		return &Ingress{sayHi: sayHi}, nil
	}, helve.Options{Uses: []helve.Target{sayHi}})
	app.Ingress(helve.MethodOf(ingress, (*Ingress).Greet))
	return app, nil
}

func main() { cli.Main(cli.App("hello", Build)) }
