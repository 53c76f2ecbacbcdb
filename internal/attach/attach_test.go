package attach

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// fake is a node that runs the applications of a status, in a private directory.
type fake struct {
	wire.Server
	status  helvetype.Status
	private *worker.Private
	stop    func() // ends the node

	asked, hold chan struct{} // a request is there; its reply may come. nil: at once
}

func (*fake) Route(wire.Route) any { return nil }

func (f *fake) Control(_ context.Context, op string, _ json.RawMessage) (any, error) {
	if op != "status" {
		return nil, errors.New("no " + op)
	}
	if f.hold != nil {
		f.asked <- struct{}{}
		<-f.hold
	}
	return f.status, nil
}

// newFake starts a node whose private directory is under dir. state is its state directory, or "".
func newFake(t *testing.T, dir, state string, apps ...string) *fake {
	t.Helper()
	p, err := worker.MakePrivate(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{private: p, status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}}
	for _, a := range apps {
		f.status.Applications[a] = helvetype.ApplicationStatus{}
	}
	token := wire.NewToken()
	if err := p.Write(worker.DriverToken, []byte(hex.EncodeToString(token[:])+"\n")); err != nil {
		t.Fatal(err)
	}
	l, err := p.Listen(worker.DriverSocket)
	if err != nil {
		t.Fatal(err)
	}
	if state != "" {
		if err := worker.LinkPrivate(state, p.Path()); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var served sync.WaitGroup
	var peers []*wire.Peer
	served.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			h, err := wire.Offer{Node: p.Path(), State: state, Features: []string{wire.FeatureSegments}}.Accept(nc, func(wire.Hello) (wire.Token, error) { return token, nil })
			if err != nil {
				nc.Close()
				continue
			}
			peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), h.Terms), f)
			mu.Lock()
			peers = append(peers, peer)
			mu.Unlock()
			served.Go(func() { peer.Serve() }) //nolint:errcheck // it is closed
		}
	})
	f.stop = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for _, p := range peers {
			p.Close(wire.ErrClosed)
		}
		mu.Unlock()
		served.Wait()
		p.Close()
	})
	t.Cleanup(f.stop)
	return f
}

