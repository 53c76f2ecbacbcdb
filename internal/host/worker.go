package host

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/output"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/shm"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// Worker is one child process and the connection to it. Its methods may be called from any goroutine.
type Worker struct {
	workers *Workers
	id      string
	app     *App
	key     string // of the Go worker that it is (see [App]); "" for a Python worker
	token   wire.Token
	graph   *spec.Graph // the application that a Go worker must have built; nil for Python
	proc    *worker.Process
	peer    *wire.Peer

	after time.Duration // without an answer it is unresponsive

	resume *wire.Resume // the replicas that it had when it was taken over; set before opened is closed

	holding placement.Holding // of the replica of a Python worker; without a holder for none

	admitted bool // a connection has proved the token, and is or becomes peer's. Guarded by Workers.mu

	page *telemetry.Page // in which a Go worker counts calls under lent slots; nil: none are lent. Set before its replicas are made

	memory *shm.Share // its part in the application's arena; nil without. Guarded by Workers.mu until opened is closed

	// Guarded by Workers.mu.
	replicas     map[string]*workerReplica // by id
	stuck        *stuck                    // nil while it answers
	constructing *helvetype.Unresponsive   // told while none of its replicas serves: see Process.Constructing
	killReason   string                    // why the node killed it
	described    map[string]bool           // deployments of which a replica was told of its end; "" for any

	out     atomic.Pointer[output.Output] // takes what it prints
	ending  atomic.Bool                   // another goroutine sees to its end
	opened  chan struct{}                 // closed when peer is set
	refused chan error                    // why the opening failed
	stopped chan struct{}                 // closed when the process is reaped and everything on it was answered

	taken     chan struct{}     // closed when it is known what has become of a worker of the node before; nil for others
	takenOver error             // why it is lost; nil if it was taken over
	awaited   map[string]string // of a worker that is taken over: the replicas that it may have, id to deployment. Guarded by Workers.mu
	before    *roster.Worker    // of a worker that is taken over: how the node before has described it
}

// ID names the worker on its node.
func (w *Worker) ID() string { return w.id }

// App is the name of its application.
func (w *Worker) App() string { return w.app.name }

// launchSpec describes the start of a worker.
type launchSpec struct {
	name                string // its output is shown under this name
	deployment, replica string // of a Python worker
	key                 string
	graph               *spec.Graph
	program             Program
	runner              Runner   // of a Go worker on a goroutine of this process; nil starts the program
	extra               []string // environment that nothing overrides
	holding             placement.Holding
	limits              spec.Limits
	after               time.Duration // without an answer it is unresponsive
	construct           time.Duration // the longest time that one of its replicas may take to start
}

// newWorker makes a worker that has no process yet. ws.mu is held.
func (ws *Workers) newWorkerLocked(id string, app *App) *Worker {
	w := &Worker{
		workers: ws, id: id, app: app, replicas: map[string]*workerReplica{}, described: map[string]bool{},
		opened: make(chan struct{}), refused: make(chan error, 1), stopped: make(chan struct{}),
	}
	ws.all[id] = w
	return w
}

// spawn starts a worker and waits until its connection is open.
func (ws *Workers) spawn(ctx context.Context, app *App, of launchSpec) (*Worker, error) {
	ws.mu.Lock()
	if ws.closing {
		ws.mu.Unlock()
		return nil, errors.New("the node is closing")
	}
	run := of.runner
	if run == nil {
		if err := ws.listenLocked(); err != nil {
			ws.mu.Unlock()
			return nil, err
		}
	}
	ws.lastID++
	w := ws.newWorkerLocked(logs.Name(app.name)+"-"+strconv.FormatUint(ws.lastID, 10), app)
	w.token, w.graph, w.after, w.key, w.holding = wire.NewToken(), of.graph, of.after, of.key, of.holding
	ws.mu.Unlock()
	if of.graph != nil {
		w.page = ws.newPage(run != nil)
	}
	limits := worker.Limits{MemoryBytes: of.limits.Memory, CPUs: of.limits.CPUs, OpenFiles: of.limits.OpenFiles}
	w.out.Store(ws.newOutput(w, of.name, of.deployment, of.replica))
	var proc *worker.Process
	var err error
	if run != nil {
		proc = worker.InProcess(func(ctx context.Context) error { return run(ctx, w.id, w.token, w.page, ws.dial) })
	} else {
		proc, err = ws.startProcess(w, of, limits)
	}
	if err != nil {
		w.out.Load().Close()
		ws.mu.Lock()
		delete(ws.all, w.id)
		ws.mu.Unlock()
		return nil, fmt.Errorf("worker of application %s does not start: %w", app.name, err)
	}
	ws.mu.Lock()
	w.proc = proc
	ws.mu.Unlock()
	ws.logLimits(w, limits)
	ws.wg.Go(w.watch)
	if run == nil {
		ws.mu.Lock()
		spawner := ws.spawner
		ws.mu.Unlock()
		defer spawner.Guarded() // a reader of the list of the node's children finds workers
	}
	hello := helloLimit(of.construct)
	late := time.NewTimer(hello)
	defer late.Stop()
	select {
	case <-w.opened:
		return w, nil
	case err := <-w.refused:
		if hungUp(err) {
			w.awaitEnd()
		}
		proc.Kill()
		<-w.stopped
		if hungUp(err) {
			return nil, w.unready(of.program.Path)
		}
		return nil, err
	case <-w.stopped:
		select {
		case err := <-w.refused: // the worker ended because it was refused
			if !hungUp(err) {
				return nil, err
			}
		default:
		}
		return nil, w.unready(of.program.Path)
	case <-late.C:
		proc.Kill()
		<-w.stopped
		return nil, fmt.Errorf("worker of application %s did not connect within %s: %s", app.name, hello, proc.Exit().Reason())
	case <-ctx.Done():
		proc.Kill()
		<-w.stopped
		return nil, call.EndOf(ctx)
	}
}

