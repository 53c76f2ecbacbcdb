package guest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// waiting has a method that reports its start and waits for its end.
type waiting struct{ began, end chan struct{} }

func (w *waiting) Wait(context.Context, call.Empty) error {
	w.began <- struct{}{}
	<-w.end
	return nil
}

// node is the other side of a worker's connection. It records control requests and answers them, each when answer may.
type node struct {
	asked  chan string   // "op body", without the op in the body; nil: not recorded
	answer chan struct{} // one for each reply; nil: at once
}

func (node) Call(b *call.Batch, in *wire.Incoming) call.Canceler { return nil }
func (node) Route(wire.Route) any                                { return nil }
func (node) Goaway(wire.Goaway)                                  {}
func (n node) Control(_ context.Context, op string, body json.RawMessage) (any, error) {
	if n.asked != nil {
		n.asked <- strings.Replace(string(body), `"op":"`+op+`",`, "", 1)
	}
	if n.answer != nil {
		<-n.answer
	}
	return nil, nil
}

// InOrder says that reports of models and ends of leases are in order, as in the node ([session.Session.InOrder]).
func (n node) InOrder(op string) bool { return n.answer == nil && (op == "models" || op == "release") }

type done chan call.Result

func (d done) Complete(_ *call.Batch, r call.Result) { d <- r }

// TestBroadcastsHoldNoSlot: of the calls that run when a node goes, the next node counts ordinary calls, and no broadcasts.
func TestBroadcastsHoldNoSlot(t *testing.T) {
	t.Parallel()
	w := &waiting{make(chan struct{}), make(chan struct{})}
	g, there := connected(t, w, node{})
	here := g.peer.Load()
	to := &transport.Wire{Peer: there, Replica: "D#1", Codec: g.codec}
	results := make(done, 3)
	h := g.replicas["D#1"]
	for i, mode := range []call.Mode{call.Broadcast, call.Run, call.Broadcast} {
		c := &call.Call{Mode: mode, Want: call.Msgpack}
		c.Info = call.Info{Place: &call.Place{Method: "Wait"}, Request: call.NewID()}
		to.Start(nil, c, results)
		select {
		case <-w.began:
		case r := <-results:
			t.Fatal(r.Err)
		}
		if got, want := h.session.Load().running.Load(), int64(min(i, 1)); got != want {
			t.Errorf("after %d calls %d slots are counted", i+1, got)
		}
	}
	there.Close(wire.ErrClosed)
	<-here.Done()
	h.leave(newLink(g)).end()
	if got := h.describe().Executing; got != 1 {
		t.Errorf("the next node is told of %d calls", got)
	}
	for range 3 {
		w.end <- struct{}{}
		if r := <-results; !r.Lost {
			t.Errorf("%+v", r)
		}
	}
}

// connected is a worker that hosts the replica D#1 of w, and the node's end of its connection.
func connected(t *testing.T, w *waiting, n node) (*Guest, *wire.Peer) {
	t.Helper()
	class := &instance.Class{
		App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[*waiting]()),
		Construct: func(context.Context) (any, error) { return w, nil },
	}
	g := &Guest{set: Settings{Classes: map[string]*instance.Class{"D": class}}, codec: codec.New(), replicas: map[string]*hosted{}}
	g.control = g.operations()
	there := g.joins(t, n)
	if _, err := protocol.Ask(t.Context(), there, protocol.StartReplica{Replica: "D#1", Deployment: "D", TimeoutS: 60}); err != nil {
		t.Fatal(err)
	}
	return g, there
}

// joins connects the worker to a node, and gives the node's end.
func (g *Guest) joins(t *testing.T, n node) *wire.Peer {
	t.Helper()
	return g.joinsBy(t, n, wire.Terms{})
}

func (g *Guest) joinsBy(t *testing.T, n node, terms wire.Terms) *wire.Peer {
	t.Helper()
	a, b := pair(t)
	l := newLink(g)
	here, there := wire.NewPeer(wire.NewLink(wire.NewConn(a), terms), l), wire.NewPeer(wire.NewLink(wire.NewConn(b), terms), n)
	if terms.Bulk {
		c, d := pair(t)
		if err := errors.Join(here.Attach(c), there.Attach(d)); err != nil {
			t.Fatal(err)
		}
	}
	l.peer.Store(here)
	g.link = l
	g.peer.Store(here)
	var served sync.WaitGroup
	served.Go(func() { l.serve() })     //nolint:errcheck // it is closed
	served.Go(func() { there.Serve() }) //nolint:errcheck // as above
	t.Cleanup(func() {
		here.Close(wire.ErrClosed)
		there.Close(wire.ErrClosed)
		served.Wait()
	})
	return there
}

func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := kernel.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if out[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return out[0], out[1]
}
