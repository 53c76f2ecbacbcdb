package serving

import (
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// Calls of several requests may wait for each other, where no call waits for its own callers only ([Deployment.cycle]). For example, Store has five
// slots, and Store.item calls Items.detail, which calls Store.price. Five requests at once take the five slots for Store.item, and their five calls of
// Store.price wait for a slot of Store: each of them for the callers of all five. No slot becomes free before a deadline passes or a client leaves.
// So a deployment whose calls have waited for a second looks for such a circle, also over other deployments whose slots are all taken.

// lookedAt is the number of calls of each deployment that the search for circles looks at, the longest waiting first. A circle needs as many as the
// deployment has slots.
const lookedAt = 500

// held is one call that holds a slot, as the calls below it name it. A call that has no number of its own, because its worker has made it, counts once for its
// request and its place in the chain: rather too few holders than a circle that is none.
type held struct {
	call    uint64
	request call.ID
	depth   int
}

// slotKey names a replica on the node.
type slotKey struct{ app, replica string }

// circle says which of the deployments are in a circle: calls wait for a slot of it, and each slot of each of its replicas is held by a call that is above
// one that waits at a deployment in a circle. The value is the chain of the longest waiting call. It is the largest set of which that is true: a deployment with
// a slot of another call leaves the set, and then those whose slots are held by the calls that wait there.
func circle(all []*Deployment) map[*Deployment]string {
	waiting := map[*Deployment][]router.WaitingCall{}
	for _, d := range all {
		if d.Router.Queued() == 0 || len(d.Router.Replicas()) == 0 {
			continue
		}
		if calls, _ := d.Router.Waiting(lookedAt); len(calls) > 0 {
			waiting[d] = calls
		}
	}
	for gone := true; gone; {
		gone = false
		holders := map[slotKey]map[held]struct{}{}
		for _, calls := range waiting {
			for at := range calls {
				depth := 0
				for i := calls[at].Info.Above; i != nil; i = i.Above {
					depth++
					if i.Control || i.Replica == "" {
						continue
					}
					h, at := held{call: i.Call}, slotKey{i.App, i.Replica}
					if i.Call == 0 {
						h = held{request: i.Request, depth: depth}
					}
					if holders[at] == nil {
						holders[at] = map[held]struct{}{}
					}
					holders[at][h] = struct{}{}
				}
			}
		}
		for d := range waiting {
			for _, r := range d.Router.Replicas() {
				if len(holders[slotKey{d.App, r.ID()}]) < replicaOf(r).base().gate.Max() {
					delete(waiting, d)
					gone = true
					break
				}
			}
		}
	}
	chains := map[*Deployment]string{}
	for d, calls := range waiting {
		for _, c := range calls {
			if c.Info.Above != nil {
				chains[d] = c.Info.Chain()
				break
			}
		}
		if chains[d] == "" { // only calls from outside wait here; the calls in the circle wait elsewhere
			chains[d] = d.Name
		}
	}
	return chains
}

// Cycle describes the circle of calls in which the deployment is, as the last look at its queue has found it, and "" if it is in none. It costs one load.
func (d *Deployment) Cycle() string {
	if s := d.circle.Load(); s != nil {
		return *s
	}
	return ""
}

// searchAgain is the time between two searches of one deployment that is in no circle.
const searchAgain = 5 * time.Second

// inCircle says whether the calls that wait are in a circle, and reports one that is new. It must not go by whether the queue moves: clients whose time is over
// leave the queue and the slots of a circle, and the next ones close it again.
func (d *Deployment) inCircle() bool {
	now := call.Now()
	if d.circle.Load() == nil && d.searched != 0 && time.Duration(now-d.searched) < searchAgain {
		return false
	}
	d.searched = now
	all := []*Deployment{d}
	if d.All != nil {
		all = d.All()
	}
	chain, found := circle(all)[d]
	if !found {
		d.circle.Store(nil)
		return false
	}
	slots := 0
	for _, r := range d.Router.Replicas() {
		slots += replicaOf(r).base().gate.Max()
	}
	text := fmt.Sprintf("calls wait in a circle: each of its %d slots (max_ongoing_requests) is held by a call that waits for a call that waits for a slot, as in %s. "+
		"They end when their deadlines pass or their clients leave. Make the method that is called last a deployment of its own, or raise max_ongoing_requests", slots, chain)
	if before := d.circle.Swap(&text); before == nil {
		d.log.Warn("deployment "+d.Name+": "+text, "app", d.App, "deployment", d.Name, "slots", slots, "waiting", d.Router.Queued())
		if d.Circled != nil {
			d.Circled(text)
		}
	}
	return true
}
