package guest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// nodeSession is the time of a replica under one node. The node counts the slots of the replica, so calls that run when the
// node goes are counted by the node after it, its successor, until they end.
//
// A node that hands over lives on beside its successor, and says itself how many slots it holds (handover.go).
//
// Example: a session ends with three running calls. The successor is told of three (report), and counts three slots as
// taken. Two of the calls end: the session gives two slots back (reportFinished). The successor is killed, a third node
// dials in: report says one. Then the last call ends, and one slot goes back to the third node.
//
// The session is the serving.Replica of callers in this process: its gate has the slots that the node has lent.
type nodeSession struct {
	serving.Base
	guest   *Guest
	link    *link
	replica *hosted
	slots   *gate.LocalSlots // lent by the node, for calls from this process
	idle    *time.Timer      // gives lent slots back that have no use

	// running counts calls from the node that have not ended. When the session has ended it counts calls under lent slots too.
	running atomic.Int64
	over    atomic.Bool // the node has gone

	mu        sync.Mutex
	handed    bool       // the node has handed over, and lives
	held      int64      // slots that such a node holds
	reported  int64      // calls that the successor counts: the calls of the last report without the slots given back since
	successor *wire.Peer // nil until a node has taken over
	faults    int        // calls under lent slots that have failed for a reason of the system, and that the node was not told of
	fault     string     // the last of them
	reporting bool       // a goroutine tells the node of faults
}

// ID is the replica's id.
func (s *nodeSession) ID() string { return s.replica.instance.ID }

// Node is "": a worker does not know the name of its node.
func (s *nodeSession) Node() string { return "" }

// Gate has the slots that the node has lent.
func (s *nodeSession) Gate() router.Gate { return s.slots }

// Instance is the instance, for callers in this process.
func (s *nodeSession) Instance() *instance.Instance { return s.replica.inline }

// Transport is nil: the callers are in this process.
func (s *nodeSession) Transport() transport.Transport { return nil }

// idleTime is how long the worker keeps lent slots without use.
const idleTime = time.Second

// startSession begins a session with the node that the worker is connected to, or with the next node.
func (h *hosted) startSession(l *link) {
	s := &nodeSession{guest: h.guest, link: l, replica: h}
	s.slots = gate.NewLocalSlots(func(_ *call.Batch, n int) { s.giveBack(l.peer.Load(), n) })
	s.idle = time.AfterFunc(time.Hour, func() {
		if !s.slots.ReturnIdle() {
			s.idle.Reset(idleTime)
		}
	})
	s.idle.Stop()
	s.FailWith(s.noteFault)
	h.session.Store(s)
}

// noteFault tells the node of a call under a lent slot that has failed for a reason of the system. It does not wait: calls that fail while one report is under way go
// together with the next one. A node that has gone decides nothing.
func (s *nodeSession) noteFault(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = text
	if s.faults++; s.reporting {
		return
	}
	s.reporting = true
	go func() {
		for {
			s.mu.Lock()
			n, text := s.faults, s.fault
			s.faults = 0
			if n == 0 || s.over.Load() {
				s.reporting = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
			protocol.Ask(context.Background(), s.link.peer.Load(), protocol.Faults{Replica: s.ID(), Calls: n, Error: text}) //nolint:errcheck // see above
		}
	}()
}

// giveBack tells a node that n slots are free. It does not wait.
func (s *nodeSession) giveBack(to *wire.Peer, n int) {
	go protocol.Ask(context.Background(), to, protocol.ReturnBlock{Replica: s.replica.instance.ID, Slots: n}) //nolint:errcheck // a node that has gone counts nothing
}

// Ended counts the end of a call from the node.
func (s *nodeSession) Ended() {
	s.running.Add(-1)
	if s.over.Load() {
		s.reportFinished(nil)
	}
}

// end ends the session, because the node has gone. No call takes a lent slot of it any more.
func (s *nodeSession) end() {
	s.idle.Stop()
	s.over.Store(true)
	s.running.Add(int64(s.slots.Abandon(func(_ *call.Batch, n int) {
		for range n {
			s.Ended()
		}
	})))
	s.mu.Lock()
	s.handed = false
	s.mu.Unlock()
	s.reportFinished(nil) // slots of a node that had handed over, in which no call runs
}

// count is the number of slots that a successor has to count: of calls that run, or of a node that has handed over.
func (s *nodeSession) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.countLocked()
}

func (s *nodeSession) countLocked() int64 {
	if s.handed {
		return s.held
	}
	return s.running.Load()
}

// report gives the number of slots that the calls of the session hold, for the hello to a node that may become the successor. Slots that are free from now
// on are given back to that node by reportFinished.
func (s *nodeSession) report() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.successor = nil
	s.reported = s.countLocked()
	return int(s.reported)
}

// reportFinished gives the slots of calls that have ended since the last report back to the successor. A successor that is
// not nil is a node that has just taken over.
func (s *nodeSession) reportFinished(successor *wire.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if successor != nil {
		s.successor = successor
	}
	if n := s.reported - s.countLocked(); n > 0 && s.successor != nil {
		s.reported -= n
		s.giveBack(s.successor, int(n))
	}
}

// addSlots offers lent slots of a replica to callers in this process. Slots of a node that has handed over meanwhile go back at once.
func (g *Guest) addSlots(h *hosted, s *nodeSession, k protocol.GrantBlock) {
	if s == nil {
		return // no slot of its node is counted any more
	}
	g.mu.Lock()
	for _, p := range g.ports {
		if s == h.session.Load() && p.Target().Deployment == h.instance.Class.Deployment {
			p.Lend(s)
		}
	}
	g.mu.Unlock()
	s.slots.Grant(nil, k.Number, k.Slots)
	if s == h.session.Load() {
		s.idle.Reset(idleTime)
	}
}

// withdrawSlots hides a replica from callers in this process, because it stops or its node has gone.
func (g *Guest) withdrawSlots(s *nodeSession) {
	s.idle.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.ports {
		p.Withdraw(s)
	}
}
