package guest

import (
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
)

// TestHandover: the next node counts the slots that the former one holds, until that frees them or ends.
func TestHandover(t *testing.T) {
	t.Parallel()
	g, former := connected(t, &waiting{}, node{})
	g.grace = time.Minute
	h := g.replicas["D#1"]
	s := h.session.Load()
	s.running.Store(1)
	if err := asked(t, former, protocol.Handover{Slots: map[string]int{"D#1": 3}}); err != nil {
		t.Fatal(err)
	}
	if got := h.describe().Executing; got != 3 {
		t.Errorf("the next node is told of %d slots", got)
	}
	next := node{asked: make(chan string, 9)}
	g.joins(t, next)
	h.handOver(g.peer.Load())
	s.Ended() // the former node has its answer, and keeps the slot until it says so
	if len(next.asked) > 0 {
		t.Errorf("the next node got %s", <-next.asked)
	}
	if err := asked(t, former, protocol.FreeBlock{Replica: "D#1", Slots: 1}); err != nil {
		t.Fatal(err)
	}
	if got := <-next.asked; got != `{"replica":"D#1","slots":1}` {
		t.Errorf("the next node got %s", got)
	}
	s.running.Store(1)
	former.Close(wire.ErrClosed) // with two slots and one call
	if got := <-next.asked; got != `{"replica":"D#1","slots":1}` {
		t.Errorf("the next node got %s", got)
	}
	s.Ended()
	if got := <-next.asked; got != `{"replica":"D#1","slots":1}` {
		t.Errorf("the next node got %s", got)
	}
}

// TestHandoverOfLentSlots: slots that the former node has lent go back to it, and no caller in the worker takes one any more.
func TestHandoverOfLentSlots(t *testing.T) {
	t.Parallel()
	n := node{asked: make(chan string, 9)}
	g, former := connected(t, &waiting{}, n)
	g.grace = time.Minute
	port := g.Port("app", "D", false)
	if err := asked(t, former, protocol.GrantBlock{Replica: "D#1", Number: 1, Slots: 2}); err != nil {
		t.Fatal(err)
	}
	used := port.TryAcquire()
	if err := asked(t, former, protocol.Handover{Slots: map[string]int{"D#1": 2}}); err != nil {
		t.Fatal(err)
	}
	if port.TryAcquire() != nil {
		t.Error("a slot of the former node was taken")
	}
	if err := asked(t, former, protocol.GrantBlock{Replica: "D#1", Number: 2, Slots: 1}); err != nil { // it was on its way
		t.Fatal(err)
	}
	used.Gate().Release(nil)
	for range 3 {
		if got := <-n.asked; got != `{"replica":"D#1","slots":1}` {
			t.Errorf("the former node got %s", got)
		}
	}
}

// TestWorkerWithoutGraceIsNotHandedOver: a worker that ends with its node says so.
func TestWorkerWithoutGraceIsNotHandedOver(t *testing.T) {
	t.Parallel()
	_, there := connected(t, &waiting{}, node{})
	if err := asked(t, there, protocol.Handover{}); err == nil {
		t.Error("it was handed over")
	}
}
