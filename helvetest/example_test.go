package helvetest_test

import (
	"context"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// Greeter is the deployment under test.
type Greeter struct{}

func (Greeter) Greet(_ context.Context, name string) (string, error) { return "Hello " + name, nil }

func buildGreeter() (*helve.App, error) {
	app := helve.NewApp("greeter")
	h := helve.Deploy(app, "Greeter", func(context.Context) (Greeter, error) { return Greeter{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, Greeter.Greet))
	return app, nil
}

// greetingTest is the body of a func TestGreeting(t *testing.T). It runs as a subtest per runner: with calls in process, with
// every call encoded, and in a worker process. The package's TestMain is helvetest.Main(m, buildGreeter).
func greetingTest(t *testing.T) {
	helvetest.Run(t, buildGreeter, func(t *testing.T, s *helve.System) {
		h, err := helve.HandleOf[Greeter](s, "greeter", "Greeter")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := helve.MethodOf(h, Greeter.Greet).Call(t.Context(), "Ada"); out != "Hello Ada" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// One test body runs against an application in every way that the application can run.
func ExampleRun() {
	_ = greetingTest
}
