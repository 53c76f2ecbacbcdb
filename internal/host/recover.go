package host

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// former is the part of a node's private directory that outlasts it: the workers of the node that was here before.
type former struct {
	dir   string        // "" for none
	grace time.Duration // how long workers look for another node when this one is gone

	// Guarded by Workers.mu.
	expected map[string]*expected // workers that are neither taken over nor dismissed yet
	missing  int                  // workers that were not seen yet, neither alive nor gone
	hold     time.Time            // no replica is started before, while some are missing
}

// expected is a worker of the node that was here before.
type expected struct {
	roster.Worker
	decided chan struct{} // closed when it was taken over or dismissed
}

const (
	// holdTime is how long new replicas wait for workers that live on: a worker dials in within 50 ms, if it lives.
	holdTime = 2 * time.Second
	// idsAhead is how many ids, at least, a node may give out before it must have saved again: its last starts may not be in
	// the file when it is killed, and live on under their ids all the same.
	idsAhead = 256
)

// UseDir keeps the workers in a directory that outlasts the node: they go on for grace after it has gone. before are the workers
// of the node that was here before. It must be called before anything is started. Only one node uses a directory.
func (ws *Workers) UseDir(dir string, grace time.Duration, read func(dir string) (lastID uint64, before []roster.Worker)) error {
	l, spawner, err := ws.listenAt(dir)
	if err != nil {
		return err
	}
	dir = filepath.Dir(l.Path())
	lastID, before := read(dir)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	f := &ws.former
	f.dir, f.grace, f.expected = dir, grace, map[string]*expected{}
	f.hold = time.Now().Add(holdTime)
	stray := worker.RemoveStrayPipes(dir, func(id string) bool {
		return slices.ContainsFunc(before, func(w roster.Worker) bool { return w.ID == id })
	})
	if ws.lastID = lastID; stray > 0 {
		ws.lastID = max(lastID, stray+idsAhead)
	}
	for _, w := range before {
		f.expected[w.ID] = &expected{w, make(chan struct{})}
		if w.Devices != nil {
			ws.set.Ledger.Keep(*w.Devices)
		}
	}
	f.missing = len(before)
	ws.socket, ws.spawner = l, spawner
	ws.wg.Go(func() { ws.accept(l) })
	if f.missing > 0 {
		ws.log.Info("looking for the workers of the node before", "workers", f.missing, "dir", dir)
		ws.wg.Go(ws.dismissLate)
	}
	return nil
}

// listenAt takes the directory, and makes the spawner of its workers. A keeper has taken the directory for all its nodes, and starts the workers.
func (ws *Workers) listenAt(dir string) (*worker.Listener, *worker.Spawner, error) {
	if ws.set.Starter != nil {
		l, err := worker.ListenHeld(dir)
		return l, worker.NewSpawnerOf(ws.set.Starter), err
	}
	l, err := worker.ListenAt(dir)
	if err != nil {
		return nil, nil, err
	}
	return l, worker.NewSpawner(), nil
}

// Snapshot describes the workers that a next node could take over, in the order of their ids: also those of the node before that this one has not
// taken over yet, because it may be killed before it has. It gives a number above all ids that
// are given out: no id is used twice.
func (ws *Workers) Snapshot() (lastID uint64, all []roster.Worker) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	all = []roster.Worker{}
	for _, w := range ws.all {
		if w.proc == nil && w.before != nil {
			all = append(all, *w.before)
			continue
		}
		if w.proc == nil || w.ending.Load() || w.proc.Identity().PID == 0 {
			continue
		}
		r := roster.Worker{ID: w.id, App: w.app.name, Key: w.key, Token: hex.EncodeToString(w.token[:]), Process: w.proc.Identity(), Replicas: []roster.Replica{}}
		if w.holding.Holder != "" {
			r.Devices = &w.holding
		}
		for _, u := range w.replicasLocked() {
			if !u.stopping.Load() {
				r.Replicas = append(r.Replicas, roster.Replica{ID: u.ID(), Deployment: u.dep.Name})
			}
		}
		for id, name := range w.awaited {
			if w.replicas[id] == nil {
				r.Replicas = append(r.Replicas, roster.Replica{ID: id, Deployment: name})
			}
		}
		slices.SortFunc(r.Replicas, func(a, b roster.Replica) int { return strings.Compare(a.ID, b.ID) })
		all = append(all, r)
	}
	for _, x := range ws.former.expected {
		all = append(all, x.Worker)
	}
	slices.SortFunc(all, func(a, b roster.Worker) int { return strings.Compare(a.ID, b.ID) })
	return (ws.lastID/idsAhead + 2) * idsAhead, all
}

