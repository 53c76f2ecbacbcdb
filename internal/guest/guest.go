// Package guest is a Go worker's own side: it dials the node that spawned it, hosts the replicas that the node starts in
// it, and gives the handles of its deployments a way back to the node.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/arena"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// Settings are what code passes to [Dial].
type Settings struct {
	Version string
	Graph   spec.Graph
	Classes map[string]*instance.Class
	Home    any // goes into the places of calls
	// Signals end a worker that has no node any more, by Orphaned. One that has a node is ended by it. May be nil.
	Signals  <-chan os.Signal
	Orphaned func(os.Signal)
}

// Guest is a worker's connection to its node.
type Guest struct {
	set   Settings
	codec *codec.Codec
	token wire.Token
	hello wire.Hello
	grace time.Duration // how long it looks for another node; 0: it ends with its own
	dial  func() (net.Conn, error)
	arena int64 // how large the memory may be that the node offers

	control protocol.Table
	memory  *memory // shared with the present node; nil without. The goroutine of Dial and Serve has it
	peer    atomic.Pointer[wire.Peer]

	mu       sync.Mutex
	replicas map[string]*hosted
	ports    []*Port
	leaving  bool
}

// Dial opens the connection that the environment names (docs/wire.md). Nothing is served before [Guest.Serve].
func Dial(s Settings) (*Guest, error) {
	token, err := readToken()
	if err != nil {
		return nil, err
	}
	var grace time.Duration
	if v := os.Getenv("HELVE_WORKER_GRACE"); v != "" {
		if grace, err = time.ParseDuration(v); err != nil {
			return nil, fmt.Errorf("HELVE_WORKER_GRACE: %w", err)
		}
	}
	return join(s, os.Getenv("HELVE_WORKER_ID"), token, dialNode, grace)
}

// Join is Dial in the node's own process: dial gives the guest's ends of connections to it.
func Join(s Settings, id string, token wire.Token, dial func() (net.Conn, error)) (*Guest, error) {
	return join(s, id, token, dial, 0)
}

func join(s Settings, id string, token wire.Token, dial func() (net.Conn, error), grace time.Duration) (*Guest, error) {
	h := wire.Hello{
		Kind: "worker", Language: "go", Version: s.Version, ID: id, PID: os.Getpid(),
		Features: []string{wire.FeatureBulk, wire.FeatureSegments, wire.FeatureArena},
	}
	var err error
	if h.Graph, h.GraphDigest, err = described(s.Graph); err != nil {
		return nil, err
	}
	g := &Guest{set: s, codec: codec.New(), token: token, hello: h, grace: grace, dial: dial, replicas: map[string]*hosted{}}
	g.control = g.operations()
	if v := os.Getenv("HELVE_WORKER_MAX_BODY"); v != "" {
		if g.hello.MaxBody, err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("HELVE_WORKER_MAX_BODY: %w", err)
		}
	}
	if v := os.Getenv("HELVE_WORKER_ARENA"); v != "" {
		if g.arena, err = strconv.ParseInt(v, 10, 64); err != nil {
			return nil, fmt.Errorf("HELVE_WORKER_ARENA: %w", err)
		}
		g.arena = max(g.arena, 0) // less: the node has none to offer
	}
	peer, err := g.connect(nil)
	if err != nil {
		return nil, err
	}
	g.peer.Store(peer)
	if s.Signals != nil {
		go g.heed()
	}
	return g, nil
}

// heedTime is how long the end of the node may take to show, after a signal that came with it: the kernel sends SIGHUP to a
// worker that is stopped while its node dies, and lets it go on.
const heedTime = 100 * time.Millisecond

// heed ends a worker without a node that gets a signal.
func (g *Guest) heed() {
	for s := range g.set.Signals {
		soon := time.NewTimer(heedTime)
		select {
		case <-g.peer.Load().Done():
			g.set.Orphaned(s)
		case <-soon.C:
		}
		soon.Stop()
	}
}

// maxGraph is how many bytes of a graph go into a hello.
const maxGraph = 256 << 10

// described is what a hello says of a graph: all but the options, which the node does not compare and which may be user
// configs of many megabytes, or its digest alone where that is still too much.
func described(g spec.Graph) (graph json.RawMessage, digest string, err error) {
	g.Deployments = slices.Clone(g.Deployments)
	for i := range g.Deployments {
		g.Deployments[i].Options = spec.Options{}
	}
	if graph, err = json.Marshal(g); err != nil || len(graph) <= maxGraph {
		return graph, "", err
	}
	return nil, g.Digest(), nil
}

