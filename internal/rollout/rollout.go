// Package rollout decides how the change of an application from one revision to another goes on. It is pure: it has no clock, no I/O and no lock, and
// its owner describes the replicas to it ([Rollout.Look]). How many replicas start and stop at a time is the planner's; this package says how many
// may be of the new revision for now, and whether the change has failed.
//
// A rollout goes in steps. At each step, every deployment has a number of new replicas; when all of them are ready, the rollout waits for the
// pause of the step, or for Resume, and goes on. For example, with steps of 1 and "50%" and 8 replicas it waits with 1 new replica, then with 4, and
// then replaces the others. A rollout without steps has one step, which has all replicas.
//
// A rollout fails when no further replica has become ready for the progress deadline, or when too many calls of the new revision fail (see [Rate]).
// The error rate is watched for one more window after the last replica of the old revision has stopped.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Settings are the options of a deployment that a rollout follows, in its new revision.
type Settings struct {
	// Steps are numbers of new replicas, and StepPause is the time that a step waits; nil to wait for Resume.
	Steps     []int
	StepPause *time.Duration
	Deadline  time.Duration // in which one more replica has to become ready
	RollBack  bool          // if the rollout fails
	Rate      Rate
}

// Deployment is a deployment as it is now.
type Deployment struct {
	Name string
	Settings
	Replicas int  // that are wanted
	Ready    int  // of the new revision that are ready
	Live     int  // of the new revision, with the replicas that start
	Former   int  // of the revision before, ready or not
	New      bool // the revision before does not have the deployment: it has no steps
	Error    string
}

// done says that a deployment has changed.
func (d *Deployment) done() bool { return d.Ready >= d.Replicas && d.Former == 0 }

// limits are the numbers of new replicas of the steps, rising and with all replicas as the last. For example, the steps 3, 2 and 9 of 4 replicas are 3, 3 and 4.
func (d *Deployment) limits() (all []int) {
	for _, n := range d.Steps {
		if len(all) > 0 {
			n = max(n, all[len(all)-1])
		}
		if n >= d.Replicas || d.New {
			break
		}
		all = append(all, max(n, 0))
	}
	return append(all, d.Replicas)
}

// limit is the number of new replicas at a step, which is counted from 1.
func (d *Deployment) limit(step int) int {
	all := d.limits()
	return all[min(step, len(all))-1]
}

// Rollout is the change of an application. Its owner guards it.
type Rollout struct {
	From, To  int // revisions
	StartedAt time.Time
	Step      int // from 1
	Paused    bool
	// Stuck is why a rollout without automatic rollback goes no further; "" while it does. It is paused then.
	Stuck string

	from     time.Time // the replicas of before are from before it; zero if that is not known
	steps    int
	reached  time.Time      // when all replicas of the step were ready; zero before
	waited   time.Time      // reached in a node before this one; zero for none
	paused   time.Time      // when it was paused; zero while it is not
	going    time.Time      // when it has begun, its last step has begun, or it was resumed
	settled  time.Time      // when all replicas were of the new revision; zero before
	until    time.Time      // that the step waits; zero for until Resume
	frozen   map[string]int // numbers of new replicas while it is paused
	progress time.Time      // of the last replica that became ready
	best     int            // the highest number of new replicas that were ready
	deadline time.Time
	watched  time.Time // until when a rollout that has settled is watched; zero before
	message  string
	rates    rates
}

// New begins a rollout.
func New(from, to int, now time.Time) *Rollout {
	return &Rollout{From: from, To: to, StartedAt: now, Step: 1, from: now, going: now, progress: now, rates: rates{}}
}

// Continue goes on with a rollout of a node before this one, which has begun it at a time, at its step. since is the [Rollout.Since] of that node.
func (r *Rollout) Continue(step int, paused bool, began, since time.Time) {
	if r.Step, r.Paused = max(step, 1), paused; !began.IsZero() {
		r.StartedAt, r.from, r.going = began, began, began // records do not have when a later step has begun
	}
	if paused {
		r.paused = since
	} else {
		r.waited = since
	}
}

// Since is when the rollout was paused, or when its step began to wait; zero while it does neither.
func (r *Rollout) Since() time.Time {
	switch {
	case r.Paused:
		return r.paused
	case r.waits():
		return r.reached
	}
	return time.Time{}
}

// Watch is a rollout that has settled, which a node before this one has begun at a time, and has watched: from since until a time. old has the calls by which the revision before is judged: see [Rollout.Old].
func Watch(from, to int, began, since, until time.Time, old map[string]helvetype.CallWindow, now time.Time) *Rollout {
	r := New(from, to, now)
	if !began.IsZero() {
		r.StartedAt = began
	}
	r.settled, r.watched, r.from = latest(since, r.StartedAt), until, time.Time{}
	for name, calls := range old {
		r.rates[name] = &rate{seen: map[string]helvetype.CallWindow{}, last: calls}
	}
	return r
}

