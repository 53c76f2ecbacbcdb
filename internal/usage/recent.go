package usage

import (
	"maps"
	"math"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

// Rate is calls, or HTTP requests, a second, that have ended in the last 5 to 10 seconds.
type Rate struct{ Calls, Errors, Rejected float64 }

// tally is the counts of a replica, or of the calls of a caller, at a time.
type tally struct {
	at            time.Time
	ended, failed uint64
	loop          telemetry.LoopDelays
	waited        time.Duration
}

// edge is a caller of a deployment.
type edge struct {
	deployment
	from telemetry.Caller
}

// RecentFrom is the rate of the calls of a deployment that come from a caller, and how many milliseconds they waited for a slot, on average; NaN without calls.
func (m *Meter) RecentFrom(app, name string, from telemetry.Caller) (r Rate, wait float64, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.edges[edge{deployment{app, name}, from}]
	i, ok := since(len(all), func(i int) time.Time { return all[i].at })
	if !ok {
		return r, math.NaN(), false
	}
	r, ended := between(&all[i], &all[len(all)-1])
	if wait = math.NaN(); ended > 0 {
		wait = milliseconds(max(all[len(all)-1].waited-all[i].waited, 0)) / float64(ended)
	}
	return r, wait, true
}

// between is the rate between two tallies, and the number of calls.
func between(first, last *tally) (r Rate, ended uint64) {
	took := last.at.Sub(first.at).Seconds()
	ended = last.ended - first.ended
	return Rate{Calls: float64(ended) / took, Errors: float64(min(last.failed-min(first.failed, last.failed), ended)) / took}, ended
}

// Recent is the rate of a deployment; of the HTTP requests of an application without deployment, and of all HTTP requests without both. false: there are no two looks at it.
func (m *Meter) Recent(app, name string) (r Rate, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.calls[deployment{app, name}]
	i, ok := since(len(all), func(i int) time.Time { return all[i].at })
	if !ok {
		return r, false
	}
	first, last := &all[i], &all[len(all)-1]
	between, took := last.counts.Since(&first.counts), last.at.Sub(first.at).Seconds()
	return Rate{float64(between.Ended()) / took, float64(between.Failed) / took, float64(last.rejected-first.rejected) / took}, true
}

// RecentAt is the rate of a replica, and by how many milliseconds timers of its event loop were late on average; NaN for none.
func (m *Meter) RecentAt(replica string) (r Rate, late float64, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.tallies[replica]
	i, ok := since(len(all), func(i int) time.Time { return all[i].at })
	if !ok {
		return r, math.NaN(), false
	}
	first, last := &all[i], &all[len(all)-1]
	late = math.NaN()
	if n := last.loop.Number - min(first.loop.Number, last.loop.Number); n > 0 {
		late = max(last.loop.Sum-first.loop.Sum, 0) / float64(n)
	}
	r, _ = between(first, last)
	return r, late, true
}

// since finds, among the times of looks, the newest that is a [Period] or more before the last one, or else the first. For example, of looks at 0, 5, 10 and 12 s it is the one at 5 s.
func since(n int, at func(i int) time.Time) (i int, ok bool) {
	if n < 2 {
		return 0, false
	}
	for i = n - 2; i > 0 && at(n-1).Sub(at(i)) < Period; i-- {
	}
	return i, true
}

// lookAtReplicas keeps the looks of the last seconds at replicas and callers. A replica that has begun since the last look has had no calls then.
func (m *Meter) lookAtReplicas(now time.Time, s telemetry.Snapshot) {
	edges, there := m.edges, 0
	if m.edges = make(map[edge][]tally, len(edges)); m.tallies == nil {
		m.tallies = map[string][]tally{}
	}
	for i := range s.Applications {
		for j := range s.Applications[i].Deployments {
			d := &s.Applications[i].Deployments[j]
			calls := m.calls[deployment{s.Applications[i].Name, d.Name}]
			looks := calls[:max(len(calls)-1, 0)] // before this one
			for k := range d.Replicas {
				r := &d.Replicas[k]
				if r.State == "" {
					continue
				}
				there++
				t := tally{at: now, ended: r.Calls.Ended(), failed: r.Calls.Failed, loop: r.Loop}
				switch all := m.tallies[r.ID]; {
				case !t.stays(all):
					m.tallies[r.ID] = tallied(m.at, looks, m.tallies, r.ID, t)
				case len(all) > 2:
					m.tallies[r.ID] = all[len(all)-2:]
				}
			}
			for from, c := range d.Callers {
				key := edge{deployment{s.Applications[i].Name, d.Name}, from}
				m.edges[key] = tallied(m.at, looks, edges, key, tally{at: now, ended: c.Ended, failed: c.Failed, waited: c.Waited})
			}
		}
	}
	if len(m.tallies) > there {
		m.forgetGone(s)
	}
}

// forgetGone forgets the looks at replicas that are gone.
func (m *Meter) forgetGone(s telemetry.Snapshot) {
	there := make(map[string]bool, len(m.tallies))
	for i := range s.Applications {
		for j := range s.Applications[i].Deployments {
			for k := range s.Applications[i].Deployments[j].Replicas {
				if r := &s.Applications[i].Deployments[j].Replicas[k]; r.State != "" {
					there[r.ID] = true
				}
			}
		}
	}
	maps.DeleteFunc(m.tallies, func(id string, _ []tally) bool { return !there[id] })
}

// stays says that the looks so far have no other numbers than t, and a rate of nothing, so that nothing of t is kept. Its times are the times of the looks at its deployment: see [tallied].
func (t *tally) stays(all []tally) bool {
	for i := range all {
		if all[i].ended != t.ended || all[i].failed != t.failed || all[i].loop != t.loop {
			return false
		}
	}
	return len(all) > 1
}

// tallied adds a look to those of before; last is the time of the last look at all. A replica or a caller that is new has had no calls at the looks at its deployment, so that its rate is of the
// same seconds as that of the deployment. For example, the only caller of a deployment makes its first calls 3 s after a look: both have the same rate all the time.
func tallied[K comparable](last time.Time, looks []look, before map[K][]tally, of K, t tally) []tally {
	all, known := before[of]
	if !known && !last.IsZero() {
		none := tally{failed: t.failed - min(t.failed, t.ended)}
		for _, l := range looks {
			none.at = l.at
			all = append(all, none)
		}
		if len(all) == 0 {
			none.at = last
			all = append(all, none)
		}
	}
	if n := len(all); n > 1 && last.After(all[n-1].at) { // the replica had no calls since then
		of, begun := all[n-1], all[0].at
		all = nil
		for _, l := range looks {
			if of.at = l.at; !l.at.Before(begun) {
				all = append(all, of)
			}
		}
	}
	n := len(all)
	if n > 0 && all[n-1].ended > t.ended { // counted anew
		all, n = nil, 0
	}
	if n > 1 && t.at.Sub(all[n-2].at) < Period { // questions between two periods
		all = all[:n-1]
	}
	all = append(all, t)
	for len(all) > 2 && t.at.Sub(all[1].at) >= Period {
		all = all[1:]
	}
	return all
}
