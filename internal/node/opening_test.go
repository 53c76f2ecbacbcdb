package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// expecting is a node with a socket on which it expects the worker app-1, to which it gives the graph.
func expecting(t *testing.T) (*Node, *workerProc) {
	t.Helper()
	x := newTold(t, helvetype.ReplicaStarting)
	n, w := x.node, x.w
	w.token, w.graph = wire.NewToken(), &spec.Graph{App: "app"}
	w.opened, w.refused, w.stopped, w.after = make(chan struct{}), make(chan error, 1), make(chan struct{}), time.Hour
	t.Cleanup(func() { // as watch does when the process has ended
		select {
		case <-w.stopped:
		default:
			close(w.stopped)
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.workers[w.id] = w
	if err := n.listenLocked(); err != nil {
		t.Fatal(err)
	}
	return n, w
}

func (n *Node) dialSocket(t *testing.T) net.Conn {
	t.Helper()
	n.mu.Lock()
	path := n.socket.Path()
	n.mu.Unlock()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// half sends a hello for a worker, and reads the answer.
func half(t *testing.T, nc net.Conn, id string) {
	t.Helper()
	body, err := json.Marshal(wire.Hello{
		Protocol: [2]int{1, 2}, Kind: "worker", Connection: wire.ConnSmall, ID: id, Nonce: hex.EncodeToString(make([]byte, 16)),
		Features: []string{wire.FeatureReady, wire.FeatureArena}, Graph: json.RawMessage(`{"app":"another"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := wire.WriteFrame(nc, wire.TypeHello, 0, body); err != nil {
		t.Fatal(err)
	}
	if h, _, err := wire.ReadFrame(nc); err != nil || h.Type != wire.TypeHello {
		t.Fatalf("%+v, %v", h, err)
	}
}

// TestStrangersDoNotHarmAWorker: processes that dial without the token, however many, are refused; the worker whose id they say is still
// expected, and opens its connection.
func TestStrangersDoNotHarmAWorker(t *testing.T) {
	t.Parallel()
	n, w := expecting(t)
	for range 5 {
		nc := n.dialSocket(t)
		half(t, nc, w.id)
		if err := wire.WriteFrame(nc, wire.TypeProof, 0, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
		if h, body, err := wire.ReadFrame(nc); err != nil || h.Type != wire.TypeGoaway || !strings.Contains(string(body), "wrong token") {
			t.Errorf("%+v %s, %v", h, body, err)
		}
		half(t, n.dialSocket(t), w.id) // and one that stays as it is
	}
	nc := n.dialSocket(t)
	_, err := wire.Open(nc, w.token, wire.Hello{Kind: "worker", ID: w.id, Graph: json.RawMessage(`{"app":"app"}`)})
	if err != nil {
		t.Fatal(err)
	}
	<-w.opened
	again := n.dialSocket(t)
	_, err = wire.Open(again, w.token, wire.Hello{Kind: "worker", ID: w.id, Graph: json.RawMessage(`{"app":"app"}`)})
	if _, refused := errors.AsType[*wire.RefusedError](err); !refused {
		t.Errorf("a second connection: %v", err)
	}
	select {
	case err := <-w.refused:
		t.Errorf("the worker was given up: %v", err)
	default:
	}
}

// TestTheWorkersOwnMistakeEndsItsStart: what a worker that has the token says wrongly is the error of its start.
func TestTheWorkersOwnMistakeEndsItsStart(t *testing.T) {
	t.Parallel()
	n, w := expecting(t)
	for range 3 { // nobody waits for the errors: none of the connections waits for anybody
		_, err := wire.Open(n.dialSocket(t), w.token, wire.Hello{Kind: "worker", ID: w.id, Graph: json.RawMessage(`{"app":"another"}`)})
		if _, refused := errors.AsType[*wire.RefusedError](err); !refused || !strings.Contains(err.Error(), "is not the same in its worker") {
			t.Error(err)
		}
	}
	if err := <-w.refused; !strings.Contains(err.Error(), "is not the same in its worker") {
		t.Error(err)
	}
}

// TestHalfOpenConnectionsAreBounded: over the limit the oldest of those that are in their opening is closed, and all are when
// the node ends.
func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	n, w := expecting(t)
	first := n.dialSocket(t)
	half(t, first, w.id)
	var last net.Conn
	for range halfOpenMax {
		last = n.dialSocket(t)
		half(t, last, w.id)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the oldest: %v", err)
	}
	nc := n.dialSocket(t)
	_, err := wire.Open(nc, w.token, wire.Hello{Kind: "worker", ID: w.id, Graph: json.RawMessage(`{"app":"app"}`)})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	close(w.stopped)
	n.mu.Lock()
	clear(n.apps)
	n.mu.Unlock()
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the newest: %v", err)
	}
}
