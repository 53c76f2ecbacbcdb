package system

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
)

// System is a node with the applications that the program has built. It is safe for concurrent use.
type System struct {
	// Node is the node. It knows the applications by their descriptions.
	*node.Node
	// URL is the address of the ingress that the configuration asked for, the first if there are several, and Failed the channel for the error of its listener;
	// "" and nil without.
	URL    string
	Failed <-chan error

	config Config
	dir    string
	// hosting says that workers of its Go applications are goroutines here.
	hosting bool

	mu   sync.Mutex
	apps map[string]*graph.App
}

// Run builds the application, starts it in this process, and returns when every replica is ready.
func (c Config) Run(ctx context.Context, build Build) (*System, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the path of this executable, which workers run too: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	pair := pairs[c.Isolation]
	if pair != nil {
		c.Isolation = spec.Process
	}
	set := c.settings(ctx)
	set.Pair, set.Program = pair, host.Program{Path: exe, Args: os.Args[1:], Env: os.Environ(), Dir: dir}
	s := &System{config: c, dir: dir, apps: map[string]*graph.App{}, hosting: pair != nil}
	if d := node.DurableFrom(ctx); d != nil {
		return s.runDurable(ctx, d, set, build)
	}
	app, def, err := s.prepare(ctx, build)
	if err == nil {
		err = def.Check(set.Program)
	}
	if err != nil {
		return nil, err
	}
	if c.HTTPOptions.TLS != (listen.Files{}) {
		if set.Certificate, err = listen.NewCertificate(c.HTTPOptions.TLS, c.Logger); err != nil {
			return nil, fmt.Errorf("HTTPOptions: TLS.%w", err)
		}
	}
	ls, err := listen.OpenAll(c.HTTP)
	if err != nil {
		return nil, fmt.Errorf("HTTP: %w", err)
	}
	defer func() {
		for _, l := range ls { // the listeners that the node has not taken
			l.Close()
		}
	}()
	if c.LogDir != "" {
		if set.Logs, err = logs.OpenDir(c.LogDir, c.Logger); err != nil {
			return nil, fmt.Errorf("LogDir: %w", err)
		}
	}
	s.Node = node.New(set)
	err = s.open()
	if err == nil && len(ls) > 0 {
		err = s.serveAll(ls)
		ls = nil
	}
	if err == nil {
		err = s.start(ctx, app, def, false)
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		return nil, errors.Join(err, s.Node.Close(closing))
	}
	return s, nil
}

// settings are the settings of the node that are the same in each start.
func (c Config) settings(ctx context.Context) node.Settings {
	strict, _ := call.CodecNamed(c.StrictCodec)
	metrics := c.Metrics
	if metrics == nil {
		metrics = admin.MetricsFrom(ctx)
	}
	return node.Settings{
		Logger: c.Logger, Version: c.Version, Output: c.Output, Strict: strict, OutOfLine: c.OutOfLine,
		MaxBody: c.MaxBody, ArenaSize: c.ArenaSize, ReferenceLimit: c.ReferenceLimit, HTTP: c.HTTPLimits, HTTPOptions: c.HTTPOptions,
		LogMemory: c.LogMemory, Metrics: metrics, AccessLog: c.AccessLog, Tracing: c.Tracing,
	}
}

// open gives the node its state and its admin interface, where the configuration asks for them.
func (s *System) open() error {
	c := s.config
	if c.StateDir != "" {
		if err := s.Node.UseState(c.StateDir, cmp.Or(c.WorkerGrace, defaultGrace)); err != nil {
			return fmt.Errorf("StateDir: %w", err)
		}
	}
	if c.Admin != "" {
		addr := c.Admin
		if addr == adminPrivate {
			addr = ""
		}
		if err := s.Node.ServeAdmin(addr); err != nil {
			return fmt.Errorf("Admin: %w", err)
		}
		if err := s.Node.ServeDrivers(); err != nil {
			c.Logger.Warn("no other program can attach to this node", "error", err)
		}
	}
	return nil
}

