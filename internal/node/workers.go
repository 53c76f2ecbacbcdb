package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// workerProc is one child process and the connection to it.
type workerProc struct {
	node  *Node
	id    string
	app   *app
	rev   *revision // whose replicas it hosts
	token wire.Token
	graph *spec.Graph // what a Go worker must have built; nil for Python
	proc  *worker.Process
	peer  *wire.Peer

	after time.Duration // without an answer it is unresponsive

	resume *wire.Resume // what it had when it was taken over; set before opened is closed

	admitted bool // a connection has proved its token, and is or becomes peer's. Guarded by Node.mu

	sharing *sharing // its part in the application's arena; nil without. Guarded by Node.mu until opened is closed

	// Guarded by Node.mu.
	stuck  *stuck // nil while it answers
	doom   string // why the node killed it
	buried bool   // its last lines are in the log

	ending  atomic.Bool   // somebody sees to its end
	opened  chan struct{} // closed when peer is set
	refused chan error    // why the opening failed
	stopped chan struct{} // closed when the process is reaped and everything on it was answered
}

// birth is what a worker is started for and with.
type birth struct {
	name                string // what its output is shown under
	deployment, replica string // of a Python worker
	graph               *spec.Graph
	program             Program
	extra               []string // environment that nobody overrides
	limits              spec.Limits
	after               time.Duration // without an answer it is unresponsive
	construct           time.Duration // what its replicas may take to start; the longest
}

// spawn starts a worker and waits until its connection is open.
func (n *Node) spawn(r *revision, of birth) (*workerProc, error) {
	a := r.app
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return nil, errors.New("the node is closing")
	}
	host := r.def.Host
	if of.graph == nil { // Python's has a process
		host = nil
	}
	if host == nil {
		if err := n.listenLocked(); err != nil {
			n.mu.Unlock()
			return nil, err
		}
	}
	n.nextID++
	w := &workerProc{
		node: n, id: a.name + "-" + strconv.FormatUint(n.nextID, 10), app: a, rev: r, token: wire.NewToken(), graph: of.graph,
		after:  of.after,
		opened: make(chan struct{}), refused: make(chan error, 1), stopped: make(chan struct{}),
	}
	n.workers[w.id] = w
	n.mu.Unlock()
	limits := worker.Limits{MemoryBytes: of.limits.Memory, CPUs: of.limits.CPUs, OpenFiles: of.limits.OpenFiles}
	out := n.newOutlet(w, of.name, of.deployment, of.replica)
	var proc *worker.Process
	var err error
	if host != nil {
		proc = worker.InProcess(func(ctx context.Context) error { return host(ctx, w.id, w.token, n.dial) })
	} else {
		proc, err = n.startProcess(w, of, limits, out)
	}
	if err != nil {
		out.close()
		n.mu.Lock()
		delete(n.workers, w.id)
		n.mu.Unlock()
		return nil, fmt.Errorf("worker of application %s does not start: %w", a.name, err)
	}
	n.mu.Lock()
	w.proc = proc
	n.mu.Unlock()
	n.limited(w, limits)
	n.wg.Go(func() { w.watch(out) })
	if host == nil {
		n.mu.Lock()
		spawner := n.spawner
		n.mu.Unlock()
		defer spawner.Guarded() // who asks for the node's children finds workers
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
			return nil, w.unready()
		}
		return nil, err
	case <-w.stopped:
		select {
		case err := <-w.refused: // it ended because it was refused
			if !hungUp(err) {
				return nil, err
			}
		default:
		}
		return nil, w.unready()
	case <-late.C:
		proc.Kill()
		<-w.stopped
		return nil, fmt.Errorf("worker of application %s did not connect within %s: %s", a.name, hello, proc.Exit().Reason())
	case <-r.ctx.Done():
		proc.Kill()
		<-w.stopped
		return nil, call.EndOf(r.ctx)
	}
}

