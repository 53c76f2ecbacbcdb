package helve_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/helve-serve/helve"
)

// Addition is the input of Adder.Add; JSON fills its fields.
type Addition struct{ A, B int }

// Adder adds two numbers.
type Adder struct{}

func (Adder) Add(_ context.Context, s Addition) (map[string]int, error) {
	return map[string]int{"sum": s.A + s.B}, nil
}

func buildAdder() (*helve.App, error) {
	app := helve.NewApp("adder")
	app.RoutePrefix("/add")
	h := helve.Deploy(app, "Adder", func(context.Context) (Adder, error) { return Adder{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, Adder.Add))
	return app, nil
}

// The ingress of an application is served over HTTP.
func ExampleApp_Ingress() {
	ctx := context.Background()
	system, err := helve.Config{HTTP: "127.0.0.1:0"}.Run(ctx, buildAdder)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)

	url, _ := system.HTTP()
	answer, err := http.Post(url+"/add", "application/json", strings.NewReader(`{"a": 1, "b": 2}`))
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(answer.Status, string(body), err)
	// Output: 200 OK {"sum":3} <nil>
}
