package node

import (
	"context"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/replica"
	"github.com/helve-serve/helve/internal/spec"
)

// Calls are counted where they run: in the node's process by the replica itself, in a Go worker likewise, which is asked, and for Python
// by the node.

// countTime is how long a status waits for workers to say what they have counted. One that does not answer is shown with what
// it said last.
const countTime = 200 * time.Millisecond

// countAll asks the Go workers that answer as a rule.
func (n *Node) countAll() {
	n.mu.Lock()
	var ask []*workerProc
	for _, w := range n.workers {
		if w.peer != nil && w.stuck == nil && w.rev != nil && w.rev.goWorker == w {
			ask = append(ask, w)
		}
	}
	n.mu.Unlock()
	if len(ask) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, countTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range ask {
		wg.Go(func() { n.askCounts(ctx, w) })
	}
	wg.Wait()
}

// askCounts asks a Go worker.
func (n *Node) askCounts(ctx context.Context, w *workerProc) {
	if w.graph == nil { // Python
		return
	}
	var reply struct {
		Replicas map[string]replica.Counts `json:"replicas"`
	}
	if w.peer.Control(ctx, map[string]string{"op": "counts"}, &reply) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, c := range reply.Replicas {
		if u := n.unitLocked(id); u != nil && u.worker == w {
			u.counted.Store(&c)
		}
	}
}

// count is told how a call at a replica ended.
func (u *Unit) count(r call.Result) {
	if u.placement != inPython || r.NotStarted {
		return
	}
	u.ended.Add(1)
	if r.Err != nil {
		u.failed.Add(1)
	}
}

func (u *Unit) counts() replica.Counts {
	switch c := u.counted.Load(); {
	case u.instance != nil:
		return u.instance.Counts()
	case c != nil:
		return *c
	}
	return replica.Counts{Started: u.ended.Load(), Failed: u.failed.Load()}
}

func (d *Deployment) callsLocked() spec.Calls {
	c := spec.Calls{Queued: d.Router.Queued(), Total: d.past.Started, Errors: d.past.Failed, Late: d.past.Late}
	for _, u := range d.units {
		if u.state == spec.ReplicaStarting { // whoever starts it writes to it
			continue
		}
		s := u.counts()
		c.Running += u.gate.Load()
		c.Total, c.Errors, c.Late = c.Total+s.Started, c.Errors+s.Failed, c.Late+s.Late
	}
	return c
}
