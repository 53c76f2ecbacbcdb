// Many is a program with 1,000 replicas and 500 calls a second, for the tests of the dashboard's speed: many ADMIN serves the admin interface on that
// address until its standard input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/helve-serve/helve"
)

const (
	replicas = 1000
	period   = 10 * time.Millisecond
	calls    = 5 // in each period
)

// many answers with the number that it got.
type many struct{}

func (*many) Answer(_ context.Context, n int) (int, error) { return n, nil }

func build() (*helve.App, error) {
	app := helve.NewApp("many")
	deployment := helve.Deploy(app, "Many", func(context.Context) (*many, error) { return &many{}, nil }, helve.Options{NumReplicas: new(replicas)})
	app.Ingress(helve.MethodOf(deployment, (*many).Answer))
	return app, nil
}

func main() {
	ctx := context.Background()
	sys, err := helve.Config{Admin: os.Args[1]}.Run(ctx, build)
	if err != nil {
		log.Fatal(err)
	}
	h, err := helve.HandleOf[*many](sys, "many", "Many")
	if err != nil {
		log.Fatal(err)
	}
	answer := helve.MethodOf(h, (*many).Answer)
	go func() {
		for range time.Tick(period) {
			for n := range calls {
				if _, err := answer.Remote(ctx, n).Result(ctx); err != nil {
					log.Print(err)
					return
				}
			}
		}
	}()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the end is the signal
	sys.Close(ctx)                //nolint:errcheck // the test is over
}
