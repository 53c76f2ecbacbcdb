package helve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/gcfloor"
	"github.com/helve-serve/helve/internal/guest"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/worker"
)

// Version is the version of this module.
const Version = "0.1.0-dev"

// workerEnv names the application whose replicas this process hosts; the node sets it for its workers.
const workerEnv = "HELVE_WORKER"

// Build makes an application. It is called in the node and again in every worker, so it must be deterministic and have
// no side effects.
type Build = func() (*App, error)

// Config has the settings of a system. [Run] uses the zero Config.
type Config struct {
	// Logger receives the node's log and the output of workers. If it is nil, warnings and errors go to the slog.Default of the
	// moment when Run is called. A logger with slog.DiscardHandler turns the log off.
	Logger *slog.Logger
	// Isolation overrides the isolation of every Go deployment; "" leaves each its own. An ingress that is an http.Handler ([HTTP]) is
	// in the node's process all the same.
	Isolation Isolation
	// Output receives the output of workers, line by line, after the name of the worker. If it is nil, the output goes to the log.
	Output io.Writer
	// HTTP is the address of the HTTP ingress, such as "127.0.0.1:8000"; port 0 picks one ([System.HTTP]). "unix:/run/helve.sock" is a
	// unix socket, and several addresses have commas between them. They are opened before
	// anything of the application starts, so that an address that is in use costs no start. "" for none: [System.Serve] can
	// open one later.
	HTTP string
	// HTTPLimits bound the memory, the connections and the time that clients of the ingress may take.
	HTTPLimits HTTPLimits
	// HTTPOptions are the other settings of the ingress: times, TLS, the proxies in front of it.
	HTTPOptions HTTPOptions
	// AccessLog gets a line per HTTP request to an application: time, client, method, route, status, duration and request id. A request waits
	// for the writer. nil: there is no access log.
	AccessLog io.Writer
	// LogDir is a directory, made if need be, in which every worker gets a log file: replica_<app>_<replica>.log of a
	// Python replica, worker_<app>_<number>.log of a Go worker, which may host several. A file is renamed at 16 MiB, to .1 and
	// so on to .3; the files of at most 16 workers that have ended are kept per deployment. "" for none.
	LogDir string
	// StrictCodec names the codec, msgpack or orjson, with which calls that stay in this process are encoded and decoded
	// all the same. "" encodes only calls to deployments with the option StrictCodec.
	StrictCodec string
	// StateDir is a directory, made if need be, in which the node keeps what the next one must know if this one is killed: what runs,
	// and which processes run it. One that is there must be empty or have been used by a node before; all others are refused. Worker processes then live on for WorkerGrace, and a system that is started with the same
	// directory and the same application takes them over, with their replicas and all that those have in memory. Calls that
	// were under way are cancelled. One system at a time uses a directory. "" for none: workers end with their node.
	StateDir string
	// WorkerGrace is how long worker processes wait for the next node. 0 is 30 s. Only with StateDir.
	WorkerGrace time.Duration
	// ArenaSize is how many bytes of shared memory the workers of one application may use for large values (128 KiB and
	// more); values that do not fit travel over sockets. It takes memory only as far as it is used. 0 is 1 GiB, less than 0 none.
	ArenaSize int64
	// ReferenceLimit is how many bytes of results the node keeps for callers in workers and drivers that asked for them by
	// reference, beside those in shared memory. Over it a call answers by value, or fails with reason too_large if the
	// value has 8 MiB or more. 0 is 256 MiB.
	ReferenceLimit int64
	// MaxBody is the largest value, in bytes, that calls, results and items may have between processes: 1 MiB to 4 GiB less one
	// byte. 0 is 256 MiB. A larger value fails with the reason too_large.
	MaxBody int
	// Admin opens the admin interface of the node, which only reads: status, calls, events, profiles. "private" is a unix socket in a
	// directory of this user's, where commands such as "helve status" find it. A TCP address of the loopback interface, such as
	// "127.0.0.1:8265", is open to every user of this machine, beside the socket. "" for none.
	Admin string
	// OutOfLine runs the methods of Call and Stream.Call on goroutines of their own too.
	OutOfLine bool
}