// Hold says until when no replica is started, because a worker of the node before may have it still; zero if one may.
func (ws *Workers) Hold(now time.Time) (until time.Time) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.former.missing > 0 && now.Before(ws.former.hold) {
		return ws.former.hold
	}
	return time.Time{}
}

// dismissLate ends the workers that no application has wanted within their grace.
func (ws *Workers) dismissLate() {
	late := time.NewTimer(ws.former.grace)
	defer late.Stop()
	select {
	case <-late.C:
	case <-ws.ctx.Done():
	}
	ws.DismissOthers(func(string) bool { return false }, "no application of its name is deployed")
}

// dismissLocked ends a worker that is not wanted. It is told so when it dials, and killed if it does not end by itself.
func (ws *Workers) dismissLocked(x *expected, why string) {
	delete(ws.former.expected, x.ID)
	close(x.decided)
	beside := ws.set.Beside
	if beside { // other replicas start at once: as in any change of code, old and new ones run side by side
		ws.former.missing--
		ws.set.Changed()
	}
	ws.wg.Go(func() {
		p, err := ws.spawner.Adopt(x.Process, worker.Command{})
		if err == nil {
			ws.log.Info("a worker of the node before is ended", "app", x.App, "worker", x.ID, "reason", why)
			ws.awaitEnd(p)
		} else if !errors.Is(err, worker.ErrGone) {
			ws.log.Error("a worker of the node before was not found", "app", x.App, "worker", x.ID, "error", err)
		}
		if x.Devices != nil {
			ws.set.Ledger.Free(x.Devices.Holder)
		}
		if !beside {
			ws.seen()
		}
	})
}

// besideTime is how long the node before may finish its calls beside this one, and a little more.
const besideTime = time.Hour + time.Minute

// awaitEnd waits until a worker that was dismissed has ended, and kills one that does not end by itself. A worker of a node that serves beside this
// one ends with the last call of that. For example, a request of a minute runs while its application changes in an upgrade: its worker lives for that minute.
func (ws *Workers) awaitEnd(p *worker.Process) {
	limit := holdTime
	if ws.set.Beside {
		limit = besideTime
	}
	ctx, cancel := context.WithTimeout(ws.ctx, limit)
	defer cancel()
	select {
	case <-p.Done():
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errHandedOver) { // the next node lets it finish its calls too
			return
		}
		p.Kill()
		<-p.Done()
	}
}

// seen is told that it is known of one more worker whether it lives.
func (ws *Workers) seen() {
	ws.mu.Lock()
	ws.former.missing--
	ws.mu.Unlock()
	ws.set.Changed()
}

// awaitDecision waits a little until a worker of the node before that dials in is taken over or dismissed.
func (ws *Workers) awaitDecision(id string) {
	ws.mu.Lock()
	x := ws.former.expected[id]
	ws.mu.Unlock()
	if x == nil {
		return
	}
	soon := time.NewTimer(time.Second)
	defer soon.Stop()
	select {
	case <-x.decided:
	case <-soon.C:
	case <-ws.ctx.Done():
	}
}

// turnAway ends a connection so that the worker tries again.
func turnAway(nc net.Conn) error {
	nc.Close()
	return net.ErrClosed
}

