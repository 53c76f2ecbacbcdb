// Package guest is the side of a Go worker: the worker dials the node that spawned it, hosts the replicas that the node
// starts in it, and sends the calls of its handles back to the node.
//
// A worker outlives its node if its environment says so. Each replica has one nodeSession per node, which counts the slots
// that the node believes to be taken. For example, a replica executes three calls when its node is killed. Its session ends,
// the calls are cancelled, and the worker dials until another node answers. It describes itself to that node: this replica
// lives, three calls of it have not ended. The next node counts three slots as taken, and the ended session reports to it
// each of the three calls that ends.
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
	"github.com/helve-serve/helve/internal/capture"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/port"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/wire"
)

// Settings configure a worker. [Dial] takes them.
type Settings struct {
	Version string
	Graph   spec.Graph
	Classes map[string]*instance.Class
	// Home goes into the places of calls: methods find their application by it.
	Home any
	// Page has the counters for calls under lent slots, which the node reads. nil: the node lends none.
	Page *telemetry.Page
	// Signals may be nil. A signal that arrives when the worker has no node goes to Orphaned, which ends the worker. While
	// there is a node, signals are ignored, because the node ends its workers.
	Signals  <-chan os.Signal
	Orphaned func(os.Signal)
}

// Guest is a worker's connection to its node.
type Guest struct {
	set   Settings
	codec *codec.Codec
	token wire.Token
	hello wire.Hello
	grace time.Duration // how long the worker looks for another node; with 0 it ends with its node
	dial  func() (net.Conn, error)
	arena int64 // size of the largest shared memory that the node may offer

	control protocol.Table
	drains  instance.Drains
	process capture.Process
	peer    atomic.Pointer[wire.Peer] // to the node of today
	spans   *trace.Reporter           // of calls that the node does not see

	handing sync.Mutex // held while a node hands over, and while a replica becomes one of the worker; taken before mu
	link    *link      // to the node of today, or to the next one that is dialled. Guarded by handing

	mu       sync.Mutex
	replicas map[string]*hosted // by id
	ports    []*port.Port
	leaving  bool // the node has asked the worker to end
}

// Dial opens the connection that the environment names (docs/wire.md). Calls are served from [Guest.Serve] on.
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

// Join is Dial for a worker in the process of its node. Each call of dial gives the worker's end of a new connection.
func Join(s Settings, id string, token wire.Token, dial func() (net.Conn, error)) (*Guest, error) {
	return join(s, id, token, dial, 0)
}

func join(s Settings, id string, token wire.Token, dial func() (net.Conn, error), grace time.Duration) (*Guest, error) {
	h := wire.Hello{
		Kind: "worker", Language: "go", Version: s.Version, ID: id, PID: os.Getpid(),
		Features: []string{wire.FeatureBulk, wire.FeatureSegments, wire.FeatureArena, wire.FeatureHTTP},
	}
	var err error
	if h.Graph, h.GraphDigest, err = describeGraph(s.Graph); err != nil {
		return nil, err
	}
	g := &Guest{set: s, codec: codec.New(), token: token, hello: h, grace: grace, dial: dial, replicas: map[string]*hosted{}}
	g.spans = trace.NewReporter(func(spans json.RawMessage) {
		protocol.Ask(context.Background(), g.peer.Load(), protocol.Spans{Spans: spans}) //nolint:errcheck // without a node they are of no use
	})
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
		g.arena = max(g.arena, 0) // a negative number is a node without shared memory
	}
	g.link = newLink(g)
	if err := g.connect(g.link, nil); err != nil {
		return nil, err
	}
	g.peer.Store(g.link.peer.Load())
	if s.Signals != nil {
		go g.watchSignals()
	}
	return g, nil
}

// signalTime is the time after a signal in which the end of the node's connection makes the worker an orphan. A signal may
// come before that end: for example, the kernel sends SIGHUP to a worker that is stopped while its node dies.
const signalTime = 100 * time.Millisecond

// watchSignals calls Orphaned for signals of a worker without a node.
func (g *Guest) watchSignals() {
	for s := range g.set.Signals {
		late := time.NewTimer(signalTime)
		select {
		case <-g.peer.Load().Done():
			g.set.Orphaned(s)
		case <-late.C:
		}
		late.Stop()
	}
}

// maxGraph bounds the description of a graph in a hello, in bytes.
const maxGraph = 256 << 10

// describeGraph gives the description of a graph for a hello. The options are left out: the node does not compare them, and
// a user config may have many megabytes. If the description is still larger than maxGraph, it is nil and the digest is set.
func describeGraph(g spec.Graph) (graph json.RawMessage, digest string, err error) {
	g.Deployments = slices.Clone(g.Deployments)
	for i := range g.Deployments {
		g.Deployments[i].Options = spec.Options{}
	}
	if graph, err = json.Marshal(g); err != nil || len(graph) <= maxGraph {
		return graph, "", err
	}
	return nil, g.Digest(), nil
}

// Drains are the drains of the replicas in this worker.
func (g *Guest) Drains() *instance.Drains { return &g.drains }

// Traces takes spans of the worker, for the node of today.
func (g *Guest) Traces() trace.Sink { return g.spans }

// Kill breaks the connection to the node off without a drain, as the end of the process would.
func (g *Guest) Kill() { g.peer.Load().Close(errors.New("the worker was killed")) }

// connect opens the connections to the node. resume describes the replicas of a worker that had a node before, else it is nil.
func (g *Guest) connect(l *link, resume *wire.Resume) error {
	h := g.hello
	h.Resume = resume
	if !arena.Fits(g.arena) {
		h.Features = slices.DeleteFunc(slices.Clone(h.Features), func(f string) bool { return f == wire.FeatureArena })
	}
	nc, welcome, err := open(g.dial, g.token, h)
	if err != nil {
		return err
	}
	m, err := openMemory(welcome.Arena)
	if err != nil {
		nc.Close()
		return err
	}
	terms := welcome.Terms
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), terms), l)
	if l.memory = m; m != nil {
		m.peer = peer
		peer.UseMemory(m)
	}
	if terms.Bulk {
		h.Connection, h.Graph, h.Resume = wire.ConnBulk, nil, nil
		h.GraphDigest = ""
		go dialBulk(peer, g.dial, g.token, h)
	}
	l.peer.Store(peer)
	return nil
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

// dialBulk opens the second connection, which only large values need. It runs while the first replica starts.
func dialBulk(peer *wire.Peer, dial func() (net.Conn, error), token wire.Token, h wire.Hello) {
	nc, _, err := open(dial, token, h)
	if err == nil {
		err = peer.Attach(nc)
	}
	if err != nil {
		peer.Close(fmt.Errorf("the connection for large values: %w", err))
	}
}

// readToken reads the token from the inherited descriptor and closes it, so that no child process inherits it.
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

// Serve hosts replicas until the node goes away and no other node takes them over. Its error says why; it is nil when the
// node has asked the worker to end.
func (g *Guest) Serve() error {
	g.handing.Lock()
	l := g.link
	g.handing.Unlock()
	for {
		ended := make(chan error, 1)
		go func() { ended <- l.serve() }()
		var err error
		select {
		case err = <-ended:
		case <-l.left: // its calls go on beside those of the next node
		}
		g.mu.Lock()
		leaving := g.leaving
		g.mu.Unlock()
		switch {
		case leaving:
			return nil
		case g.grace == 0:
			return err
		}
		if l, err = g.reconnect(l); err != nil {
			return err
		}
	}
}
