package helve

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/system"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Version is the version of this module, in the spelling of Python packages: `helve.__version__` of the Python package is the same.
const Version = "0.1.0.dev0"

// Build makes an application. It is called in the node and again in every worker, so it must be deterministic and have
// no side effects.
type Build = func() (*App, error)

// Config has the settings of a system. [Run] uses the zero Config.
type Config struct {
	// Logger receives the node's log and the output of workers. If it is nil, warnings and errors go to the slog.Default of the
	// moment when Run is called. A logger with slog.DiscardHandler turns the log off.
	Logger *slog.Logger
	// Isolation overrides the isolation of every Go deployment; "" leaves each its own.
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
	// AccessLog gets a line per HTTP request to an application: time, client, method, route, status, duration, request id, bytes of the
	// body, application and replica ([HTTPOptions].AccessLogFormat). It is called by one goroutine at a time, with one or more whole lines, and must not keep
	// them. The first line after a pause comes at once, others wait up to 100 ms for each other; Close writes the lines that wait. Requests wait for
	// a writer that has fallen behind by 64 KiB. nil: there is no access log.
	AccessLog io.Writer
	// LogDir is a directory, made if need be, in which every worker gets a log file: replica_<app>_<replica>.log of a
	// Python replica, worker_<app>_<number>.log of a Go worker, which may host several. A file is renamed at 16 MiB, to .1 and
	// so on to .3; the files of at most 16 workers that have ended are kept per deployment. "" for none.
	LogDir string
	// LogMemory is how many bytes of memory the newest lines of the node and of all replicas may take, which helve logs shows: 1 MiB or more. 0 is 8 MiB.
	LogMemory int64
	// LogMemoryPerDeployment is the part of it that one deployment may take: 64 KiB or more. 0 is a quarter of LogMemory. One replica may take an eighth of it.
	LogMemoryPerDeployment int64
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
	// Metrics makes the handler of GET /metrics of the admin interface: metrics.Handler of package helve/metrics. nil: there are no
	// metrics, and Prometheus' library is not linked. Package cli sets it by itself.
	Metrics func(MetricsSource) http.Handler
	// Tracing says which requests are sampled, and where their spans go.
	Tracing Tracing
	// OutOfLine runs the methods of Call and Stream.Call on goroutines of their own too.
	OutOfLine bool
}

// MetricsSource has the numbers of a node, in a form for package helve/metrics alone. A *[System] is one.
type MetricsSource interface {
	// Metrics are the numbers of the node now.
	Metrics() telemetry.Snapshot
}

// System is a running node with its applications: of this process ([Run]), or of another one ([Connect]). It is safe for concurrent use.
type System struct{ s system.Running }

// Run builds the application, starts it in this process, and returns when every replica is ready. ctx bounds the start
// and nothing else: [System.Close] ends the system. The first failure of a constructor ends the start with its error.
//
// In a worker that a node started, Run takes over and never returns.
func Run(ctx context.Context, build Build) (*System, error) { return Config{}.Run(ctx, build) }

// Run is the function [Run] with a configuration. Mistakes in the configuration and in the graph, and an address that is in
// use, are found before anything starts: no constructor runs, no directory is made, and no worker of a former node is touched.
func (c Config) Run(ctx context.Context, build Build) (*System, error) {
	WorkerMain(build)
	s, err := system.Config{
		Version: Version, Public: publicError, Logger: logs.OrDefault(c.Logger), Isolation: spec.Isolation(c.Isolation), Output: c.Output, HTTP: c.HTTP,
		HTTPLimits: c.HTTPLimits.limits(), HTTPOptions: c.HTTPOptions.options(), AccessLog: c.AccessLog,
		AccessLogFormat: c.HTTPOptions.AccessLogFormat, LogDir: c.LogDir, LogMemory: logs.Budgets{Node: c.LogMemory, Deployment: c.LogMemoryPerDeployment}, StrictCodec: c.StrictCodec, StateDir: c.StateDir,
		WorkerGrace: c.WorkerGrace, ArenaSize: c.ArenaSize, ReferenceLimit: c.ReferenceLimit, MaxBody: c.MaxBody, Admin: c.Admin,
		Tracing: c.Tracing.settings(), OutOfLine: c.OutOfLine, Metrics: c.metrics(), Others: others(ctx),
	}.Run(ctx, untypedBuild(build))
	if err != nil {
		return nil, err
	}
	return &System{s}, nil
}

