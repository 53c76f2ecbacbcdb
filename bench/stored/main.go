// Command stored is an executable with a hundred applications, app000 to app099, which the rows about a durable node deploy and have started again, and with
// the application trio of three deployments.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/helve-serve/helve"
)

const applications = 100

type page struct{}

// PID answers with the process, which stays the same while the node is replaced.
func (page) PID(context.Context, string) (int, error) { return os.Getpid(), nil }

func build(name string, deployments int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		for i := range deployments {
			is := "Page"
			if i > 0 {
				is = fmt.Sprint("Page", i)
			}
			h := helve.Deploy(app, is, func(context.Context) (page, error) { return page{}, nil }, helve.Options{MaxOngoingRequests: new(100)})
			if i == 0 {
				app.Ingress(helve.MethodOf(h, page.PID))
			}
		}
		return app, nil
	}
}

func main() {
	all := []helve.Build{build("trio", 3)}
	for i := range applications {
		all = append(all, build(fmt.Sprintf("app%03d", i), 1))
	}
	helve.WorkerMain(all...)
	fmt.Fprintln(os.Stderr, "this executable runs as a worker: deploy it as exec:PATH#app000")
	os.Exit(2)
}
