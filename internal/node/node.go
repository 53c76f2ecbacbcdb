// Package node assembles one process that owns replicas: routers and gates, workers, the planner that says what should
// run, and the HTTP proxy. It is level-triggered: Deploy and Delete change the target, and one loop makes what runs
// equal to it.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// Program is how a Go worker of this program is started: the same executable, arguments, environment and directory.
type Program struct {
	Path string
	Args []string
	Env  []string
	Dir  string
}

// Settings are what code passes to [New].
type Settings struct {
	Logger  *slog.Logger
	Version string
	Program Program
	// Output gets what workers print, line by line, behind the name of the worker. nil: it goes to the log.
	Output io.Writer
	// Logs gets a file per worker. May be nil.
	Logs *logs.Dir
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
	// HTTP bounds what clients of the ingress may hold of the node.
	HTTP proxy.Limits
	// Pair makes the connections to workers of [App].Host: the worker's end and the node's.
	Pair func() (net.Conn, net.Conn, error)
	// Metrics makes the handler of GET /metrics. nil: there is none.
	Metrics func(admin.Node) http.Handler
}

// App is an application to deploy.
type App struct {
	Graph   spec.Graph
	Classes map[string]*instance.Class // the Go deployments, by name
	Python  Python                     // where the Python deployments come from
	// Bound is told each deployment before anything starts, so that handles lead somewhere when constructors run. May be nil.
	Bound func(name string, d *Deployment)
	// Policies make the routing policies that the deployments' own code brings, anew for every Deploy.
	Policies map[string]func() router.Policy
	policies map[string]router.Policy
	Home     any // goes into the places of calls that the node makes itself, for handles of their methods
	// Program starts the Go worker of an application that lives in another executable; nil for the node's own.
	Program *Program
	// Host is a Go worker on a goroutine of this process, for tests: it opens its connections with dial, as the worker id,
	// and returns when they or ctx have ended. nil starts a process.
	Host Host
	// Replace says that an application of this name that runs already changes to this one.
	Replace bool
	build   *build.Build // set by [Load] until the executable is kept
	// Retry says that failed starts are made again, as often as the reference does, before Deploy fails.
	Retry bool
	// RetryStated is Retry for the deployments alone that state how often (max_constructor_retry_count).
	RetryStated bool
}

// Host runs what a worker process would run: see [App].
type Host func(ctx context.Context, id string, token wire.Token, dial func() (net.Conn, error)) error

// Python says how the Python workers of an application are started, and where their code is.
type Python struct {
	Interpreter string
	SysPath     []string // the driver's sys.path, which workers have too
	Last        []string // directories in which modules are found that are nowhere else
	Dir         string
	Env         map[string]string
	Blob        []byte                   // one cloudpickle of all deployments, from a driver
	Code        map[string]protocol.Code // or the code of each deployment
}

// Node owns replicas. Its methods may be called from any goroutine.
type Node struct {
	log     *slog.Logger
	id      string
	set     Settings
	keeping keeping
	codec   *codec.Codec
	proxy   *proxy.Proxy

	ctx  context.Context // ends when the node closes
	stop context.CancelCauseFunc
	kick chan struct{}
	wg   sync.WaitGroup // loop, replica starts and stops, connections

	mu       sync.Mutex
	apps     map[string]*app
	workers  map[string]*workerProc // by worker id, from spawn to reaped
	spawner  *worker.Spawner        // made with the first worker
	socket   *worker.Listener
	openings []net.Conn // connections in their opening, the oldest first
	nextID   uint64
	state    state
	url      string
	closing  bool
	admin    *admin.Server // nil without
	adminURL string
	events   *telemetry.Events
	noted    transitions
	cpusTold atomic.Bool   // it was logged that CPU time is not limited
	printing sync.Mutex    // one line of Output at a time
	changed  chan struct{} // closed when a replica is gone; nil while nobody waits
	readier  chan struct{} // closed when a replica is ready; nil while nobody waits
}

type app struct {
	node        *Node
	ctx         context.Context // ends when the application failed to start or is gone: starts under way are given up
	cancel      context.CancelCauseFunc
	name        string
	deployments map[string]*Deployment
	revisions   int       // so far
	current     *revision // what runs, or should
	previous    *revision // what a change began from; nil while there is none
	status      helvetype.ApplicationState
	message     string
	deleted     bool
	left        context.Context // of one that is deleted: the time that its replicas have to finish
	failure     error           // why the first revision failed to start
	memory      *memory         // shared with its workers; nil until the first, or for good
	since       time.Time
	gone        chan struct{} // closed when nothing of it is left
}