// defaultGrace is how long workers wait for the next node.
const defaultGrace = 30 * time.Second

// adminPrivate is the [Config].Admin without a TCP address.
const adminPrivate = "private"

// minArena is the smallest arena that is of any use.
const minArena = 1 << 20

// System is a running node with its applications. It is safe for concurrent use.
type System struct {
	node   *node.Node
	config Config
	dir    string
	// hosting says that workers of its Go applications are goroutines here.
	hosting bool

	mu   sync.Mutex
	apps map[string]*App

	url    string // of the ingress that the configuration asked for, the first if there are several
	failed <-chan error
}

// Run builds the application, starts it in this process, and returns when every replica is ready. ctx bounds the start
// and nothing else: [System.Close] ends the system. The first failure of a constructor ends the start with its error.
//
// In a worker that a node started, Run takes over and never returns.
func Run(ctx context.Context, build Build) (*System, error) { return Config{}.Run(ctx, build) }

// Run is the function [Run] with a configuration. Mistakes in the configuration and in the graph, and an address that is in
// use, are found before anything starts: no constructor runs, no directory is made, and no worker of a former node is touched.
func (c Config) Run(ctx context.Context, build Build) (*System, error) {
	WorkerMain(build)
	c.Logger = c.logger()
	if err := c.check(); err != nil {
		return nil, err
	}
	strict, _ := call.CodecNamed(c.StrictCodec)
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
		c.Isolation = Process
	}
	set := node.Settings{
		Logger: c.Logger, Version: Version, Output: c.Output, Strict: strict, OutOfLine: c.OutOfLine, Pair: pair,
		MaxBody: c.MaxBody, ArenaSize: c.ArenaSize, ReferenceLimit: c.ReferenceLimit, HTTP: c.HTTPLimits.limits(), HTTPOptions: c.HTTPOptions.options(),
		Metrics: admin.MetricsFrom(ctx), AccessLog: c.AccessLog, Program: host.Program{Path: exe, Args: os.Args[1:], Env: os.Environ(), Dir: dir},
	}
	s := &System{config: c, dir: dir, apps: map[string]*App{}, hosting: pair != nil}
	app, def, err := s.prepare(ctx, build)
	if err == nil {
		err = def.Check(set.Program)
	}
	if err != nil {
		return nil, err
	}
	if c.HTTPOptions.TLS != (TLS{}) {
		if set.Certificate, err = listen.NewCertificate(set.HTTPOptions.TLS, c.Logger); err != nil {
			return nil, fmt.Errorf("HTTPOptions: TLS.%w", err)
		}
	}
	ls, err := listen.OpenAll(c.HTTP)
	if err != nil {
		return nil, fmt.Errorf("HTTP: %w", err)
	}
	defer func() {
		for _, l := range ls { // those that the node has not taken
			l.Close()
		}
	}()
	if c.LogDir != "" {
		if set.Logs, err = logs.OpenDir(c.LogDir, c.Logger); err != nil {
			return nil, fmt.Errorf("LogDir: %w", err)
		}
	}
	s.node = node.New(set)
	if c.StateDir != "" {
		if err = s.node.UseState(c.StateDir, cmp.Or(c.WorkerGrace, defaultGrace)); err != nil {
			err = fmt.Errorf("StateDir: %w", err)
		}
	}
	if err == nil && c.Admin != "" {
		addr := c.Admin
		if addr == adminPrivate {
			addr = ""
		}
		if err = s.node.ServeAdmin(addr); err != nil {
			err = fmt.Errorf("Admin: %w", err)
		}
	}
	if err == nil && len(ls) > 0 {
		err = s.serveAll(ls)
		ls = nil
	}
	if err == nil {
		err = s.start(ctx, app, def, false)
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, s.node.Close(closing))
	}
	return s, nil
}