// Kill breaks the connection to the node off, as the end of the process would: nothing is drained.
func (g *Guest) Kill() { g.peer.Load().Close(errors.New("the worker was killed")) }

// connect opens the connections; resume is what the worker has already.
func (g *Guest) connect(resume *wire.Resume) (*wire.Peer, error) {
	h := g.hello
	h.Resume = resume
	if !arena.Fits(g.arena) {
		h.Features = slices.DeleteFunc(slices.Clone(h.Features), func(f string) bool { return f == wire.FeatureArena })
	}
	nc, welcome, err := open(g.dial, g.token, h)
	if err != nil {
		return nil, err
	}
	m, err := openMemory(welcome.Arena)
	if err != nil {
		nc.Close()
		return nil, err
	}
	terms := welcome.Terms
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), terms), g)
	g.memory.close() // what is still read of the former node's memory stays
	if g.memory = m; m != nil {
		m.peer = peer
		peer.UseMemory(m)
	}
	if terms.Bulk {
		h.Connection, h.Graph, h.Resume = wire.ConnBulk, nil, nil
		h.GraphDigest = ""
		go dialBulk(peer, g.dial, g.token, h)
	}
	return peer, nil
}

func dialNode() (net.Conn, error) { return net.Dial("unix", os.Getenv("HELVE_SOCKET")) }

func open(dial func() (net.Conn, error), token wire.Token, h wire.Hello) (net.Conn, wire.Welcome, error) {
	nc, err := dial()
	if err != nil {
		return nil, wire.Welcome{}, fmt.Errorf("the node's socket: %w", err)
	}
	w, err := wire.Open(nc, token, h)
	if err != nil {
		nc.Close()
		return nil, w, err
	}
	return nc, w, nil
}

// dialBulk opens the second connection, beside the start of the first instance: nothing waits for it but large values.
func dialBulk(peer *wire.Peer, dial func() (net.Conn, error), token wire.Token, h wire.Hello) {
	nc, _, err := open(dial, token, h)
	if err == nil {
		err = peer.Attach(nc)
	}
	if err != nil {
		peer.Close(fmt.Errorf("the connection for large values: %w", err))
	}
}

// readToken reads the token from the inherited descriptor, which is closed, so that no child of ours inherits it.
func readToken() (t wire.Token, err error) {
	fd, err := strconv.Atoi(os.Getenv("HELVE_TOKEN_FD"))
	if err != nil {
		return t, errors.New("HELVE_TOKEN_FD is not set: workers are started by a node")
	}
	f := os.NewFile(uintptr(fd), "token")
	defer f.Close()
	if _, err := io.ReadFull(f, t[:]); err != nil {
		return t, fmt.Errorf("the worker's token: %w", err)
	}
	return t, nil
}

// Serve hosts replicas until the node goes away and no other takes them over, and gives the reason; nil after an orderly
// stop.
func (g *Guest) Serve() error {
	for {
		err := g.peer.Load().Serve()
		g.mu.Lock()
		leaving := g.leaving
		g.mu.Unlock()
		switch {
		case leaving:
			return nil
		case g.grace == 0:
			return err
		}
		if err := g.resume(); err != nil {
			return err
		}
	}
}

// Route finds the replica that a route of the node leads to.
func (g *Guest) Route(r wire.Route) any {
	g.mu.Lock()
	h := g.replicas[r.Replica]
	g.mu.Unlock()
	rt := &route{host: h}
	if h != nil {
		rt.place = call.Place{App: h.instance.Class.App, Deployment: h.instance.Class.Deployment, Method: r.Method, Home: g.set.Home}
	}
	return rt
}

type route struct {
	host  *hosted
	place call.Place
}

// Call runs a method of a hosted replica on a goroutine of its own.
func (g *Guest) Call(b *call.Batch, in *wire.Incoming) call.Canceler {
	r, _ := in.Route.(*route)
	if r == nil || r.host == nil {
		in.Complete(b, call.Result{Err: call.NewError(call.ReplicaUnavailable, "the replica is not in this worker")})
		return nil
	}
	in.Keep()
	if in.Mode != call.Broadcast { // which holds no slot
		s := r.host.now.Load()
		s.running.Add(1)
		in.OnEnd = s
	}
	in.Info.Place, in.Info.Replica, in.Info.Frame = &r.place, r.host.instance.ID, in.ID()
	return r.host.local.Start(b, &in.Call, in)
}