// Old are the calls by which the revision before is judged, by deployment, and until when the new one is watched.
func (r *Rollout) Old() (old map[string]helvetype.CallWindow, until time.Time) {
	old = map[string]helvetype.CallWindow{}
	for name, p := range r.rates {
		old[name] = p.old()
	}
	return old, r.watched
}

// Copy is a copy for a trial of Pause and Resume.
func (r *Rollout) Copy() *Rollout {
	next := *r
	next.rates = nil
	return &next
}

// Failure says why a rollout has failed.
type Failure struct {
	Reason  string // "progress_deadline" or "error_rate"
	Message string
	Inputs  map[string]string // the numbers that led to it
}

// Decision says how the rollout goes on.
type Decision struct {
	Limits  map[string]int // the number of new replicas that each deployment may have now
	Stepped bool           // another step has begun
	Reached bool           // the step begins to wait
	Failure *Failure
	Over    bool      // the rollout has settled, and was watched long enough
	Wake    time.Time // when to look again although nothing has changed; zero for no such time
}

// later keeps the earlier of two times to wake.
func (d *Decision) later(at time.Time) {
	if !at.IsZero() && (d.Wake.IsZero() || at.Before(d.Wake)) {
		d.Wake = at
	}
}

// Pause stops the rollout where it is. Replicas that end are replaced by replicas of the same revision.
func (r *Rollout) Pause(now time.Time) { r.Paused, r.paused = true, now }

// Resume lets a paused rollout go on, else it ends the wait of a step. For example, an operator pauses a rollout whose step waits: the first Resume ends the pause, and the second one
// the wait. It returns false if there is nothing to resume.
func (r *Rollout) Resume(now time.Time) bool {
	waits := r.waits()
	if !r.Paused && !waits {
		return false
	}
	if waits && !r.Paused {
		r.Step++
		r.reached = time.Time{}
	}
	if r.Stuck != "" { // the calls that have failed are known
		for _, p := range r.rates {
			p.samples, p.now = nil, [2]helvetype.CallWindow{}
		}
	}
	r.Paused, r.going, r.progress, r.frozen, r.Stuck = false, now, now, nil, ""
	return true
}

