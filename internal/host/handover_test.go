package host

import (
	"context"
	"encoding/json"
	"net"
	"testing"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
)

// oldWorker is the server of a worker that does not know the request of a handover.
type oldWorker struct {
	idleSession
	asked chan string
}

func (o oldWorker) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	o.asked <- op
	return protocol.NewTable("workers").Serve(ctx, op, body)
}

// TestHandoverOfOldWorker: a worker that does not know the request of a handover keeps its connection until its calls have ended, and no call comes to it
// meanwhile. Then the connection ends, and the worker looks for the next node.
func TestHandoverOfOldWorker(t *testing.T) {
	t.Parallel()
	x := newReporting(t, true)
	here, there := net.Pipe()
	x.worker.peer = wire.NewPeer(wire.NewLink(wire.NewConn(here), wire.Terms{}), idleSession{})
	old := oldWorker{asked: make(chan string, 9)}
	other := wire.NewPeer(wire.NewLink(wire.NewConn(there), wire.Terms{}), old)
	for _, p := range []*wire.Peer{x.worker.peer, other} {
		go p.Serve() //nolint:errcheck // it ends with the test
	}
	slots := x.replica.Slots()
	if !slots.TryAcquire() {
		t.Fatal("the replica has no slot")
	}
	told := make(chan struct{})
	go x.worker.handOver(t.Context(), func() { close(told) })
	<-told
	if op := <-old.asked; op != (protocol.Handover{}).Op() {
		t.Errorf("it was asked %s", op)
	}
	if slots.TryAcquire() {
		t.Error("a call has a slot after the handover")
	}
	select {
	case <-other.Done():
		t.Error("the connection has ended before the call")
	default:
	}
	slots.Release(nil)
	<-other.Done()
}
