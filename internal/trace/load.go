package trace

import (
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Slow are kept requests of an application since a time that were slow, or that a deadline or their client has ended: the newest of each of the two, up to the limit, with their calls and the stalls
// that they have met.
func (r *Recorder) Slow(app string, since time.Time, limit int) (all []helvetype.RequestTrace) {
	r.collect(time.Now().UnixNano())
	var found []Kept
	r.mu.Lock()
	for _, why := range []Why{Slow, Failed} {
		n := 0
		for e := r.requests.lists[why].Back(); e != nil && n < limit; e = e.Prev() {
			k := e.Value.(*Kept) //nolint:forcetypeassert // nothing else is there
			if k.Root.End < since.UnixNano() {
				break
			}
			if k.Root.Place.App != app || why == Failed && !timedOut(&k.Root) {
				continue
			}
			found = append(found, copyOf(k))
			n++
		}
	}
	r.mu.Unlock()
	for i := range found {
		v := found[i].View(true)
		r.MarkStalls(&v)
		all = append(all, v)
	}
	return all
}

// GivenUp is the number of kept requests since a time that their clients have left before the answer (status 499): they may have waited in a queue, so that no call tells of them. Of a flood it counts those that are kept.
func (r *Recorder) GivenUp(since time.Time) (n int) {
	r.collect(time.Now().UnixNano())
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.requests.lists[Failed].Back(); e != nil; e = e.Prev() {
		k := e.Value.(*Kept) //nolint:forcetypeassert // nothing else is there
		if k.Root.End < since.UnixNano() {
			break
		}
		if k.Root.Status == leftByClient {
			n++
		}
	}
	return n
}

// leftByClient is the status of a request whose client has left.
const leftByClient = 499

// timedOut says that the time of a request was over before its end.
func timedOut(r *Record) bool {
	switch helvetype.Reason(r.Reason) {
	case helvetype.ReasonDeadline, helvetype.ReasonCancelled:
		return true
	}
	return r.Status == 408 || r.Status == leftByClient
}

// Latency is the time of the calls of a method at a replica that took a millisecond or more.
type Latency struct {
	Deployment, Method, Replica string
	Number                      int
	Sum                         time.Duration
}

// Latencies are the times of the calls of an application since a time, as far as the ring has their records.
func (r *Recorder) Latencies(app string, since time.Time) (all []Latency) {
	type key struct{ deployment, method, replica string }
	at := map[key]int{}
	from := since.UnixNano()
	r.ring.back(r.ring.written(), 0, func(rec *Record) bool {
		if rec.Kind != Call || rec.Place == nil || rec.Place.App != app || rec.Replica == "" || rec.Again || rec.End < from {
			return true
		}
		k := key{rec.Place.Deployment, rec.Place.Method, rec.Replica}
		i, known := at[k]
		if !known {
			i = len(all)
			at[k] = i
			all = append(all, Latency{Deployment: k.deployment, Method: k.method, Replica: k.replica})
		}
		all[i].Number++
		all[i].Sum += rec.Took()
		return true
	})
	return all
}
