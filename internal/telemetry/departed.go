package telemetry

import (
	"slices"
	"time"
)

// Counted is a replica whose calls are counted.
type Counted interface {
	ID() string
	Counts() Counts
	// AddCallers adds the calls that the replica counts by their callers to those of a map.
	AddCallers(all map[Caller]CallerCounts)
	// Busy says whether a call is under way.
	Busy() bool
}

// Departed has the counts of the replicas of a deployment that are gone. A call that was cut off ends later than its replica, and is an
// error all the same: the counts of a replica are final once its last call has ended. Until then the replica is leaving. For example, a
// replica is stopped while two calls ignore the end of their contexts: both are running calls until they return, and two errors in
// [Departed.Total] afterwards.
//
// The counts of the newest of these replicas are kept one by one for a while, beside their sum: a reader that comes every minute would
// else never see the calls between its last visit and the end of a replica.
//
// The zero Departed is empty. Its methods are not safe for concurrent use.
type Departed[R Counted] struct {
	total   Counts                  // of replicas whose counts are final
	callers map[Caller]CallerCounts // of these
	newest  []departure
	leaving []R
}

// departure is the final counts of one replica.
type departure struct {
	id     string
	counts Counts
	at     time.Time
}

// The bounds of [Departed.Newest].
const (
	departureTime = 10 * time.Minute
	departuresMax = 32
)

// Add notes a replica that was ready once and is gone.
func (d *Departed[R]) Add(r R) {
	d.leaving = append(d.leaving, r)
	d.Settle()
}

// Settle makes the counts final of the replicas whose last call has ended.
func (d *Departed[R]) Settle() {
	d.leaving = slices.DeleteFunc(d.leaving, func(r R) bool {
		if r.Busy() {
			return false
		}
		counts := r.Counts()
		d.total.Add(counts)
		d.addCallers(r)
		d.newest = append(d.newest, departure{r.ID(), counts, time.Now()})
		return true
	})
	d.newest = d.newest[max(len(d.newest)-departuresMax, 0):]
}

// addCallers adds the calls of a replica by caller. Callers over a bound are left out, as in [Callers].
func (d *Departed[R]) addCallers(r R) {
	own := map[Caller]CallerCounts{}
	r.AddCallers(own)
	if d.callers == nil {
		d.callers = map[Caller]CallerCounts{}
	}
	for of, k := range own {
		if sum, known := d.callers[of]; known || len(d.callers) < callersMax {
			d.callers[of] = sum.Plus(k)
		}
	}
}

// AddCallers adds the final counts of the calls of each caller to those of a map.
func (d *Departed[R]) AddCallers(all map[Caller]CallerCounts) {
	for of, k := range d.callers {
		all[of] = all[of].Plus(k)
	}
}

// Total is the sum of the final counts of all replicas.
func (d *Departed[R]) Total() Counts { return d.total }

// Leaving are the replicas that had calls under way at the last Settle.
func (d *Departed[R]) Leaving() []R { return d.leaving }

// Newest are the replicas whose counts became final in the last minutes.
func (d *Departed[R]) Newest() (all []Replica) {
	for _, r := range d.newest {
		if time.Since(r.at) < departureTime {
			all = append(all, Replica{ID: r.id, Started: true, Calls: r.counts})
		}
	}
	return all
}
