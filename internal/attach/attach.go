// Package attach is the side of a Go program that has attached to a node of another process: it finds the node, proves that it may attach, and
// keeps the connection over which the program's handles call deployments and its operations go.
//
// A node with a state directory may be started again while the program goes on. For example, the node is killed while 20 calls of the program run
// and its keeper starts the next one 200 ms later. The 20 calls fail with the reason may_have_run. A call that the program makes meanwhile waits, and
// goes to the next node. If no node answers for [Patience], the call fails with the reason replica_unavailable.
//
// A node that is replaced says so (GOAWAY): calls that run stay with it until they end, and new ones wait for the next node.
package attach

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// Patience is how long a call or a request waits for the next node.
const Patience = 10 * time.Second

// The pause before another attempt to reach the next node: the first, and the longest. It doubles.
const firstPause, longestPause = 20 * time.Millisecond, time.Second

// waitingMax is how many calls may wait for the next node.
const waitingMax = 1 << 16

// Settings are the arguments of [Open].
type Settings struct {
	// Address names the node: a state directory, a private directory, or "unix:" and a socket in one. "" is the node that $HELVE_NODE names,
	// else the only node of this user that runs.
	Address string
	Version string
	// Codec encodes the arguments of calls.
	Codec *codec.Codec
}

// Conn is the connection of this program to a node, and to the nodes that follow it. Its methods may be called from any goroutine.
type Conn struct {
	set  Settings
	home string                    // the address of the nodes that follow; "" if none does
	peer atomic.Pointer[wire.Peer] // nil while there is no node that takes calls

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	dir     string         // the private directory of the node of now
	links   map[*link]bool // all connections that have not ended
	waiting []waiter       // for the next connection, the oldest first
	expiry  *time.Timer    // of the oldest; nil until the first one waits
	last    error          // of the last attempt to reach the next node
	failure *call.Error    // set when no connection follows any more
}

// waiter is a call that waits for the next connection.
type waiter struct {
	until time.Time
	then  func(*wire.Peer, *call.Error)
}

// Open attaches to a node. If the address is a state directory whose node is just being started, Open waits for it, for [Patience] at most.
func Open(ctx context.Context, s Settings) (*Conn, error) {
	s.Address = cmp.Or(s.Address, os.Getenv(worker.NodeEnv))
	c := &Conn{set: s, links: map[*link]bool{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	var l *link
	pause, until := firstPause, time.Now().Add(Patience)
	for {
		at, next, err := c.reach(ctx, s.Address)
		if err == nil {
			l, c.home = next, cmp.Or(next.welcome.State, at.state)
			break
		}
		if _, refused := errors.AsType[*wire.RefusedError](err); refused || at.private == "" || at.state == "" || ctx.Err() != nil || time.Now().After(until) {
			c.stop()
			return nil, err
		}
		if !sleep(ctx, &pause) {
			c.stop()
			return nil, errors.Join(err, ctx.Err())
		}
	}
	c.use(l)
	c.wg.Go(func() { c.follow(l) })
	return c, nil
}

// sleep waits for a pause, and doubles it. It returns false if ctx has ended.
func sleep(ctx context.Context, pause *time.Duration) bool {
	t := time.NewTimer(*pause)
	defer t.Stop()
	*pause = min(2**pause, longestPause)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reach connects to the node of an address.
func (c *Conn) reach(ctx context.Context, address string) (place, *link, error) {
	at, err := locate(ctx, address)
	if err != nil {
		return at, nil, err
	}
	l, err := join(ctx, at.private, wire.Hello{Version: c.set.Version})
	if err != nil {
		if _, refused := errors.AsType[*wire.RefusedError](err); refused {
			return at, nil, fmt.Errorf("the node at %s refuses this program: %w", cmp.Or(at.state, at.private), err)
		}
		return at, nil, fmt.Errorf("no node runs at %s: %w", cmp.Or(at.state, at.private), err)
	}
	return at, l, nil
}

// link is one connection. It is the server of its peer, to which a node sends no calls.
type link struct {
	peer    *wire.Peer
	welcome wire.Welcome
	once    sync.Once
	leaving chan struct{} // closed when the node takes no more calls over it
	next    string        // set before that: the private directory of the node that takes its place; "" if it has named none
}

// join opens a connection to the node of a private directory.
func join(ctx context.Context, dir string, h wire.Hello) (*link, error) {
	nc, token, err := dial(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // a socket has deadlines
	h.Kind, h.Language, h.PID, h.Features = "driver", "go", os.Getpid(), []string{wire.FeatureSegments}
	w, err := wire.Open(nc, token, h)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	l := &link{welcome: w, leaving: make(chan struct{})}
	l.peer = wire.NewPeer(wire.NewLink(wire.NewConn(nc), w.Terms), l)
	return l, nil
}

// leave notes that the node takes no more calls, and the node that it has named as the next one.
func (l *link) leave(next string) {
	l.once.Do(func() {
		l.next = next
		close(l.leaving)
	})
}

// Route is not used: the node sends no calls.
func (l *link) Route(wire.Route) any { return nil }

// Call refuses a call.
func (l *link) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "a program that is attached has no replicas")})
	return nil
}

