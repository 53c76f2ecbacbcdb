package helve_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/helve-serve/helve"
)

// Homepage is a deployment that answers HTTP requests by itself.
type Homepage struct{}

func (Homepage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s for request %t", r.Method, r.URL.Path, helve.RequestIDFrom(r.Context()) != "")
}

func buildHomepage() (*helve.App, error) {
	app := helve.NewApp("homepage")
	app.Ingress(helve.HTTP(helve.Deploy(app, "Homepage", func(context.Context) (Homepage, error) { return Homepage{}, nil }, helve.Options{})))
	return app, nil
}

// A deployment that is an http.Handler can be the ingress. Its requests wait for slots as calls do.
func ExampleHTTP() {
	ctx := context.Background()
	system, err := helve.Config{HTTP: "127.0.0.1:0"}.Run(ctx, buildHomepage)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)

	url, _ := system.HTTP()
	answer, err := http.Get(url + "/about")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(body), err)
	// Output: 200 GET /about for request true <nil>
}
