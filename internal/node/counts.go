package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Calls are counted where no end of a worker takes the count along: in the node's process by the replica itself, and for a
// replica in a worker by the node, when a call is sent and when its end is known. For example, of three calls that a worker
// had when it died the node has counted three, and three errors. The node does not see calls that run in a Go worker under
// slots that it lent: the worker counts those, and is asked.

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
		wg.Go(func() { n.askCounts(ctx, w) }) //nolint:errcheck // what it said last stands
	}
	wg.Wait()
}

// askCounts asks a Go worker for what has run under lent slots.
func (n *Node) askCounts(ctx context.Context, w *workerProc) error {
	if w.graph == nil { // Python
		return nil
	}
	reply, err := protocol.Ask(ctx, w.peer, protocol.Counts{})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, counts := range reply.Replicas {
		c := telemetry.Counts{Started: counts.Started, Failed: counts.Failed, Late: counts.Late, Busy: counts.Busy}
		if u := n.unitLocked(id); u != nil && u.worker == w {
			if last := u.lent.Load(); last != nil { // of two that ask at once, the one that asked first may be told last
				c.Raise(*last)
			}
			u.lent.Store(&c)
		}
	}
	return nil
}

// sent counts a call that is about to be sent to the replica, and gives the time.
func (u *Unit) sent() (at int64) {
	if u.placement == inNode { // the instance counts it
		return 0
	}
	u.calls.Begin()
	return call.Now()
}

// ended counts the end of a call that [Unit.sent] has counted at the time.
func (u *Unit) ended(at int64, r call.Result) {
	switch {
	case u.placement == inNode:
	case r.NotStarted:
		u.calls.Undo()
	default:
		u.calls.End(time.Duration(call.Now()-at), r.Err != nil)
	}
}

func (u *Unit) counts() telemetry.Counts {
	if u.instance != nil {
		return u.instance.Counts()
	}
	c := u.calls.Counts()
	if lent := u.lent.Load(); lent != nil {
		c.Add(*lent)
	}
	return c
}

// tallyLocked adds up the counts of replicas that are gone, once their last call has ended: one that was cut off ends later than its
// replica, and is an error all the same.
func (d *Deployment) tallyLocked() {
	d.leaving = slices.DeleteFunc(d.leaving, func(u *Unit) bool {
		over := u.gate.Load() == 0 && !u.lane.busy()
		if over {
			k := u.counts()
			d.past.Add(k)
			d.rememberLocked(u, k)
		}
		return over
	})
}

func (d *Deployment) callsLocked() helvetype.Calls {
	d.tallyLocked()
	c := helvetype.Calls{Queued: d.Router.Queued(), Total: d.past.Started, Errors: d.past.Failed, Late: d.past.Late}
	count := func(u *Unit) {
		s := u.counts()
		c.Running += u.gate.Load()
		c.Total, c.Errors, c.Late = c.Total+s.Started, c.Errors+s.Failed, c.Late+s.Late
	}
	for _, u := range d.units {
		if u.state != helvetype.ReplicaStarting { // whoever starts it writes to it
			count(u)
		}
	}
	for _, u := range d.leaving {
		count(u)
	}
	return c
}
