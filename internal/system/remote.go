package system

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/attach"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// askTime bounds the requests of methods that have no context of their caller. It is longer than the wait for the next node.
const askTime = attach.Patience + 5*time.Second

// Remote is a system of another process, to which this program is attached. It is safe for concurrent use.
//
// The node runs a Go application as a build, in workers of its executable, also if this program has built it. For example, a program deploys its
// application "shop": the node copies the executable of the program and starts it as a worker, and the program may end.
type Remote struct {
	conn   *attach.Conn
	public func(error) error
	spans  *trace.Reporter // of the program's code outside of methods
	leave  func()          // no more spans come

	mu    sync.Mutex
	apps  map[string]*graph.App             // that this program has built and deployed
	found map[port.Target]*graph.Deployment // of other applications, so that all handles to one lead to the same
}

// Connect attaches to the node of an address: see [attach.Settings].
func (c Config) Connect(ctx context.Context, address string) (*Remote, error) {
	if os.Getenv(build.DescribeEnv) != "" { // the node has started this executable to see what it contains
		return nil, errors.New("this program was started to describe its applications: call helve.WorkerMain(Build) before helve.Connect")
	}
	conn, err := attach.Open(ctx, attach.Settings{Address: address, Version: c.Version, Codec: graph.Codec})
	if err != nil {
		return nil, err
	}
	spans := trace.NewReporter(func(spans json.RawMessage) {
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()
		attach.Ask(ctx, conn, protocol.Spans{Spans: spans}) //nolint:errcheck // without a node they are of no use
	})
	return &Remote{conn: conn, spans: spans, leave: trace.Enroll(trace.Program{Sink: spans}), public: c.Public, apps: map[string]*graph.App{}, found: map[port.Target]*graph.Deployment{}}, nil
}

// Deploy deploys an application at the node, from the executable that the Build names, or else from the executable of this program. If ctx ends
// before the reply, the deploy goes on at the node.
func (r *Remote) Deploy(ctx context.Context, make Build) error {
	app, err := built(make)
	var request protocol.DeployBuild
	if err == nil && app != nil && app.External != nil {
		x := app.External
		if request.Path, err = filepath.Abs(x.Path); err != nil {
			return err
		}
		request.App, request.Args, app = x.Application, x.Args, nil
	} else {
		if app, _, err = sealed(app, err); err != nil {
			return err
		}
		if err := errors.Join(app.Unencodable(true)...); err != nil {
			return fmt.Errorf("application %q: %w", app.Name, err)
		}
		if request.Path, err = os.Executable(); err != nil {
			return fmt.Errorf("the path of this executable, which workers run too: %w", err)
		}
		request.App, request.Args = app.Name, os.Args[1:]
		r.lead(app)
	}
	request.Env = os.Environ()
	if request.Dir, err = os.Getwd(); err != nil {
		return err
	}
	if _, err := attach.Ask(ctx, r.conn, request); err != nil {
		return r.public(err)
	}
	if app != nil {
		r.mu.Lock()
		r.apps[app.Name] = app
		r.mu.Unlock()
	}
	return nil
}

// lead points the handles of an application that this program has built to the node.
func (r *Remote) lead(app *graph.App) {
	for _, d := range app.Deployments() {
		d.Port.Store(r.conn.Port(port.Target{App: app.Name, Deployment: d.Name, Python: d.Python != nil}))
	}
}

// Delete drains an application and stops its replicas.
func (r *Remote) Delete(ctx context.Context, app string) error {
	r.mu.Lock()
	was := r.apps[app]
	r.mu.Unlock()
	_, err := attach.Ask(ctx, r.conn, protocol.Delete{Name: app})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.apps[app] == was { // another may have been deployed as soon as it was gone
		delete(r.apps, app)
	}
	return err
}

// Reconfigure gives all replicas of a deployment another user config.
func (r *Remote) Reconfigure(ctx context.Context, app, deployment string, config json.RawMessage) error {
	_, err := attach.Ask(ctx, r.conn, protocol.Configure{App: app, Deployment: deployment, UserConfig: config})
	return err
}

