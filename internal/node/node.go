// Package node assembles one process that owns replicas: the controller, which decides what runs, the workers, the sessions of
// connected workers and drivers, the HTTP ingress and the admin interface.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/access"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/audit"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/controller"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/history"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/restore"
	"github.com/helve-serve/helve/internal/scaler"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/session"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/disk"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/usage"
	"github.com/helve-serve/helve/internal/worker"
)

// Settings are the arguments of [New].
type Settings struct {
	Logger  *slog.Logger
	Version string
	Program host.Program // of the Go workers of this executable
	// Output gets the lines that workers print, behind the name of the worker. nil: they go to the log.
	Output io.Writer
	// Logs gets a file per worker. May be nil.
	Logs *logs.Dir
	// LogMemory is how much memory the newest lines may take.
	LogMemory logs.Budgets
	// Strict is the codec that every call in this process passes through, although it need not; None for none.
	Strict call.Codec
	// OutOfLine says that no method runs on its caller's goroutine.
	OutOfLine bool
	// ArenaSize is how many bytes of shared memory the workers of one application may have for large values; 0 for
	// 1 GiB, less than 0 for none. ReferenceLimit is how many bytes of results are kept for callers; 0 for 256 MiB.
	ArenaSize, ReferenceLimit int64
	// MaxBody is the largest body that the node and its workers take, in bytes; 0 for the default.
	MaxBody int
	// AccessLog gets a line per HTTP request to an application. nil: there is no access log.
	AccessLog io.Writer
	// Tracing says where spans go, and of how many requests, without a tracing_config. The variables of OpenTelemetry in Program.Env are below it.
	Tracing otlp.Settings
	// HTTP bounds the resources that clients of the ingress may hold.
	HTTP clients.Limits
	// HTTPOptions are the other settings of the ingress, checked. Certificate is that of their files; nil without TLS.
	HTTPOptions proxy.Options
	Certificate *listen.Certificate
	// Pair makes the connections to workers that an application's Runner runs: the worker's end and the node's.
	Pair func() (net.Conn, net.Conn, error)
	// Metrics makes the handler of GET /metrics. nil: there is none.
	Metrics func(admin.Node) http.Handler
	// Durable says that applications outlive the node, in the directory of [Node.UseState]: it keeps the code of programs too.
	Durable bool
	// Store and Blobs have the records of applications, and what is too large for these, and outlive a durable node: see [Node.Restore]. nil: they are in
	// memory. Own gives the applications of this executable, whose code no store has; nil for none.
	Store store.Store
	Blobs store.Blobs
	Own   restore.Own
	// Starter starts the workers of a durable node: its keeper, see [Durable]. nil for this process.
	Starter worker.Starter
	// Beside says that another node serves, which hands over to this one: requests wait here until the applications have started.
	Beside bool
	// Host replaces the host of a deployment, for tests: see [controller.Settings].
	Host func(d *host.Deployment) host.Host
}

// Node owns replicas. Its methods may be called from any goroutine.
type Node struct {
	*controller.Controller
	set       Settings
	log       *slog.Logger
	level     *logs.Level // of log
	workers   *host.Workers
	proxy     *proxy.Proxy
	usage     usage.Meter
	observed  observed // for pages that show the node
	results   *session.Results
	events    *telemetry.Events
	user      *telemetry.UserMetrics
	trace     *trace.Recorder
	access    *access.Kept // nil without an access log
	spans     *otlp.Exporter
	state     string // the state directory; "" without
	connected peers  // drivers

	failed   failedDeploys // that have changed nothing
	restorer *restore.Restorer
	scaler   *scaler.Scaler
	operator *control.Operator
	history  *history.File // nil without
	lines    *logs.Ring    // the newest lines of workers and of the node itself

	secrets *secret.Resolver              // the values of placeholders
	started atomic.Pointer[proxy.Options] // of the command or the driver that opened the ingress; files of applications change others

	ctx  context.Context // ends when the node has closed
	stop context.CancelFunc
	wg   sync.WaitGroup // listeners

	mu         sync.Mutex
	urls       []string            // of the ingress, in the order of their listeners
	everywhere bool                // the first one listens on all addresses of the machine
	secure     *listen.Certificate // nil without TLS
	admin      *admin.Server       // nil without
	adminURL   string
	audit      *audit.Log       // nil without an admin interface
	private    *worker.Private  // nil without
	drivers    *worker.Listener // nil: no driver can attach
	drains     bool             // a drain has begun
	owners     control.Owners
	claims     claim.Claims
	next       *successor   // of a node that hands over (handover.go); nil for others
	former     *http.Server // for requests that the node before passes on; nil without
	closing    bool
	atEnd      func()                    // of Close, nil for none; set before the node is used
	keeper     *helvetype.KeeperSettings // nil for a node without a keeper
	disk       *disk.Store               // nil for a node that keeps its state in memory; as atEnd
}