// serveAll opens the ingress on the listeners of the configuration, which are the node's then.
func (s *System) serveAll(ls []net.Listener) error {
	failed := make(chan error, len(ls))
	for _, l := range ls {
		url, one, err := s.node.Serve(l)
		if err != nil {
			return err
		}
		s.url = cmp.Or(s.url, url)
		go func() {
			select {
			case err := <-one:
				failed <- err
			case <-s.node.Done():
			}
		}()
	}
	s.failed = failed
	return nil
}

// check lists the mistakes of the configuration, by its fields.
func (c Config) check() error {
	var errs []error
	wrong := func(field, format string, args ...any) { errs = append(errs, fmt.Errorf(field+": "+format, args...)) }
	if c.Logger.Handler() == nil {
		wrong("Logger", "it has no handler; make one with slog.New")
	}
	if i := c.Isolation; i != "" && i != InNode && i != Process && pairs[i] == nil {
		wrong("Isolation", "must be %s or %s, is %q", InNode, Process, i)
	}
	if c.StrictCodec != "" {
		if strict, _ := call.CodecNamed(c.StrictCodec); strict != call.Msgpack && strict != call.JSON {
			wrong("StrictCodec", "must be msgpack or orjson, is %q", c.StrictCodec)
		}
	}
	switch {
	case c.WorkerGrace < 0:
		wrong("WorkerGrace", "must not be negative, is %s", c.WorkerGrace)
	case c.WorkerGrace != 0 && c.StateDir == "":
		wrong("WorkerGrace", "needs StateDir, where the next node finds the workers")
	}
	switch {
	case c.ReferenceLimit < 0:
		wrong("ReferenceLimit", "must not be negative, is %d", c.ReferenceLimit)
	case c.ArenaSize > 0 && c.ArenaSize < minArena:
		wrong("ArenaSize", "must be at least %d bytes, or less than 0 for none, is %d", minArena, c.ArenaSize)
	}
	if err := c.HTTPLimits.limits().Check(); err != nil {
		wrong("HTTPLimits", "%w", err)
	}
	if err := listen.Check(c.HTTP); err != nil {
		wrong("HTTP", "%w", err)
	}
	if err := c.HTTPOptions.options().Check(); err != nil {
		wrong("HTTPOptions", "%w", err)
	}
	if f := c.HTTPOptions.AccessLogFormat; f != "" && f != "text" && f != logJSON {
		wrong("HTTPOptions", "AccessLogFormat: must be text or json, is %q", f)
	}
	if err := node.CheckMaxBody(c.MaxBody); err != nil {
		wrong("MaxBody", "%w", err)
	}
	return errors.Join(errs...)
}

// HTTP is the URL of the ingress that [Config].HTTP opened, and the channel that receives the error of a listener that ends by
// itself; "" and nil without. Of several addresses it is the first, and [System.URLs] has all. A unix socket has "unix:" and its path.
func (s *System) HTTP() (url string, failed <-chan error) { return s.url, s.failed }

// Deploy adds another application to a running system, and returns when every replica is ready. Starts that fail are
// repeated, with a delay that doubles from 1 s to 64 s, until a deployment of which no replica ever ran is given up
// ([Options].MaxConstructorRetries); then nothing of the application stays behind.
//
// An application of that name that runs already changes to the new revision: new replicas start beside the old, and each
// that is ready takes the place of an old one, which drains. Calls that wait go on waiting in the same queues, and
// handles stay good. If the new revision cannot start the old one is restored, and the error says so.
//
// Replicas whose code and process are the same go on, with the numbers and the user config of the new revision. For example,
// a deploy that changes MaxOngoingRequests alone starts nothing. The code is the same if the executable of a worker, or the
// files of a Python module, have the same bytes. In this process both revisions must have the same [Options].Version, which
// is not empty: two builds that one program makes cannot be compared.
func (s *System) Deploy(ctx context.Context, build Build) error { return s.deploy(ctx, build, true) }