// Rollback deploys an application again as a revision before has it.
func (r *Remote) Rollback(ctx context.Context, app string, revision int) error {
	_, err := attach.Ask(ctx, r.conn, protocol.Rollback{App: app, Revision: revision})
	return err
}

// Scale sets the number of replicas of a deployment. The node knows by whom: a driver.
func (r *Remote) Scale(ctx context.Context, app, deployment string, n int, _, why string) error {
	_, err := attach.Ask(ctx, r.conn, protocol.Scale{App: app, Deployment: deployment, Replicas: &n, Reason: why})
	return err
}

// Find returns a deployment of an application of the node.
func (r *Remote) Find(app, name string) (*graph.Deployment, *call.Error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	in, err := attach.Ask(ctx, r.conn, protocol.Ingress{App: app, Deployment: name})
	if err != nil {
		e := *call.AsError(err)
		e.App, e.Deployment = app, name
		return nil, &e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if own := r.apps[app]; own != nil {
		if d := own.Find(name); d != nil {
			return d, nil
		}
	}
	t := port.Target{App: app, Deployment: name, Python: in.Language == "python"}
	d := r.found[t]
	if d == nil {
		d = graph.Remote(app, name, in, r.conn.Port(t))
		r.found[t] = d
	}
	d.Describe(in)
	return d, nil
}

// Entry is the name of the ingress deployment of an application.
func (r *Remote) Entry(app string) (deployment string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	in, err := attach.Ask(ctx, r.conn, protocol.Ingress{App: app})
	return in.Deployment, err
}

// ReadStatus asks the node for its state.
func (r *Remote) ReadStatus(ctx context.Context) (helvetype.Status, error) {
	return attach.Ask(ctx, r.conn, protocol.Status{})
}

// Status is the state of the node; empty if no node can be reached.
func (r *Remote) Status() helvetype.Status {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	s, err := r.ReadStatus(ctx)
	if err != nil {
		return helvetype.Status{}
	}
	return s
}

// Address is an address of the node.
func (r *Remote) Address() string { return r.conn.Address() }

// URLs is the URL of the ingress of the node.
func (r *Remote) URLs() []string {
	url, _ := r.Opened()
	if url == "" {
		return nil
	}
	return []string{url}
}

// Opened is the URL of the ingress of the node; "" if it has none, or cannot be reached. A failure of its listener is the node's own.
func (r *Remote) Opened() (url string, failed <-chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	a, err := attach.Ask(ctx, r.conn, protocol.HTTP{})
	if err != nil {
		return "", nil
	}
	return a.URL, nil
}

// errElsewhere is the error of operations that only the process of the node can carry out.
var errElsewhere = errors.New("the node is another process, which opens its own HTTP ingress: use a system of this program (helve.Run) for this")

// Serve is not possible: it is for the process of the node.
func (r *Remote) Serve(string) (url string, failed <-chan error, err error) {
	return "", nil, errElsewhere
}

// ServeListener is not possible, as [Remote.Serve].
func (r *Remote) ServeListener(net.Listener, *tls.Config) (url string, failed <-chan error, err error) {
	return "", nil, errElsewhere
}

// ReloadCertificate is not possible, as [Remote.Serve].
func (r *Remote) ReloadCertificate() error { return errElsewhere }

// Handler answers all requests with an error.
func (r *Remote) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, errElsewhere.Error(), http.StatusServiceUnavailable)
	})
}

// AdminURL is "": the admin interface is the node's.
func (r *Remote) AdminURL() string { return "" }

// Metrics are empty: the node shows its own.
func (r *Remote) Metrics() telemetry.Snapshot { return telemetry.Snapshot{} }

// StartDrain does nothing: the node goes on.
func (r *Remote) StartDrain(context.Context) {}

// Close ends the connection. The node and its applications go on.
func (r *Remote) Close(context.Context) error {
	r.leave()
	r.spans.Flush()
	r.conn.Close()
	return nil
}
