// Chat streams the tokens of a model to a page, over server-sent events and over WebSockets, and ends the model's work when the reader leaves.
//
//	go run ./examples/chat
//	curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/tokens?input=hello'
//
// It has two applications: "tokens" is the stream of the model, which the node serves as events by itself, and "chat" is a handler with the
// page and the WebSocket.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/helve-serve/helve"
)

func main() {
	addr := flag.String("http", "127.0.0.1:8000", "the address of the page")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves both applications until ctx ends.
func run(ctx context.Context, addr string) error {
	sys, err := start(ctx, 80*time.Millisecond)
	if err != nil {
		return err
	}
	url, failed, err := sys.Serve(addr)
	if err == nil {
		fmt.Println(url)
		select {
		case err = <-failed:
		case <-ctx.Done():
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if closed := sys.Close(closing); err == nil {
		err = closed
	}
	return err
}

// start runs the model and then the page, which calls it.
func start(ctx context.Context, pause time.Duration) (*helve.System, error) {
	sys, err := helve.Config{}.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("tokens")
		app.RoutePrefix("/tokens")
		model := helve.Deploy(app, "Model", func(context.Context) (*Model, error) { return &Model{pause: pause}, nil }, many())
		app.Ingress(helve.StreamOf(model, (*Model).Tokens))
		return app, nil
	})
	if err != nil {
		return nil, err
	}
	model, err := helve.HandleOf[*Model](sys, "tokens", "Model")
	if err == nil {
		err = sys.Deploy(ctx, func() (*helve.App, error) {
			app := helve.NewApp("chat")
			site := helve.Deploy(app, "Site", func(context.Context) (*Site, error) { return newSite(model), nil }, many())
			app.Ingress(helve.HTTP(site))
			return app, nil
		})
	}
	if err != nil {
		sys.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the error above says more
		return nil, err
	}
	return sys, nil
}

// many are options for requests that last long: each holds a slot until it ends.
func many() helve.Options { return helve.Options{MaxOngoingRequests: new(1000)} }
