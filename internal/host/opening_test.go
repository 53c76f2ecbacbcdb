package host

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// idleSession is the session of a worker that asks for nothing.
type idleSession struct{}

func (idleSession) Attach(*wire.Peer)                                             {}
func (idleSession) Close()                                                        {}
func (idleSession) Route(wire.Route) any                                          { return nil }
func (idleSession) Call(*call.Batch, *wire.Incoming) call.Canceler                { return nil }
func (idleSession) Goaway(wire.Goaway)                                            {}
func (idleSession) Control(context.Context, string, json.RawMessage) (any, error) { return nil, nil }

// newExpecting makes a socket on which the worker app-1 is expected, to which the graph is given.
func newExpecting(t *testing.T) *reporting {
	t.Helper()
	x := newReporting(t, false)
	w := x.worker
	w.token, w.graph, w.after = wire.NewToken(), &spec.Graph{App: "app"}, time.Hour
	t.Cleanup(x.stop)
	if _, err := x.workers.Dir(); err != nil { // opens the socket
		t.Fatal(err)
	}
	return x
}

// stop ends the worker, as watch does when the process has ended.
func (x *reporting) stop() {
	select {
	case <-x.worker.stopped:
	default:
		close(x.worker.stopped)
	}
}

func (x *reporting) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.Dial("unix", x.workers.socket.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// open opens a connection of the worker, which has built the application.
func (x *reporting) open(nc net.Conn, app string) error {
	_, err := wire.Open(nc, x.worker.token, wire.Hello{Kind: "worker", ID: x.worker.id, Graph: json.RawMessage(`{"app":"` + app + `"}`)})
	return err
}

// half sends a hello for the worker, and reads the answer.
func (x *reporting) half(t *testing.T, nc net.Conn) {
	t.Helper()
	body, err := json.Marshal(wire.Hello{
		Protocol: [2]int{1, 2}, Kind: "worker", Connection: wire.ConnSmall, ID: x.worker.id, Nonce: hex.EncodeToString(make([]byte, 16)),
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

// TestStrangersDoNotHarmAWorker: processes that dial without the token, however many, are refused. The worker whose id they say is still
// expected, and opens its connection.
func TestStrangersDoNotHarmAWorker(t *testing.T) {
	t.Parallel()
	x := newExpecting(t)
	for range 5 {
		nc := x.dial(t)
		x.half(t, nc)
		if err := wire.WriteFrame(nc, wire.TypeProof, 0, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
		if h, body, err := wire.ReadFrame(nc); err != nil || h.Type != wire.TypeGoaway || !strings.Contains(string(body), "wrong token") {
			t.Errorf("%+v %s, %v", h, body, err)
		}
		x.half(t, x.dial(t)) // a connection whose opening never ends
	}
	if err := x.open(x.dial(t), "app"); err != nil {
		t.Fatal(err)
	}
	<-x.worker.opened
	err := x.open(x.dial(t), "app")
	if _, refused := errors.AsType[*wire.RefusedError](err); !refused {
		t.Errorf("a second connection: %v", err)
	}
	select {
	case err := <-x.worker.refused:
		t.Errorf("the worker was given up: %v", err)
	default:
	}
}

// TestTheWorkersOwnMistakeEndsItsStart: a mistake of a worker that has the token is the error of its start.
func TestTheWorkersOwnMistakeEndsItsStart(t *testing.T) {
	t.Parallel()
	x := newExpecting(t)
	for range 3 { // the errors are not read meanwhile: no connection waits for that
		err := x.open(x.dial(t), "another")
		if _, refused := errors.AsType[*wire.RefusedError](err); !refused || !strings.Contains(err.Error(), "is not the same in its worker") {
			t.Error(err)
		}
	}
	if err := <-x.worker.refused; !strings.Contains(err.Error(), "is not the same in its worker") {
		t.Error(err)
	}
}

// TestHalfOpenConnectionsAreBounded: over the limit the oldest connection in its opening is closed, and all of them are closed when
// the node ends.
func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	x := newExpecting(t)
	first := x.dial(t)
	x.half(t, first)
	var last net.Conn
	for range listen.HalfOpenMax {
		last = x.dial(t)
		x.half(t, last)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the oldest: %v", err)
	}
	nc := x.dial(t)
	if err := x.open(nc, "app"); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	x.stop()
	x.close()
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the newest: %v", err)
	}
}

// endedCall is the sink of a call.
type endedCall chan call.Result

func (e endedCall) Complete(_ *call.Batch, r call.Result) { e <- r }

// TestWorkerThatLeavesGetsNoCalls: the replicas of a worker that takes no more calls get none, neither ordinary calls nor broadcasts.
// Replicas of other workers are not concerned.
func TestWorkerThatLeavesGetsNoCalls(t *testing.T) {
	t.Parallel()
	x := newReporting(t, true)
	second := x.add(t, "D#2")
	x.workers.mu.Lock()
	other := x.workers.newWorkerLocked("app-2", x.worker.app)
	x.workers.mu.Unlock()
	other.proc = x.worker.proc
	third, err := other.newReplica(x.replica.dep, Launch{ID: "D#3", Life: t.Context()}, true)
	if err != nil {
		t.Fatal(err)
	}
	x.worker.Leave(wire.Goaway{Reason: "leaving"})
	for _, r := range []*workerReplica{x.replica, second} {
		if r.Slots().TryAcquire() {
			t.Errorf("replica %s takes calls", r.ID())
		}
		done := make(endedCall, 1)
		c := &call.Call{}
		c.Info.Place = &call.Place{App: "app", Deployment: "D", Method: "M"}
		newDeployment().SubmitControl(r, c, done)
		if got := <-done; got.Err == nil || got.Err.Reason != helvetype.ReasonReplicaUnavailable {
			t.Errorf("a broadcast to replica %s: %+v", r.ID(), got.Err)
		}
	}
	if !third.Slots().TryAcquire() {
		t.Error("a replica of another worker takes no calls")
	}
}

// TestWorkerThatLeavesAndStaysIsKilled: the end of a process may be held up, and the node does not wait for ever.
func TestWorkerThatLeavesAndStaysIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := &reporting{workers: newIdleWorkers()}
		defer x.workers.Close(errors.New("the test is over"))
		w := &Worker{workers: x.workers, app: x.workers.NewApp("app"), replicas: map[string]*workerReplica{}}
		w.proc = worker.InProcess(func(ctx context.Context) error {
			<-ctx.Done() // until it is killed
			return nil
		})
		begun := time.Now()
		w.Leave(wire.Goaway{Reason: "leaving"})
		<-w.proc.Done()
		if exit := w.proc.Exit(); !exit.Killed || time.Since(begun) != leaveTime {
			t.Errorf("%+v after %s", exit, time.Since(begun))
		}
	})
}