// Control refuses a request.
func (l *link) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	return protocol.NewTable("attached programs").Serve(ctx, op, body)
}

// Goaway is the announcement of the node that it takes no more calls. Running calls stay with it.
func (l *link) Goaway(g wire.Goaway) { l.leave(g.Node) }

// Peer is the connection of now; nil while no node takes calls.
func (c *Conn) Peer() *wire.Peer { return c.peer.Load() }

// Dir is the private directory of the node of now, or of the last one.
func (c *Conn) Dir() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dir
}

// Address is an address that leads to this node and to the nodes that follow it.
func (c *Conn) Address() string { return cmp.Or(c.home, c.Dir()) }

// Port makes a port to a deployment of the node.
func (c *Conn) Port(t port.Target) *port.Port { return port.New(c, t, c.set.Codec) }

// use makes a connection the one of now, and sends the calls that have waited for it.
func (c *Conn) use(l *link) {
	c.mu.Lock()
	if c.failure != nil { // closed meanwhile
		c.mu.Unlock()
		l.peer.Close(wire.ErrClosed)
		l.leave("")
		return
	}
	c.links[l] = true
	c.dir = l.welcome.Node
	c.wg.Go(func() {
		l.peer.Serve() //nolint:errcheck // its calls have the failure
		l.leave("")
		c.mu.Lock()
		delete(c.links, l)
		c.mu.Unlock()
	})
	c.peer.Store(l.peer)
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for _, w := range waiting {
		w.then(l.peer, nil)
	}
}

// follow looks for the next node each time that a connection takes no more calls, until Close.
func (c *Conn) follow(l *link) {
	pause := firstPause
	for {
		began := time.Now()
		select {
		case <-l.leaving:
		case <-c.ctx.Done():
			return
		}
		c.peer.Store(nil)
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		next := c.after(l, &pause)
		if next == nil {
			return
		}
		c.use(next)
		l.peer.Retire() // a node that is replaced ends when its last call has ended
		l = next
	}
}

// after connects to the node after the one of a connection: to the node that this has named, else to the node of the home address, which it dials
// until the node answers. The result is nil after Close, and if no node follows.
func (c *Conn) after(l *link, pause *time.Duration) *link {
	for attempt := l.next != ""; ; attempt = false {
		var next *link
		var err error
		switch {
		case attempt:
			next, err = join(c.ctx, l.next, wire.Hello{Version: c.set.Version})
		case c.home == "":
			c.fail(call.NewError(helvetype.ReasonReplicaUnavailable, fmt.Sprintf("the node at %s has gone away", c.Dir())))
			return nil
		default:
			_, next, err = c.reach(c.ctx, c.home)
		}
		if err == nil {
			return next
		}
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		if !sleep(c.ctx, pause) {
			return nil
		}
	}
}