// serveAll opens the ingress on the listeners of the configuration, which are the node's then.
func (s *System) serveAll(ls []net.Listener) error {
	failed := make(chan error, len(ls))
	for _, l := range ls {
		url, one, err := s.Node.Serve(l)
		if err != nil {
			return err
		}
		s.URL = cmp.Or(s.URL, url)
		go func() {
			select {
			case err := <-one:
				failed <- err
			case <-s.Node.Done():
			}
		}()
	}
	s.Failed = failed
	return nil
}

// Deploy adds an application, or changes the one of its name.
func (s *System) Deploy(ctx context.Context, make Build) error {
	app, def, err := s.prepare(ctx, make)
	if err != nil {
		return err
	}
	return s.start(ctx, app, def, true)
}

// Delete drains an application and stops its replicas.
func (s *System) Delete(ctx context.Context, app string) error {
	s.mu.Lock()
	was := s.apps[app]
	s.mu.Unlock()
	err := s.Node.Delete(ctx, app)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.apps[app] == was { // another may have been deployed as soon as it was gone
		delete(s.apps, app)
	}
	return err
}

// Rollback deploys an application again as a revision before has it; 0 is the one that ran before the present one.
func (s *System) Rollback(ctx context.Context, app string, revision int) error {
	if err := s.Node.Rollback(ctx, app, revision, "program"); err != nil {
		return s.config.Public(err)
	}
	now, _, _ := s.Node.Deployed(app, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if of, ok := now.Home.(*graph.App); ok {
		s.apps[app] = of // handles that are looked up from now on
	}
	return nil
}

// Opened is the URL of the ingress that the configuration asked for, and the channel for the error of its listener.
func (s *System) Opened() (url string, failed <-chan error) { return s.URL, s.Failed }

// Entry is the name of the ingress deployment of an application.
func (s *System) Entry(app string) (deployment string, err error) {
	in, ok := s.Node.Ingress(app, "")
	if !ok {
		return "", s.Node.Missing(app)
	}
	return in.Deployment, nil
}

// Address is the directory at which other programs attach; "" without one. Programs that keep a state directory find the next node, too.
func (s *System) Address() string {
	dir := s.Node.Dir()
	if dir != "" && s.config.StateDir != "" {
		return s.config.StateDir
	}
	return dir
}

// ReadStatus is the present state.
func (s *System) ReadStatus(context.Context) (helvetype.Status, error) { return s.Node.Status(), nil }

// Serve opens the HTTP ingress on a TCP address or a unix socket.
func (s *System) Serve(addr string) (url string, failed <-chan error, err error) {
	l, err := listen.Open(addr)
	if err != nil {
		return "", nil, err
	}
	if url, failed, err = s.Node.Serve(l); err != nil {
		l.Close()
	}
	return url, failed, err
}

// ServeListener opens the HTTP ingress on a listener of the program, with TLS by the configuration secure unless that is nil.
func (s *System) ServeListener(l net.Listener, secure *tls.Config) (url string, failed <-chan error, err error) {
	if l == nil {
		return "", nil, errors.New("the listener is nil")
	}
	if fmt.Sprintf("%T", l) == "*tls.listener" {
		return "", nil, errors.New("a listener of crypto/tls: give the listener under it, and its tls.Config as the second argument")
	}
	if secure != nil {
		secure = secure.Clone()
		if len(secure.NextProtos) == 0 {
			secure.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	return s.Node.ServeTLS(l, secure)
}

// Find returns a deployment of a running application, for handles.
func (s *System) Find(app, name string) (*graph.Deployment, *call.Error) {
	s.mu.Lock()
	a := s.apps[app]
	s.mu.Unlock()
	if a != nil && s.Node.Deployment(app, name) != nil {
		if d := a.Find(name); d != nil {
			return d, nil
		}
	}
	e := graph.Unknown(app, name, nil)
	if why := s.Node.Absent(app, name); why != nil {
		e.Message = why.Error()
	}
	return nil, e
}

// prepare builds or loads an application and looks for its mistakes. It starts nothing.
func (s *System) prepare(ctx context.Context, make Build) (*graph.App, deploy.App, error) {
	app, def, err := s.read(ctx, make)
	def.Author = helvetype.Author{Name: "program"}
	if o, in := def.Graph.IngressOptions, def.Graph.Ingress; err == nil && o != nil && in != nil && in.Kind != spec.IngressHTTP {
		if most := s.config.HTTPLimits.WithDefaults().Memory / 2; o.MaxBody > most {
			err = fmt.Errorf("application %q: ingress options: MaxBody: must be at most half of HTTPLimits.Memory, %d bytes, is %d", app.Name, most, o.MaxBody)
		}
	}
	return app, def, err
}

// read builds or loads an application.
func (s *System) read(ctx context.Context, make Build) (*graph.App, deploy.App, error) {
	app, err := built(make)
	if err == nil && app != nil && app.External != nil {
		return s.load(ctx, app.External)
	}
	app, g, err := sealed(app, err)
	if err != nil {
		return nil, deploy.App{}, err
	}
	def, err := s.define(app, g)
	if err != nil {
		return nil, deploy.App{}, fmt.Errorf("application %q: %w", app.Name, err)
	}
	if s.hosting {
		def.Runner = runner(s.config.Version, make)
	}
	return app, def, nil
}

// define returns the application as the node deploys it.
func (s *System) define(app *graph.App, g spec.Graph) (def deploy.App, err error) {
	if err := s.isolate(app, &g); err != nil {
		return def, err
	}
	for _, cycle := range g.Cycles() {
		s.config.Logger.Warn("deployments use each other in a cycle", "app", app.Name, "cycle", strings.Join(cycle, " -> "))
	}
	def = deploy.App{Graph: g, Classes: app.Classes(), Policies: app.Policies(), Scaling: app.Scaling()}
	def.Python, def.CodeVersions, err = app.PythonSource(s.dir)
	return def, err
}

// isolate gives the Go deployments of a graph the isolation that the configuration sets for all.
func (s *System) isolate(app *graph.App, g *spec.Graph) (err error) {
	i := s.config.Isolation
	if i == "" {
		return nil
	}
	for j := range g.Deployments {
		d := &g.Deployments[j]
		if d.Language != "go" {
			continue
		}
		if d.Options, err = d.Options.Merge(fmt.Appendf(nil, `{"isolation": %q}`, i), spec.FromOverride); err != nil {
			return err
		}
		if names := d.Options.NeedsProcess(); i == spec.InNode && len(names) > 0 {
			s.config.Logger.Warn("options have no effect in the node's process", "app", app.Name, "deployment", d.Name,
				"options", strings.Join(names, ", "))
		}
	}
	if i == spec.Process {
		return errors.Join(app.Unencodable(true)...)
	}
	return nil
}

// load asks an executable for the graph of its application, and makes the application that handles refer to.
func (s *System) load(ctx context.Context, x *graph.External) (*graph.App, deploy.App, error) {
	def, err := node.Load(ctx, x.Path, x.Application, build.Command{Args: x.Args, Env: os.Environ(), Dir: s.dir})
	if err != nil {
		return nil, def, err
	}
	return graph.Loaded(def.Graph), def, nil
}

// bound is an application whose handles lead to the deployments of a node.
func bound(n *node.Node, app *graph.App, def deploy.App) deploy.App {
	def.Home = app
	def.Bound = func(name string, d *serving.Deployment) {
		if own := app.Find(name); own != nil {
			own.Serving.Store(d)
		}
	}
	app.Drains.Store(n.Drains())
	app.Recorder.Store(n.Recorder())
	return def
}

// start deploys an application that was built or loaded. later says that it is not the first of the system.
func (s *System) start(ctx context.Context, app *graph.App, def deploy.App, later bool) error {
	def = bound(s.Node, app, def)
	def.Retry, def.Replace = later, later
	if err := s.Node.Deploy(ctx, def); err != nil {
		return s.config.Public(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.Name] = app
	return nil
}
