package transport_test

import (
	"net"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// moving is a client that goes on in its own node when the other one has gone.
type moving struct {
	*client
	home *site
}

func (m *moving) Left(b *call.Batch, f *transport.Far) {
	m.client.Left(b, f)
	m.add(b, "home", m.home.gate, m.home)
}

// cutting runs calls over a connection of which one direction ends after that many frames, and gives how many frames there
// would have been. Some calls find a free slot, some wait, one is large.
func cutting(t *testing.T, k kind, which string, after int) (frames int) {
	s, home := newSite(t, "r", 2, nil), newSite(t, "home", 2, nil)
	s.method = func(e *execution) { go e.end(nil, nil) }
	c := newClient(t)
	var here, there, bulk *framed // what this side writes, the other one, and this side on the second connection
	through := func(nc net.Conn, ours, second bool) net.Conn {
		f := watched(nc)
		switch {
		case ours && second:
			bulk, f.cut = f, die
		case ours:
			here, f.cut = f, deafen
		case !second:
			there, f.cut = f, die
		}
		return f
	}
	// As join does, but with a client that goes on at home.
	var x, y *wire.Peer
	m := &moving{c, home}
	for _, connection := range []string{wire.ConnSmall, wire.ConnBulk} {
		a, b := k.pair(t)
		ta, tb := opened(t, a, b, connection)
		a, b = through(a, true, connection == wire.ConnBulk), through(b, false, connection == wire.ConnBulk)
		if connection == wire.ConnBulk {
			x.Attach(a)
			y.Attach(b)
			continue
		}
		x, y = wire.NewLinkPeer(wire.NewLink(wire.NewConn(a), ta), c), wire.NewLinkPeer(wire.NewLink(wire.NewConn(b), tb), c)
		transport.NewNeighbour(x, nil, m)
		transport.NewNeighbour(y, nil, nobody(t))
	}
	cut := map[string]*framed{"here": here, "there": there, "bulk": bulk}[which]
	cut.left = after
	go x.Serve()
	go y.Serve()
	s.shared.Share(y)
	select { // the replica is announced, or never will be
	case <-c.joined:
	case <-x.Done():
		m.add(nil, "home", home.gate, home)
	}
	var js []*journey
	for n := range 7 {
		size := 10
		if n == 3 {
			size = 600 << 10
		}
		js = append(js, c.submit(name(n), "", make([]byte, size)))
	}
	unknown := 0
	for _, j := range js {
		<-j.done
		switch e := j.result.Err; {
		case e == nil:
		case e.Reason == call.MayHaveRun:
			unknown++
		default:
			t.Errorf("%s cut after %d frames: %s ended with %v", which, after, j.call.Info.Request, e)
		}
	}
	for _, p := range []*wire.Peer{x, y} {
		p.Close(wire.ErrClosed)
		<-p.Done()
	}
	s.shared.Forget(y)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range js {
		n := j.call.Info.Request.String()
		runs := s.runs[n] + home.runs[n]
		if e := j.result.Err; runs > 1 || e == nil && runs != 1 {
			t.Errorf("%s cut after %d frames: %s ran %d times", which, after, n, runs)
		}
	}
	// On one machine it is known of every call whether it was accepted.
	if open := there.count(wire.TypeAccept) - there.count(wire.TypeEnd); k.name == "unix" && unknown > open {
		t.Errorf("%s cut after %d frames: %d calls of which nothing is known, %d were accepted and not answered", which, after, unknown, open)
	}
	until(func() bool { return s.gate.Load() == 0 && home.gate.Load() == 0 })
	return cut.total()
}

// TestCut ends a connection after every frame, on either side: no call is lost that was not accepted, and none runs twice.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, k := range kinds(t)[2:] {
		for _, which := range []string{"here", "there", "bulk"} {
			t.Run(k.name+"/"+which, func(t *testing.T) {
				t.Parallel()
				n := cutting(t, k, which, -1)
				var all sync.WaitGroup
				for after := range n + 1 {
					all.Go(func() { cutting(t, k, which, after) })
					if after%4 == 3 {
						all.Wait()
					}
				}
				all.Wait()
			})
		}
	}
}
