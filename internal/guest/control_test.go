package guest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// TestControl: the requests of a node, as they arrive over a connection.
func TestControl(t *testing.T) {
	t.Parallel()
	none := helvetype.ReasonReplicaUnavailable
	t.Run("requests about a replica that is not here", func(t *testing.T) {
		t.Parallel()
		_, there := connected(t, &waiting{}, node{})
		for op, ask := range map[string]func() error{
			"check_health":  func() error { return asked(t, there, protocol.CheckHealth{Replica: "D#2"}) },
			"check_ready":   func() error { return asked(t, there, protocol.CheckReady{Replica: "D#2"}) },
			"reconfigure":   func() error { return asked(t, there, protocol.Reconfigure{Replica: "D#2"}) },
			"routing_stats": func() error { return asked(t, there, protocol.RoutingStats{Replica: "D#2"}) },
			"grant_block":   func() error { return asked(t, there, protocol.GrantBlock{Replica: "D#2"}) },
			"recall_block":  func() error { return asked(t, there, protocol.RecallBlock{Replica: "D#2"}) },
		} {
			if e := call.AsError(ask()); e.Reason != none {
				t.Errorf("%s: %v", op, e)
			}
		}
		if err := asked(t, there, protocol.StopReplica{Replica: "D#2"}); err != nil {
			t.Errorf("stop_replica of a replica that is stopped: %v", err)
		}
	})
	t.Run("a deployment that is not here", func(t *testing.T) {
		t.Parallel()
		_, there := connected(t, &waiting{}, node{})
		err := asked(t, there, protocol.StartReplica{Replica: "E#1", Deployment: "E"})
		if err == nil || !strings.Contains(err.Error(), "deployment E is not written in Go") {
			t.Error(err)
		}
	})
	t.Run("a request of a driver", func(t *testing.T) {
		t.Parallel()
		_, there := connected(t, &waiting{}, node{})
		if e := call.AsError(asked(t, there, protocol.Delete{Name: "a"})); e.Reason != helvetype.ReasonBadInput || e.Message != `control request "delete" is not for Go workers` {
			t.Error(e)
		}
	})
	t.Run("a replica that was stopped takes no calls", func(t *testing.T) {
		t.Parallel()
		_, there := connected(t, &waiting{}, node{})
		if err := asked(t, there, protocol.StopReplica{Replica: "D#1", TimeoutS: 60}); err != nil {
			t.Fatal(err)
		}
		results := make(done, 1)
		to := &transport.Wire{Peer: there, Replica: "D#1", Codec: codec.New()}
		to.Start(nil, &call.Call{Info: call.Info{Place: &call.Place{Method: "Wait"}, Request: call.NewID()}}, results)
		if r := <-results; r.Err == nil || r.Err.Reason != none {
			t.Errorf("%+v", r)
		}
	})
}

func asked[R any](t *testing.T, to protocol.Caller, request protocol.Request[R]) error {
	t.Helper()
	_, err := protocol.Ask(t.Context(), to, request)
	return err
}

// TestLentSlots: callers in the worker take slots that the node has lent, until the node recalls them.
func TestLentSlots(t *testing.T) {
	t.Parallel()
	n := node{asked: make(chan string, 9)}
	w := &waiting{}
	g, there := connected(t, w, n)
	port, other := g.Port("app", "D", false), g.Port("app", "E", false)
	if port.TryAcquire() != nil {
		t.Error("a slot that was not lent")
	}
	if err := asked(t, there, protocol.GrantBlock{Replica: "D#1", Number: 1, Slots: 2}); err != nil {
		t.Fatal(err)
	}
	first, second := port.TryAcquire(), port.TryAcquire()
	if first == nil || second == nil || port.TryAcquire() != nil || other.TryAcquire() != nil {
		t.Fatalf("of two slots: %v and %v", first, second)
	}
	if first.ID() != "D#1" || first.Instance().ID != "D#1" {
		t.Errorf("a slot of %s", first.ID())
	}
	first.Gate().Release(nil)
	got, err := protocol.Ask(t.Context(), there, protocol.RecallBlock{Replica: "D#1", Number: 2})
	if err != nil || got.Slots != 1 {
		t.Errorf("%d slots were recalled, one was idle: %v", got.Slots, err)
	}
	second.Gate().Release(nil)
	if got := <-n.asked; got != `{"replica":"D#1","slots":1}` {
		t.Errorf("the slot in use returned as %s", got)
	}
	if err := asked(t, there, protocol.GrantBlock{Replica: "D#1", Number: 3, Slots: 1}); err != nil {
		t.Fatal(err)
	}
	g.withdrawSlots(g.replicas["D#1"].session.Load())
	if port.TryAcquire() != nil {
		t.Error("a slot of a replica that stops")
	}
}