// Next gives a call the connection after an ended one: see [port.Successor].
func (c *Conn) Next(ended *wire.Peer, then func(*wire.Peer, *call.Error)) {
	c.mu.Lock()
	peer, failure := c.peer.Load(), c.failure
	switch {
	case failure != nil:
	case peer != nil && peer != ended:
	case len(c.waiting) == waitingMax:
		failure = call.NewError(helvetype.ReasonBackpressure, fmt.Sprintf("%d calls wait for the next node, more are not possible", waitingMax))
	default:
		c.waiting = append(c.waiting, waiter{time.Now().Add(Patience), then})
		if c.expiry == nil {
			c.expiry = time.AfterFunc(Patience, c.expire)
		} else if len(c.waiting) == 1 {
			c.expiry.Reset(Patience)
		}
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if failure != nil {
		peer = nil
	}
	then(peer, failure)
}

// expire fails the calls that have waited for long enough.
func (c *Conn) expire() {
	c.mu.Lock()
	now, n := time.Now(), 0
	for n < len(c.waiting) && !c.waiting[n].until.After(now) {
		n++
	}
	late := c.waiting[:n:n]
	if c.waiting = c.waiting[n:]; len(c.waiting) > 0 {
		c.expiry.Reset(c.waiting[0].until.Sub(now))
	}
	why := c.last
	c.mu.Unlock()
	if len(late) == 0 {
		return
	}
	text := fmt.Sprintf("the node has gone away, and no other has answered for %s", Patience)
	if why != nil {
		text += ": " + why.Error()
	}
	for _, w := range late {
		w.then(nil, call.NewError(helvetype.ReasonReplicaUnavailable, text))
	}
}

// fail ends the waiting of all calls, and of all later ones.
func (c *Conn) fail(e *call.Error) {
	c.mu.Lock()
	if c.failure == nil {
		c.failure = e
	}
	waiting := c.waiting
	c.waiting = nil
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.mu.Unlock()
	for _, w := range waiting {
		w.then(nil, e)
	}
}

// errClosed is the cause of a connection that this program has closed.
var errClosed = errors.New("the program has closed its connection to the node")

// Lost is the failure of a call that was under way when its connection ended.
func (c *Conn) Lost() *call.Error {
	if c.ctx.Err() != nil {
		return call.NewError(helvetype.ReasonCancelled, errClosed.Error())
	}
	return call.NewError(helvetype.ReasonMayHaveRun, "the node has gone away while the call was under way")
}

// Close ends the connection. The node gives the slots of this program free and ends its calls.
func (c *Conn) Close() {
	c.stop()
	c.fail(call.NewError(helvetype.ReasonReplicaUnavailable, errClosed.Error()))
	c.peer.Store(nil)
	c.mu.Lock()
	for l := range c.links {
		l.peer.Close(errClosed)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// Ask sends a control request and waits for its reply. While there is no node it waits for the next one, for [Patience] at most. A request that
// only asks is sent again if the node goes away before its reply; any other may have been carried out then, and its error says so.
func Ask[R any](ctx context.Context, c *Conn, r protocol.Request[R]) (R, error) {
	var none R
	var ended *wire.Peer
	for {
		peer, err := c.node(ctx, ended)
		if err != nil {
			return none, err
		}
		reply, err := protocol.Ask(ctx, peer, r)
		if !errors.Is(err, wire.ErrEnded) && !errors.Is(err, wire.ErrClosed) {
			return reply, err
		}
		if !question(r) || c.ctx.Err() != nil {
			return none, c.Lost()
		}
		ended = peer
	}
}

// question says that a request changes nothing.
func question(r protocol.Operation) bool {
	switch r.(type) {
	case protocol.Status, protocol.Ingress, protocol.HTTP: // an attached program asks for the URL, and opens nothing
		return true
	}
	return false
}

// node waits for a connection other than the ended one.
func (c *Conn) node(ctx context.Context, ended *wire.Peer) (*wire.Peer, error) {
	if peer := c.peer.Load(); peer != nil && peer != ended {
		return peer, nil
	}
	type answer struct {
		peer    *wire.Peer
		failure *call.Error
	}
	got := make(chan answer, 1)
	c.Next(ended, func(p *wire.Peer, e *call.Error) { got <- answer{p, e} })
	select {
	case a := <-got:
		if a.failure != nil {
			return nil, a.failure
		}
		return a.peer, nil
	case <-ctx.Done():
		return nil, call.FromContext(ctx)
	}
}