// hungUp says that an opening ended because the worker broke it off, which knows why.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// unready is the end of a worker that was not taken into service.
func (w *workerProc) unready() error {
	exit := w.proc.Exit()
	err := &endedError{fmt.Sprintf("worker of application %s ended before it was ready", w.app.name), exit, false}
	if w.graph == nil && strings.Contains(exit.Reason(), "No module named 'helve'") {
		return fmt.Errorf("%w; install the helve package for that interpreter, or set HELVE_PYTHON to one that has it", err)
	}
	return err
}

// awaitEnd waits a little for the end of a worker whose connection has ended: the usual reason is that it has too, by
// something that its exit should name.
func (w *workerProc) awaitEnd() {
	soon := time.NewTimer(endTime)
	defer soon.Stop()
	select {
	case <-w.proc.Done():
	case <-soon.C:
	}
}

func (n *Node) startProcess(w *workerProc, of birth, limits worker.Limits, out *outlet) (*worker.Process, error) {
	n.mu.Lock()
	socket, spawner, state, grace, arena := n.socket.Path(), n.spawner, n.state.dir, n.state.grace, n.arenaSize()
	n.mu.Unlock()
	p := of.program
	env := append(withoutWorkerEnv(p.Env), "HELVE_SOCKET="+socket, "HELVE_WORKER_ID="+w.id)
	env = append(env, n.maxBodyEnv()...)
	env = append(env, "HELVE_WORKER_ARENA="+strconv.FormatInt(arena, 10))
	if state != "" {
		env = append(env, "HELVE_WORKER_GRACE="+grace.String())
	}
	return spawner.Start(out.command(worker.Command{
		Path: p.Path, Args: p.Args, Dir: p.Dir, Env: append(env, of.extra...), Token: w.token, ID: w.id,
		Limits: limits, Outlives: state,
	}))
}

// dial connects a worker that shares this process.
func (n *Node) dial() (net.Conn, error) {
	theirs, ours, err := n.set.Pair()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil { // wg is, or will be, waited for
		theirs.Close()
		ours.Close()
		return nil, call.EndOf(n.ctx)
	}
	n.wg.Go(func() { n.open(ours) })
	return theirs, nil
}

func withoutWorkerEnv(env []string) []string {
	out := make([]string, 0, len(env)+4)
	for _, e := range env {
		if !strings.HasPrefix(e, "HELVE_SOCKET=") && !strings.HasPrefix(e, "HELVE_WORKER") && !strings.HasPrefix(e, "HELVE_TOKEN_FD=") && !strings.HasPrefix(e, "HELVE_TELL_FD=") && !strings.HasPrefix(e, "HELVE_SYS_PATH=") {
			out = append(out, e)
		}
	}
	return out
}

// watch reaps the process, and then says that its replicas are dead.
func (w *workerProc) watch(out *outlet) {
	n := w.node
	<-w.proc.Done()
	out.close()
	n.mu.Lock()
	peer := w.peer
	n.mu.Unlock()
	if peer != nil {
		peer.Close(errors.New("the worker's process has ended"))
		<-peer.Done()
	}
	n.mu.Lock()
	n.unshare(w)
	delete(n.workers, w.id)
	if w.rev.goWorker == w {
		w.rev.goWorker = nil
	}
	if w.stuck != nil && w.stuck.timer != nil {
		w.stuck.timer.Stop()
	}
	doom := w.doom
	units := w.unitsLocked()
	n.mu.Unlock()
	close(w.stopped)
	counted := map[*Deployment]bool{}
	for _, u := range units {
		n.died(u, exitOf(u, w.proc.Exit(), doom), !counted[u.dep]) // one crash is one failure, whatever it took with it
		counted[u.dep] = true
	}
}

// unitsLocked are the replicas in the worker, of whatever state.
func (w *workerProc) unitsLocked() (units []*Unit) {
	for _, d := range w.app.deployments {
		for _, u := range d.units {
			if u.worker == w {
				units = append(units, u)
			}
		}
	}
	return units
}