// name is the id of the node.
const name = "local"

// New starts an empty node. Close it.
func New(s Settings) *Node {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	lines := logs.NewRingOf(s.LogMemory)
	level := new(logs.Level)
	s.Logger = logs.Keep(s.Logger, lines, level)
	n := &Node{set: s, log: s.Logger, level: level, lines: lines, results: session.NewResults(s.ReferenceLimit)}
	n.ctx, n.stop = context.WithCancel(context.Background())
	if err := telemetry.BoundsError(); err != nil {
		n.log.Warn("the usual buckets of latencies are used", "reason", err)
	}
	n.secrets = &secret.Resolver{}
	n.newTracing()
	context.AfterFunc(n.ctx, trace.Enroll(trace.Program{Sink: n.trace, Samples: &n.trace.Sampler}))
	n.events = telemetry.NewEvents(n.eventFile())
	n.user = telemetry.NewUserMetrics(func(why string) { n.log.Warn("metrics of a program are not kept", "reason", why) })
	cd := codec.New()
	if s.AccessLog != nil {
		n.access = new(access.Kept)
		s.AccessLog = io.MultiWriter(n.access, s.AccessLog) // in this order: a writer that fails, as that of a full disk, takes no line from operators
	}
	n.proxy = proxy.New(proxy.Settings{Logger: s.Logger, AccessLog: s.AccessLog, Trace: n.trace, Limits: s.HTTP, Options: s.HTTPOptions, Apps: func() map[string]bool { return n.Readiness() }})
	n.started.Store(&s.HTTPOptions)
	n.workers = host.NewWorkers(host.Settings{
		Secrets: n.secrets, Logger: s.Logger, Codec: cd, Version: s.Version, Node: name, Program: s.Program, Output: s.Output, Logs: s.Logs, Lines: n.lines,
		ArenaSize: s.ArenaSize, MaxBody: s.MaxBody, Pair: s.Pair, Ledger: ledger.New(resources(s)),
		NewSession: func(w *host.Worker, referenceOver int, secondary bool) host.Session {
			return session.New(session.Settings{
				Node: n, Results: n.results, Origin: "worker " + w.ID(), Worker: w, Secondary: secondary, ReferenceOver: referenceOver, Metrics: n.user.Source(), Trace: n.trace,
			})
		},
		Trace: n.trace, Changed: func() { n.Wake() }, AttachDir: func() string { return n.attachDir() }, Starter: s.Starter, Beside: s.Beside, Blob: s.blob(),
	})
	var former func(ctx context.Context, app string, revision int) (deploy.App, error)
	if s.Durable { // the store has the code of revisions; the files that it was deployed from may have changed
		former = func(ctx context.Context, app string, revision int) (deploy.App, error) {
			return n.restorer.Former(ctx, app, revision)
		}
	}
	n.Controller = controller.New(controller.Settings{
		Former: former,
		Store:  s.Store, Blobs: s.Blobs, Durable: s.Durable,
		Logger: s.Logger, Node: name, Codec: cd, Proxy: n.proxy, Workers: n.workers, Program: s.Program,
		Strict: s.Strict, OutOfLine: s.OutOfLine, Trace: n.trace, Events: n.events, Metrics: n.user, Host: s.Host, Lost: func() map[string]string { return n.restorer.Routes() },
		Failed: n.failed.routes,
	})
	n.scaler = scaler.New(scaler.Settings{Fleet: n.Fleet, Target: n.Target(), Log: s.Logger, Scrub: n.secrets.Scrub})
	n.wg.Go(func() { n.scaler.Run(n.ctx) })
	n.trace.OnStall(func(s *trace.Record) {
		if s.Place != nil && s.More != nil {
			n.NoteStall(s.Place.App, s.Place.Deployment, s.Replica, s.Took(), s.More.Name, s.Request.String())
		}
	})
	n.Target().Collected = n.workers.CollectCode
	n.restorer = &restore.Restorer{To: n.Controller, Target: n.Target(), Own: s.Own, Program: s.Program, Log: s.Logger, Changed: n.Publish}
	n.operator = n.newOperator()
	n.useCertificate(s.Certificate)
	n.observe()
	n.wg.Go(n.measure)
	return n
}

// Status is a copy of the present state.
func (n *Node) Status() helvetype.Status {
	s := n.Controller.Status()
	n.addLost(s.Applications)
	n.addFailed(s.Applications)
	if n.usage.Due(time.Now()) {
		n.look(s)
	}
	n.usage.Fill(&s)
	n.workers.Ledger().Fill(&s)
	s.References = n.results.Status()
	if n.HTTP() != "" {
		state := helvetype.ProxyHealthy
		if n.Draining() {
			state = helvetype.ProxyDraining
		}
		s.Proxies = map[string]helvetype.ProxyState{name: state}
	}
	return s
}