// names are the applications of a node.
func names(t *testing.T, c *Conn) string {
	t.Helper()
	s, err := Ask(t.Context(), c, protocol.Status{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for n := range s.Applications {
		all = append(all, n)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func open(t *testing.T, address string) *Conn {
	t.Helper()
	c, err := Open(t.Context(), Settings{Address: address, Codec: codec.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestAddresses: every form of an address leads to the node, and an address without a node is an error that says why.
func TestAddresses(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	f := newFake(t, "", state, "shop")
	dir := f.private.Path()
	for _, address := range []string{state, dir, "unix:" + dir, "unix:" + filepath.Join(dir, worker.DriverSocket), filepath.Join(dir, worker.AdminSocket)} {
		t.Run(strings.ReplaceAll(address, "/", "_"), func(t *testing.T) {
			c := open(t, address)
			if got := names(t, c); got != "shop" || c.Dir() != dir || c.Address() != state {
				t.Errorf("%q at %s, %s", got, c.Dir(), c.Address())
			}
		})
	}
	t.Run("open to others", func(t *testing.T) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		if _, err := Open(t.Context(), Settings{Address: dir}); err == nil || !strings.Contains(err.Error(), "must belong to its user alone") {
			t.Error(err)
		}
	})
	empty := t.TempDir()
	for name, address := range map[string]string{"no node": empty, "no directory": filepath.Join(empty, "none"), "no socket": "unix:" + filepath.Join(empty, "driver.sock")} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(t.Context(), Settings{Address: address}); err == nil || !strings.Contains(err.Error(), "no node runs at "+empty) {
				t.Error(err)
			}
		})
	}
	t.Run("a secret that is none", func(t *testing.T) {
		if err := os.Truncate(filepath.Join(dir, worker.DriverToken), 10); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Settings{Address: dir}); err == nil || !strings.Contains(err.Error(), "has no secret in it") {
			t.Error(err)
		}
	})
}

// TestOnlyNode: without an address the only node of the user is found; several are listed with their applications.
func TestOnlyNode(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "nodes") // the name of a test would make the path of a socket too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if _, err := only(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "no node of this user runs here") {
		t.Error(err)
	}
	f := newFake(t, dir, "", "shop")
	if at, err := only(t.Context(), dir); err != nil || at.private != f.private.Path() {
		t.Errorf("%+v, %v", at, err)
	}
	newFake(t, dir, "", "desk", "till")
	newFake(t, dir, "")
	_, err = only(t.Context(), dir)
	for _, text := range []string{"3 nodes of this user run here", "shop", "desk, till", "no application"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}

// TestOnlyDurableNode: a durable node is found before other nodes, by its state directory; several are listed.
func TestOnlyDurableNode(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "nodes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	newFake(t, dir, "", "shop")
	state := t.TempDir()
	f := newFake(t, dir, state, "till")
	durable := func(f *fake, state string) {
		if err := f.private.Write(worker.DurableMark, []byte(state)); err != nil {
			t.Fatal(err)
		}
	}
	durable(f, state)
	if at, err := only(t.Context(), dir); err != nil || at.private != f.private.Path() || at.state != state {
		t.Errorf("%+v, %v", at, err)
	}
	other := t.TempDir()
	durable(newFake(t, dir, other, "desk"), other)
	_, err = only(t.Context(), dir)
	for _, text := range []string{"2 durable nodes of this user run here", state, other} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}

// TestNextNode: a request that is made while no node runs waits for the next node of the state directory.
func TestNextNode(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	f := newFake(t, "", state, "first")
	c := open(t, state)
	if got := names(t, c); got != "first" {
		t.Error(got)
	}
	f.stop()
	got := make(chan string, 1)
	go func() { got <- names(t, c) }()
	newFake(t, "", state, "second")
	if got := <-got; got != "second" {
		t.Error(got)
	}
}

// TestNoNextNode: without a state directory no node follows, and a request fails at once.
func TestNoNextNode(t *testing.T) {
	t.Parallel()
	f := newFake(t, "", "", "first")
	c := open(t, f.private.Path())
	f.stop()
	_, err := Ask(t.Context(), c, protocol.Status{})
	if e := call.ErrorIn(err); e == nil || call.AsError(e).Reason != helvetype.ReasonReplicaUnavailable {
		t.Error(err)
	}
}

// TestGoaway: a node that takes no more calls keeps the connection for running calls, and new requests go to the next node.
func TestGoaway(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	f := newFake(t, "", state, "first")
	c := open(t, state)
	former := c.Peer()
	f.hold, f.asked = make(chan struct{}), make(chan struct{}, 1)
	slow := make(chan string, 1)
	go func() { slow <- names(t, c) }()
	<-f.asked
	newFake(t, "", state, "second")
	c.mu.Lock()
	for l := range c.links {
		l.Goaway(wire.Goaway{})
	}
	c.mu.Unlock()
	if _, err := c.node(t.Context(), former); err != nil {
		t.Fatal(err)
	}
	if got := names(t, c); got != "second" {
		t.Error(got)
	}
	close(f.hold)
	if got := <-slow; got != "first" {
		t.Errorf("the answer of the former node: %s", got)
	}
	<-former.Done() // it has no request any more
	f.stop()
	if got := names(t, c); got != "second" {
		t.Error(got)
	}
}

// TestRealNode: a node of this module has the link in its state directory as long as programs can attach.
func TestRealNode(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	for range 2 {
		n := node.New(node.Settings{Version: "test"})
		if err := errors.Join(n.UseState(state, time.Second), n.ServeDrivers()); err != nil {
			t.Fatal(err)
		}
		c := open(t, state)
		if names(t, c) != "" || c.Dir() != n.Dir() || c.Address() != state {
			t.Errorf("%s, %s", c.Dir(), c.Address())
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(state, worker.AttachLink)); !os.IsNotExist(err) {
			t.Errorf("the link is left: %v", err)
		}
		c.Close()
	}
}

// TestHandover: a node hands over to the next one, and names it. The program goes there, and ends its connection to the former node.
func TestHandover(t *testing.T) {
	t.Parallel()
	state, ctx := t.TempDir(), t.Context()
	former := node.New(node.Settings{Version: "test"})
	if err := errors.Join(former.UseState(state, time.Second), former.ServeDrivers()); err != nil {
		t.Fatal(err)
	}
	c := open(t, state)
	peer := c.Peer()
	if err := former.HandOver(ctx); err != nil {
		t.Fatal(err)
	}
	late := make(chan error, 1)
	go func() { // the former node changes nothing any more
		_, err := Ask(ctx, c, protocol.Delete{Name: "none"})
		late <- err
	}()
	next := node.New(node.Settings{Version: "test"})
	t.Cleanup(func() { next.Close(context.Background()) })
	if err := errors.Join(next.UseState(state, time.Second), next.ServeDrivers()); err != nil {
		t.Fatal(err)
	}
	if err := former.Succeed(ctx, next.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err == nil || !strings.Contains(err.Error(), `no application "none" is running`) {
		t.Errorf("a request of the moment of the handover: %v", err)
	}
	<-peer.Done()
	if names(t, c) != "" || c.Dir() != next.Dir() || c.Address() != state {
		t.Errorf("%s, %s; want %s", c.Dir(), c.Address(), next.Dir())
	}
	if err := former.Leave(ctx); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(filepath.Join(state, worker.AttachLink)); err != nil || to != next.Dir() {
		t.Errorf("the link leads to %s, %v", to, err)
	}
}

// answer is the end of the wait of a call.
type answer struct {
	number  int
	peer    *wire.Peer
	failure *call.Error
}

// TestWaiting: calls wait for the next connection in their order, each for the same time. A connection ends the waiting of all that are left, and
// a call that comes later has it at once.
func TestWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &Conn{links: map[*link]bool{}}
		c.ctx, c.stop = context.WithCancel(t.Context())
		got := make(chan answer, 9)
		wait := func(number int, ended *wire.Peer) {
			c.Next(ended, func(p *wire.Peer, e *call.Error) { got <- answer{number, p, e} })
		}
		began := time.Now()
		wait(1, nil)
		time.Sleep(time.Second) // of the bubble
		wait(2, nil)
		a := <-got
		if took := time.Since(began); a.number != 1 || a.failure == nil || a.failure.Reason != helvetype.ReasonReplicaUnavailable || took != Patience {
			t.Errorf("%+v after %s", a, took)
		}
		wait(3, nil)
		here, there := net.Pipe()
		defer there.Close()
		l := &link{leaving: make(chan struct{}), welcome: wire.Welcome{Node: "/node"}}
		l.peer = wire.NewPeer(wire.NewLink(wire.NewConn(here), wire.Terms{}), l)
		c.use(l)
		for _, number := range []int{2, 3} {
			if a := <-got; a.number != number || a.peer != l.peer || a.failure != nil {
				t.Errorf("%+v, want %d", a, number)
			}
		}
		wait(4, nil)
		if a := <-got; a.number != 4 || a.peer != l.peer {
			t.Errorf("%+v", a)
		}
		wait(5, l.peer) // an ended connection
		synctest.Wait()
		if len(got) > 0 {
			t.Errorf("%+v", <-got)
		}
		c.Close()
		if a := <-got; a.number != 5 || a.failure == nil {
			t.Errorf("%+v", a)
		}
		wait(6, nil)
		if a := <-got; a.number != 6 || a.failure == nil {
			t.Errorf("%+v", a)
		}
	})
}
