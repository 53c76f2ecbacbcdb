package router

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// absence has the times in which a deployment had no replica that gets calls. So a wait that has ended tells of which kind it was: for a slot of replicas that were busy, or for a
// replica. For example, all three replicas fail their health check at 10:00:00, and the next is ready at 10:00:06: a call that came at 10:00:01 and waited 5 s was without a replica for 5 s,
// also if it had its slot as the third in turn.
type absence struct {
	mu    sync.Mutex
	since int64           // when the last replica went; 0 while there is one
	past  [pastMax]period // a ring of the newest ones that have ended
	next  int
}

// period is the time between two [call.Now].
type period struct{ from, to int64 }

// pastMax is how many ended absences a router knows: a wait that was longer than so many of them knows only the newest.
const pastMax = 8

// note is told of each new set of replicas.
func (a *absence) note(empty bool) {
	now := call.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case empty && a.since == 0:
		a.since = now
	case !empty && a.since != 0:
		a.past[a.next%pastMax] = period{a.since, now}
		a.next++
		a.since = 0
	}
}

// in is how much of a time, between two [call.Now], had no replica.
func (a *absence) in(from, to int64) (d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.past[:]
	if a.since != 0 {
		all = append([]period{{a.since, to}}, all...)
	}
	for _, p := range all {
		if both := min(p.to, to) - max(p.from, from); both > 0 {
			d += time.Duration(both)
		}
	}
	return d
}