// Former lists the workers of the node before that an application had and that were neither taken over nor dismissed.
func (ws *Workers) Former(app string) (all []roster.Worker) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, x := range ws.former.expected {
		if x.App == app {
			all = append(all, x.Worker)
		}
	}
	slices.SortFunc(all, func(a, b roster.Worker) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Dismiss ends a worker of the node before, which is not wanted.
func (ws *Workers) Dismiss(id, why string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if x := ws.former.expected[id]; x != nil {
		ws.dismissLocked(x, why)
	}
}

// DismissOthers ends the workers of the node before whose application is not wanted.
func (ws *Workers) DismissOthers(wanted func(app string) bool, why string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, x := range ws.former.expected {
		if !wanted(x.App) {
			ws.dismissLocked(x, why)
		}
	}
}

// Takeover says how a worker of the node before is taken over.
type Takeover struct {
	ID string
	// Hosts are the hosts of the application's deployments, by name.
	Hosts map[string]Host
	// Replicas are the replicas that are wanted: id to deployment.
	Replicas map[string]string
	// Unknown is told, before any start goes on, of a replica that became ready when the state was not saved yet. It returns false
	// if the replica is not wanted; else the owner starts it with the worker, as the wanted ones.
	Unknown func(w *Worker, id, deployment string) bool
	// GiveUp ends when the worker is not wanted any more.
	GiveUp context.Context
}

// TakeOver expects a worker of the node before; nil if it cannot be taken over, and is ended. Its replicas are started with it ([Launch].Worker), which waits for the worker. No
// replica takes the place of one of them before the old process is gone: a worker that does not come within its grace is killed.
func (ws *Workers) TakeOver(t Takeover) *Worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	x := ws.former.expected[t.ID]
	var app *App
	of, settled := launchSpec{}, func(*Worker) {}
	switch h := t.host(x.Key).(type) {
	case *GoWorker:
		app, of = h.App, h.launchSpec()
		if x.Key != of.key { // the node before was changing the application, and this worker has the former code
			ws.dismissLocked(x, "its program has changed")
			return nil
		}
		settled = app.expect(of.key)
	case *PythonWorker:
		app = h.App
		of = launchSpec{after: h.Deployment.Options.UnresponsiveAfter, deployment: h.Deployment.Name}
		for id := range t.Replicas {
			of.name, of.replica = id, id
		}
	default:
		ws.dismissLocked(x, "no deployment of the application runs in a worker")
		return nil
	}
	w := ws.newWorkerLocked(t.ID, app)
	w.token, w.taken, w.awaited, w.before = parseToken(x.Token), make(chan struct{}), t.Replicas, &x.Worker
	w.graph, w.after, w.key = of.graph, of.after, of.key
	if x.Devices != nil {
		w.holding = *x.Devices
	}
	delete(ws.former.expected, t.ID)
	close(x.decided)
	ws.wg.Go(func() { ws.takeOver(w, x, of, t, settled) })
	return w
}

// host is the host of the worker's replicas. A Go worker without wanted replicas may have some that became ready when the state was not
// saved yet: it belongs to any of the Go deployments that run in a worker. nil for a Python worker without its replica.
func (t *Takeover) host(key string) Host {
	for _, name := range t.Replicas {
		return t.Hosts[name]
	}
	var other Host
	for _, h := range t.Hosts {
		if g, ok := h.(*GoWorker); ok && key != "" {
			if other = h; g.Key() == key {
				break
			}
		}
	}
	return other
}