// Goaway from the node: it has stopped the replicas already, so this worker ends.
func (g *Guest) Goaway(wire.Goaway) {
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	g.peer.Load().Close(wire.ErrClosed)
}

// Port is how handles in this worker reach one deployment: through the node.
type Port struct {
	guest           *Guest
	app, deployment string
	python          bool

	ways transport.RouteCache
	near atomic.Pointer[[]router.Replica]
	turn atomic.Uint32
	uses sync.Map // name -> true
}

// TryAcquire takes a slot of a replica in this process, if the node has lent some and one is free. The caller runs the
// method itself and releases the slot at the replica's gate.
func (p *Port) TryAcquire() router.Replica {
	near := p.near.Load()
	if near == nil || len(*near) == 0 {
		return nil
	}
	set := *near
	first := int(p.turn.Add(1))
	for i := range set {
		if r := set[(first+i)%len(set)]; r.Gate().TryAcquire() {
			return r
		}
	}
	return nil
}

// Port makes the way to a deployment; python says how Go values become its arguments.
func (g *Guest) Port(app, deployment string, python bool) *Port {
	p := &Port{guest: g, app: app, deployment: deployment, python: python}
	g.mu.Lock()
	g.ports = append(g.ports, p)
	g.mu.Unlock()
	return p
}

// Uses tells the node that a replica of the deployment asked for a handle to another one, which the graph does not say. It
// does not wait; once is enough.
func (p *Port) Uses(name string) {
	if _, told := p.uses.LoadOrStore(name, true); told {
		return
	}
	go protocol.Ask(context.Background(), p.guest.peer.Load(), protocol.Uses{Deployment: p.deployment, Name: name}) //nolint:errcheck // the edge is only shown to people; a node that has gone shows nothing
}

// Submit sends a call to the node, which queues and routes it.
func (p *Port) Submit(b *call.Batch, c *call.Call, sink call.Sink) call.Canceler {
	peer := p.guest.peer.Load()
	way, e := p.ways.Get(peer, wire.Route{App: p.app, Deployment: p.deployment, Method: c.Info.Method})
	if e != nil {
		sink.Complete(b, call.Result{Err: e.At(&c.Info)})
		return noCancel{}
	}
	f := &flight{sink: sink, call: c, port: p}
	h := transport.Send(way, p.guest.codec, p.python, b, c, f)
	f.mu.Lock()
	f.handle = h
	gone := f.cancelled
	f.mu.Unlock()
	if gone != nil {
		h.Cancel(b, gone)
	}
	return f
}

// Release gives back a slot that a call with mode Reserve got. It does not wait.
func (p *Port) Release(lease uint64) {
	go protocol.Ask(context.Background(), p.guest.peer.Load(), protocol.Release{Lease: lease}) //nolint:errcheck // a node that has gone has no slots
}

type noCancel struct{}

func (noCancel) Cancel(*call.Batch, error) {}

// flight is one call to the node: it answers its caller once, at the END or when it is cancelled.
type flight struct {
	sink call.Sink
	call *call.Call
	port *Port

	mu        sync.Mutex
	answered  bool
	cancelled error
	handle    transport.Handle
}

func (f *flight) Complete(b *call.Batch, r call.Result) {
	f.mu.Lock()
	answered := f.answered
	f.answered = true
	f.mu.Unlock()
	if answered {
		r.Release()
		if f.call.Mode == call.Reserve && r.Err == nil { // nobody waits for the slot any more
			var held protocol.HeldSlot
			if json.Unmarshal(r.Data, &held) == nil {
				f.port.Release(held.Lease)
			}
		}
		return
	}
	if r.Err != nil {
		r.Err = r.Err.At(&f.call.Info)
	}
	r.Fit(f.sink)
	f.sink.Complete(b, r)
}

// TakesParts says that results may come in parts.
func (f *flight) TakesParts() {}

func (f *flight) Cancel(b *call.Batch, cause error) {
	f.mu.Lock()
	answered, h := f.answered, f.handle
	f.answered, f.cancelled = true, cause
	f.mu.Unlock()
	if answered {
		return
	}
	f.sink.Complete(b, call.Result{Err: call.FromCause(cause).At(&f.call.Info)})
	h.Cancel(b, cause)
}
