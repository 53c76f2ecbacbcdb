package rollout

import (
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Rate says when too many calls of a new revision fail: of at least MinCalls calls of it that ended within Window, the share of failures is above Factor
// times that of the old revision and more than Points percent points over it. For example, with a factor of 2 and 5 points, and 4 % of failures before,
// 8.5 % are not too many, because they are less than 5 points more, and 9.5 % are.
//
// The old revision is judged by its calls of the same time, else of the last time in which it had some, else of its whole life. A revision that was
// never called counts as one without failures.
type Rate struct {
	Enabled  bool
	MinCalls int
	Window   time.Duration
	Factor   float64
	Points   float64
}

// samplesPerWindow is how often the counts are read in a window.
const samplesPerWindow = 12

// Count has the calls of one replica so far.
type Count struct {
	Replica  string
	New      bool      // of the new revision
	Started  time.Time // the begin of the replica
	Calls    uint64
	Failures uint64
}

// rates are the counts of each deployment, by its name.
type rates map[string]*rate

// rate counts the calls of a deployment. The old revision has the first count of each pair, and the new one the second.
type rate struct {
	seen    map[string]helvetype.CallWindow // of each replica, when it was looked at last
	total   [2]helvetype.CallWindow         // since the rollout began, and of the old revision with its life before
	samples []sample                        // the oldest first; the first is at least as old as the window, if one is
	now     [2]helvetype.CallWindow         // in the window
	last    helvetype.CallWindow            // of the old revision, in the last window with calls
}

type sample struct {
	at    time.Time
	total [2]helvetype.CallWindow
}

// Due says whether a deployment has to be counted now, and when next.
func (r *Rollout) Due(d *Deployment, now time.Time) (due bool, next time.Time) {
	if !d.Rate.Enabled || d.Rate.Window <= 0 || d.New {
		return false, time.Time{}
	}
	step := d.Rate.Window / samplesPerWindow
	p := r.rates[d.Name]
	if p == nil || len(p.samples) == 0 {
		return true, now.Add(step)
	}
	if next = p.samples[len(p.samples)-1].at.Add(step); now.Before(next) {
		return false, next
	}
	return true, now.Add(step)
}

// Note counts the last calls of a replica that is about to be gone.
func (r *Rollout) Note(deployment string, c Count) {
	if p := r.rates[deployment]; p != nil {
		p.note(c, r.from)
	}
}

// note counts the calls of a replica since it was looked at last. from is the begin of the rollout. The calls before it of a replica that goes on in the new
// revision are those of the old one. For example, a new max_ongoing_requests keeps the replicas, of whose calls one in ten has always failed: 100 failures
// in 1,000 calls before are the measure of the 10 failures in 100 calls after.
func (p *rate) note(c Count, from time.Time) {
	before, known := p.seen[c.Replica]
	if !known && c.New && c.Started.Before(from) {
		p.total[0].Calls += c.Calls
		p.total[0].Failures += c.Failures
		p.seen[c.Replica] = helvetype.CallWindow{Calls: c.Calls, Failures: c.Failures}
		return
	}
	of := &p.total[0]
	if c.New {
		of = &p.total[1]
	}
	of.Calls += max(c.Calls, before.Calls) - before.Calls
	of.Failures += max(c.Failures, before.Failures) - before.Failures
	p.seen[c.Replica] = helvetype.CallWindow{Calls: max(c.Calls, before.Calls), Failures: max(c.Failures, before.Failures)}
}

// Sample notes how many calls the replicas of a deployment have had.
func (r *Rollout) Sample(d *Deployment, counts []Count, now time.Time) {
	p := r.rates[d.Name]
	if p == nil {
		p = &rate{seen: map[string]helvetype.CallWindow{}}
		r.rates[d.Name] = p
	}
	for _, c := range counts {
		p.note(c, r.from)
	}
	if p.samples == nil { // earlier calls are no part of a window
		p.samples = append(p.samples, sample{now, p.total})
		return
	}
	p.samples = append(p.samples, sample{now, p.total})
	for len(p.samples) > 2 && !p.samples[1].at.After(now.Add(-d.Rate.Window)) {
		p.samples = p.samples[1:]
	}
	for i := range p.now {
		then := p.samples[0].total[i]
		p.now[i] = helvetype.CallWindow{Calls: p.total[i].Calls - then.Calls, Failures: p.total[i].Failures - then.Failures}
	}
	if p.now[0].Calls > 0 {
		p.last = p.now[0]
	}
}

// old has the calls by which the old revision is judged.
func (p *rate) old() helvetype.CallWindow {
	switch {
	case p.now[0].Calls > 0:
		return p.now[0]
	case p.last.Calls > 0:
		return p.last
	}
	return p.total[0]
}

// Exceeded says that too many of the new calls have failed.
func (r Rate) Exceeded(now, old helvetype.CallWindow) bool {
	if !r.Enabled || now.Calls == 0 || now.Calls < uint64(max(r.MinCalls, 0)) {
		return false
	}
	is, was := share(now), share(old)
	return is > r.Factor*was && is > was+r.Points
}

// share is the percentage of calls that failed.
func share(w helvetype.CallWindow) float64 {
	if w.Calls == 0 {
		return 0
	}
	return 100 * float64(w.Failures) / float64(w.Calls)
}

// judge compares the error rates of the revisions, and says when to count again.
func (r *Rollout) judge(all []Deployment, now time.Time, d *Decision) *Failure {
	for i := range all {
		of := &all[i]
		_, next := r.Due(of, now)
		d.later(next)
		p := r.rates[of.Name]
		if p == nil || of.New || r.Stuck != "" {
			continue
		}
		was := p.old()
		if !of.Rate.Exceeded(p.now[1], was) {
			continue
		}
		return &Failure{"error_rate", fmt.Sprintf("deployment %s: %d of %d calls of the new revision failed within %s (%.1f %%), and %d of %d of the one before (%.1f %%)",
			of.Name, p.now[1].Failures, p.now[1].Calls, of.Rate.Window, share(p.now[1]), was.Failures, was.Calls, share(was)), map[string]string{
			"deployment": of.Name, "new_calls": fmt.Sprint(p.now[1].Calls), "new_failures": fmt.Sprint(p.now[1].Failures),
			"old_calls": fmt.Sprint(was.Calls), "old_failures": fmt.Sprint(was.Failures), "window_s": fmt.Sprint(of.Rate.Window.Seconds()),
		}}
	}
	return nil
}
