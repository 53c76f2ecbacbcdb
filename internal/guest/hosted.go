package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// hosted is a replica in this process.
type hosted struct {
	guest    *Guest
	instance *instance.Instance // counts the calls of the node
	near     *instance.Instance // the same instance; counts the calls under lent slots, which the node does not see
	local    transport.Local
	now      atomic.Pointer[tenure]

	mu     sync.Mutex
	former []*tenure // under nodes that have gone, with calls that have not ended
	config string    // digest of the user config that it has
	models []string
	stale  bool // models has changed since the node was told
	asking bool // a goroutine tells the node
}

// ID is the replica's id.
func (t *tenure) ID() string { return t.host.instance.ID }

// Node is "": the worker is not told.
func (t *tenure) Node() string { return "" }

// Gate has the slots that the node has lent.
func (t *tenure) Gate() router.Gate { return t.block }

// Here is the instance, for callers in this process.
func (t *tenure) Here() *instance.Instance { return t.host.near }

// tenure is a replica's time under one node, which counts its slots. When the node is gone, what still runs is owed to the
// next: it must count those slots as taken until they end.
type tenure struct {
	guest *Guest
	host  *hosted
	block *gate.LocalSlots // slots for calls from this process
	rest  *time.Timer

	running atomic.Int64 // calls from the node that have not ended; once it is over, also those under its lent slots
	over    atomic.Bool
	mu      sync.Mutex
	told    int64      // how many the next node was told of, less what it was told the end of
	heir    *wire.Peer // the next node
}

// restTime is how long slots are kept that nobody uses.
const restTime = time.Second

// lateClose bounds the Close of a replica that was ready when nobody wanted it any more.
const lateClose = 5 * time.Second

func (h *hosted) begin() {
	t := &tenure{guest: h.guest, host: h}
	t.block = gate.NewLocalSlots(func(_ *call.Batch, n int) { t.giveBack(h.guest.peer.Load(), n) })
	t.rest = time.AfterFunc(time.Hour, func() {
		if !t.block.ReturnIdle() {
			t.rest.Reset(restTime)
		}
	})
	t.rest.Stop()
	h.now.Store(t)
}

func (t *tenure) giveBack(to *wire.Peer, n int) {
	go protocol.Ask(context.Background(), to, protocol.ReturnBlock{Replica: t.host.instance.ID, Slots: n}) //nolint:errcheck // a node that has gone counts nothing
}

// Ended is told of the end of every call from the node.
func (t *tenure) Ended() {
	t.running.Add(-1)
	if t.over.Load() {
		t.settle(nil)
	}
}

// end says that the node has gone. Nothing is called under its slots any more.
func (t *tenure) end() {
	t.rest.Stop()
	t.over.Store(true)
	t.running.Add(int64(t.block.Abandon(func(_ *call.Batch, n int) {
		for range n {
			t.Ended()
		}
	})))
}

// tell is how many calls the next node is to count. Those that end are told to whoever becomes the heir.
func (t *tenure) tell() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heir = nil
	t.told = t.running.Load()
	return int(t.told)
}

// settle tells the heir of the calls that have ended since the last time; one that is not nil takes the place of who was it.
func (t *tenure) settle(heir *wire.Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if heir != nil {
		t.heir = heir
	}
	if n := t.told - t.running.Load(); n > 0 && t.heir != nil {
		t.told -= n
		t.giveBack(t.heir, int(n))
	}
}

// host takes a replica that was started into service.
func (g *Guest) host(r *instance.Instance, config json.RawMessage) {
	h := &hosted{guest: g, instance: r, near: r.Sibling(new(telemetry.Calls)), local: transport.Local{Replica: r, Codec: g.codec}}
	h.begin()
	h.configured(config)
	g.mu.Lock()
	g.replicas[r.ID] = h
	g.mu.Unlock()
	r.Scope.WatchModels(h.setModels)
}

func (h *hosted) configured(config json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = spec.ConfigDigest(config)
}

// setModels lets the node know which models the replica has. One that is told already learns of several changes at once.
func (h *hosted) setModels(ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.models, h.stale = ids, true
	if h.asking {
		return
	}
	h.asking = true
	go func() {
		for {
			h.mu.Lock()
			m := protocol.Models{Replica: h.instance.ID, Models: h.models}
			if !h.stale {
				h.asking = false
				h.mu.Unlock()
				return
			}
			h.stale = false
			h.mu.Unlock()
			protocol.Ask(context.Background(), h.guest.peer.Load(), m) //nolint:errcheck // the next node is told when it takes over
		}
	}()
}

// offer gives the slots of a replica to callers in this process.
func (g *Guest) offer(h *hosted, k protocol.GrantBlock) {
	t := h.now.Load()
	g.mu.Lock()
	for _, p := range g.ports {
		if p.deployment != h.instance.Class.Deployment {
			continue
		}
		near := p.near.Load()
		if near == nil || !slices.Contains(*near, router.Replica(t)) {
			var next []router.Replica
			if near != nil {
				next = append(next, *near...)
			}
			next = append(next, t)
			p.near.Store(&next)
		}
	}
	g.mu.Unlock()
	t.block.Grant(nil, k.Number, k.Slots)
	t.rest.Reset(restTime)
}

// withdraw is told that a replica stops, or that its node has gone.
func (g *Guest) withdraw(t *tenure) {
	t.rest.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.ports {
		if near := p.near.Load(); near != nil {
			next := slices.DeleteFunc(slices.Clone(*near), func(r router.Replica) bool { return r == router.Replica(t) })
			p.near.Store(&next)
		}
	}
}

// dialTime is how often a worker looks for its node.
const dialTime = 50 * time.Millisecond

// resume is called when the node has gone and every call from it is cancelled. It keeps the replicas and looks for the next
// node, which is told what is there and what still runs.
func (g *Guest) resume() error {
	g.mu.Lock()
	all := make([]*hosted, 0, len(g.replicas))
	for _, h := range g.replicas {
		all = append(all, h)
	}
	g.mu.Unlock()
	for _, h := range all {
		t := h.now.Load()
		g.withdraw(t)
		t.end()
		h.begin()
		h.mu.Lock()
		h.former = append(h.former, t)
		h.mu.Unlock()
	}
	until := time.Now().Add(g.grace)
	for {
		r := &wire.Resume{Replicas: []wire.Resumed{}}
		for _, h := range all {
			r.Replicas = append(r.Replicas, h.resumed())
		}
		peer, err := g.connect(r)
		if err == nil {
			for _, h := range all {
				h.inherit(peer)
			}
			g.peer.Store(peer)
			for _, h := range all { // what changed since r was made
				h.mu.Lock()
				models := h.models
				h.mu.Unlock()
				if len(models) > 0 {
					h.setModels(models)
				}
			}
			return nil
		}
		if _, refused := errors.AsType[*wire.RefusedError](err); refused {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("no node took over within %s: %w", g.grace, err)
		}
		time.Sleep(dialTime)
	}
}

func (h *hosted) resumed() wire.Resumed {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.former = slices.DeleteFunc(h.former, func(t *tenure) bool { return t.running.Load() == 0 })
	r := wire.Resumed{
		Replica: h.instance.ID, Deployment: h.instance.Class.Deployment, Config: h.config, Models: h.models, Health: h.instance.CanTell(),
		Reports: h.instance.Reports(),
	}
	c := h.instance.Counts()
	r.Started, r.Failed = c.Started, c.Failed
	for _, t := range h.former {
		r.Executing += t.tell()
	}
	return r
}

func (h *hosted) inherit(peer *wire.Peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.former {
		t.settle(peer)
	}
}