// takeOver waits for the worker.
func (ws *Workers) takeOver(w *Worker, x *expected, of launchSpec, t Takeover, settled func(*Worker)) {
	err := ws.awaitTakeover(w, x, of, t)
	if err != nil {
		ws.log.Warn("a worker of the node before is lost", "app", w.app.name, "worker", w.id, "error", err)
		w.takenOver = &LostError{err}
		settled(nil)
	} else {
		settled(w)
		kept := 0
		for _, r := range w.resume.Replicas {
			_, wanted := t.Replicas[r.Replica]
			switch {
			case wanted, t.Unknown(w, r.Replica, r.Deployment):
				kept++
			default:
				ws.wg.Go(func() { w.stopReplica(ws.ctx, r.Replica) }) //nolint:errcheck // it ends with its worker at the latest
			}
		}
		if w.graph == nil && kept == 0 { // a Python worker is its replica
			ws.wg.Go(func() { w.Stop(ws.ctx) })
		}
		ws.log.Info("a worker was taken over", "app", w.app.name, "worker", w.id, "pid", w.proc.PID(), "replicas", kept)
	}
	ws.mu.Lock()
	w.awaited = nil
	ws.mu.Unlock()
	close(w.taken)
	ws.seen()
}

// awaitTakeover waits until the worker has dialled in. The error says why it is lost.
func (ws *Workers) awaitTakeover(w *Worker, x *expected, of launchSpec, t Takeover) error {
	ws.set.Secrets.Note(of.program.Env...) // the worker may print them
	w.out.Store(ws.newOutput(w, of.name, of.deployment, of.replica))
	proc, err := ws.spawner.Adopt(x.Process, ws.reporting(w, of.replica == "", worker.Command{}))
	if err != nil {
		w.out.Load().Close()
		ws.mu.Lock()
		delete(ws.all, w.id)
		ws.mu.Unlock()
		w.release()
		close(w.stopped)
		return err
	}
	ws.mu.Lock()
	w.proc = proc
	ws.mu.Unlock()
	if w.graph != nil {
		w.page = ws.reopenPage(x.Process) // before taken is closed, and its replicas are made
	}
	ws.wg.Go(w.watch)
	late := time.NewTimer(ws.former.grace)
	defer late.Stop()
	select {
	case <-w.opened:
		if w.resume == nil { // the worker had only just been started
			w.resume = &wire.Resume{}
		}
		return nil
	case err = <-w.refused:
	case <-w.stopped:
		err = errors.New("it ended")
	case <-late.C:
		err = fmt.Errorf("it did not dial in within %s", ws.former.grace)
	case <-t.GiveUp.Done():
		err = call.EndOf(t.GiveUp)
	}
	proc.Kill()
	<-w.stopped
	return err
}

// resumeReplica goes on with a replica that the worker has. methods is told the methods of a Python class; nil for Go.
func (w *Worker) resumeReplica(ctx context.Context, d *Deployment, l Launch, methods func([]protocol.Method)) (Replica, error) {
	select {
	case <-w.taken:
	case <-ctx.Done(): // then the worker is given up as well
		<-w.taken
	}
	if w.takenOver != nil {
		return nil, w.takenOver
	}
	at := slices.IndexFunc(w.resume.Replicas, func(r wire.Resumed) bool { return r.Replica == l.ID })
	if at < 0 {
		return nil, ErrNotResumed
	}
	had := w.resume.Replicas[at]
	w.workers.set.Secrets.Note(string(d.Options.UserConfig))
	r, err := w.newReplica(d, l, methods != nil)
	if err != nil {
		return nil, err
	}
	r.healthCheck, r.readyCheck, r.routingStats, r.autoscalingStats = had.Health, had.Ready, had.Reports, had.Scales
	r.Calls().Resume(had.Started, had.Failed)
	if methods != nil {
		var all []protocol.Method
		json.Unmarshal(had.Methods, &all) //nolint:errcheck // without them an ingress serves nothing, and says so
		r.methods = all
		methods(all)
	} else {
		r.slots.Begin(w.id, r.lent)
	}
	r.slots.TakeOver(had.Executing)
	l.Configured(had.Config)
	r.SetModels(had.Models)
	l.Models(r, had.Models)
	return r, nil
}
