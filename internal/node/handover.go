package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// A node can hand all that it has over to the next node, a process of the same or another version, without the loss of a call:
//
//	this node                                     the next node
//	HandOver: changes nothing any more,
//	  closes its listeners and the state
//	  directory, hands its workers over
//	                                              takes the directory and the workers, serves
//	Succeed: passes on all calls that
//	  wait or come, sends its drivers there
//	Leave: ends when its last call has ended
//
// Between HandOver and Succeed calls wait. If the next node ends before it serves, another may take its place, also one of the version of this node:
// Succeed may be called again.

const (
	// quietTime is how long a handover waits for deploys, starts and stops that are under way.
	quietTime = 10 * time.Second
	// tellTime is how long a worker may take to answer that it changes over.
	tellTime = 2 * time.Second
	// lateTime is how long a node that has no call any more waits for clients and drivers that are still connected.
	lateTime = 5 * time.Second
)

// HandOver begins the handover. When it returns, the next node can use the state directory. ctx bounds the wait for changes that are under way.
func (n *Node) HandOver(ctx context.Context) error {
	n.mu.Lock()
	if n.closing || n.next != nil {
		n.mu.Unlock()
		return errors.New("the node is closing, or has handed over already")
	}
	n.next = &successor{changed: make(chan struct{})}
	n.mu.Unlock()
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	n.scaler.SaveAll(quiet)
	if err := n.Controller.HandOver(quiet); err != nil {
		n.log.Error("the next node will not find the workers", "error", err)
	}
	n.proxy.HandOver(n.next.transport())
	n.closeAdmin()
	n.workers.Unlock()
	if end := n.atEnd; end != nil { // the next node opens the store
		n.atEnd = nil
		end()
	}
	telling, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTime)
	defer cancel()
	n.workers.HandOver(telling)
	n.log.Info("the node has handed over, and waits for the next one")
	return nil
}

// Succeed has the next node, whose private directory is dir, answer the calls that wait here and all later calls.
func (n *Node) Succeed(ctx context.Context, dir string) error {
	peer, err := n.dialNext(ctx, dir)
	if err != nil {
		return fmt.Errorf("the next node: %w", err)
	}
	n.next.set(dir, peer)
	n.Controller.Succeed(peer)
	for _, d := range n.connected.all() {
		d.Goaway(wire.Goaway{
			Code: helvetype.CodeUnavailable.String(), Reason: wire.GoawayHandover, Message: "the next node has taken over", Node: dir,
		})
	}
	n.closeDrivers() // programs find the next node
	return nil
}

// dialNext connects to the next node as its former one.
func (n *Node) dialNext(ctx context.Context, dir string) (*wire.Peer, error) {
	text, err := os.ReadFile(filepath.Join(dir, worker.DriverToken))
	if err != nil {
		return nil, err
	}
	var token wire.Token
	if b, err := hex.DecodeString(strings.TrimSpace(string(text))); err != nil || copy(token[:], b) != len(token) {
		return nil, errors.New("its token is malformed")
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, worker.DriverSocket))
	if err != nil {
		return nil, err
	}
	w, err := wire.Open(nc, token, wire.Hello{
		Kind: wire.KindFormer, Language: "go", Version: n.set.Version, PID: os.Getpid(), Features: []string{wire.FeatureSegments}, MaxBody: n.set.MaxBody,
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), w.Terms), callsNothing{})
	context.AfterFunc(n.ctx, func() { peer.Close(errClosed) })
	go peer.Serve() //nolint:errcheck // calls that it ends say so
	return peer, nil
}

// callsNothing is the server of a connection on which the other side has nothing to call.
type callsNothing struct{}

func (callsNothing) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "a node that has handed over has no replicas")})
	return nil
}
func (callsNothing) Route(wire.Route) any { return nil }
func (callsNothing) Goaway(wire.Goaway)   {}
func (callsNothing) Control(context.Context, string, json.RawMessage) (any, error) {
	return nil, call.NewError(helvetype.ReasonBadInput, "a node that has handed over answers no request")
}

