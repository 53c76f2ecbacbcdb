// Web is a site with an ordinary router in front of a model that is another program: the iris example.
//
//	go build -o iris ./examples/iris
//	go run ./examples/web -model ./iris
//
// The router has static files and a JSON API. The model runs in workers of its own executable: build another one in its place and send the
// program SIGHUP, and requests go over to it without a loss.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/helve-serve/helve"
)

func main() {
	addr := flag.String("http", "127.0.0.1:8000", "the address of the site")
	model := flag.String("model", "./iris", "the executable of the iris example")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	if err := run(ctx, *addr, *model, again); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

// run serves the site until ctx ends, and deploys the model again for each signal.
func run(ctx context.Context, addr, model string, again <-chan os.Signal) (err error) {
	sys, err := start(ctx, model)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, sys.Close(closing))
	}()
	_, failed, err := sys.Serve(addr)
	if err != nil {
		return err
	}
	fmt.Println("http://" + addr + prefix + "/") // with the slash, so that relative links of the page work
	for {
		select {
		case <-again:
			if err := deployModel(ctx, sys, model); err != nil {
				fmt.Fprintln(os.Stderr, "web: the model before goes on:", err)
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// prefix is the path of the site. The iris example has the others.
const prefix = "/site"

// start runs the model and then the site, whose handler calls it.
func start(ctx context.Context, model string) (*helve.System, error) {
	sys, err := helve.Run(ctx, modelOf(model))
	if err != nil {
		return nil, err
	}
	iris, err := sys.Ingress("iris")
	if err == nil {
		classify := helve.MethodNamed[Flower, Verdict](iris, "Classify")
		err = sys.Deploy(ctx, func() (*helve.App, error) {
			app := helve.NewApp("site")
			app.RoutePrefix(prefix)
			site := helve.Deploy(app, "Site", func(context.Context) (*Site, error) { return newSite(classify), nil },
				helve.Options{MaxOngoingRequests: new(100)})
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

func modelOf(path string) helve.Build { return helve.Executable("exec:" + path + "#iris") }

// deployModel changes to the executable that is at the path now. Requests that run end in the old workers, and the next ones go to the new.
func deployModel(ctx context.Context, sys *helve.System, path string) error {
	return sys.Deploy(ctx, modelOf(path))
}