const (
	// overdueTime is the time that a worker has, after construct_timeout_s, to report itself that a replica is late.
	overdueTime = 500 * time.Millisecond
	// helloTime bounds the time from spawn to the opened connection; imports of large libraries take most of it. A process has
	// minHelloTime for that, however short construct_timeout_s is.
	helloTime    = 5 * time.Minute
	minHelloTime = 10 * time.Second
	// closeTime bounds a user's Close, as a constructor that is torn down should not hold a shutdown.
	closeTime = 5 * time.Second
	// endTime is how long a process may take to end after its connection has. A busy machine takes a part of a second for it, and the exit of a process that
	// is killed then does not say why it ended.
	endTime = 2 * time.Second
)

// helloLimit is how long a process may take to connect, if its replicas have a time limit for their starts.
func helloLimit(construct time.Duration) time.Duration {
	return min(helloTime, max(construct, minHelloTime))
}

// hungUp says that an opening ended because the worker broke it off; the worker knows the reason.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// unready is the end of a worker that was not taken into service.
func (w *Worker) unready(program string) error {
	exit := w.proc.Exit()
	err := &EndedError{fmt.Sprintf("worker of application %s ended before it was ready", w.app.name), exit, false}
	if w.graph == nil && strings.Contains(exit.Reason(), "No module named 'helve") { // or 'helve._worker': the package index has another package of that name
		return fmt.Errorf("%w; %s does not have the Python package of Helve: install it there (%[2]s -m pip install helve-serve==%s), or name an interpreter that has it in HELVE_PYTHON",
			err, program, w.workers.set.Version)
	}
	return err
}

// awaitEnd waits a little for the end of a worker whose connection has ended: the usual reason is that the process has too, by
// an event that its exit should name.
func (w *Worker) awaitEnd() {
	soon := time.NewTimer(endTime)
	defer soon.Stop()
	select {
	case <-w.proc.Done():
	case <-soon.C:
	}
}

func (ws *Workers) startProcess(w *Worker, of launchSpec, limits worker.Limits) (*worker.Process, error) {
	ws.mu.Lock()
	socket, spawner, state, grace := ws.socket.Path(), ws.spawner, ws.former.dir, ws.former.grace
	arena := ws.arenaSizeLocked()
	ws.mu.Unlock()
	p := of.program
	env, err := ws.set.Secrets.Environ(spec.WithoutReserved(p.Env))
	if err != nil {
		return nil, err
	}
	env = append(slices.Clip(env), "HELVE_SOCKET="+socket, "HELVE_WORKER_ID="+w.id)
	env = append(append(env, ws.maxBodyEnv()...), ws.attachEnv()...)
	env = append(env, "HELVE_WORKER_ARENA="+strconv.FormatInt(arena, 10))
	if state != "" {
		env = append(env, "HELVE_WORKER_GRACE="+grace.String())
	}
	return spawner.Start(ws.reporting(w, of.replica == "", worker.Command{
		Path: p.Path, Args: p.Args, Dir: p.Dir, Env: append(env, of.extra...), Token: w.token, ID: w.id,
		Limits: limits, Outlives: state, Counts: w.page.File(),
	}))
}

// newPage makes the page of a Go worker. Without one the worker is lent no slots.
func (ws *Workers) newPage(inProcess bool) *telemetry.Page {
	if inProcess {
		return telemetry.NewLocalPage()
	}
	p, err := telemetry.NewPage()
	if err != nil {
		ws.log.Warn("calls between replicas of a worker go through the node, because they cannot be counted there", "error", err)
	}
	return p
}

// reopenPage opens the page of a Go worker that is taken over.
func (ws *Workers) reopenPage(id worker.Identity) *telemetry.Page {
	if id.CountsFD == 0 {
		return nil
	}
	p, err := telemetry.PageOf(id.PID, id.CountsFD)
	if err != nil {
		ws.log.Warn("calls between replicas of a worker go through the node, because they cannot be counted there", "pid", id.PID, "error", err)
	}
	return p
}