// Leave waits until the last call has ended, or ctx, and ends the node. The workers live on, and nothing of the next node is touched.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	again := n.closing
	n.closing = true
	n.mu.Unlock()
	if again {
		select {
		case <-n.ctx.Done():
		case <-ctx.Done():
		}
		return nil
	}
	var cut error
	busy := func() bool {
		return n.proxy.Ongoing() > 0 || n.Controller.Ongoing() > 0 || n.next != nil && n.next.asking.Load() > 0
	}
	if !awaitIdle(ctx, busy) {
		cut = n.Unfinished(ctx)
	}
	late, cancel := context.WithTimeout(ctx, lateTime)
	defer cancel()
	awaitIdle(late, func() bool { return busy() || n.proxy.Clients() > 0 || len(n.connected.all()) > 0 })
	end, cancel := context.WithTimeout(ctx, lateTime)
	defer cancel()
	n.proxy.Drain(end) //nolint:errcheck // what is left was named
	n.closeFormer()
	n.workers.Leave()
	n.Controller.Leave()
	n.stop()
	return cut
}

// awaitIdle is [serving.AwaitIdle] for a wait that may take hours: it looks less often.
func awaitIdle(ctx context.Context, busy func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for busy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// successor is the next node as the HTTP ingress of this one finds it.
type successor struct {
	asking atomic.Int64 // requests of drivers that it answers

	mu      sync.Mutex
	dir     string        // its private directory; "" before it serves
	peer    *wire.Peer    // a connection to it; as dir
	changed chan struct{} // closed when dir has changed
}

func (s *successor) set(dir string, peer *wire.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir, s.peer = dir, peer
	close(s.changed)
	s.changed = make(chan struct{})
}

// transport sends requests to the next node that serves, and waits for it if need be. Each request has a connection of its own: a connection that is
// kept alive could end in the moment in which it is used again.
func (s *successor) transport() http.RoundTripper {
	return &http.Transport{DialContext: s.dial, DisableKeepAlives: true, DisableCompression: true, ExpectContinueTimeout: time.Minute}
}

func (s *successor) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		s.mu.Lock()
		dir, changed := s.dir, s.changed
		s.mu.Unlock()
		if dir != "" {
			if nc, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, worker.FormerSocket)); err == nil {
				return nc, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, call.EndOf(ctx)
		}
	}
}

// ask has the next node answer a request of a driver, and waits for that node if need be.
func (s *successor) ask(ctx context.Context, body json.RawMessage) (answer json.RawMessage, err error) {
	for {
		s.mu.Lock()
		peer, changed := s.peer, s.changed
		s.mu.Unlock()
		if peer != nil {
			s.asking.Add(1)
			defer s.asking.Add(-1)
			err = peer.Control(ctx, body, &answer)
			return answer, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, call.EndOf(ctx)
		}
	}
}

// successor is the next node if this node hands over; nil if it does not.
func (n *Node) successor() *successor {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.next
}

// answerDriver answers a request of a driver, or has the next node answer it. For example, a program deploys an application in the moment in which its node
// hands over: the controller refuses that, because it changes nothing any more, and the next node deploys it.
func (n *Node) answerDriver(d *control.Driver) func(ctx context.Context, op string, body json.RawMessage) (any, error) {
	return func(ctx context.Context, op string, body json.RawMessage) (any, error) {
		if s := n.successor(); s != nil {
			return s.ask(ctx, body)
		}
		answer, err := d.Control(ctx, op, body)
		if s := n.successor(); s != nil && errors.Is(err, deploy.ErrClosing) {
			return s.ask(ctx, body)
		}
		return answer, err
	}
}

// ServeFormer opens the socket at which a node before this one passes requests on. It comes after [Node.ServeDrivers].
func (n *Node) ServeFormer() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing || n.former != nil {
		return errors.New("the node is closing, or the socket is open already")
	}
	p, err := n.privateLocked()
	if err != nil {
		return err
	}
	l, err := p.Listen(worker.FormerSocket)
	if err != nil {
		return err
	}
	n.former = &http.Server{Handler: n.proxy.Former(), ReadHeaderTimeout: time.Minute} //nolint:exhaustruct // the limits are those of the proxy
	n.wg.Go(func() { n.former.Serve(l) })                                              //nolint:errcheck // it ends with the node
	return nil
}

// peers are the connections of drivers.
type peers struct {
	mu  sync.Mutex
	set map[*wire.Peer]struct{}
}

func (p *peers) add(peer *wire.Peer) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[*wire.Peer]struct{}{}
	}
	p.set[peer] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.set, peer)
	}
}

func (p *peers) all() (all []*wire.Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for peer := range p.set {
		all = append(all, peer)
	}
	return all
}

// closeFormer ends the socket of the node before.
func (n *Node) closeFormer() {
	n.mu.Lock()
	s := n.former
	n.mu.Unlock()
	if s != nil {
		s.Close()
	}
}