// Metrics are the numbers of the node now. No worker is asked.
func (n *Node) Metrics() telemetry.Snapshot {
	s := n.Controller.Metrics()
	n.usage.Measure(&s)
	s.Version, s.HTTP = n.set.Version, n.HTTP()
	s.Requests, s.Ongoing = n.proxy.Counts()
	s.User = n.user.Families()
	s.Serving = n.HTTP() != "" && !n.Draining()
	s.Transitions = n.events.Transitions()
	s.Spans.Sent, s.Spans.Dropped = n.spans.Counts()
	if kept := n.results.Status(); kept != nil {
		s.References = *kept
	}
	if n.disk != nil {
		d := n.disk.Stats()
		s.Disk = &telemetry.Disk{Writes: uint64(d.Writes + d.BlobsPut), Syncs: uint64(d.Syncs + d.BlobSyncs), Failing: n.disk.Failing() != nil}
	}
	return s
}

// Draining says that a drain of the node has begun.
func (n *Node) Draining() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drains
}

// StartDrain begins a drain: the node calls itself unhealthy, the code of all replicas learns of it, and they serve as before. It returns when
// the drain delay is over or ctx has ended. The first call has the delay; all others return at once.
func (n *Node) StartDrain(ctx context.Context) {
	n.mu.Lock()
	again := n.drains
	n.drains = true
	n.mu.Unlock()
	if again {
		return
	}
	n.proxy.Announce() // before handlers ask their clients to connect again, to another node
	n.Drain()
	n.proxy.AwaitDelay(ctx)
}

// Close drains: calls of HTTP clients and other calls, as long as the applications' graceful shutdown timeouts say, then the
// replicas, then the workers. ctx bounds the whole; when it ends, the processes that are left are killed. No child survives it. The error
// names the calls that did not finish. A node that has handed over leaves: see [Node.Leave].
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.next != nil {
		n.mu.Unlock()
		return n.Leave(ctx)
	}
	if n.closing {
		n.mu.Unlock()
		return nil
	}
	n.closing = true
	n.mu.Unlock()
	n.StartDrain(ctx)
	draining, cancel := serving.Draining(ctx, n.Closing()) // one time for both: requests are calls
	defer cancel()
	cut := n.drainHTTP(draining)
	n.scaler.SaveAll(ctx) // while the fleet may still change
	err := n.Controller.Close(ctx, draining)
	if cut != nil {
		err = cut
	}
	n.closeAdmin()
	n.closeFormer()
	n.closeDrivers()
	n.workers.Close(errClosed)
	n.stop()
	n.wg.Wait()
	n.Forget()
	if n.history != nil {
		n.history.Close()
	}
	if n.atEnd != nil {
		n.atEnd()
	}
	return err
}

// drainHTTP lets the requests of HTTP clients finish. If draining ends first it cuts them off, and its error names all calls that were left before
// that: the end of a connection ends the call, so that it would be found nowhere afterwards. For example, a stream without an end in this
// process returns in the same millisecond in which its connection is closed.
func (n *Node) drainHTTP(draining context.Context) (unfinished error) {
	ctx, cut := context.WithCancel(context.WithoutCancel(draining))
	defer cut()
	named := make(chan struct{})
	stop := context.AfterFunc(draining, func() {
		defer close(named)
		defer cut()
		unfinished = n.Unfinished(draining)
		if _, ongoing := n.proxy.Counts(); unfinished == nil && ongoing > 0 {
			unfinished = fmt.Errorf("HTTP: the clients of %d requests were still sending or reading when they were cut off (%w)", ongoing, call.EndOf(draining))
		}
	})
	n.proxy.Drain(ctx) //nolint:errcheck // its error is the end of ctx
	if !stop() {
		<-named
	}
	return unfinished
}

// Done is closed when the node has closed.
func (n *Node) Done() <-chan struct{} { return n.ctx.Done() }

// eventFile writes events, a line of JSON each, to the file events_node.log of the directory for log files; nil without one.
func (n *Node) eventFile() func(helvetype.Event) {
	if n.set.Logs == nil {
		return nil
	}
	file := n.set.Logs.File("events", "node")
	context.AfterFunc(n.ctx, file.Close)
	return func(e helvetype.Event) {
		if b, err := json.Marshal(e); err == nil {
			file.Write(e.Time, slog.LevelInfo, "helve", b)
		}
	}
}

// UseState keeps the node's state in a directory that outlasts it: see [controller.Controller.UseDir]. A durable node has its events there too.
func (n *Node) UseState(dir string, grace time.Duration) (err error) {
	if n.state, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := n.UseDir(dir, grace); err != nil || !n.set.Durable {
		return err
	}
	file, before, err := history.Open(dir, n.log)
	if err != nil { // events are for people: the node goes on
		n.log.Error("the events of the node before are lost", "error", err)
		return nil
	}
	n.history = file
	n.events.Resume(before, file.Add)
	n.failed.resume(before)
	return nil
}
