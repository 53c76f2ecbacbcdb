package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// state is a node's private directory that outlasts it, and what it found there.
type state struct {
	dir   string        // "" for none
	grace time.Duration // how long workers look for another node when this one is gone
	kick  chan struct{} // something may have changed

	saving sync.Mutex // one at a time; taken before Node.mu
	saved  []byte     // what the file has
	over   bool       // the node has closed in order: nobody comes after it

	// Guarded by Node.mu.
	apps     map[string]snapApplication // until they are deployed
	expected map[string]*expected       // workers of which it is not decided what becomes of them
	missing  int                        // workers that were not seen yet, neither alive nor gone
	hold     time.Time                  // no replica is started before, while some are missing
}

// expected is a worker of the node that was here before.
type expected struct {
	snapWorker
	decided chan struct{} // closed when it was taken over or dismissed
}

// holdTime is how long new replicas wait for workers that live on: a worker dials in within 50 ms, if it lives.
const holdTime = 2 * time.Second

// UseState keeps the node's state in a directory that outlasts it, and finds there what a node left behind that was
// killed: its workers, which go on for grace after their node has gone, are taken over with their replicas when their
// application is deployed again as it was. It must be called before the first Deploy. Only one node uses a directory.
func (n *Node) UseState(dir string, grace time.Duration) error {
	l, err := worker.ListenAt(dir)
	if err != nil {
		return err
	}
	dir = filepath.Dir(l.Path())
	snap, err := readSnapshot(dir)
	if err != nil { // its workers find nobody who knows them, and end
		n.log.Error("the state of the node before is lost", "dir", dir, "error", err)
		snap = snapshot{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.dir, n.state.grace = dir, grace
	n.state.apps, n.state.expected = map[string]snapApplication{}, map[string]*expected{}
	n.state.hold = time.Now().Add(holdTime)
	n.nextID = max(snap.NextID, strangers(dir, snap.Workers))
	for _, a := range snap.Applications {
		n.state.apps[a.Name] = a
	}
	for _, w := range snap.Workers {
		n.state.expected[w.ID] = &expected{w, make(chan struct{})}
	}
	n.state.missing = len(snap.Workers)
	n.socket, n.spawner = l, worker.NewSpawner()
	n.wg.Go(func() { n.accept(l) })
	n.wg.Go(n.saver)
	if n.state.missing > 0 {
		n.log.Info("looking for the workers of the node before", "workers", n.state.missing, "dir", dir)
		n.wg.Go(n.dismissLate)
	}
	return nil
}

// strangers removes the pipes of workers that the state does not know, and gives an id above theirs. Such workers may still
// live, until they are told that nobody expects them: none of ours may be taken for one of them. Files that have such a name
// and are no pipes are not the node's.
func strangers(dir string, known []snapWorker) (above uint64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name, ok := worker.PipeOf(e.Name())
		if !ok || e.Type() != fs.ModeNamedPipe || slices.ContainsFunc(known, func(w snapWorker) bool { return w.ID == name }) {
			continue
		}
		if id, err := strconv.ParseUint(name[strings.LastIndexByte(name, '-')+1:], 10, 64); err == nil {
			above = max(above, id+idsAhead)
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return above
}

// saver writes what has changed.
func (n *Node) saver() {
	for {
		select {
		case <-n.state.kick:
		case <-n.ctx.Done():
			return
		}
		if err := n.save(); err != nil {
			n.log.Error("the node's state was not saved", "dir", n.state.dir, "error", err)
		}
	}
}

// forget is for a node that closes in order.
func (n *Node) forget() {
	if n.state.dir == "" {
		return
	}
	n.mu.Lock()
	n.state.over = true
	n.mu.Unlock()
	n.state.saving.Lock()
	defer n.state.saving.Unlock()
	os.Remove(filepath.Join(n.state.dir, snapshotName))
	build.Forget(n.state.dir)
}

// holding says until when nothing is started; zero if it may.
func (n *Node) holdingLocked(now time.Time) (until time.Time) {
	if n.state.missing > 0 && now.Before(n.state.hold) {
		return n.state.hold
	}
	return time.Time{}
}

// dismissLate ends the workers that nobody has wanted within their grace.
func (n *Node) dismissLate() {
	late := time.NewTimer(n.state.grace)
	defer late.Stop()
	select {
	case <-late.C:
	case <-n.ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.state.expected {
		n.dismissLocked(x, "no application of its name is deployed")
	}
}

// dismissLocked ends a worker that nobody wants. It is told so when it dials, and killed if it does not end by itself.
func (n *Node) dismissLocked(x *expected, why string) {
	delete(n.state.expected, x.ID)
	close(x.decided)
	n.wg.Go(func() {
		p, err := worker.Adopt(x.Process, worker.Command{})
		if err == nil {
			n.log.Info("a worker of the node before is ended", "app", x.App, "worker", x.ID, "reason", why)
			ctx, cancel := context.WithTimeout(n.ctx, holdTime)
			defer cancel()
			select {
			case <-p.Done():
			case <-ctx.Done():
				p.Kill()
				<-p.Done()
			}
		} else if !errors.Is(err, worker.ErrGone) {
			n.log.Error("a worker of the node before was not found", "app", x.App, "worker", x.ID, "error", err)
		}
		n.seen()
	})
}

// seen is told that it is known of one more worker whether it lives.
func (n *Node) seen() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.missing--
	n.wake()
}

// await gives a worker of the node before that dials in, once it is decided what becomes of it. nil: the worker should try
// again.
func (n *Node) await(id string) {
	n.mu.Lock()
	x := n.state.expected[id]
	n.mu.Unlock()
	if x == nil {
		return
	}
	soon := time.NewTimer(time.Second)
	defer soon.Stop()
	select {
	case <-x.decided:
	case <-soon.C:
	case <-n.ctx.Done():
	}
}

// claimLocked takes over what the node before had of an application that is deployed now: its revision number, user
// configs and workers. If it is not the same any more, its workers are ended.
func (n *Node) claimLocked(r *revision) {
	a := r.app
	was, ok := n.state.apps[a.name]
	if !ok {
		return
	}
	delete(n.state.apps, a.name)
	same := was.Identity == r.identity && r.identity != ""
	for _, d := range a.deployments {
		if config, ok := was.Configs[d.name]; ok && same {
			e := d.now.Load()
			e.acceptLocked(config, e.versionLocked())
		}
		if config, ok := was.Trials[d.name]; ok && same {
			e := d.now.Load()
			e.trial = &trial{config, e.versionLocked()}
		}
	}
	for _, x := range n.state.expected {
		switch {
		case x.App != a.name:
		case same && x.Revision == was.Revision:
			n.takeOverLocked(x, r)
		default:
			n.dismissLocked(x, "the application has changed")
		}
	}
}

// takeOverLocked expects a worker and its replicas. They count as being there, so that nothing is started in their place
// before it is known what has become of them.
func (n *Node) takeOverLocked(x *expected, r *revision) {
	w := &workerProc{
		node: n, id: x.ID, app: r.app, rev: r,
		opened: make(chan struct{}), refused: make(chan error, 1), stopped: make(chan struct{}),
	}
	hex.Decode(w.token[:], []byte(x.Token)) //nolint:errcheck // it was looked at when it was read
	n.workers[w.id] = w
	var units []*Unit
	b := birth{name: r.app.name}
	for _, sr := range x.Replicas {
		d := r.app.deployments[sr.Deployment]
		if d == nil || d.now.Load().revision != r {
			continue
		}
		u := n.unitOfLocked(d, sr.ID, time.Now())
		u.state, u.worker = helvetype.ReplicaRecovering, w
		if u.placement == inPython {
			b.name, b.deployment, b.replica, w.after = u.id, d.name, u.id, u.options.UnresponsiveAfter
		}
		units = append(units, u)
	}
	if b.replica == "" {
		b = n.goBirth(r, Program{})
		w.graph, w.after = b.graph, b.after
		r.goWorkerUp = make(chan struct{})
	}
	delete(n.state.expected, x.ID)
	close(x.decided)
	n.wg.Go(func() { n.takeOver(w, x, b, units) })
}

// takeOver waits for the worker and serves with what it still has. No replica takes another's place before the old
// process is gone: one that does not come within its grace is killed.
func (n *Node) takeOver(w *workerProc, x *expected, b birth, units []*Unit) {
	out := n.newOutlet(w, b.name, b.deployment, b.replica)
	proc, err := worker.Adopt(x.Process, out.command(worker.Command{}))
	if err != nil {
		out.close()
		n.mu.Lock()
		delete(n.workers, w.id)
		n.mu.Unlock()
		close(w.stopped)
		n.lost(w, units, err)
		n.seen()
		return
	}
	n.mu.Lock()
	w.proc = proc
	n.mu.Unlock()
	n.wg.Go(func() { w.watch(out) })
	late := time.NewTimer(n.state.grace)
	defer late.Stop()
	select {
	case <-w.opened:
		n.resumed(w, units)
		n.seen()
		return
	case err = <-w.refused:
	case <-w.stopped:
		err = errors.New("it ended")
	case <-late.C:
		err = fmt.Errorf("it did not dial in within %s", n.state.grace)
	case <-w.rev.ctx.Done():
		err = call.EndOf(w.rev.ctx)
	}
	proc.Kill()
	<-w.stopped
	n.lost(w, units, err)
	n.seen()
}

// goWorkerLocked says what has become of the Go worker that replicas wait for; nil: they start another.
func (r *revision) goWorkerLocked(w *workerProc) {
	if r.goWorkerUp == nil {
		return
	}
	r.goWorker = w
	if w != nil {
		select {
		case <-w.stopped:
			r.goWorker = nil
		default:
		}
	}
	close(r.goWorkerUp)
	r.goWorkerUp = nil
}

// lost lets others take the places of the replicas of a worker that is gone.
func (n *Node) lost(w *workerProc, units []*Unit, err error) {
	n.log.Warn("a worker of the node before is lost", "app", w.app.name, "worker", w.id, "error", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.graph != nil {
		w.rev.goWorkerLocked(nil)
	}
	for _, u := range units {
		n.forgetLocked(u)
		u.vacateLocked(&helvetype.Exit{Replica: u.id, Reason: "it was lost with its node: " + err.Error(), Code: -1, At: time.Now()})
	}
	n.wake()
}

// resumed puts the replicas of a worker that has dialled in back into service. What it has and nobody wants is stopped, what it
// lacks is started again.
func (n *Node) resumed(w *workerProc, units []*Unit) {
	n.mu.Lock()
	if w.graph != nil {
		w.rev.goWorkerLocked(w)
	}
	byID := map[string]*Unit{}
	for _, u := range units {
		byID[u.id] = u
	}
	if w.resume == nil { // it had only just been started
		w.resume = &wire.Resume{}
	}
	var kept []*Unit
	for _, r := range w.resume.Replicas {
		u := byID[r.Replica]
		delete(byID, r.Replica)
		if u == nil { // it became ready when the state was not saved yet
			d := w.app.deployments[r.Deployment]
			if d == nil || d.now.Load().revision != w.rev {
				n.wg.Go(func() { w.stopReplica(n.ctx, r.Replica) }) //nolint:errcheck // it ends with its worker at the latest
				continue
			}
			u = n.unitOfLocked(d, r.Replica, time.Now())
			u.state, u.worker = helvetype.ReplicaRecovering, w
		}
		u.resumeLocked(r)
		kept = append(kept, u)
	}
	for _, u := range byID {
		n.forgetLocked(u)
	}
	n.mu.Unlock()
	if w.graph == nil && len(kept) == 0 { // a Python worker is its replica
		n.wg.Go(func() { w.end(n.ctx) })
	}
	n.log.Info("a worker was taken over", "app", w.app.name, "worker", w.id, "pid", w.proc.PID(), "replicas", len(kept))
	for _, u := range kept {
		u.setModels(u.models)
		n.wg.Go(func() { n.finishStart(u, nil) })
	}
	n.wake()
}

// resumeLocked makes a unit of what a worker tells of a replica.
func (u *Unit) resumeLocked(r wire.Resumed) {
	u.checked, u.reports, u.models = r.Health, r.Reports, r.Models
	u.calls.Resume(r.Started, r.Failed)
	if u.placement == inPython {
		json.Unmarshal(r.Methods, &u.edition.methods) //nolint:errcheck // without them an ingress serves nothing, and says so
	}
	u.transport = &transport.Wire{Peer: u.worker.peer, Replica: u.id, Python: u.placement == inPython, Codec: u.dep.app.node.codec}
	u.version = -1 // Reconfigure brings it up to date
	if config, version := u.configLocked(); r.Config == spec.ConfigDigest(config) {
		u.version = version
	}
	for range max(r.Executing, 0) {
		if !u.gate.TryAcquire() { // it may have fewer slots than before
			u.loan.excess = r.Executing - u.loan.lent
			break
		}
		u.loan.lent++
	}
}

// setModels is a worker's: which models one of its replicas has.
func (s *session) setModels(_ context.Context, m protocol.Models) (done protocol.Done, err error) {
	s.node.mu.Lock()
	u := s.node.unitLocked(m.Replica)
	mine := u != nil && u.worker != nil && u.worker.peer == s.peer
	s.node.mu.Unlock()
	if !mine {
		return done, nil
	}
	u.setModels(m.Models)
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.node.unitLocked(m.Replica) != u { // it was forgotten meanwhile
		u.dep.Router.Forget(u)
	}
	return done, nil
}

// turnAway ends a connection so that the worker tries again.
func turnAway(nc net.Conn) error {
	nc.Close()
	return net.ErrClosed
}
