// Several is an executable with two applications.
package main

import (
	"context"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

type greeter struct{ greeting string }

func (g *greeter) Greet(_ context.Context, name string) (string, error) {
	return g.greeting + " " + name, nil
}

func build(name string) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		h := helve.Deploy(app, "Greeter", func(context.Context) (*greeter, error) { return &greeter{name}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, (*greeter).Greet))
		return app, nil
	}
}

func main() { cli.Main(cli.App("hello", build("hello")), cli.App("bye", build("bye"))) }