func (n *Node) listenLocked() error {
	if n.socket != nil {
		return nil
	}
	l, err := worker.Listen("")
	if err != nil {
		return err
	}
	n.socket, n.spawner = l, worker.NewSpawner()
	if err := n.spawner.Guard(); err != nil {
		n.log.Warn("what workers start may outlive a node that is killed", "error", err)
	}
	n.wg.Go(func() { n.accept(l) })
	return nil
}

func (n *Node) accept(l *worker.Listener) {
	patient := listen.New(l, func(err error, times int) {
		n.log.Warn("workers cannot connect now, the node tries again", "error", err, "times", times)
	})
	for {
		nc, err := patient.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				n.log.Error("the workers' socket has failed", "error", err)
			}
			return
		}
		n.wg.Go(func() { n.open(nc) })
	}
}

// open completes the opening of a worker's connection and serves it until it ends. Until the dialler has proved that it has the worker's
// token it may be any process of this user: it is refused without a trace at the worker whose id it says.
func (n *Node) open(nc net.Conn) {
	opened, ok := n.halfOpen(nc)
	if !ok {
		nc.Close()
		return
	}
	var w *workerProc
	admitted := false
	offer := wire.Offer{
		Version: n.set.Version, MaxBody: n.set.MaxBody, Features: []string{wire.FeatureBulk, wire.FeatureSegments, wire.FeatureArena},
		Admit: func(h wire.Hello) error {
			if h.Connection != wire.ConnSmall {
				return nil
			}
			if err := n.admit(w); err != nil {
				return err
			}
			admitted = true
			if h.Resume != nil {
				if err := h.Resume.Check(); err != nil {
					return err
				}
			}
			return w.check(h)
		},
		Arena: func(wire.Hello) *wire.Arena { return n.share(w) },
	}
	h, err := offer.Accept(nc, func(h wire.Hello) (wire.Token, error) {
		n.await(h.ID)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.state.expected[h.ID] != nil {
			return wire.Token{}, turnAway(nc)
		}
		if w = n.workers[h.ID]; w == nil || h.Kind != "worker" {
			return wire.Token{}, fmt.Errorf("no worker %q is expected here", h.ID)
		}
		return w.token, nil
	})
	opened()
	if err == nil && h.Connection == wire.ConnBulk {
		w.attach(nc)
		return
	}
	if err == nil && h.Connection == wire.ConnAsk {
		n.answer(w, nc, h.Terms)
		return
	}
	if err != nil {
		if admitted {
			n.mu.Lock()
			w.admitted = false // one that lives on, with its node's state, dials again
			n.mu.Unlock()
			select {
			case w.refused <- err:
			default: // the first says it
			}
		}
		nc.Close()
		return
	}
	s := &session{node: n, origin: "worker " + w.id, app: w.app, worker: w, referenceOver: h.ReferenceOver}
	s.control = s.operations()
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), h.Terms), s)
	s.peer = peer
	n.mu.Lock()
	if w.sharing != nil {
		w.sharing.peer = peer
		peer.UseMemory(w.sharing)
	}
	w.peer, w.resume = peer, h.Resume
	n.mu.Unlock()
	close(w.opened)
	n.wg.Go(w.ping)
	err = peer.Serve()
	s.releaseAll()
	s.dropAll()
	n.unlend(w)
	n.log.Debug("worker connection ended", "worker", w.id, "error", err)
	// A worker without its connection is of no use. If nobody ends it already, it must go at once, so that its
	// replacement does not run beside it.
	if !w.ending.Load() {
		w.awaitEnd()
		w.proc.Kill()
	}
}

// admit takes the one connection of a worker that has proved its token.
func (n *Node) admit(w *workerProc) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.admitted || n.workers[w.id] != w {
		return fmt.Errorf("no worker %q is expected here", w.id)
	}
	w.admitted = true
	return nil
}

// halfOpenMax is how many connections may be in their opening. Over it the oldest is closed: for example, 256 connections that say nothing do
// not keep the next worker out, whose opening takes milliseconds, and the 257th ends the first of them.
const halfOpenMax = 256