// Delete drains an application and stops its replicas. A [System.Deploy] of its name waits until it is gone.
func (s *System) Delete(ctx context.Context, app string) error {
	s.mu.Lock()
	was := s.apps[app]
	s.mu.Unlock()
	err := publicError(s.node.Delete(ctx, app))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.apps[app] == was { // another may have been deployed as soon as it was gone
		delete(s.apps, app)
	}
	return err
}

// Reconfigure gives a deployment another user config: every replica that runs, and those that start later. config is
// anything that encodes as JSON. If a replica refuses it, all get their former config again, which stays in use, also for replicas
// that start later; the errors of the replicas that refused are joined, and equal ones stand once. When ctx ends first the config
// is withdrawn. While no replica runs, the first that starts with it decides.
func (s *System) Reconfigure(ctx context.Context, app, deployment string, config any) error {
	b, err := theCodec.Append(nil, call.JSON, config)
	if err != nil {
		return fmt.Errorf("user_config: %w", err)
	}
	return publicError(s.node.Reconfigure(ctx, app, deployment, b))
}

// Scale sets the number of replicas of a deployment, 0 or more. It returns when the number is what the system aims at; the replicas
// follow, and [System.Status] shows how far they are (Wanted, Replicas). No call is lost: a replica that is too many finishes its
// calls first, within GracefulShutdownTimeout, and calls of a deployment without replicas wait. The youngest replicas go first.
//
// The number stays over a later [System.Deploy], unless that changes NumReplicas. For example, a deployment with NumReplicas 2 is
// scaled to 5: a deploy with NumReplicas 2 leaves 5 replicas, and a deploy with NumReplicas 3 sets 3.
func (s *System) Scale(ctx context.Context, app, deployment string, n int) error {
	return publicError(s.node.Scale(ctx, app, deployment, n, "program", "System.Scale"))
}

func (s *System) deploy(ctx context.Context, make Build, retry bool) error {
	app, def, err := s.prepare(ctx, make)
	if err != nil {
		return err
	}
	return s.start(ctx, app, def, retry)
}

// prepare builds or loads an application and looks for its mistakes. It starts nothing.
func (s *System) prepare(ctx context.Context, make Build) (*App, deploy.App, error) {
	app, err := built(make)
	if err == nil && app != nil && app.external != nil {
		return s.load(ctx, app.external)
	}
	app, graph, err := sealed(app, err)
	if err != nil {
		return nil, deploy.App{}, err
	}
	wrong := func(err error) (*App, deploy.App, error) {
		return nil, deploy.App{}, fmt.Errorf("application %q: %w", app.name, err)
	}
	if i := s.config.Isolation; i != "" {
		for j := range graph.Deployments {
			d := &graph.Deployments[j]
			if d.Language != "go" || i == Process && app.kind == spec.IngressHTTP && d.Name == graph.Ingress.Deployment {
				continue
			}
			if d.Options, err = d.Options.Merge(fmt.Appendf(nil, `{"isolation": %q}`, i), spec.FromOverride); err != nil {
				return wrong(err)
			}
			if names := d.Options.NeedsProcess(); i == InNode && len(names) > 0 {
				s.config.Logger.Warn("options have no effect in the node's process", "app", app.name, "deployment", d.Name,
					"options", strings.Join(names, ", "))
			}
		}
	}
	if s.config.Isolation == Process {
		if errs := app.unencodable(true); len(errs) > 0 {
			return wrong(errors.Join(errs...))
		}
	}
	for _, cycle := range graph.Cycles() {
		s.config.Logger.Warn("deployments use each other in a cycle", "app", app.name, "cycle", strings.Join(cycle, " -> "))
	}
	def := deploy.App{Graph: graph, Classes: app.classes(), Policies: app.policies()}
	if def.Python, def.CodeVersions, err = app.pythonSource(s.dir); err != nil {
		return wrong(err)
	}
	if s.hosting {
		def.Runner = runner(make)
	}
	return app, def, nil
}

