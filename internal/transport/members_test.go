package transport_test

import (
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// TestMembers: replicas come and go, and their models; calls that wait for one that has gone go elsewhere, those that run end.
func TestMembers(t *testing.T) {
	t.Parallel()
	started := make(chan *execution, 10)
	a, b := newSite(t, "a", 1, func(e *execution) { started <- e }), newSite(t, "b", 1, nil)
	idle(t, a, b)
	c := newClient(t)
	k := kind{"unix", socketPair}
	road := join(t, k, c, a, nil)
	if err := a.shared.Share(road.site); err != nil {
		t.Error(err)
	}
	a.shared.SetModels([]string{"m1", "m2"})
	until(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Equal(c.models["a"], []string{"m1", "m2"})
	})
	running := c.submit("running", "", nil)
	e := <-started
	waiting := c.submit("waiting", "", nil)
	if n := c.router.Queued(); n != 1 {
		t.Errorf("%d calls wait", n)
	}
	b.shared.SetModels([]string{"m3"})
	if err := b.shared.Share(road.site); err != nil {
		t.Fatal(err)
	}
	waiting.await(t)
	until(func() bool { c.mu.Lock(); defer c.mu.Unlock(); return slices.Equal(c.models["b"], []string{"m3"}) })
	a.shared.Withdraw(nil)
	until(func() bool { return len(c.router.Replicas()) == 1 })
	if road.far.TryAcquire() || road.far.Wait(&rival{}) || road.far.Unwait(&rival{}) {
		t.Error("it has gone")
	}
	e.end(nil, nil)
	running.await(t)
	c.submit("later", "", nil).await(t)
	if ran := b.ran(); !slices.Equal(ran, []string{"waiting", "later"}) {
		t.Errorf("b ran %q", ran)
	}
	if err := a.shared.Share(road.site); err == nil {
		t.Error("shared what was withdrawn")
	}
	road.site.Close(wire.ErrClosed)
	<-road.client.Done()
	<-road.site.Done()
	if len(c.router.Replicas()) != 0 {
		t.Error("the connection has ended")
	}
	b.shared.Forget(road.site)
	if err := b.shared.Share(road.site); err == nil {
		t.Error("shared with nobody")
	}
}

// TestGoneWhileItSetsOut: a call that comes when its replica has gone is rejected, and goes elsewhere.
func TestGoneWhileItSetsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newSite(t, "a", 1, nil), newSite(t, "b", 1, nil)
		idle(t, a, b)
		c := newClient(t)
		valve := newValve()
		road := join(t, kind{"pipe", pipe}, c, a, func(nc net.Conn, ours, bulk bool) net.Conn {
			if ours || bulk {
				return nc
			}
			f := watched(nc)
			f.valve = valve
			return f
		})
		valve.shut() // what the site says does not arrive
		a.shared.Withdraw(nil)
		b.shared.Share(road.site)
		j := c.submit("x", "", nil)
		synctest.Wait()
		valve.open()
		j.await(t)
		if ran := b.ran(); len(ran) != 1 || len(a.ran()) != 0 {
			t.Errorf("b ran %q", ran)
		}
	})
}

// TestLoadIsCoalesced: however often a gate becomes full while its router does not read, one frame waits, the newest.
func TestLoadIsCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "r", 2, nil)
		idle(t, s)
		c := newClient(t)
		valve := newValve()
		var there *framed
		road := join(t, kind{"pipe", pipe}, c, s, func(nc net.Conn, ours, bulk bool) net.Conn {
			f := watched(nc)
			if !ours && !bulk {
				there, f.valve = f, valve
			}
			return f
		})
		c.submit("x", "", nil).await(t)
		synctest.Wait()
		for round, most := range []int{2, 0} { // one may have been with the writer already; without a call none is sent
			valve.shut()
			before := there.count(wire.TypeLoad)
			for range 10_000 {
				s.gate.TryAcquire()
				s.gate.TryAcquire()
				s.gate.Release(nil)
				s.gate.Release(nil)
			}
			synctest.Wait()
			valve.open()
			synctest.Wait()
			if n := there.count(wire.TypeLoad) - before; n > most || n == 0 && most > 0 {
				t.Errorf("round %d: %d frames", round, n)
			}
			if n := road.far.Load(); n > 1 {
				t.Errorf("round %d: it is believed that %d slots are taken", round, n)
			}
		}
	})
}