// New starts an empty node. Close it.
func New(s Settings) *Node {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	n := &Node{
		log: s.Logger, id: "local", set: s, codec: codec.New(), ctx: ctx, stop: stop, kick: make(chan struct{}, 1),
		apps: map[string]*app{}, workers: map[string]*workerProc{}, state: state{kick: make(chan struct{}, 1)},
	}
	n.events = telemetry.NewEvents(n.eventFile())
	if n.keeping.most = s.ReferenceLimit; n.keeping.most == 0 {
		n.keeping.most = keptBytes
	}
	n.proxy = proxy.New(proxy.Settings{Logger: s.Logger, AccessLog: s.AccessLog, Limits: s.HTTP, Apps: n.readiness})
	n.wg.Go(n.loop)
	return n
}

// Deploy starts an application and waits until every replica is ready. The first failure of a constructor, worker or
// import ends it with that error, and nothing of the application stays behind.
//
// An application that is there already changes to the new revision, if def says so: new replicas start beside the old, each that is ready lets an old
// one drain, and calls that wait go on waiting in the same queues. If a deployment of the new revision cannot start, the
// old one stays, and Deploy gives the error.
func (n *Node) Deploy(ctx context.Context, def App) error {
	if err := n.set.Check(&def); err != nil {
		return err
	}
	if err := n.keep(&def); err != nil {
		return err
	}
	if ctx.Err() != nil { // replicas that are quick would else be ready before the select below looks at ctx
		return call.EndOf(ctx)
	}
	r, err := n.add(ctx, def)
	if err != nil {
		return err
	}
	a := r.app
	select {
	case <-r.settled:
	case <-ctx.Done():
		why := call.EndOf(ctx) // it may run methods of the user's error: not under the lock
		n.mu.Lock()
		n.failLocked(r, why)
		n.mu.Unlock()
		<-r.settled
	}
	n.mu.Lock()
	err = r.failure
	failed, deleted, now := err != nil, a.status == helvetype.ApplicationDeleting, a.current.number
	n.mu.Unlock()
	if err == nil {
		if err = errors.Join(n.publish(), n.save()); err == nil {
			return nil
		}
	}
	switch {
	case !r.first && !failed:
		return fmt.Errorf("application %s has changed to revision %d all the same: %w", a.name, r.number, err)
	case !r.first:
		if deleted { // whoever deletes it waits for its end
			return err
		}
		return fmt.Errorf("application %s stays at revision %d: %w", a.name, now, err)
	}
	ctx = context.WithoutCancel(ctx)
	n.remove(ctx, ctx, a) //nolint:errcheck // nothing of it was ever called
	return err
}

// add makes def what should run. One of its name that is being deleted has its time to drain first.
func (n *Node) add(ctx context.Context, def App) (*revision, error) {
	for {
		n.mu.Lock()
		r, leaving, err := n.addLocked(def)
		n.mu.Unlock()
		if leaving == nil {
			return r, err
		}
		select {
		case <-leaving.gone:
		case <-ctx.Done():
			return nil, fmt.Errorf("application %q is being deleted, and was not gone in time: %w", leaving.name, call.EndOf(ctx))
		}
	}
}

// addLocked gives the application of the name that is to be gone first, if there is one.
func (n *Node) addLocked(def App) (_ *revision, leaving *app, _ error) {
	g := def.Graph
	if n.closing {
		return nil, nil, errors.New("the node is closing")
	}
	there := n.apps[g.App]
	switch {
	case there == nil:
	case there.status == helvetype.ApplicationDeleting || there.failure != nil:
		return nil, there, nil
	case !def.Replace:
		return nil, nil, fmt.Errorf("application %q is deployed already: delete it first", g.App)
	case there.status == helvetype.ApplicationDeploying:
		return nil, nil, fmt.Errorf("application %q is being deployed; wait until that is over", g.App)
	}
	if err := n.unroutableLocked(there, g); err != nil {
		return nil, nil, err
	}
	a := there
	if a == nil {
		a = &app{node: n, name: g.App, deployments: map[string]*Deployment{}, gone: make(chan struct{})}
		a.ctx, a.cancel = context.WithCancelCause(n.ctx)
		n.apps[a.name] = a
	}
	if was, ok := n.state.apps[a.name]; ok { // revisions are counted on
		a.revisions = was.Revision
		if was.Identity == def.identity(n.set.Program) {
			a.revisions--
		}
	}
	r := a.newRevision(def)
	r.first = there == nil
	a.adoptLocked(r)
	n.claimLocked(r)
	n.wake()
	return r, nil, nil
}