// dial connects a worker that shares this process.
func (ws *Workers) dial() (net.Conn, error) {
	theirs, ours, err := ws.set.Pair()
	if err != nil {
		return nil, err
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.ctx.Err() != nil { // wg is, or will be, waited for
		theirs.Close()
		ours.Close()
		return nil, call.EndOf(ws.ctx)
	}
	ws.wg.Go(func() { ws.open(ours) })
	return theirs, nil
}

// watch reaps the process, and then tells the owners of its replicas.
func (w *Worker) watch() {
	ws := w.workers
	<-w.proc.Done()
	w.out.Load().Close()
	ws.mu.Lock()
	peer := w.peer
	ws.mu.Unlock()
	if peer != nil {
		peer.Close(errors.New("the worker's process has ended"))
		<-peer.Done()
	}
	ws.mu.Lock()
	w.memory.Drop()
	delete(ws.all, w.id)
	if w.stuck != nil && w.stuck.timer != nil {
		w.stuck.timer.Stop()
	}
	replicas := w.replicasLocked()
	ws.mu.Unlock()
	for _, r := range replicas {
		r.Refuse()
	}
	w.app.ended(w)
	w.release() // before its end is known: the start that follows it finds them free
	close(w.stopped)
	ws.set.Changed()
}

// replicasLocked are the replicas in the worker, in the order of their ids. Workers.mu is held.
func (w *Worker) replicasLocked() []*workerReplica {
	all := make([]*workerReplica, 0, len(w.replicas))
	for _, r := range w.replicas {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *workerReplica) int { return strings.Compare(a.ID(), b.ID()) })
	return all
}

// servingLocked are the replicas of the worker that are in service. Workers.mu is held.
func (w *Worker) servingLocked() []*workerReplica {
	return slices.DeleteFunc(w.replicasLocked(), func(r *workerReplica) bool { return !r.inService.Load() })
}

// Stop asks the worker to exit and sees that it does.
func (w *Worker) Stop(ctx context.Context) {
	w.ending.Store(true)
	w.peer.Goaway(wire.Goaway{Code: helvetype.CodeUnavailable.String(), Reason: "stopping", Message: "the node stops this worker"})
	w.proc.Stop(ctx, closeTime)
	<-w.stopped
}

func (w *Worker) stopReplica(ctx context.Context, id string) error {
	_, err := protocol.Ask(ctx, w.peer, protocol.StopReplica{Replica: id, TimeoutS: protocol.SecondsOf(closeTime)})
	if errors.Is(err, wire.ErrEnded) { // on its way out
		return nil
	}
	return err
}

// leaveTime is how long a worker may take to end after it has announced its end.
const leaveTime = 5 * time.Second

// Leave is called when the worker announces that it takes no more calls: its replicas get none, and the calls that run may end. The
// process is killed if it does not end. For example, code in C that keeps Python's lock holds it up. No replica takes the place of its
// replicas before the process has ended.
func (w *Worker) Leave(g wire.Goaway) {
	ws := w.workers
	ws.log.Info("worker goes away", "worker", w.id, "reason", g.Reason, "message", g.Message)
	ws.mu.Lock()
	replicas := w.replicasLocked()
	ws.mu.Unlock()
	for _, r := range replicas {
		r.Refuse()
	}
	ws.wg.Go(func() {
		late := time.NewTimer(leaveTime)
		defer late.Stop()
		select {
		case <-w.proc.Done():
		case <-ws.ctx.Done():
		case <-late.C:
			ws.log.Warn("a worker that goes away has not ended, and is killed", "app", w.app.name, "worker", w.id, "after", leaveTime)
			w.proc.Kill()
		}
	})
}

// SetModels notes which models a replica of the worker has. A replica of another worker is left alone.
func (w *Worker) SetModels(replica string, ids []string) {
	if r := w.replica(replica); r != nil {
		r.SetModels(ids)
		r.launch.Models(r, ids)
	}
}

// ReturnSlots takes back slots that were lent to a replica of the worker.
func (w *Worker) ReturnSlots(replica string, n int) {
	if r := w.replica(replica); r != nil {
		r.slots.Returned(n)
	}
}

// Faults notes that calls under slots that were lent to a replica have failed for a reason of the system. More of them than there are slots say no more.
func (w *Worker) Faults(replica string, n int, text string) {
	if r := w.replica(replica); r != nil {
		for range min(n, r.Slots().Max()) {
			r.Faulted(text)
		}
	}
}

func (w *Worker) replica(id string) *workerReplica {
	w.workers.mu.Lock()
	defer w.workers.mu.Unlock()
	return w.replicas[id]
}

// exitOf describes the end of a process to the user, as the end of a replica.
func exitOf(replica string, e worker.Exit, killReason string) *helvetype.Exit {
	x := &helvetype.Exit{
		Replica: replica, Reason: e.Summary(), Code: e.Code, Signal: e.SignalName(), OutOfMemory: e.OutOfMemory, At: e.At,
		Lines: e.Lines,
	}
	if killReason != "" {
		x.Reason = killReason + ": " + x.Reason
	}
	return x
}

// parseToken reads the token of a worker of the node before. The file that it comes from was checked when it was read.
func parseToken(s string) (t wire.Token) {
	hex.Decode(t[:], []byte(s)) //nolint:errcheck // see above
	return t
}