// TestUnwantedSlots: a node that keeps slots which nobody asked for is not talked to.
func TestUnwantedSlots(t *testing.T) {
	t.Parallel()
	x, y := socketPair(t)
	terms := wire.Terms{Protocol: 2, Nodes: true}
	c := newClient(t)
	p, q := wire.NewLinkPeer(wire.NewLink(wire.NewConn(x), terms), c), wire.NewLinkPeer(wire.NewLink(wire.NewConn(y), terms), c)
	transport.NewNeighbour(p, nil, c)
	transport.NewNeighbour(q, nil, nobody(t))
	s := newSite(t, "r", 1, nil)
	var g wire.Granter
	served, err := q.AddMember(wire.Member{Replica: "r", Slots: 1}, func(to wire.Granter) wire.Admission { g = to; return s.gate.Remote(to) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- p.Serve() }()
	go q.Serve()
	<-c.joined
	g.Grant(nil, 1, time.Second)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 slots of replica r, of which at most 0 were wanted") {
		t.Error(err)
	}
	<-q.Done()
	served.Remove(nil)
}

// TestGateContract: what a router may rely on.
func TestGateContract(t *testing.T) {
	t.Parallel()
	s := newSite(t, "r", 2, nil)
	idle(t, s)
	c := newClient(t)
	far := join(t, kind{"unix", socketPair}, c, s, nil).far
	var _ router.Gate = far
	var _ transport.Transport = far
	if !far.Keeps() || !far.TryAcquire() || !far.Wait(&rival{}) || far.TryAcquire() || far.Load() != 2 {
		t.Error("two slots")
	}
	far.Release(nil)
	far.Release(nil)
	if far.Load() != 0 || !far.TryAcquire() {
		t.Error("they were released")
	}
	far.Release(nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("released more than was acquired")
			}
		}()
		far.Release(nil)
	}()
}

// TestStorm: many routers and replicas, calls that are cancelled, connections that end: every call ends once, none runs twice
// at a replica, and nothing is left behind.
func TestStorm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(name(seed), func(t *testing.T) {
			t.Parallel()
			storm(t, seed)
		})
	}
}

func storm(t *testing.T, seed uint64) {
	var sites []*site
	for i := range 3 {
		sites = append(sites, newSite(t, name("s", i), 1+i, func(e *execution) { go e.end(nil, nil) }))
	}
	idle(t, sites...)
	var wg sync.WaitGroup
	k := kind{"unix", socketPair}
	for i := range 4 {
		c := newClient(t)
		for _, s := range sites {
			join(t, k, c, s, nil)
		}
		if i == 0 {
			c.add(nil, "local", sites[0].gate, sites[0])
		}
		var roads sync.Mutex // one at a time
		for g := range 3 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(10*i+g)))
				for n := range 60 {
					size := []int{0, 10, 40 << 10, 300 << 10}[rng.IntN(4)]
					j := c.submit(name(i, "/", g, "/", n), name(g%2), make([]byte, size))
					switch rng.IntN(6) {
					case 0:
						j.stop()
					case 1:
						if n%20 == 19 {
							roads.Lock()
							s := sites[rng.IntN(len(sites))]
							r := join(t, k, c, s, nil) // a second way to it, which ends
							r.client.Close(wire.ErrClosed)
							roads.Unlock()
						}
					}
					if rng.IntN(2) == 0 {
						<-j.done
					}
					t.Cleanup(func() {
						<-j.done
						if e := j.result.Err; e != nil && e.Reason != call.Cancelled && e.Reason != call.MayHaveRun {
							t.Errorf("%v", e)
						}
					})
				}
			})
		}
	}
	wg.Wait()
}
