package guest

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/protocol"
)

// hosted are the replicas of the worker.
func (g *Guest) hosted() []*hosted {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*hosted, 0, len(g.replicas))
	for _, h := range g.replicas {
		all = append(all, h)
	}
	return all
}

// handover begins the change to the next node: calls of this one go on under the slots that it names, and the goroutine of [Guest.Serve] dials
// the next node. A replica that is just being started is started anew by the next node.
func (g *Guest) handover(ctx context.Context, req protocol.Handover) (done protocol.Done, err error) {
	l := linkOf(ctx)
	if g.grace == 0 {
		return done, errors.New("this worker ends with its node")
	}
	g.handing.Lock()
	defer g.handing.Unlock()
	if l.handedOver() || g.link != l {
		return done, nil
	}
	next := newLink(g)
	for _, h := range g.hosted() {
		h.leave(next).retire(int64(req.Slots[h.instance.ID]))
	}
	l.next, g.link = next, next
	close(l.left)
	return done, nil
}

// freeBlock notes that the former node holds fewer slots of a replica.
func (g *Guest) freeBlock(ctx context.Context, req protocol.FreeBlock) (done protocol.Done, err error) {
	h, err := g.find(req.Replica)
	if err != nil {
		return done, nil // it has stopped meanwhile, and its gate with it
	}
	if s := h.sessionWith(linkOf(ctx)); s != nil {
		s.free(int64(req.Slots))
	}
	return done, nil
}

// leave ends the session of a replica with its node, or, if that hands over, makes it a former one. The next session begins.
func (h *hosted) leave(next *link) (former *nodeSession) {
	former = h.session.Load()
	h.guest.withdrawSlots(former)
	h.mu.Lock()
	h.ended = append(h.ended, former) // before the next one begins: a call of the former node finds it here
	h.mu.Unlock()
	h.startSession(next)
	h.guest.drains.Add(h.instance.ID) // the next node says whether its drain begins
	return former
}

// sessionWith is the session of a link; nil if it is over, and no call of it runs.
func (h *hosted) sessionWith(l *link) *nodeSession {
	if s := h.session.Load(); s.link == l {
		return s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.ended {
		if s.link == l {
			return s
		}
	}
	return nil
}

// retire notes that the node has handed over, and holds a number of slots until it frees each ([nodeSession.free]). Lent slots go back to it: idle
// ones now, and others when their calls end.
func (s *nodeSession) retire(held int64) {
	s.mu.Lock()
	s.handed, s.held = true, held
	s.mu.Unlock()
	if n := s.slots.Recall(^uint64(0)); n > 0 {
		s.giveBack(s.link.peer.Load(), n)
	}
}

// free notes that the node of a retired session holds fewer slots.
func (s *nodeSession) free(n int64) {
	s.mu.Lock()
	s.held = max(s.held-n, 0)
	s.mu.Unlock()
	s.reportFinished(nil)
}

// errNodeLeft is the failure of a start whose node has gone, or has handed over, when the constructor returned.
var errNodeLeft = errors.New("the node that wanted the replica has left")