// unroutableLocked is why the routes of g cannot be served beside those of the other applications; nil if they can. An application
// that changes has those of both its revisions: it may go back. One that is being deleted has none any more.
func (n *Node) unroutableLocked(there *app, g spec.Graph) error {
	if g.RoutePrefix == "" {
		return nil
	}
	for _, other := range n.apps {
		if other == there || other.status == helvetype.ApplicationDeleting || other.failure != nil {
			continue
		}
		taken := other.current.def.Graph.RoutePrefix == g.RoutePrefix
		if p := other.previous; p != nil {
			taken = taken || p.def.Graph.RoutePrefix == g.RoutePrefix
		}
		if taken {
			return fmt.Errorf("application %q: route_prefix %q belongs to application %q", g.App, g.RoutePrefix, other.name)
		}
	}
	return nil
}

// Deployment finds a deployment that is there now, nil if there is none.
func (n *Node) Deployment(app, name string) *Deployment {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.apps[app]; a != nil && !a.deleted {
		return a.deployments[name]
	}
	return nil
}

// Down says that the deployment refuses all calls: it is gone, or failed to start.
func (d *Deployment) Down() bool { return d.down.Load() != nil }

// Successor is the deployment of the same name that is there now, nil if there is no other.
func (d *Deployment) Successor() *Deployment {
	if next := d.app.node.Deployment(d.app.name, d.name); next != d {
		return next
	}
	return nil
}

// Home is what finds the application in the program's own terms.
func (d *Deployment) Home() any { return d.now.Load().def.Home }

// Ingress is the name of an application's ingress deployment and method.
func (n *Node) Ingress(app string) (deployment, method string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.apps[app]
	if a == nil || a.deleted || a.current.def.Graph.Ingress == nil {
		return "", "", false
	}
	in := a.current.def.Graph.Ingress
	return in.Deployment, in.Method, true
}

// Delete drains an application and stops its replicas.
func (n *Node) Delete(ctx context.Context, name string) error {
	n.mu.Lock()
	a := n.apps[name]
	if a == nil {
		err := n.missingLocked(name)
		n.mu.Unlock()
		return err
	}
	grace := a.graceLocked()
	n.mu.Unlock()
	draining, cancel := context.WithTimeoutCause(ctx, grace, errGrace)
	defer cancel()
	if cut := n.remove(ctx, draining, a); cut != nil {
		n.log.Warn("calls were cut off", "app", name, "error", cut)
	}
	return n.publish()
}

// remove drains: what is queued or runs is answered, until draining ends. The error says what was not.
func (n *Node) remove(ctx, draining context.Context, a *app) (cut error) {
	n.mu.Lock()
	failed := a.failure != nil
	if a.status == helvetype.ApplicationDeploying && !failed { // it will not settle any more, and somebody waits for that
		a.current.failure = fmt.Errorf("application %s was deleted before it was ready", a.name)
		close(a.current.settled)
	}
	a.status = helvetype.ApplicationDeleting
	all := slices.Collect(maps.Values(a.deployments))
	for _, d := range all {
		for _, u := range d.units {
			u.recall(true)
		}
	}
	n.mu.Unlock()
	n.publish() //nolint:errcheck // fewer routes cannot collide
	if !failed {
		cut = drain(draining, all)
	}
	gone := call.NewError(call.DeploymentUnavailable, "application "+a.name+" was deleted")
	a.cancel(gone)
	n.mu.Lock()
	a.deleted, a.left = true, draining
	for _, d := range a.deployments {
		d.down.Store(gone)
	}
	n.wake()
	n.mu.Unlock()
	for _, d := range all {
		d.Router.Close(gone)
	}
	for { // the loop stops the units, each of which wakes it again
		n.mu.Lock()
		left := 0
		for _, d := range a.deployments {
			left += len(d.units)
		}
		changed := n.changedLocked()
		if left == 0 {
			var left []*workerProc
			for _, w := range n.workers {
				if w.app == a && w.rev.goWorker == w {
					left = append(left, w)
				}
			}
			n.mu.Unlock()
			for _, w := range left {
				w.end(ctx)
			}
			n.mu.Lock()
			m := a.memory
			n.mu.Unlock()
			m.close()
			n.mu.Lock()
			if n.apps[a.name] == a {
				delete(n.apps, a.name)
				close(a.gone)
				n.wake()
			}
			n.mu.Unlock()
			return cut
		}
		n.mu.Unlock()
		<-changed
	}
}

