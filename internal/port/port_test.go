package port

import (
	"context"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/wire"
)

// node is the far side of a connection. It answers the calls that answer says.
type node struct {
	wire.Server
	answer bool
	calls  chan *wire.Incoming
}

func (node) Route(wire.Route) any { return nil }
func (n node) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	if n.answer {
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.JSON, Data: []byte(`"done"`)}})
	}
	n.calls <- in
	return nil
}
func (node) Control(context.Context, string, json.RawMessage) (any, error) { return nil, nil }

// nodes are connections that follow each other.
type nodes struct {
	mu   sync.Mutex
	peer *wire.Peer
	then func(*wire.Peer, *call.Error) // of a call that waits
}

func (n *nodes) Peer() *wire.Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peer
}

func (n *nodes) Next(_ *wire.Peer, then func(*wire.Peer, *call.Error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.then = then
}

func (*nodes) Lost() *call.Error { return call.NewError(helvetype.ReasonMayHaveRun, "lost") }

// come gives the call that waits its connection.
func (n *nodes) come(p *wire.Peer, e *call.Error) {
	synctest.Wait()
	n.mu.Lock()
	then := n.then
	n.then = nil
	n.mu.Unlock()
	if then != nil {
		then(p, e)
	}
}

// connect is a connection to a node.
func connect(t *testing.T, n node) (here, there *wire.Peer) {
	t.Helper()
	a, b := net.Pipe()
	here = wire.NewPeer(wire.NewLink(wire.NewConn(a), wire.Terms{}), node{})
	there = wire.NewPeer(wire.NewLink(wire.NewConn(b), wire.Terms{}), n)
	var served sync.WaitGroup
	served.Go(func() { here.Serve() })  //nolint:errcheck // it is closed
	served.Go(func() { there.Serve() }) //nolint:errcheck // as above
	t.Cleanup(func() {
		here.Close(wire.ErrClosed)
		there.Close(wire.ErrClosed)
		served.Wait()
	})
	return here, there
}

// noItems is a reader of a stream that comes to nothing.
type noItems struct{ call.Items }

// TestConnectionEnds: the end of a connection ends a call, or sends it to the next node.
func TestConnectionEnds(t *testing.T) {
	t.Parallel()
	idempotent := &call.Options{Idempotent: true}
	for name, x := range map[string]struct {
		call   call.Call
		unsent bool             // the connection has ended before the call was sent
		again  bool             // the call goes to the next node
		reason helvetype.Reason // of a call that does not
	}{
		"not sent":            {call.Call{}, true, true, ""},
		"running":             {call.Call{}, false, false, helvetype.ReasonMayHaveRun},
		"running, idempotent": {call.Call{Options: idempotent}, false, true, ""},
		"reservation":         {call.Call{Mode: call.Reserve}, false, true, ""},
		"stream":              {call.Call{Items: noItems{}, Window: call.Room, Options: idempotent}, false, false, helvetype.ReasonMayHaveRun},
		"reserved, not sent":  {call.Call{Lease: 7}, true, false, helvetype.ReasonReplicaUnavailable},
		"reserved, running":   {call.Call{Lease: 7, Options: idempotent}, false, false, helvetype.ReasonMayHaveRun},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := make(chan *wire.Incoming, 9)
				first, node1 := connect(t, node{calls: calls})
				ns := &nodes{peer: first}
				p := New(ns, Target{App: "app", Deployment: "D"}, codec.New())
				c := x.call
				c.Info = call.Info{Place: &call.Place{Method: "M"}, Request: call.NewID()}
				if x.unsent {
					node1.Close(wire.ErrClosed)
					<-first.Done()
				}
				w := call.NewWaiter()
				p.Submit(nil, &c, w)
				if !x.unsent {
					<-calls
					node1.Close(wire.ErrClosed)
				}
				next, _ := connect(t, node{answer: true, calls: calls})
				ns.come(next, nil)
				_, failure := w.Wait(t.Context(), nil)
				switch {
				case x.again && (failure != nil || len(calls) != 1):
					t.Errorf("%v, %d calls at the next node", failure, len(calls))
				case !x.again && (failure == nil || failure.Reason != x.reason || failure.Deployment != "" && failure.RequestID == "" || len(calls) > 0):
					t.Errorf("%+v, %d calls at the next node; want the reason %s", failure, len(calls), x.reason)
				}
			})
		})
	}
}

// TestRepeatedOnce: a call that may run twice does not run three times.
func TestRepeatedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan *wire.Incoming, 9)
		first, node1 := connect(t, node{calls: calls})
		ns := &nodes{peer: first}
		p := New(ns, Target{App: "app", Deployment: "D"}, codec.New())
		c := call.Call{Options: &call.Options{Idempotent: true}}
		c.Info = call.Info{Place: &call.Place{Method: "M"}, Request: call.NewID()}
		w := call.NewWaiter()
		p.Submit(nil, &c, w)
		<-calls
		node1.Close(wire.ErrClosed)
		second, node2 := connect(t, node{calls: calls})
		ns.come(second, nil)
		<-calls
		node2.Close(wire.ErrClosed)
		if _, failure := w.Wait(t.Context(), nil); failure == nil || failure.Reason != helvetype.ReasonMayHaveRun {
			t.Error(failure)
		}
	})
}

// TestCancelWhileWaiting: a call that is cancelled while it waits for the next node never runs.
func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ns := &nodes{}
		p := New(ns, Target{App: "app", Deployment: "D"}, codec.New())
		c := &call.Call{Info: call.Info{Place: &call.Place{Method: "M"}, Request: call.NewID()}}
		w := call.NewWaiter()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, failure := w.Wait(ctx, p.Submit(nil, c, w)); failure == nil || failure.Reason != helvetype.ReasonCancelled {
			t.Error(failure)
		}
		calls := make(chan *wire.Incoming, 1)
		next, _ := connect(t, node{answer: true, calls: calls})
		ns.come(next, nil)
		synctest.Wait()
		if len(calls) > 0 {
			t.Error("the call has run")
		}
	})
}

// TestNoNextNode: the failure of the wait is the failure of the call.
func TestNoNextNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ns := &nodes{}
		p := New(ns, Target{App: "app", Deployment: "D"}, codec.New())
		c := &call.Call{Info: call.Info{Place: &call.Place{App: "app", Deployment: "D", Method: "M"}, Request: call.NewID()}}
		w := call.NewWaiter()
		p.Submit(nil, c, w)
		ns.come(nil, call.NewError(helvetype.ReasonReplicaUnavailable, "gone"))
		if _, failure := w.Wait(t.Context(), nil); failure == nil || failure.Message != "gone" || failure.Deployment != "D" {
			t.Errorf("%+v", failure)
		}
	})
}
