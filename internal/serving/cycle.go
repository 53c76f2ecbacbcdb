package serving

import (
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Every call that has to wait, for a slot (a Call, a Remote, a stream, a Choose, here or from another process) or in the control
// queue of a replica (a broadcast), looks at the calls above it. If it waits for those only, it waits for itself. For example, A
// has one slot and calls B, which calls A. If no link of the chain can end before the wait does, the call fails at once; else
// the cycle is named in the log after a second.

// cycleTime is how long a call may wait for its ancestors before that is reported.
const cycleTime = time.Second

// cycle says whether c waits for slots that only calls above it hold. It is hopeless if none of those can end before c does.
// nil if others hold a slot too: those end, and queues are fair.
func (d *Deployment) cycle(c *call.Info) (e *call.Error, hopeless bool) {
	reps := d.Router.Replicas()
	if len(reps) == 0 {
		return nil, false
	}
	awaited, hopeless, held := true, true, map[string]int{}
	for i := c; i.Above != nil; i = i.Above {
		awaited = awaited && i.Link == call.Awaited
		if a := i.Above; a.Deployment == d.Name && a.App == d.App && !a.Control {
			held[a.Replica]++
			hopeless = hopeless && awaited
		}
	}
	for _, r := range reps {
		if held[r.ID()] < replicaOf(r).base().gate.Max() {
			return nil, false
		}
	}
	return call.NewError(helvetype.ReasonCycle, fmt.Sprintf("the call waits for a slot that only its own callers hold: %s", c.Chain())).At(c), hopeless
}

// broadcastCycle says whether c, which is part of a broadcast, waits for a broadcast to the same deployment that it was made in. The
// replicas of a broadcast count as one: each of them waits for the control queues of all. The last link counts as awaited, because a
// broadcast is made for its results.
func (d *Deployment) broadcastCycle(c *call.Info) (e *call.Error, hopeless bool) {
	awaited := true
	for i := c; i.Above != nil; i = i.Above {
		awaited = awaited && (i == c || i.Link == call.Awaited)
		if a := i.Above; a.Deployment == d.Name && a.App == d.App && a.Control {
			return call.NewError(helvetype.ReasonCycle, fmt.Sprintf("the broadcast waits for one that it is made in: %s", c.Chain())).At(c), awaited
		}
	}
	return nil, false
}

// reportLater reports a cycle unless it is stopped before.
func (d *Deployment) reportLater(e *call.Error) *time.Timer {
	return time.AfterFunc(cycleTime, func() {
		d.log.Warn("a call has waited 1 s for slots that its own callers hold",
			"app", e.App, "deployment", e.Deployment, "method", e.Method, "request", e.RequestID, "cycle", e.Message)
	})
}