// halfOpen notes a connection that is in its opening, until it calls the function. false: the node is closing.
func (n *Node) halfOpen(nc net.Conn) (opened func(), ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return nil, false
	}
	if len(n.openings) == halfOpenMax {
		n.openings[0].Close()
		n.openings = slices.Delete(n.openings, 0, 1)
	}
	n.openings = append(n.openings, nc)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.openings = slices.DeleteFunc(n.openings, func(c net.Conn) bool { return c == nc })
	}, true
}

// answer serves what code in a worker asks on a connection of its own, because it holds up the reader of the worker's first one.
func (n *Node) answer(w *workerProc, nc net.Conn, terms wire.Terms) {
	s := &session{node: n, origin: "worker " + w.id, app: w.app}
	s.control = s.operations()
	s.peer = wire.NewPeer(wire.NewLink(wire.NewConn(nc), terms), s)
	stop := context.AfterFunc(n.ctx, func() { s.peer.Close(context.Cause(n.ctx)) })
	defer stop()
	s.peer.Serve() //nolint:errcheck // it ends when the worker has its answer
	s.releaseAll()
	s.dropAll()
}

// endTime is how long a process may take to end whose connection has.
const endTime = 100 * time.Millisecond

// attach gives a worker's peer its second connection. The first one's opening may be just ending.
func (w *workerProc) attach(nc net.Conn) {
	select {
	case <-w.opened:
		if err := w.peer.Attach(nc); err != nil {
			w.node.log.Warn("a worker's second connection", "worker", w.id, "error", err)
		}
	case <-w.stopped:
		nc.Close()
	}
}

// check compares the graph that a Go worker built with the node's.
func (w *workerProc) check(h wire.Hello) error {
	if w.graph == nil {
		return nil
	}
	const differs = "application %s is not the same in its worker as in the node (Build must be deterministic and without side effects)"
	if h.Graph == nil && h.GraphDigest != "" {
		if h.GraphDigest != w.graph.Digest() {
			return fmt.Errorf(differs+"; it is too large to say in what", w.app.name)
		}
		return nil
	}
	var theirs spec.Graph
	if err := json.Unmarshal(h.Graph, &theirs); err != nil {
		return fmt.Errorf("the worker's description of application %s does not parse: %w", w.app.name, err)
	}
	if w.graph.Digest() == theirs.Digest() {
		return nil
	}
	return fmt.Errorf(differs+":\n  %s",
		w.app.name, strings.Join(spec.Diff(*w.graph, theirs, "in the node", "in the worker"), "\n  "))
}

func (w *workerProc) stopReplica(ctx context.Context, id string) error {
	_, err := protocol.Ask(ctx, w.peer, protocol.StopReplica{Replica: id, TimeoutS: protocol.SecondsOf(closeTime)})
	if errors.Is(err, wire.ErrEnded) { // on its way out
		return nil
	}
	return err
}

// end asks the worker to exit and sees that it does.
func (w *workerProc) end(ctx context.Context) {
	w.ending.Store(true)
	w.peer.Goaway(wire.Goaway{Code: call.Unavailable.String(), Reason: "stopping", Message: "the node stops this worker"})
	w.proc.Stop(ctx, closeTime)
	<-w.stopped
}

// startInGoWorker starts a replica in the one Go worker of its application's revision, which it starts if need be.
func (n *Node) startInGoWorker(u *Unit) error {
	done := n.waiting(u, waitsForProcess)
	w, err := n.goWorker(u.revision)
	done()
	if err != nil {
		return err
	}
	s, err := n.startAt(w, u, nil)
	if err != nil {
		return err
	}
	u.checked, u.reports = s.Health, s.RoutingStats
	u.transport = &transport.Wire{Peer: w.peer, Replica: u.id, Codec: n.codec}
	return nil
}

