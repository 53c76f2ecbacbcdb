package serving

import (
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// Calls starve when streams and connections, which may last for hours, hold every slot. For example, a chat with max_ongoing_requests 5 has
// five open WebSockets: the sixth client waits until one of them leaves, and nothing has failed. So a deployment with such calls says so.
// It gives no advice of its own: more slots help a busy chat, and do not help where nothing reads the streams, or where calls wait in a circle. `helve why` tells these apart.
const (
	starveTime  = time.Second // for which calls must have waited, and all slots must have been held
	starveAgain = time.Minute // the time between two warnings of one deployment
)

// watchQueue begins to watch the queue, if a call waits and nothing watches it. It is called when a call has been submitted.
func (d *Deployment) watchQueue() {
	if !d.watching.Load() && d.Router.Queued() > 0 && d.watching.CompareAndSwap(false, true) {
		if d.Queues != nil {
			d.Queues()
		}
		time.AfterFunc(starveTime, d.lookAtQueue)
	}
}

// noteUnserved says that a call waits, if there is no replica. For example, a deployment has been scaled to zero by its autoscaler: the first call wakes it.
func (d *Deployment) noteUnserved() {
	if d.Queues != nil && len(d.Router.Replicas()) == 0 {
		d.Queues()
	}
}

// lookAtQueue warns if calls starve, or wait in a circle (circle.go). It looks again as long as a call waits; only one timer of a deployment runs it.
func (d *Deployment) lookAtQueue() {
	queued := d.Router.Queued()
	if queued == 0 {
		d.circle.Store(nil)
		d.watching.Store(false)
		d.watchQueue() // for a call that came meanwhile
		return
	}
	d.noteUnserved() // the replicas may have gone since
	next := starveTime
	first, _ := d.Router.Waiting(1)
	if len(first) == 0 { // it has just got its slot
		first = append(first, router.WaitingCall{Since: call.Now()})
	}
	switch age := time.Duration(call.Now() - first[0].Since); {
	case age < starveTime:
		d.circle.Store(nil)
		next = max(starveTime-age, time.Millisecond)
	case d.inCircle():
	default:
		if slots := d.slotsOfStreams(); slots > 0 && (d.starved == 0 || time.Duration(call.Now()-d.starved) >= starveAgain) {
			d.starved = call.Now()
			text := fmt.Sprintf("all %d slots (max_ongoing_requests) have been held by HTTP requests, streams or connections for more than %s, with %s waiting: helve why %s/%s says what holds them, and what frees them",
				slots, starveTime, calls(queued), d.App, d.Name)
			d.log.Warn("deployment "+d.Name+": "+text, "app", d.App, "deployment", d.Name, "slots", slots, "waiting", queued)
			if d.Starving != nil {
				d.Starving(text)
			}
		}
	}
	time.AfterFunc(next, d.lookAtQueue)
}

// slotsOfStreams is the number of slots of all replicas, if streams and connections have held each of them for some time; else 0. A slot of
// any other call makes it 0: it becomes free soon, or the method is slow, which is another trouble.
func (d *Deployment) slotsOfStreams() (slots int) {
	since := call.Now() - int64(starveTime)
	for _, routed := range d.Router.Replicas() {
		r := replicaOf(routed)
		held := 0
		for _, c := range runningAt(r) {
			if c.Streams && c.Since <= since {
				held++
			}
		}
		most := r.base().gate.Max()
		if held < most {
			return 0
		}
		slots += most
	}
	return slots
}

// runningAt lists the calls that run at a replica.
func runningAt(r Replica) []call.RunningCall {
	running := r.base().running.List()
	if i := localInstance(r); i != nil {
		running = append(running, i.Running()...)
	}
	return running
}
