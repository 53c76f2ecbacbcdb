package usage

import (
	"math"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

// Rate is calls, or HTTP requests, a second, that have ended in the last 5 to 10 seconds.
type Rate struct{ Calls, Errors, Rejected float64 }

// tally is the counts of a replica at a time.
type tally struct {
	at            time.Time
	ended, failed uint64
	loop          telemetry.LoopDelays
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
	took, ended := last.at.Sub(first.at).Seconds(), last.ended-first.ended
	late = math.NaN()
	if n := last.loop.Number - min(first.loop.Number, last.loop.Number); n > 0 {
		late = max(last.loop.Sum-first.loop.Sum, 0) / float64(n)
	}
	return Rate{Calls: float64(ended) / took, Errors: float64(min(last.failed-min(first.failed, last.failed), ended)) / took}, late, true
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

// lookAtReplicas keeps the looks of the last seconds. A replica that has begun since the last look has had no calls then.
func (m *Meter) lookAtReplicas(now time.Time, s telemetry.Snapshot) {
	before := m.tallies
	m.tallies = make(map[string][]tally, len(before))
	for i := range s.Applications {
		for j := range s.Applications[i].Deployments {
			d := &s.Applications[i].Deployments[j]
			for k := range d.Replicas {
				if r := &d.Replicas[k]; r.State != "" {
					m.tallies[r.ID] = m.tallied(before, r.ID, tally{now, r.Calls.Ended(), r.Calls.Failed, r.Loop})
				}
			}
		}
	}
}

func (m *Meter) tallied(before map[string][]tally, id string, t tally) []tally {
	all, known := before[id]
	if !known && !m.at.IsZero() {
		all = []tally{{at: m.at, failed: t.failed - min(t.failed, t.ended)}}
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
