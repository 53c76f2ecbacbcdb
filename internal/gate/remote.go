package gate

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Courier carries grants to a router in another process. It is called without locks of this package and must not block; two
// grants may be handed to it at the same time.
type Courier interface {
	// Grant says that a slot is kept for the router for ttl. id is 1, 2, 3, … in the order in which the slots were taken.
	Grant(b *call.Batch, id uint64, ttl time.Duration)
}

// Remote is a router in another process, as one gate sees it. While the router wants slots it is one waiter among the
// others, however many it wants, so routers take turns. A slot that is granted to it is a [Lease]: it returns by itself if
// no call arrives for it. Per call there is one message each way, the grant and the arrival, whatever the number of routers.
//
// What the router wants is a limit and not a number of slots, because grants are under way while it says so: with upto it says
// how many grants, counted from the first one of this Remote, it could use. A limit that arrives late asks for nothing twice.
// Every grant is answered, by an arrival or a return, and each answer brings a new limit. So a router whose leases end
// unanswered is granted nothing more until it is heard from.
//
// All methods may be called from any goroutine.
type Remote struct {
	gate *Gate
	to   Courier

	mu     sync.Mutex
	upto   uint64 // grants that the router could use, of all there ever were
	made   uint64 // grants
	lost   bool
	leases map[uint64]grant
	trip   time.Duration // smoothed round trip, 0 before the first
	slowed time.Time     // when trip was last raised because a lease had ended
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

// maxLeases is how many slots may be on their way to one router: what it can make a gate hold in memory, whatever it wants.
const maxLeases = 1024

// Want says up to which grant the router has calls that wait. The router says so when that changes from none to some or back;
// in between it comes with its arrivals.
func (r *Remote) Want(b *call.Batch, upto uint64) {
	r.mu.Lock()
	r.upto = upto
	none := upto <= r.made
	r.mu.Unlock()
	if none {
		r.gate.Unwait(r) // a grant that is on its way to Granted finds that nothing is wanted
		return
	}
	r.ask(b)
}

// wantsLocked says whether another grant is of use.
func (r *Remote) wantsLocked() bool { return r.made < r.upto && !r.lost && len(r.leases) < maxLeases }

// ask takes what is free, and then waits its turn.
func (r *Remote) ask(b *call.Batch) {
	for {
		r.mu.Lock()
		wants := r.wantsLocked()
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
	if !r.wantsLocked() {
		r.mu.Unlock()
		r.gate.Release(b)
		return
	}
	ttl := leaseMax
	if r.trip > 0 {
		ttl = min(max(leaseTrips*r.trip, leaseMin), leaseMax)
	}
	r.made++
	id := r.made
	r.leases[id] = grant{r.gate.lease(ttl, func() { r.expired(id) }), time.Now()}
	r.mu.Unlock()
	r.to.Grant(b, id, ttl)
}

// expired is told that a lease has ended. The router is farther away than it was, or gone: the next leases last longer, and
// there are none before it says something.
func (r *Remote) expired(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, unanswered := r.leases[id]
	if !unanswered {
		return
	}
	delete(r.leases, id)
	r.upto = min(r.upto, r.made) // it stays in the queue, because it may be heard from now: a grant passes it by
	if r.trip > 0 && g.at.After(r.slowed) {
		r.trip = min(2*max(r.trip, leaseMin/leaseTrips), leaseMax/leaseTrips)
		r.slowed = time.Now()
	}
}

func (r *Remote) take(id uint64) (grant, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.leases[id]
	delete(r.leases, id)
	return g, ok
}

// Arrive is told that a call has come: for grant id, or for none (0), and gives it the slot of its grant, or one that is free
// while nobody waits. true: it has the slot, and ends with [Remote.Done]. false: the gate is full; the call waits again at the
// router, at its old place. What came with the call is for [Remote.Want], afterwards; if the call was refused, with one more.
func (r *Remote) Arrive(id uint64) bool {
	g, ok := r.take(id)
	if !ok || !g.lease.Use() {
		return r.gate.TryAcquire()
	}
	// Smoothed as TCP does (RFC 6298, section 2): an eighth of each new measurement.
	trip := max(time.Since(g.at), 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trip == 0 {
		r.trip = trip
	} else {
		r.trip += (trip - r.trip) / 8
	}
	return true
}

// Return gives back a grant that the router has no call for. [Remote.Want] follows.
func (r *Remote) Return(b *call.Batch, id uint64) {
	if g, ok := r.take(id); ok {
		g.lease.Release(b)
	}
}

// Done releases the slot of a call that arrived.
func (r *Remote) Done(b *call.Batch) { r.gate.Release(b) }

// Load is the gate's: slots that are taken, by whomever.
func (r *Remote) Load() int { return r.gate.Load() }

// Lost ends the router: its leases return now, and it waits no more. The slots of calls that run are released as before.
func (r *Remote) Lost(b *call.Batch) {
	r.mu.Lock()
	r.lost = true
	leases := r.leases
	r.leases = map[uint64]grant{}
	r.mu.Unlock()
	r.gate.Unwait(r)
	for _, g := range leases {
		g.lease.Release(b)
	}
}