// metrics is c.Metrics for a node.
func (c Config) metrics() func(admin.Node) http.Handler {
	if c.Metrics == nil {
		return nil
	}
	return func(n admin.Node) http.Handler { return c.Metrics(n) }
}

// others are the applications that the executable of a durable node has beside the one of [Config.Run].
func others(ctx context.Context) (all []system.Build) {
	if d := node.DurableFrom(ctx); d != nil {
		for _, b := range d.Others {
			if build, ok := b.(Build); ok {
				all = append(all, untypedBuild(build))
			}
		}
	}
	return all
}

// untypedBuild is a Build as the packages below this one know it.
func untypedBuild(build Build) system.Build {
	if build == nil {
		return nil
	}
	return func() (*graph.App, error) {
		app, err := build()
		if app == nil {
			return nil, err
		}
		return &app.g, err
	}
}

// HTTP is the URL of the ingress that [Config].HTTP opened, and the channel that receives the error of a listener that ends by
// itself; "" and nil without. Of several addresses it is the first, and [System.URLs] has all. A unix socket has "unix:" and its path.
func (s *System) HTTP() (url string, failed <-chan error) { return s.s.Opened() }

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
func (s *System) Deploy(ctx context.Context, build Build) error {
	return s.s.Deploy(ctx, untypedBuild(build))
}

// Delete drains an application and stops its replicas. A [System.Deploy] of its name waits until it is gone.
func (s *System) Delete(ctx context.Context, app string) error {
	return publicError(s.s.Delete(ctx, app))
}

// Rollback deploys an application again as it was at a revision: the first [System.Deploy] of a name makes revision 1, and each later one the next.
// Revision 0 is the one that ran before the present one. The numbers of replicas stay as they are, and the roll-back is a revision of its own. The
// code of the ten newest revisions is kept.
func (s *System) Rollback(ctx context.Context, app string, revision int) error {
	return s.s.Rollback(ctx, app, revision)
}

// Reconfigure gives a deployment another user config: every replica that runs, and those that start later. config is
// anything that encodes as JSON. If a replica refuses it, all get their former config again, which stays in use, also for replicas
// that start later; the errors of the replicas that refused are joined, and equal ones stand once. When ctx ends first the config
// is withdrawn. While no replica runs, the first that starts with it decides.
func (s *System) Reconfigure(ctx context.Context, app, deployment string, config any) error {
	b, err := graph.Codec.Append(nil, call.JSON, config)
	if err != nil {
		return fmt.Errorf("user_config: %w", err)
	}
	return publicError(s.s.Reconfigure(ctx, app, deployment, b))
}

// Scale sets the number of replicas of a deployment, 0 or more. It returns when the number is what the system aims at; the replicas
// follow, and [System.Status] shows how far they are (Wanted, Replicas). No call is lost: a replica that is too many finishes its
// calls first, within GracefulShutdownTimeout, and calls of a deployment without replicas wait. The youngest replicas go first.
//
// The number stays over a later [System.Deploy], unless that changes NumReplicas. For example, a deployment with NumReplicas 2 is
// scaled to 5: a deploy with NumReplicas 2 leaves 5 replicas, and a deploy with NumReplicas 3 sets 3.
func (s *System) Scale(ctx context.Context, app, deployment string, n int) error {
	return publicError(s.s.Scale(ctx, app, deployment, n, "program", "System.Scale"))
}

// WorkerMain takes over in a process that a node started as a worker, and never returns there; in every other process
// it does nothing. Programs that build several applications call it first in main; [Run] calls it for its own.
func WorkerMain(builds ...Build) {
	untyped := make([]system.Build, len(builds))
	for i, b := range builds {
		untyped[i] = untypedBuild(b)
	}
	system.WorkerMain(Version, untyped...)
}

// Serve opens the HTTP ingress on an address such as "127.0.0.1:8000", where port 0 picks one, or "unix:/run/helve.sock". It returns the
// URL. failed receives the error of a listener that ends by itself. A system that is closing, or closed, serves no more: an error.
func (s *System) Serve(addr string) (url string, failed <-chan error, err error) {
	return s.s.Serve(addr)
}