// start deploys an application that was built or loaded.
func (s *System) start(ctx context.Context, app *App, def deploy.App, later bool) error {
	def.Home, def.Retry, def.Replace = app, later, later
	def.Bound = func(name string, d *serving.Deployment) {
		if own := app.find(name); own != nil {
			own.dep.Store(d)
		}
	}
	if err := s.node.Deploy(ctx, def); err != nil {
		return publicError(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.name] = app
	return nil
}

// built calls a Build. A panic in it is an error, with the stack: nobody else would show that.
func built(build Build) (app *App, err error) {
	if build == nil {
		return nil, errors.New("the Build function is nil")
	}
	defer func() {
		if v := recover(); v != nil {
			e := call.Recovered(v)
			app, err = nil, fmt.Errorf("%w\n%s", e, e.Traceback)
		}
	}()
	app, err = build()
	return app, call.Guard(err)
}

func buildApp(build Build) (*App, spec.Graph, error) { return sealed(built(build)) }

// sealed checks the result of a Build and completes its graph.
func sealed(app *App, err error) (*App, spec.Graph, error) {
	if err != nil {
		return nil, spec.Graph{}, fmt.Errorf("build: %w", err)
	}
	if app == nil {
		return nil, spec.Graph{}, errors.New("build: no application and no error")
	}
	graph, err := app.seal()
	return app, graph, err
}

// WorkerMain takes over in a process that a node started as a worker, and never returns there; in every other process
// it does nothing. Programs that build several applications call it first in main; [Run] calls it for its own.
func WorkerMain(builds ...Build) {
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
	signals := worker.Shield()
	worker.ReportCrashes()
	gcfloor.Set()
	if err := work(name, builds, signals); err != nil {
		fmt.Fprintln(os.Stderr, err)
		worker.EndOwnFamily()
		os.Exit(1)
	}
	os.Exit(0)
}

func work(name string, builds []Build, signals <-chan os.Signal) error {
	var mistakes []error
	for _, build := range builds {
		app, graph, err := buildApp(build)
		if app == nil {
			mistakes = append(mistakes, err)
			continue
		}
		if app.name != name {
			continue
		}
		if err != nil {
			return err
		}
		return app.work(graph, signals)
	}
	return errors.Join(append(mistakes, fmt.Errorf("application %s is not built here: call helve.WorkerMain(Build%s, ...) first", name, exported(name)))...)
}

func exported(name string) string {
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

func (a *App) work(graph spec.Graph, signals <-chan os.Signal) error {
	set := a.settings(graph)
	set.Signals, set.Orphaned = signals, func(s os.Signal) {
		fmt.Fprintf(os.Stderr, "worker of application %s: signal while no node had taken over: %s\n", a.name, s)
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
	g, err := guest.Dial(set)
	if err != nil {
		return err
	}
	return a.serve(g)
}

func (a *App) settings(graph spec.Graph) guest.Settings {
	return guest.Settings{Version: Version, Graph: graph, Classes: a.classes(), Home: a}
}

func (a *App) serve(g *guest.Guest) error {
	for _, d := range a.deployments {
		d.port.Store(g.Port(a.name, d.name, d.python != nil))
	}
	if err := g.Serve(); err != nil {
		// The usual cause is the end of the node.
		return fmt.Errorf("worker of application %s: connection to the node: %w", a.name, err)
	}
	return nil
}

// Serve opens the HTTP ingress on an address such as "127.0.0.1:8000", where port 0 picks one, or "unix:/run/helve.sock". It returns the
// URL. failed receives the error of a listener that ends by itself. A system that is closing, or closed, serves no more: an error.
func (s *System) Serve(addr string) (url string, failed <-chan error, err error) {
	l, err := listen.Open(addr)
	if err != nil {
		return "", nil, err
	}
	if url, failed, err = s.node.Serve(l); err != nil {
		l.Close()
	}
	return url, failed, err
}

// ServeListener opens the HTTP ingress on a listener of the program, for example one of systemd or a test. Its clients speak TLS
// by the configuration secure, and without TLS if that is nil; [HTTPOptions].TLS is not for them. A listener of package crypto/tls is an
// error: the node has to see the connection below, so give the listener under it, and the configuration here. The system closes l,
// unless an error is returned.
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
	return s.node.ServeTLS(l, secure)
}

// Handler is the whole ingress, all applications under their prefixes and the paths /-/..., for a server or a router of the program:
//
//	mux.Handle("/models/", http.StripPrefix("/models", system.Handler())) // and [HTTPOptions].RootPath "/models"
//
// The limits of connections, headers and idle time are that server's, which must set them ([http.Server].ReadHeaderTimeout); bodies, memory,
// request and stall times are limited as on a listener of the system. Close the server before the system, or requests that come later
// are answered with 503.
func (s *System) Handler() http.Handler { return s.node.Handler() }

// URLs are the URLs of all addresses on which the ingress is open.
func (s *System) URLs() []string { return s.node.URLs() }

// ReloadCertificate reads the files of [HTTPOptions].TLS now instead of within 5 s. If they are not valid it returns an error, and the
// certificate before stays in use. Without TLS it does nothing.
func (s *System) ReloadCertificate() error { return s.node.ReloadCertificate() }

// Status returns a copy of the present state of applications, deployments and replicas.
func (s *System) Status() helvetype.Status { return s.node.Status() }

// Close drains: HTTP first, then the calls under way, then replicas and workers. When ctx ends, the rest is killed.
func (s *System) Close(ctx context.Context) error { return s.node.Close(ctx) }

// Ingress is a handle to the ingress deployment of an application, for [MethodNamed]; "" is the ingress method there.
func (s *System) Ingress(app string) (AnyHandle, error) {
	name, _, _, ok := s.node.Ingress(app)
	if !ok {
		return nil, publicError(s.node.Missing(app))
	}
	return HandleOf[any](s, app, name)
}

// HandleOf is a handle to a deployment of a running application, for code outside of replicas.
func HandleOf[R any](s *System, app, name string) (Handle[R], error) {
	s.mu.Lock()
	a := s.apps[app]
	s.mu.Unlock()
	var d *deployment
	if a != nil && s.node.Deployment(app, name) != nil {
		d = a.find(name)
	}
	if d == nil {
		e := unknownDeployment(app, name, nil)
		if why := s.node.Absent(app, name); why != nil {
			e.Message = why.Error()
		}
		return Handle[R]{}, public(e)
	}
	return handleTo[R](d)
}

// unknownDeployment returns the error for a name that no deployment has. It lists the deployments of a.
func unknownDeployment(app, name string, a *App) *call.Error {
	e := &call.Error{Code: call.Unavailable, Reason: call.DeploymentUnavailable, App: app, Deployment: name,
		Message: fmt.Sprintf("no deployment %q in application %q", name, app)}
	if a != nil {
		var names []string
		for _, d := range a.deployments {
			names = append(names, d.name)
		}
		e.Message += "; it has " + strings.Join(names, ", ")
	}
	return e
}

// HandleFrom is a handle to another deployment of the application whose method or constructor received ctx. A handle that
// is bound when the graph is built is better: the graph knows it. This one is noted as a dynamic use in [System.Status].
func HandleFrom[R any](ctx context.Context, name string) (Handle[R], error) {
	app, from := callerOf(ctx)
	if app == nil {
		return Handle[R]{}, public(call.NewError(call.BadInput, "HandleFrom: the context is not one that a method or constructor received; use HandleOf"))
	}
	d := app.find(name)
	if d == nil {
		return Handle[R]{}, public(unknownDeployment(app.name, name, app))
	}
	app.noteUse(from, name)
	return handleTo[R](d)
}

// callerOf is the deployment whose method or constructor received ctx, and its application; nil outside of both.
func callerOf(ctx context.Context) (*App, string) {
	if i := call.InfoFrom(ctx); i != nil && i.Place != nil {
		app, _ := i.Home.(*App)
		return app, i.Deployment
	}
	if s := instance.ScopeFrom(ctx); s != nil {
		app, _ := s.Home.(*App)
		return app, s.Deployment
	}
	return nil, ""
}

var theCodec = codec.New() //nolint:gochecknoglobals // a cache of type plans, the same for every system
