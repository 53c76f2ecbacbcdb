// The program has the deployments of package echo for Python programs: python/tests/test_mixed.py binds them.
package main

import (
	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
	"github.com/helve-serve/helve/internal/e2e/mixed/echo"
)

func build() (*helve.App, error) {
	app := helve.NewApp("mixed")
	helve.Deploy(app, "Echo", echo.New, helve.Options{MaxOngoingRequests: new(20), Default: "Text"})
	helve.Deploy(app, "Relay", echo.NewRelay, helve.Options{MaxOngoingRequests: new(20)})
	return app, nil
}

func main() { cli.Main(cli.App("mixed", build)) }
