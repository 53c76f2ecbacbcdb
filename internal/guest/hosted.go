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

	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// hosted is a replica in this process.
type hosted struct {
	guest    *Guest
	instance *instance.Instance // counts the calls that come from the node
	inline   *instance.Instance // the same instance; counts the calls under lent slots, which the node does not see
	local    transport.Local
	session  atomic.Pointer[nodeSession] // with the node of today

	mu            sync.Mutex
	ended         []*nodeSession // with nodes that have gone or have handed over, as long as calls of theirs run
	config        string         // digest of the replica's user config
	models        []string       // nil until there was one
	modelsChanged bool           // since the node was told of them
	reporting     bool           // a goroutine reports the models, one report after the other
}

// orphanCloseTime bounds the Close of a replica that became ready after its node had gone.
const orphanCloseTime = 5 * time.Second

// host takes a replica that was started into service. Guest.handing is held.
func (g *Guest) host(l *link, r *instance.Instance, config json.RawMessage) {
	calls := new(telemetry.Calls) // without a page no slots are lent, and these are not read
	if page := g.set.Page; page != nil {
		if lent, ok := page.Find(r.ID); ok {
			calls = lent.Calls()
		}
	}
	inline := r.Sibling(calls)
	inline.Trace = g.spans // the node leaves the records of the calls that it sends
	h := &hosted{guest: g, instance: r, inline: inline, local: transport.Local{Replica: r, Codec: g.codec}}
	h.startSession(l)
	h.setConfig(config)
	g.mu.Lock()
	g.replicas[r.ID] = h
	g.mu.Unlock()
	r.Scope.WatchModels(h.setModels)
	r.Scope.Metrics.ReportTo(h.reportMetrics)
}

// metricsTime bounds the report of metrics: without an answer the changes are in the report to the next node.
const metricsTime = 5 * time.Second

// reportMetrics sends the metrics that the code of the replica has defined to the node of today.
func (h *hosted) reportMetrics(number uint64, metrics []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	protocol.Ask(ctx, h.guest.peer.Load(), protocol.Metrics{Number: number, Metrics: metrics}) //nolint:errcheck // see above
}

// setConfig notes which user config the replica has.
func (h *hosted) setConfig(config json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = spec.ConfigDigest(config)
}

// setModels notes the models of the replica, and reports them to the node.
func (h *hosted) setModels(ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.models = append([]string{}, ids...)
	h.reportModelsLocked()
}

// reportModelsLocked reports the models at once, so that the report stands before the answer of the call that has loaded one. For example, a caller gets that answer, and calls again or scales the
// deployment down: the node knows already which replica has the model. A report that cannot be sent so ([wire.Peer.Tell]) is one of a goroutine, which awaits each reply before the next report, so that
// no report overtakes another: changes that happen meanwhile go together.
func (h *hosted) reportModelsLocked() {
	if h.reporting {
		h.modelsChanged = true
		return
	}
	if sent, err := protocol.Tell(h.guest.peer.Load(), protocol.Models{Replica: h.instance.ID, Models: h.models}); sent || err != nil {
		return // the next node is told when it takes over; where this one has a gigabyte to read first, or takes no list so long, the next change is another try
	}
	h.reporting, h.modelsChanged = true, true
	go func() {
		for {
			h.mu.Lock()
			m := protocol.Models{Replica: h.instance.ID, Models: h.models}
			if !h.modelsChanged {
				h.reporting = false
				h.mu.Unlock()
				return
			}
			h.modelsChanged = false
			h.mu.Unlock()
			protocol.Ask(context.Background(), h.guest.peer.Load(), m) //nolint:errcheck // as above
		}
	}()
}

// dialPeriod is the time between two attempts to reach another node.
const dialPeriod = 50 * time.Millisecond

// reconnect finds another node when the node has gone and its calls are cancelled, or has handed over. It keeps the replicas, and describes
// them and the calls that still run to the next node.
func (g *Guest) reconnect(l *link) (*link, error) {
	g.handing.Lock()
	next := l.next
	if next == nil {
		next = newLink(g)
		for _, h := range g.hosted() {
			h.leave(next).end()
		}
		g.link = next
	}
	g.handing.Unlock()
	until := time.Now().Add(g.grace)
	for {
		all := g.hosted()
		r := &wire.Resume{Replicas: []wire.Resumed{}}
		for _, h := range all {
			r.Replicas = append(r.Replicas, h.describe())
		}
		err := g.connect(next, r)
		if err == nil {
			peer := next.peer.Load()
			for _, h := range all {
				h.handOver(peer)
			}
			g.peer.Store(peer)
			for _, h := range all { // models may have changed since r was made
				h.mu.Lock()
				if h.models != nil { // also if none is left
					h.reportModelsLocked()
				}
				h.mu.Unlock()
				h.instance.Scope.Metrics.ReportTo(h.reportMetrics)
			}
			return next, nil
		}
		if _, refused := errors.AsType[*wire.RefusedError](err); refused {
			if l.handedOver() { // its calls end first
				<-l.peer.Load().Done() // that node bounds their time
			}
			return nil, err
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("no node took over within %s: %w", g.grace, err)
		}
		time.Sleep(dialPeriod)
	}
}

// describe gives the replica's state for the hello to another node. Calls that have not ended count as reported.
func (h *hosted) describe() wire.Resumed {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = slices.DeleteFunc(h.ended, func(s *nodeSession) bool { return s.count() == 0 })
	r := wire.Resumed{
		Replica: h.instance.ID, Deployment: h.instance.Class.Deployment, Config: h.config, Models: h.models, Health: h.instance.CanTell(), Ready: h.instance.TellsReadiness(),
		Reports: h.instance.Reports(), Scales: h.instance.ReportsLoad(),
	}
	c := h.instance.Counts()
	r.Started, r.Failed = c.Started, c.Failed
	for _, s := range h.ended {
		r.Executing += s.report()
	}
	return r
}

// handOver makes a node that has taken over the successor of all that have gone.
func (h *hosted) handOver(successor *wire.Peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.ended {
		s.reportFinished(successor)
	}
}