// TestSessions: the example of nodeSession. Three calls run when their node goes; the next nodes count the calls that run.
func TestSessions(t *testing.T) {
	t.Parallel()
	g, there := connected(t, &waiting{}, node{})
	h := g.replicas["D#1"]
	s := h.session.Load()
	s.running.Store(3)
	there.Close(wire.ErrClosed)
	h.leave(newLink(g)).end()
	if got := h.describe().Executing; got != 3 {
		t.Errorf("the second node is told of %d calls", got)
	}
	s.Ended() // between the hello and the take-over: it is kept for the successor
	second := node{asked: make(chan string, 9)}
	g.joins(t, second)
	h.handOver(g.peer.Load())
	for range 2 {
		if got := <-second.asked; got != `{"replica":"D#1","slots":1}` {
			t.Errorf("the second node got %s", got)
		}
		if s.running.Load() == 2 {
			s.Ended()
		}
	}
	if got := h.describe().Executing; got != 1 {
		t.Errorf("the third node is told of %d calls", got)
	}
	third := node{asked: make(chan string, 9)}
	g.joins(t, third)
	h.handOver(g.peer.Load())
	s.Ended()
	if got := <-third.asked; got != `{"replica":"D#1","slots":1}` {
		t.Errorf("the third node got %s", got)
	}
	if h.describe(); len(h.ended) > 0 || len(second.asked) > 0 {
		t.Errorf("%d sessions are kept without calls; the second node got %d messages more", len(h.ended), len(second.asked))
	}
}

// TestModelsAtOnce: each change of the models is sent when it happens, before the frames that come next, also while the reports before are not answered.
func TestModelsAtOnce(t *testing.T) {
	t.Parallel()
	n := node{asked: make(chan string, 9)}
	g, _ := connected(t, &waiting{}, n)
	h := g.replicas["D#1"]
	h.setModels([]string{"a"})
	h.setModels([]string{"a", "b"})
	h.setModels([]string{"b"})
	if sent, err := protocol.Tell(g.peer.Load(), protocol.Release{Lease: 7}); !sent || err != nil {
		t.Fatal(sent, err)
	}
	for _, want := range []string{`{"replica":"D#1","models":["a"]}`, `{"replica":"D#1","models":["a","b"]}`, `{"replica":"D#1","models":["b"]}`, `{"lease":7}`} {
		if got := <-n.asked; got != want {
			t.Errorf("the node got %s, want %s", got, want)
		}
	}
}

// TestLongListsInOrder: a list of models that goes over the second connection is not overtaken by the shorter one after it.
func TestLongListsInOrder(t *testing.T) {
	t.Parallel()
	g, _ := connected(t, &waiting{}, node{})
	n := node{asked: make(chan string, 9)}
	g.joinsBy(t, n, wire.Terms{Protocol: 2, Bulk: true, MaxIn: wire.MaxBody, MaxOut: wire.MaxBody})
	h := g.replicas["D#1"]
	long := make([]string, 6000)
	for i := range long {
		long[i] = fmt.Sprintf("%050d", i)
	}
	h.setModels(long)
	h.setModels([]string{"a"})
	h.setModels([]string{})
	const last = `{"replica":"D#1","models":[]}`
	for got := ""; got != last; {
		got = <-n.asked
	}
	if _, err := protocol.Ask(t.Context(), g.peer.Load(), protocol.Uses{Deployment: "D", Name: strings.Repeat("x", 1<<20)}); err != nil { // it goes behind a list on the second connection
		t.Fatal(err)
	}
	if got := <-n.asked; len(got) < 1<<20 {
		t.Errorf("after the last list the node got %.200s", got)
	}
}

// TestModelsTogether: models that change while the node has no room for a request go together with the next report.
func TestModelsTogether(t *testing.T) {
	t.Parallel()
	n := node{asked: make(chan string, 10_000), answer: make(chan struct{})}
	g, _ := connected(t, &waiting{}, n)
	h, peer := g.replicas["D#1"], g.peer.Load()
	for {
		sent, err := protocol.Tell(peer, protocol.Uses{Deployment: "D", Name: "E"})
		if err != nil {
			t.Fatal(err)
		}
		if !sent {
			break
		}
	}
	for i := range 100 {
		h.setModels([]string{strconv.Itoa(i)})
	}
	close(n.answer)
	reports := 0
	for got := ""; got != `{"replica":"D#1","models":["99"]}`; {
		if got = <-n.asked; strings.Contains(got, "models") {
			reports++
		}
	}
	if reports > 2 { // a report waits for room, and the next one has all that has changed since
		t.Errorf("%d reports of 100 changes", reports)
	}
}

// TestUsesIsReportedOnce: a replica asks for the same handle again and again.
func TestUsesIsReportedOnce(t *testing.T) {
	t.Parallel()
	n := node{asked: make(chan string, 9)}
	g, _ := connected(t, &waiting{}, n)
	p := g.Port("app", "D", false)
	for range 3 {
		p.Uses("E")
	}
	p.Uses("F")
	got := []string{<-n.asked, <-n.asked}
	for _, want := range []string{`{"deployment":"D","name":"E"}`, `{"deployment":"D","name":"F"}`} {
		if got[0] != want && got[1] != want {
			t.Errorf("%v", got)
		}
	}
}

// TestReconnectGivesUp: a worker looks for another node as long as its grace, and no longer.
func TestReconnectGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failure, dials := errors.New("no such socket"), 0
		g := &Guest{grace: 10 * time.Second, dial: func() (net.Conn, error) {
			dials++
			return nil, failure
		}}
		began := time.Now()
		_, err := g.reconnect(newLink(g))
		if took := time.Since(began); !errors.Is(err, failure) || took < g.grace || took > g.grace+2*dialPeriod {
			t.Errorf("after %s: %v", took, err)
		}
		if want := int(g.grace / dialPeriod); dials < want || dials > want+2 {
			t.Errorf("it dialled %d times", dials)
		}
	})
}
