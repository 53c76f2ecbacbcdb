package host

import (
	"cmp"
	"context"
	"fmt"
	"net"

	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// open completes the opening of a worker's connection and serves it until it ends. Until the dialler has proved that it has the worker's
// token it may be any process of this user: it is refused without a trace at the worker whose id it says.
func (ws *Workers) open(nc net.Conn) {
	opened, ok := ws.openings.Add(nc)
	if !ok {
		nc.Close()
		return
	}
	var w *Worker
	var admitted, proved bool
	offer := wire.Offer{
		Version: ws.set.Version, MaxBody: ws.set.MaxBody, Features: []string{wire.FeatureBulk, wire.FeatureSegments, wire.FeatureArena, wire.FeatureHTTP},
		Admit: func(h wire.Hello) error {
			if h.Connection != wire.ConnSmall {
				return nil
			}
			if err := ws.admit(w); err != nil {
				return err
			}
			proved = true
			err := spec.CheckBuilt(w.graph, w.app.name, h.Graph, h.GraphDigest)
			if h.Resume != nil {
				err = cmp.Or(h.Resume.Check(), err)
			}
			if admitted = err == nil; !admitted {
				ws.dismiss(w) // before the worker knows, because it may dial again at once
			}
			return err
		},
		Arena: func(wire.Hello) *wire.Arena { return ws.share(w) },
	}
	h, err := offer.Accept(nc, func(h wire.Hello) (wire.Token, error) {
		ws.awaitDecision(h.ID)
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if ws.former.expected[h.ID] != nil {
			return wire.Token{}, turnAway(nc)
		}
		if w = ws.all[h.ID]; w == nil || h.Kind != "worker" {
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
		ws.answer(w, nc, h.Terms)
		return
	}
	if err != nil {
		if admitted {
			ws.dismiss(w)
		}
		if proved {
			select {
			case w.refused <- err:
			default: // the first says it
			}
		}
		nc.Close()
		return
	}
	s := ws.set.NewSession(w, h.ReferenceOver, false)
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), h.Terms), s)
	s.Attach(peer)
	ws.mu.Lock()
	if w.memory != nil {
		w.memory.Use(peer)
	}
	w.peer, w.resume = peer, h.Resume
	ws.mu.Unlock()
	close(w.opened)
	ws.wg.Go(w.ping)
	err = peer.Serve()
	s.Close()
	ws.mu.Lock()
	replicas := w.replicasLocked()
	ws.mu.Unlock()
	for _, r := range replicas {
		r.slots.End()
	}
	ws.log.Debug("worker connection ended", "worker", w.id, "error", err)
	// A worker without its connection is of no use. If no other goroutine ends it already, it must go at once, so that its
	// replacement does not run beside it.
	if !w.ending.Load() {
		w.awaitEnd()
		w.proc.Kill()
	}
}

// admit takes the one connection of a worker that has proved its token.
func (ws *Workers) admit(w *Worker) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.admitted || ws.all[w.id] != w {
		return fmt.Errorf("no worker %q is expected here", w.id)
	}
	w.admitted = true
	return nil
}

// dismiss takes back the admission of a worker whose opening has failed: a worker that lives on, with its node's state, dials again.
func (ws *Workers) dismiss(w *Worker) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.admitted = false
}

// answer serves a connection on which code in a worker asks for a thing by itself, because it holds up the reader of the worker's first one.
func (ws *Workers) answer(w *Worker, nc net.Conn, terms wire.Terms) {
	s := ws.set.NewSession(w, 0, true)
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), terms), s)
	s.Attach(peer)
	stop := context.AfterFunc(ws.ctx, func() { peer.Close(context.Cause(ws.ctx)) })
	defer stop()
	peer.Serve() //nolint:errcheck // it ends when the worker has its answer
	s.Close()
}

// attach gives a worker's peer its second connection. The first one's opening may be just ending.
func (w *Worker) attach(nc net.Conn) {
	select {
	case <-w.opened:
		if err := w.peer.Attach(nc); err != nil {
			w.workers.log.Warn("a worker's second connection", "worker", w.id, "error", err)
		}
	case <-w.stopped:
		nc.Close()
	}
}
