package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/gcfloor"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/userlog"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// workerEnv names the application whose replicas this process hosts; the node sets it for its workers.
const workerEnv = "HELVE_WORKER"

// asEnv names the application that has deployments of the worker's application as a part of it; "" if the node runs the worker's own.
const asEnv = "HELVE_WORKER_AS"

// WorkerMain takes over in a process that a node started as a worker, for autoscaling policies, or to describe an application, and never returns there. In every
// other process it does nothing.
func WorkerMain(version string, builds ...Build) {
	name := os.Getenv(workerEnv)
	if asked := os.Getenv(build.DescribeEnv); asked != "" {
		worker.Shield()
		if err := describe(asked, builds); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if name == "" {
		return
	}
	if os.Getenv(policy.Env) != "" {
		worker.Shield()
		if err := answerForPolicies(name, builds); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	signals := worker.Shield()
	if reports := worker.ReportCrashes(); reports != nil {
		userlog.Report(reports)
	}
	gcfloor.Set()
	if err := work(version, name, builds, signals); err != nil {
		fmt.Fprintln(os.Stderr, err)
		worker.EndOwnFamily()
		os.Exit(1)
	}
	os.Exit(0)
}

// answerForPolicies says how many replicas the deployments of an application need, as its policies in Go do.
func answerForPolicies(name string, builds []Build) error {
	app, _, err := find(name, builds)
	if err != nil {
		return err
	}
	return policy.Main(app.Served())
}

// work serves the application of that name until its node ends the worker.
func work(version, name string, builds []Build, signals <-chan os.Signal) error {
	app, g, err := find(name, builds)
	if err != nil {
		return err
	}
	if as := os.Getenv(asEnv); as != "" {
		app.Rename(as)
	}
	set := settings(version, app, g)
	set.Signals, set.Orphaned = signals, func(s os.Signal) {
		fmt.Fprintf(os.Stderr, "worker of application %s: signal while no node had taken over: %s\n", app.Name, s)
		worker.EndOwnFamily()
		os.Exit(1)
	}
	if f := worker.CountsFile(); f != nil {
		page, err := telemetry.OpenPage(f)
		if err != nil {
			return err
		}
		set.Page = page
	}
	w, err := guest.Dial(set)
	if err != nil {
		return err
	}
	return serve(app, w)
}

// find builds the application of that name.
func find(name string, builds []Build) (*graph.App, spec.Graph, error) {
	var mistakes []error
	for _, build := range builds {
		app, g, err := complete(build, os.Getenv(asEnv) != "")
		if app == nil {
			mistakes = append(mistakes, err)
			continue
		}
		if app.Name == name {
			return app, g, err
		}
	}
	missing := fmt.Errorf("application %s is not built here: call helve.WorkerMain(Build%s, ...) first", name, exported(name))
	return nil, spec.Graph{}, errors.Join(append(mistakes, missing)...)
}

// exported returns a name with a capital letter.
func exported(name string) string {
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// settings are the settings of a worker for an application.
func settings(version string, app *graph.App, g spec.Graph) guest.Settings {
	return guest.Settings{Version: version, Graph: g, Classes: app.Classes(), Home: app}
}

// serve points the handles of the application to the node of the worker, and serves calls until the connection ends.
func serve(app *graph.App, w *guest.Guest) error {
	app.Drains.Store(w.Drains())
	app.Node.Store(w)
	for _, d := range app.Deployments() {
		d.Port.Store(w.Port(app.Name, d.Name, d.Python != nil))
	}
	if err := w.Serve(); err != nil {
		// The usual cause is the end of the node.
		return fmt.Errorf("worker of application %s: connection to the node: %w", app.Name, err)
	}
	return nil
}

// runner runs the application of a Build as a worker does, in this process.
func runner(version string, make Build) host.Runner {
	return func(ctx context.Context, id string, token wire.Token, page *telemetry.Page, dial func() (net.Conn, error)) error {
		app, g, err := complete(make, false)
		if err != nil {
			return err
		}
		set := settings(version, app, g)
		set.Page = page
		w, err := guest.Join(set, id, token, dial)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, w.Kill)()
		return serve(app, w)
	}
}