// drain waits until nothing waits or runs at the deployments. It looks every 2 ms: a gate that told would pay on every
// release for something that happens once in a deployment's life.
func drain(ctx context.Context, ds []*Deployment) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		busy := 0
		for _, d := range ds {
			busy += d.busy()
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			var cut []error
			for _, d := range ds {
				e := d.unfinished()
				if e == "" {
					continue
				}
				why := fmt.Sprintf("its %s (graceful_shutdown_timeout_s %g)", ErrUnfinished, d.now.Load().options.GracefulShutdownTimeout.Seconds())
				if cause := call.EndOf(ctx); !errors.Is(cause, errGrace) {
					why = fmt.Sprintf("it was cut off (%s)", cause)
				}
				cut = append(cut, unfinishedError(fmt.Sprintf("%s/%s: %s when %s", d.app.name, d.name, e, why)))
			}
			return errors.Join(cut...)
		}
	}
}

// ErrUnfinished is in the error of [Node.Close] if calls were cut off.
var ErrUnfinished = errors.New("time to finish was over")

// unfinishedError is an ErrUnfinished that says why: the time was over, or the end was asked for before.
type unfinishedError string

func (e unfinishedError) Error() string        { return string(e) }
func (e unfinishedError) Is(target error) bool { return target == ErrUnfinished }

// errGrace is why a drain ends whose time is over.
var errGrace = errors.New("graceful_shutdown_timeout_s is over")

// graceLocked is how long its calls have to finish.
func (a *app) graceLocked() (grace time.Duration) {
	for _, d := range a.deployments {
		grace = max(grace, d.now.Load().options.GracefulShutdownTimeout)
	}
	return grace
}

// Serve opens the HTTP ingress. The error of a listener that ends by itself arrives on the channel.
// A node that is closing takes no more: it gives an error and leaves l alone.
func (n *Node) Serve(l net.Listener) (url string, failed <-chan error, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return "", nil, errors.New("the node is closing")
	}
	n.url = "http://" + l.Addr().String()
	c := make(chan error, 1)
	n.wg.Go(func() {
		if err := n.proxy.Serve(l); err != nil {
			c <- err
		}
	})
	return n.url, c, nil
}

// Close drains: what came by HTTP and what else runs, as long as the applications' graceful shutdown timeouts say, then the
// replicas, then the workers. ctx bounds the whole; when it ends, what is left is killed. No child survives it. The error
// names what did not finish.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return nil
	}
	n.closing = true
	apps := slices.Collect(maps.Values(n.apps))
	grace := time.Duration(0)
	for _, a := range apps {
		grace = max(grace, a.graceLocked())
	}
	n.mu.Unlock()
	draining, cancel := context.WithTimeoutCause(ctx, grace, errGrace) // one time for both: requests are calls
	defer cancel()
	n.proxy.Drain(draining) //nolint:errcheck // what is cut off then are calls, which are named below
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, a := range apps {
		wg.Go(func() { errs[i] = n.remove(ctx, draining, a) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	n.mu.Lock()
	n.noteLocked()
	n.mu.Unlock()
	n.closeAdmin()
	n.stop(errors.New("the node has closed"))
	n.mu.Lock()
	left := slices.Collect(maps.Values(n.workers))
	socket, spawner := n.socket, n.spawner
	for _, nc := range n.openings {
		nc.Close()
	}
	n.mu.Unlock()
	for _, w := range left {
		if w.proc != nil {
			w.proc.Kill()
		}
	}
	if socket != nil {
		socket.Close()
	}
	n.wg.Wait()
	if spawner != nil {
		spawner.Close()
	}
	n.forget()
	return err
}