func (n *Node) goWorker(a *revision) (*workerProc, error) {
	program := a.def.Program
	if program == nil {
		program = &n.set.Program
	}
	for {
		n.mu.Lock()
		if w := a.goWorker; w != nil {
			n.mu.Unlock()
			return w, nil
		}
		up := a.goWorkerUp
		if up == nil {
			up = make(chan struct{})
			a.goWorkerUp = up
			n.mu.Unlock()
			w, err := n.spawn(a, n.goBirth(a, *program))
			n.mu.Lock()
			if err == nil {
				a.goWorker = w
				select {
				case <-w.stopped: // died at once
					a.goWorker = nil
				default:
				}
			}
			a.goWorkerUp, a.goWorkerErr = nil, err
			close(up)
			n.mu.Unlock()
			return w, err
		}
		n.mu.Unlock()
		<-up
		n.mu.Lock()
		err := a.goWorkerErr
		n.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// goBirth joins what the deployments ask for that share the worker.
func (n *Node) goBirth(a *revision, program Program) birth {
	env, dir, limits := a.def.Graph.GoWorker()
	b := birth{name: a.app.name, graph: &a.def.Graph, program: program, extra: []string{"HELVE_WORKER=" + a.app.name}, limits: limits}
	if dir != "" {
		b.program.Dir = dir
	}
	b.program.Env = with(b.program.Env, env)
	isSet := func(v string) bool { return strings.HasPrefix(v, "GOMEMLIMIT=") }
	if limits.Memory > 0 && !slices.ContainsFunc(b.program.Env, isSet) {
		// Else the collector lets the heap double past the limit before it works harder.
		b.extra = append(b.extra, "GOMEMLIMIT="+strconv.FormatInt(limits.Memory/10*9, 10))
	}
	for _, s := range a.def.Graph.Deployments {
		e := a.edition(s)
		if e.placement != inGoWorker {
			continue
		}
		b.construct = max(b.construct, e.options.ConstructTimeout)
		if b.after == 0 || e.options.UnresponsiveAfter < b.after {
			b.after = e.options.UnresponsiveAfter
		}
	}
	return b
}

// with is an environment with variables added or replaced: of two of one name the later counts.
func with(env []string, vars map[string]string) []string {
	env = slices.Clone(env)
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, k+"="+vars[k])
	}
	return env
}

// sysPath says where a Python worker looks for modules: in what is first, where its own interpreter looks, and in what is last.
type sysPath struct {
	First []string `json:"first"`
	Last  []string `json:"last"`
}