// Settle notes that all replicas are of the new revision and ready. From now on the error rate alone is watched. It returns false if nothing is.
func (r *Rollout) Settle(all []Deployment, now time.Time) (watches bool) {
	r.Paused, r.settled, r.watched = false, now, now
	for _, d := range all {
		if d.RollBack && d.Rate.Enabled && !d.New {
			r.watched = latest(r.watched, now.Add(d.Rate.Window))
		}
	}
	return r.watched.After(now)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Settled says that [Rollout.Settle] was called.
func (r *Rollout) Settled() bool { return !r.watched.IsZero() }

// Look decides what comes next. all are the deployments that change, sorted by name.
func (r *Rollout) Look(all []Deployment, now time.Time) (d Decision) {
	r.steps = 1
	for i := range all {
		r.steps = max(r.steps, len(all[i].limits()))
	}
	if d.Failure = r.judge(all, now, &d); d.Failure != nil {
		return d
	}
	if r.Settled() {
		d.Over = !now.Before(r.watched)
		d.later(r.watched)
		r.message = "all replicas are new; the error rate is watched until " + clock(r.watched)
		return d
	}
	d.Stepped = r.advance(all, now, &d)
	d.Limits = r.limits(all)
	d.Failure = r.late(all, now, &d)
	r.message = r.describe(all)
	return d
}

// advance begins the next step when the present one is over.
func (r *Rollout) advance(all []Deployment, now time.Time, d *Decision) (stepped bool) {
	for r.Step < r.steps && !r.Paused {
		var pause *time.Duration
		never, there := false, true
		for i := range all {
			of := &all[i]
			there = there && (of.Ready >= of.limit(r.Step) || of.New)
			switch {
			case len(of.limits()) == 1:
			case of.StepPause == nil:
				never = true
			case pause == nil || *of.StepPause > *pause:
				pause = of.StepPause
			}
		}
		if !there {
			return stepped
		}
		if r.reached.IsZero() {
			r.reached, d.Reached = now, true
			if !r.waited.IsZero() { // the node before has waited already
				r.reached, r.waited = r.waited, time.Time{}
			}
		}
		if r.until = (time.Time{}); !never && pause != nil {
			r.until = r.reached.Add(*pause)
		}
		if r.until.IsZero() || now.Before(r.until) {
			d.later(r.until)
			return stepped
		}
		r.Step, r.reached, r.waited, r.going, r.progress, stepped = r.Step+1, time.Time{}, time.Time{}, now, now, true
	}
	return stepped
}

// limits are the numbers of new replicas for now.
func (r *Rollout) limits(all []Deployment) map[string]int {
	limits := map[string]int{}
	for i := range all {
		limits[all[i].Name] = all[i].limit(r.Step)
	}
	if !r.Paused {
		r.frozen = nil
		return limits
	}
	if r.frozen == nil {
		r.frozen = map[string]int{}
		for _, d := range all {
			if r.frozen[d.Name] = d.Live; d.New {
				r.frozen[d.Name] = d.Replicas
			}
		}
	}
	for name, n := range r.frozen {
		limits[name] = min(limits[name], n)
	}
	return limits
}

// waits says that a step waits for its pause or for Resume.
func (r *Rollout) waits() bool { return !r.reached.IsZero() && r.Step < r.steps }

// Held says why a change of options that begins the rollout anew would take back what an operator has decided: it is paused, its step waits, or an earlier step is over. It is "" for a
// rollout that loses nothing, and for one that has failed and waits for a remedy ([Rollout.Stuck]). For example, at step 2 of 3 a new rollout would begin with step 1 again.
func (r *Rollout) Held() string {
	switch {
	case r.Settled() || r.Stuck != "":
	case r.Paused:
		return "it is paused"
	case r.waits():
		return fmt.Sprintf("step %d of %d waits", r.step(), r.steps)
	case r.Step > 1:
		return fmt.Sprintf("it is at step %d of %d", r.step(), r.steps)
	}
	return ""
}

// step is the step for people. A deployment that was scaled down has fewer steps than the rollout has reached.
func (r *Rollout) step() int { return min(r.Step, max(r.steps, 1)) }

// late fails a rollout in which no replica has become ready for too long. The time does not run while it is paused, and while a step waits.
func (r *Rollout) late(all []Deployment, now time.Time, d *Decision) *Failure {
	ready, wait := 0, time.Duration(0)
	var last *Deployment
	for i := range all {
		of := &all[i]
		ready += min(of.Ready, of.Replicas)
		if !of.done() && of.Deadline > 0 && (last == nil || of.Deadline < wait) {
			wait, last = of.Deadline, of
		}
	}
	if ready > r.best || r.Paused || r.waits() {
		r.best, r.progress = max(r.best, ready), now
	}
	if r.deadline = (time.Time{}); last == nil || r.Paused || r.waits() {
		return nil
	}
	r.deadline = r.progress.Add(wait)
	if now.Before(r.deadline) {
		d.later(r.deadline)
		return nil
	}
	text := fmt.Sprintf("no replica of deployment %s became ready for progress_deadline_s (%s): %d of %d are ready", last.Name, wait, last.Ready, last.Replicas)
	if last.Error != "" {
		text += ": " + last.Error
	}
	return &Failure{"progress_deadline", text, map[string]string{
		"deployment": last.Name, "ready": fmt.Sprint(last.Ready), "wanted": fmt.Sprint(last.Replicas), "progress_deadline_s": fmt.Sprint(wait.Seconds()),
	}}
}

// describe says what the rollout waits for.
func (r *Rollout) describe(all []Deployment) string {
	var parts []string
	for i := range all {
		d := &all[i]
		if len(all) > 1 && d.done() {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %d of %d replicas are new and ready", d.Name, min(d.Ready, d.Replicas), d.Replicas))
	}
	text := strings.Join(parts, ", ")
	switch {
	case r.Stuck != "":
		return "paused, because it has failed and automatic_rollback is off: " + r.Stuck
	case r.Paused:
		return "paused until it is resumed; " + text
	case r.waits() && r.until.IsZero():
		return fmt.Sprintf("step %d of %d waits until it is resumed; %s", r.step(), r.steps, text)
	case r.waits():
		return fmt.Sprintf("step %d of %d waits until %s; %s", r.step(), r.steps, clock(r.until), text)
	case r.steps > 1:
		return fmt.Sprintf("step %d of %d; %s", r.step(), r.steps, text)
	}
	return text
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Status is the rollout for the status of its application.
func (r *Rollout) Status() *helvetype.Rollout {
	s := &helvetype.Rollout{From: r.From, To: r.To, State: "going", Message: r.message, StartedAt: r.StartedAt, Since: r.going, Deadline: r.deadline}
	switch {
	case r.Settled():
		s.State, s.Since = "watching", r.settled
	case r.Paused:
		s.State, s.Since = "paused", r.paused
	case r.waits():
		s.State, s.Since = "waiting", r.reached
	}
	if r.steps > 1 && !r.Settled() { // a rollout that is watched has no step any more
		s.Step, s.Steps = r.step(), r.steps
	}
	for _, p := range r.rates {
		s.New.Calls, s.New.Failures = s.New.Calls+p.now[1].Calls, s.New.Failures+p.now[1].Failures
		s.Old.Calls, s.Old.Failures = s.Old.Calls+p.now[0].Calls, s.Old.Failures+p.now[0].Failures
	}
	return s
}

// Sort sorts deployments by name, as [Rollout.Look] wants them.
func Sort(all []Deployment) {
	slices.SortFunc(all, func(a, b Deployment) int { return cmp.Compare(a.Name, b.Name) })
}
