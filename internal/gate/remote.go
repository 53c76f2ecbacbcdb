package gate

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Courier carries grants to a router in another process. It is called without the gate's locks and must not block.
type Courier interface {
	// Grant says that a slot is kept for the router for ttl.
	Grant(b *call.Batch, id uint64, ttl time.Duration)
}

// Remote is a router in another process, as one gate sees it. While the router wants slots it is one waiter among the
// others, however many it wants, so routers take turns. A slot that is granted to it is a [Lease]: it returns by itself if
// no call arrives for it. Per call there is one message each way, the grant and the arrival, whatever the number of routers.
// All methods may be called from any goroutine.
type Remote struct {
	gate *Gate
	to   Courier

	mu     sync.Mutex
	want   int
	lost   bool
	leases map[uint64]grant
	next   uint64
	trip   time.Duration // smoothed round trip, 0 before the first
}

type grant struct {
	lease *Lease
	at    time.Time
}

// Remote makes the gate's side of a router in another process.
func (g *Gate) Remote(to Courier) *Remote {
	return &Remote{gate: g, to: to, leases: map[uint64]grant{}}
}

// The bounds of a lease: four round trips, so that a delayed arrival is still in time, but a router that has gone does not
// keep a slot for long.
const (
	leaseTrips = 4
	leaseMin   = 5 * time.Millisecond
	leaseMax   = time.Second
)

// Want says how many calls wait at the router for which no grant is on its way. The router sends it when that changes
// from none to some or back; in between it comes with its arrivals.
func (r *Remote) Want(b *call.Batch, n int) {
	r.mu.Lock()
	r.want = n
	none := n == 0
	r.mu.Unlock()
	if none {
		r.gate.Unwait(r) // a grant that is on its way to Granted finds that nothing is wanted
		return
	}
	r.ask(b)
}

// ask takes what is free, and then waits its turn.
func (r *Remote) ask(b *call.Batch) {
	for {
		r.mu.Lock()
		wants := r.want > 0 && !r.lost
		r.mu.Unlock()
		if !wants || !r.gate.Wait(r) {
			return
		}
		r.grant(b)
	}
}

// Granted is told by the gate that it is the router's turn.
func (r *Remote) Granted(b *call.Batch) {
	r.grant(b)
	r.ask(b)
}

// grant passes a slot on, or gives it back if nobody wants it.
func (r *Remote) grant(b *call.Batch) {
	r.mu.Lock()
	if r.want == 0 || r.lost {
		r.mu.Unlock()
		r.gate.Release(b)
		return
	}
	r.want--
	ttl := leaseMax
	if r.trip > 0 {
		ttl = min(max(leaseTrips*r.trip, leaseMin), leaseMax)
	}
	r.next++
	id := r.next
	r.leases[id] = grant{r.gate.lease(ttl, func() { r.forget(id) }), time.Now()}
	r.mu.Unlock()
	r.to.Grant(b, id, ttl)
}

// forget is told that a lease has expired.
func (r *Remote) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leases, id)
}

func (r *Remote) take(id uint64) (grant, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.leases[id]
	delete(r.leases, id)
	return g, ok
}

// Arrive is told that a call has come for a grant, and that want others wait at the router. true: it has the slot, and
// ends with [Remote.Done]. false: the lease is over; the call waits again at the router, at its old place, and counts in
// the router's next Want.
func (r *Remote) Arrive(b *call.Batch, id uint64, want int) bool {
	g, ok := r.take(id)
	if ok = ok && g.lease.Use(); ok {
		// Smoothed as TCP does (RFC 6298, section 2): an eighth of each new measurement.
		trip := max(time.Since(g.at), 1)
		r.mu.Lock()
		if r.trip == 0 {
			r.trip = trip
		} else {
			r.trip += (trip - r.trip) / 8
		}
		r.mu.Unlock()
	} else {
		want++
	}
	r.Want(b, want)
	return ok
}

// Return gives back a grant that the router has no call for, and says how many wait there now.
func (r *Remote) Return(b *call.Batch, id uint64, want int) {
	if g, ok := r.take(id); ok {
		g.lease.Release(b)
	}
	r.Want(b, want)
}

// Done releases the slot of a call that arrived.
func (r *Remote) Done(b *call.Batch) { r.gate.Release(b) }

// Lost ends the router: its leases return now, and it waits no more. The slots of calls that run are released as before.
func (r *Remote) Lost(b *call.Batch) {
	r.mu.Lock()
	r.lost, r.want = true, 0
	leases := r.leases
	r.leases = map[uint64]grant{}
	r.mu.Unlock()
	r.gate.Unwait(r)
	for _, g := range leases {
		g.lease.Release(b)
	}
}
