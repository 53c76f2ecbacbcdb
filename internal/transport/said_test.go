package transport_test

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// TestMessages: what a call costs that waits, and that changes of what waits are said by the way.
func TestMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls, few = 200, 10 // before it is known that many wait, and when no more do
		s := newSite(t, "r", 2, func(e *execution) { time.AfterFunc(time.Millisecond, func() { e.end(nil, nil) }) })
		idle(t, s)
		c := newClient(t)
		var here, there *framed
		join(t, kind{"pipe", pipe}, c, s, func(nc net.Conn, ours, bulk bool) net.Conn {
			f := watched(nc)
			switch {
			case ours && !bulk:
				here = f
			case !bulk:
				there = f
			}
			return f
		})
		var js []*journey
		for n := range calls {
			js = append(js, c.submit(name(n), "", nil))
		}
		for _, j := range js {
			j.await(t)
		}
		synctest.Wait()
		for _, f := range []struct {
			side  *framed
			frame wire.Type
			most  int
		}{
			{here, wire.TypeArrival, calls + few}, {there, wire.TypeAccept, calls}, {there, wire.TypeEnd, calls},
			{there, wire.TypeSlot, calls}, {here, wire.TypeWant, few}, {here, wire.TypeReturn, 0}, {there, wire.TypeLoad, few},
			{there, wire.TypeReject, few},
		} {
			if n := f.side.count(f.frame); n > f.most {
				t.Errorf("%d frames of type %d, at most %d are needed", n, f.frame, f.most)
			}
		}
	})
}

// scripted is an admission that answers as it is told.
type scripted struct {
	to wire.Granter

	mu      sync.Mutex
	answers []bool
	said    []string
	load    int
}

func (s *scripted) note(format string, args ...any) {
	s.mu.Lock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

func (s *scripted) Arrive(slot uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[0]
	s.answers = s.answers[1:]
	s.said = append(s.said, fmt.Sprint("arrive ", slot, " ", a))
	return a
}

func (s *scripted) Want(_ *call.Batch, upto uint64)   { s.note("want %d", upto) }
func (s *scripted) Return(_ *call.Batch, slot uint64) { s.note("return %d", slot) }
func (s *scripted) Done(*call.Batch)                  {}
func (s *scripted) Lost(*call.Batch)                  { s.note("lost") }

func (s *scripted) Load() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load
}

// script joins a client with a replica of 2 slots, whose gate answers so.
func script(t *testing.T, answers ...bool) (c *client, gate *scripted, out valve, expect func(said ...string)) {
	t.Helper()
	a, b := net.Pipe()
	out = newValve()
	f := watched(a)
	f.valve = out
	terms := wire.Terms{Protocol: 2, Nodes: true}
	c, gate = newClient(t), &scripted{answers: answers}
	p, q := wire.NewLinkPeer(wire.NewLink(wire.NewConn(f), terms), c), wire.NewLinkPeer(wire.NewLink(wire.NewConn(b), terms), c)
	transport.NewNeighbour(p, nil, c)
	transport.NewNeighbour(q, nil, nobody(t))
	_, err := q.AddMember(wire.Member{Replica: "r", App: "app", Deployment: "d", Slots: 2}, func(to wire.Granter) wire.Admission {
		gate.to = to
		return gate
	}, func(b *call.Batch, in *wire.Incoming) call.Canceler {
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve()
	go q.Serve()
	<-c.joined
	t.Cleanup(func() {
		for _, p := range []*wire.Peer{p, q} {
			p.Close(wire.ErrClosed)
			<-p.Done()
		}
	})
	return c, gate, out, func(said ...string) {
		t.Helper()
		synctest.Wait()
		gate.mu.Lock()
		defer gate.mu.Unlock()
		if !slices.Equal(gate.said, said) {
			t.Errorf("the gate was told %q", gate.said)
		}
		gate.said = nil
	}
}

// TestWhatTheGateBelieves: a router says what waits whenever the gate does not know it, and else not.
func TestWhatTheGateBelieves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T){
		"rejected": func(t *testing.T) { // it knows of the call that it rejected
			c, gate, _, expect := script(t, false, true)
			j := c.submit("a", "", nil)
			expect("arrive 0 false", "want 1")
			gate.to.Grant(nil, 1, time.Second)
			j.await(t)
			expect("arrive 1 true", "want 1")
		},
		"rejected, and another one not": func(t *testing.T) { // which said afterwards that nothing waits
			c, gate, out, expect := script(t, false, true, true)
			gate.load = 2
			out.shut()
			js := []*journey{c.submit("a", "", nil), c.submit("b", "", nil)}
			synctest.Wait()
			out.open()
			js[1].await(t)
			expect("arrive 0 false", "want 1", "arrive 0 true", "want 0", "want 1")
			gate.to.Grant(nil, 1, time.Second)
			js[0].await(t)
			expect("arrive 1 true", "want 1")
		},
		"rejected, and cancelled": func(t *testing.T) {
			c, _, out, expect := script(t, false)
			out.shut()
			j := c.submit("a", "", nil)
			j.stop()
			out.open()
			expect("arrive 0 false", "want 1", "want 0")
		},
		"more wait": func(t *testing.T) {
			c, gate, _, expect := script(t, true, true, true, true, true)
			gate.load = 2
			js := []*journey{c.submit("a", "", nil), c.submit("b", "", nil)} // as it was announced, there is room for two
			for _, n := range []string{"c", "d", "e"} {
				js = append(js, c.submit(n, "", nil))
			}
			synctest.Wait()
			gate.mu.Lock()
			gate.said = nil // some of it was said while the first ones set out
			gate.mu.Unlock()
			gate.to.Grant(nil, 1, time.Second)
			expect("arrive 1 true", "want 3")
			gate.to.Grant(nil, 2, time.Second)
			gate.to.Grant(nil, 3, time.Second)
			expect("arrive 2 true", "want 3", "arrive 3 true", "want 3")
			for _, j := range js {
				j.await(t)
			}
		},
		"nobody waits any more": func(t *testing.T) {
			c, gate, _, expect := script(t, false, true)
			j := c.submit("a", "", nil)
			expect("arrive 0 false", "want 1")
			j.stop() // the router stays in the queue, as at any gate
			expect()
			gate.to.Grant(nil, 1, time.Second)
			expect("return 1", "want 1")
			c.submit("b", "", nil).await(t)
			expect("arrive 0 true", "want 1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}