// pythonMain is the program of a Python worker. Its first import comes after the current directory, which Python puts in front of
// everything else, is out of the way: who can write there could replace any module of the library. Example: a program that is
// started in a folder of downloads.
const pythonMain = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import json, os
path = json.loads(os.environ["HELVE_SYS_PATH"])
sys.path[:] = dict.fromkeys([*(path["first"] or ()), *sys.path, *(path["last"] or ())])
from helve._worker import main
main()
`

func (n *Node) startInPython(u *Unit) error {
	d := u.dep
	py := u.def.Python
	code, ok := py.Code[d.name]
	if !ok {
		var err error
		if code, err = n.blobCode(py.Blob); err != nil {
			return err
		}
	}
	last := py.Last
	if u.options.Dir != "" {
		last = append([]string{u.options.Dir}, last...)
	}
	path, err := json.Marshal(sysPath{py.SysPath, last})
	if err != nil {
		return err
	}
	p := Program{
		Path: py.Interpreter, Args: []string{"-c", pythonMain}, Dir: py.Dir,
		Env: with(with(n.set.Program.Env, py.Env), u.options.Env),
	}
	if u.options.Dir != "" {
		p.Dir = u.options.Dir
	}
	done := n.waiting(u, waitsForProcess)
	w, err := n.spawn(u.revision, birth{
		name: u.id, deployment: d.name, replica: u.id, program: p, extra: []string{"HELVE_SYS_PATH=" + string(path)},
		limits: u.options.Limits, after: u.options.UnresponsiveAfter, construct: u.options.ConstructTimeout,
	})
	done()
	if err != nil {
		return fmt.Errorf("deployment %s: %w", d.name, err)
	}
	var s protocol.Started
	if err = n.awaitUses(u); err == nil {
		s, err = n.startAt(w, u, &code)
	}
	if err == nil {
		u.checked = s.Health
		err = u.checkPython(s.Methods)
	}
	if err != nil {
		w.end(u.ctx)
		return err
	}
	u.reports = s.RoutingStats
	n.mu.Lock()
	u.methods = s.Methods
	n.mu.Unlock()
	u.transport = &transport.Wire{Peer: w.peer, Replica: u.id, Python: true, Codec: n.codec}
	return nil
}

func (n *Node) startAt(w *workerProc, u *Unit, code *protocol.Code) (protocol.Started, error) {
	d := u.dep
	n.mu.Lock()
	u.worker = w
	config, version := u.configLocked()
	u.version = version
	n.mu.Unlock()
	defer n.waiting(u, waitsForConstructor)()
	s, err := n.construct(w, u, protocol.StartReplica{
		Replica: u.id, App: d.app.name, Deployment: d.name, MaxOngoing: u.options.MaxOngoingRequests, Code: code, UserConfig: config,
		TimeoutS: protocol.SecondsOf(u.options.ConstructTimeout), UnresponsiveAfterS: protocol.SecondsOf(u.options.UnresponsiveAfter),
	})
	if err == nil {
		return s, nil
	}
	if _, ok := errors.AsType[*call.Error](err); ok {
		return s, u.arrived(err)
	}
	// The start may also be given up because another connection ended, a driver's, with the same error.
	if errors.Is(err, wire.ErrEnded) && u.ctx.Err() == nil {
		<-w.stopped // a worker that lost its connection is killed
		return s, &endedError{fmt.Sprintf("deployment %s: its worker ended while the constructor ran", d.name), w.proc.Exit(), true}
	}
	return s, fmt.Errorf("deployment %s: %w", d.name, err)
}

// awaitUses waits until what the deployment uses is ready. A Python interpreter comes up meanwhile, which takes
// longer than most constructors.
func (n *Node) awaitUses(u *Unit) error {
	defer n.waiting(u, waitsForUses)()
	for {
		n.mu.Lock()
		targets, observed, history := n.observeLocked()
		waits := planner.Waits(targets, observed, history, planner.Key{App: u.dep.app.name, Deployment: u.dep.name})
		if waits && n.readier == nil {
			n.readier = make(chan struct{})
		}
		ready := n.readier
		n.mu.Unlock()
		if !waits {
			return nil
		}
		select {
		case <-ready:
		case <-u.ctx.Done():
			return call.EndOf(u.ctx)
		}
	}
}

// checkPython sees that the methods that the graph binds are there.
func (e *edition) checkPython(have []protocol.Method) error {
	names := make([]string, len(have))
	for i, m := range have {
		names[i] = m.Name
	}
	for _, m := range e.spec.Methods {
		if _, ok := codec.MatchName(m.Name, names); !ok {
			return fmt.Errorf("deployment %s: the Python class %s has no method %s; it has %s",
				e.spec.Name, e.spec.Import, codec.SnakeCase(m.Name), strings.Join(names, ", "))
		}
	}
	return nil
}

// pythonKind says what an ingress sends to a Python method.
func pythonKind(method string, methods []protocol.Method) string {
	if m := findPython(method, methods); m != nil {
		return m.HTTP
	}
	return "request"
}

// pythonStreams says whether a Python method gives a stream.
func pythonStreams(method string, methods []protocol.Method) bool {
	m := findPython(method, methods)
	return m != nil && m.Shape == "stream"
}

func findPython(method string, methods []protocol.Method) *protocol.Method {
	if method == "" {
		method = "__call__"
	}
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = m.Name
	}
	if name, ok := codec.MatchName(method, names); ok {
		for i := range methods {
			if methods[i].Name == name {
				return &methods[i]
			}
		}
	}
	return nil
}