// ServeListener opens the HTTP ingress on a listener of the program, for example one of systemd or a test. Its clients speak TLS
// by the configuration secure, and without TLS if that is nil; [HTTPOptions].TLS is not for them. A listener of package crypto/tls is an
// error: the node has to see the connection below, so give the listener under it, and the configuration here. The system closes l,
// unless an error is returned.
func (s *System) ServeListener(l net.Listener, secure *tls.Config) (url string, failed <-chan error, err error) {
	return s.s.ServeListener(l, secure)
}

// Handler is the whole ingress, all applications under their prefixes and the paths /-/..., for a server or a router of the program:
//
//	mux.Handle("/models/", http.StripPrefix("/models", system.Handler())) // and [HTTPOptions].RootPath "/models"
//
// The limits of connections, headers and idle time are that server's, which must set them ([http.Server].ReadHeaderTimeout); bodies, memory,
// request and stall times are limited as on a listener of the system. The end is in this order: [System.StartDrain], then Shutdown of that server, then
// [System.Close]. Streams that watch [Draining] keep a server open that is shut down without the first, and requests that come after the
// last are answered with 503.
func (s *System) Handler() http.Handler { return s.s.Handler() }

// URLs are the URLs of all addresses on which the ingress is open.
func (s *System) URLs() []string { return s.s.URLs() }

// ReloadCertificate reads the files of [HTTPOptions].TLS now instead of within 5 s. If they are not valid it returns an error, and the
// certificate before stays in use. Without TLS it does nothing.
func (s *System) ReloadCertificate() error { return s.s.ReloadCertificate() }

// AdminURL is the URL of the admin interface on the TCP address in [Config].Admin; "" without one.
func (s *System) AdminURL() string { return s.s.AdminURL() }

// Metrics are the numbers of the node now, for the handler of package helve/metrics.
func (s *System) Metrics() telemetry.Snapshot { return s.s.Metrics() }

// Status returns a copy of the present state of applications, deployments and replicas.
func (s *System) Status() helvetype.Status { return s.s.Status() }

// StartDrain begins the drain of [System.Close] without closing anything, for programs that have a server of their own ([System.Handler]): health
// says no, the channels of [Draining] are closed, and answers say that their connection ends, while requests are served as before. It
// returns after [HTTPOptions].DrainDelay, or when ctx has ended; Close does not wait for that time again.
func (s *System) StartDrain(ctx context.Context) { s.s.StartDrain(ctx) }

// Close drains: HTTP first, then the calls under way, then replicas and workers. When ctx ends, the rest is killed.
// The error names what did not finish: the calls that were cut off after their GracefulShutdownTimeout, or when ctx ended.
func (s *System) Close(ctx context.Context) error { return s.s.Close(ctx) }

// Ingress is a handle to the ingress deployment of an application, for [MethodNamed]; "" is the ingress method there.
func (s *System) Ingress(app string) (AnyHandle, error) {
	name, err := s.s.Entry(app)
	if err != nil {
		return nil, publicError(err)
	}
	return HandleOf[any](s, app, name)
}

// HandleOf is a handle to a deployment of a running application, for code outside of replicas.
func HandleOf[R any](s *System, app, name string) (Handle[R], error) {
	d, e := s.s.Find(app, name)
	if e != nil {
		return Handle[R]{}, public(e)
	}
	return handleTo[R](d)
}

// handleTo checks that R fits a deployment that was found by name.
func handleTo[R any](d *graph.Deployment) (Handle[R], error) {
	if err := d.Misfit(reflect.TypeFor[R]()); err != nil {
		return Handle[R]{}, err
	}
	return Handle[R]{d: d}, nil
}

// HandleFrom is a handle to another deployment of the application whose method or constructor received ctx. A handle that
// is bound when the graph is built is better: the graph knows it. This one is noted as a dynamic use in [System.Status].
func HandleFrom[R any](ctx context.Context, name string) (Handle[R], error) {
	app, from := client.Caller(ctx)
	if app == nil {
		return Handle[R]{}, public(call.NewError(helvetype.ReasonBadInput, "HandleFrom: the context is not one that a method or constructor received; use HandleOf"))
	}
	d := app.Find(name)
	if d == nil {
		return Handle[R]{}, public(graph.Unknown(app.Name, name, app))
	}
	app.NoteUse(from, name)
	return handleTo[R](d)
}
