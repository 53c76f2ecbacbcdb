package router

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/telemetry"
)

// admission counts the waiting calls of each origin over all subqueues of a router, and refuses calls above the
// limit. For example, with a limit of 2 the third waiting call of the proxy fails with backpressure, while another
// deployment's first call may wait. It also numbers the submissions.
type admission struct {
	seq atomic.Uint64 // written by every Submit
	_   [cacheLine - 8]byte

	limit   atomic.Int64            // largest number of waiting calls of one origin; negative for no limit
	refusal atomic.Pointer[Refusal] // nil for the one of every deployment

	rejected atomic.Uint64 // calls that have failed because of the limit

	waits *telemetry.Durations // how long the calls waited that were queued and then assigned

	mu       sync.Mutex
	byOrigin map[string]int
	closed   *call.Error // the error of all calls that would wait, once the router is closed
}

// FormerNode is the origin of the calls that the node before this one passes on. It has let them in by its own limit, so that they are not counted
// against the limit a second time. For example, with a limit of 2 two calls of the proxy wait at the former node, and two at this one.
const FormerNode = "former node"

// Refusal is the answer of HTTP to a request that is over the limit.
type Refusal struct {
	Status     int
	RetryAfter int // seconds in the header Retry-After; 0 for no header
}

func newAdmission() *admission {
	a := &admission{byOrigin: map[string]int{}, waits: telemetry.NewDurations(telemetry.Bounds())}
	a.limit.Store(-1)
	return a
}

// join counts a call that is about to wait, or returns the error that there are too many. A requeued call is always
// let in.
func (a *admission) join(origin string, requeued bool) *call.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed != nil {
		return a.closed
	}
	if e := a.fullLocked(origin); e != nil && !requeued {
		a.rejected.Add(1)
		return e
	}
	a.byOrigin[origin]++
	return nil
}

// fullLocked is an error if as many calls of an origin wait as the limit allows.
func (a *admission) fullLocked(origin string) *call.Error {
	n := a.byOrigin[origin]
	if limit := int(a.limit.Load()); limit >= 0 && n >= limit && origin != FormerNode {
		e := call.NewError(helvetype.ReasonBackpressure, fmt.Sprintf( // Ray Serve's text, which its users match on
			"Request dropped due to backpressure (num_queued_requests=%d, max_queued_requests=%d).", n, limit))
		if r := a.refusal.Load(); r != nil {
			e.HTTP, e.Retry = r.Status, r.RetryAfter
		}
		return e
	}
	return nil
}

// full is the error that join would return now.
func (a *admission) full(origin string) *call.Error {
	if a.limit.Load() < 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fullLocked(origin)
}

// waiting is a copy of byOrigin.
func (a *admission) waiting() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.byOrigin)
}

func (a *admission) leave(origin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.byOrigin[origin] - 1; n > 0 {
		a.byOrigin[origin] = n
	} else {
		delete(a.byOrigin, origin)
	}
}
