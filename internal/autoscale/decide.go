package autoscale

import (
	"math"
	"time"
)

// Facts are the state of a deployment at the moment of a decision.
type Facts struct {
	Target   int // replicas that it should have now: the last decision
	Ready    int // replicas that get calls
	Starting int // replicas that start, or wait for their resources
	// Least and Most are the bounds: of min_replicas and max_replicas under the target capacity ([Bounds]).
	Least, Most int
	// Warm is the number of initial_replicas under the target capacity at the moment when the capacity has risen; else 0. It is a bound of that one decision: the number then follows the load.
	Warm int
	// Capacity is that target capacity in percent; nil for all.
	Capacity *float64
	// HoldUp and HoldDown say why the number must not grow, or shrink, as a part of a sentence: "a rollout is under way". Empty: it may. Bounds act all the same.
	HoldUp, HoldDown string
	// Raw is the number of replicas that a custom policy asks for, in place of load over target; nil without one. Gains, delays, steps and bounds act on it.
	Raw *float64
	// StartTime is how long the last replica took from its start until it was ready, or how long a starting replica has taken so far if that is longer; 0 if it is not known.
	StartTime time.Duration
}

// Rule is the rule by which a decision was made.
type Rule string

// The rules.
const (
	RuleSteady      Rule = "steady"       // the number is right
	RuleColdStart   Rule = "cold_start"   // calls wait, and there is no replica
	RuleLoad        Rule = "load"         // up, by the panic window
	RulePanic       Rule = "panic"        // up, by the last quarter of a second
	RuleDelay       Rule = "delay"        // up or down, after the delay that was set
	RulePolicy      Rule = "policy"       // up or down, by the number of a custom policy
	RuleQuiet       Rule = "quiet"        // down, by the highest need of the stable window
	RuleIdle        Rule = "idle"         // to none, after a time without any call
	RuleBounds      Rule = "bounds"       // the bounds have changed
	RuleWarm        Rule = "warm"         // up to initial_replicas, because the target capacity has risen
	RuleWaitingUp   Rule = "waiting_up"   // more are due, and upscale_delay_s or the time between steps is not over
	RuleWaitingDown Rule = "waiting_down" // fewer are due, and downscale_delay_s or the time between steps is not over
	RuleHeld        Rule = "held"         // HoldUp or HoldDown
)

// Inputs are the numbers of a decision, for its event.
type Inputs struct {
	Calls    float64       `json:"calls"`             // the load that was compared with Target
	Window   time.Duration `json:"window_ns"`         // the period over which it was taken; 0 for one moment
	Arrived  float64       `json:"arrived,omitempty"` // calls a second, where they and not the queue gave Calls
	Highest  float64       `json:"highest"`           // replicas: the highest need of the stable window
	Target   float64       `json:"target"`            // calls that a replica should have
	Raw      *float64      `json:"policy,omitempty"`  // answer of a custom policy
	Queued   int           `json:"queued"`            // of the newest sample
	Running  int           `json:"running"`           // of the newest sample
	Replicas int           `json:"replicas"`          // wanted before this decision
	Ready    int           `json:"ready"`
	Least    int           `json:"least"`
	Most     int           `json:"most"`
	Capacity *float64      `json:"target_capacity,omitempty"`
	Held     time.Duration `json:"held_ns,omitempty"`   // for how long the condition has held, for a delay or an idle deployment
	Stable   time.Duration `json:"stable_ns,omitempty"` // the stable window
}

// Decision is the number of replicas that a deployment should have. Reason says why, in one sentence.
type Decision struct {
	Replicas int // within the bounds
	Desired  int // before the bounds
	Rule     Rule
	Inputs   Inputs
	// Blocked says why the number is not what the load asks for: the name of the field of the configuration that limits it, such as max_replicas, upscale_delay_s or
	// max_upscale_factor, or the reason of the hold. It is empty if nothing limits it.
	Blocked string
	// Peak says that Blocked is stable_window_s because of the highest need of that window (Inputs.Highest), and not because the load is not known for a whole one yet.
	Peak bool
	// Until is when the wait for Blocked ends at the latest, as long as the load stays as it is; zero where that is not known, and for limits without a wait.
	Until time.Time
	// Next is when to ask again although no sample has come; zero when only a sample or another fact can change the answer.
	Next time.Time
}

// The time for which a deployment has no call at all before its last replica stops, when no delay was set: at least idleGrace, and idleStarts times the time of a start,
// up to longestGrace. For example, a model that loads for a minute stays for ten minutes.
const (
	idleGrace    = 90 * time.Second
	idleStarts   = 10
	longestGrace = time.Hour
)

// Decide is the number of replicas from now on. The state records the decision: a change of the number counts as done. It allocates nothing while the number stays,
// and its cost does not depend on the number of replicas or calls.
//
// For example, with 2 replicas, a target of 2 and 10 calls it answers 5; with 3 calls from then on it answers 2 when the 10 calls are a stable window ago.
func Decide(clock time.Time, c Config, s *State, f Facts) Decision {
	now := s.pass(clock)
	d := s.decide(now, c, f)
	for _, at := range []*time.Time{&d.Next, &d.Until} {
		if !at.IsZero() {
			*at = s.clock(*at)
		}
	}
	return d
}

// decide is [Decide] in the time of the state.
func (s *State) decide(now time.Time, c Config, f Facts) Decision {
	s.fit(&c)
	s.hold(now)
	if s.ready != f.Ready {
		s.ready, s.changed = f.Ready, now
	}
	d := Decision{Replicas: f.Target, Desired: f.Target, Rule: RuleSteady, Inputs: Inputs{
		Target: c.Target, Raw: f.Raw, Queued: s.last.Queued, Running: s.last.Running, Replicas: f.Target, Ready: f.Ready, Least: f.Least, Most: f.Most, Capacity: f.Capacity, Stable: c.StableWindow,
	}}
	if calls := s.last.Queued + s.last.Running; calls > 0 || f.Target > f.Least {
		d.Next = now.Add(time.Second)
	}
	if s.cold(c, f, &d) {
		return s.settle(now, c, f, d)
	}
	rule := s.load(now, c, f, &d.Inputs)
	need := d.Inputs.Calls / c.Target
	if f.Raw != nil { // each number of a policy counts
		need, rule, c.Tolerance = *f.Raw, RulePolicy, 0
	}
	d.Inputs.Highest = s.needs.highest(now)
	back := d.Inputs // with the load of the look-back period
	switch up, down := s.delayed(now, c, f, &back); {
	case c.UpscaleDelay != nil && up != 0:
		s.later(now, f, &d, up, &s.up, *c.UpscaleDelay, "upscale_delay_s", back)
	case c.UpscaleDelay == nil && need > float64(f.Target)*(1+c.Tolerance):
		s.grow(now, c, f, &d, need, rule)
	case s.idles(c, f):
		s.toNone(now, c, f, &d, back)
	case c.delayDown(f.Target) != nil && down != 0:
		s.later(now, f, &d, down, &s.down, *c.delayDown(f.Target), c.nameDown(f.Target), back)
	case c.delayDown(f.Target) == nil:
		s.shrink(now, c, f, &d, need)
	case f.Ready > 0 && f.Target > f.Least && s.fewer(c, f.Target, need): // the look-back period has more load than there is now
		d.Inputs, d.Rule, d.Blocked = back, RuleWaitingDown, "look_back_period_s"
		if s.last.Queued+s.last.Running == 0 {
			d.Until = s.busy.Add(back.Window)
		}
	}
	return s.settle(now, c, f, d)
}

// cold is a deployment that should have no replica while calls are there.
func (s *State) cold(c Config, f Facts, d *Decision) bool {
	calls := s.last.Queued + s.last.Running
	if f.Target > 0 || f.Most == 0 || calls == 0 && (f.Raw == nil || *f.Raw <= 0) {
		return false
	}
	d.Rule, d.Inputs.Calls = RuleColdStart, float64(calls)
	switch {
	case f.Raw != nil && *f.Raw > 0:
		d.Rule, d.Desired = RulePolicy, ceil(*f.Raw)
	case c.UpscaleDelay != nil:
		d.Desired = ceil(c.UpFactor)
	case s.effort > 0: // each call that waited for a replica has its time of execution within a second
		d.Desired = ceil(max(1, min(d.Inputs.Calls, d.Inputs.Calls*s.effort/min(drainTime, time.Second).Seconds())) / c.Target)
	default:
		d.Desired = ceil(d.Inputs.Calls / c.Target)
	}
	d.Desired = max(1, d.Desired)
	return true
}

// grow is a step up of an adaptive direction.
func (s *State) grow(now time.Time, c Config, f Facts, d *Decision, need float64, rule Rule) {
	next, name := s.grown.Add(perMinute(c.UpStepsPerMin)), "upscale_steps_per_minute"
	if look := s.alarm.Add(look); !s.alarm.IsZero() && look.After(next) {
		next, name = look, "" // a moment, in which the load of a step is seen
	}
	if now.Before(next) {
		if d.Rule, d.Next, d.Blocked = RuleWaitingUp, next, name; name != "" {
			d.Until = next
		}
		return
	}
	need = float64(f.Target) + c.UpFactor*(need-float64(f.Target))
	if most := math.Ceil(max(float64(f.Ready), 1) * c.MaxUpFactor); need > most {
		if need, d.Blocked = most, "max_upscale_factor"; most >= float64(f.Most) { // no other step can follow
			d.Blocked = "max_replicas"
		}
	}
	d.Desired, d.Rule = max(f.Target, ceil(need)), rule
}

// fewer says that so much need, in replicas, asks for fewer replicas than there should be: for at least one less, or for none where no call is there.
func (s *State) fewer(c Config, target int, need float64) bool {
	if target <= 1 {
		return target == 1 && need <= 0 && s.last.Queued+s.last.Running == 0
	}
	return ceil(need) <= c.fewest(target)
}

// fewest is the largest need for which a number shrinks: below it by one replica, and by more where the tolerance is more.
func (c *Config) fewest(target int) int {
	if target <= 1 {
		return 0
	}
	least := target - int(max(1, math.Floor(float64(target)*c.Tolerance)))
	if least < 1 { // a number shrinks to 1 at least
		return -1
	}
	return least
}

// shrink is a step down of an adaptive direction, to the highest need of the stable window, or to none after a time without any call. need is that of now. While the present need is for fewer replicas, and the number stays, the decision
// says what it waits for, and until when.
//
// For example, 7 replicas were needed until 12:00:00, and 1 is since then: until 12:01:00 the number waits for stable_window_s.
func (s *State) shrink(now time.Time, c Config, f Facts, d *Decision, need float64) {
	if f.Target == 0 || f.Target <= f.Least || !s.fewer(c, f.Target, need) {
		return
	}
	window, calm, name := s.needs.until(now, c.fewest(f.Target)), time.Time{}, ""
	grace := min(max(idleGrace, idleStarts*f.StartTime), longestGrace)
	if f.Target == 1 {
		calm, name = latest(s.busy, s.whole).Add(grace), seconds1(grace)+" without a call"
	} else {
		calm, name = s.quietUntil(c, f)
	}
	if until := latest(window, calm); now.Before(until) {
		if d.Rule, d.Blocked, d.Until = RuleWaitingDown, name, until; window.After(calm) {
			d.Blocked, d.Peak = "stable_window_s", true
		}
		if window.IsZero() {
			d.Next = until
		}
		return
	}
	target, highest := float64(f.Target), float64(ceil(d.Inputs.Highest))
	if f.Target == 1 {
		d.Desired, d.Rule, d.Inputs.Held = 0, RuleIdle, now.Sub(calm)+grace
		return
	}
	highest = min(target-1, math.Ceil(target+c.DownFactor*(highest-target)))
	if least := math.Ceil(target / c.MaxDownFactor); highest < least {
		switch highest = least; {
		case least > max(1, float64(f.Least)):
			d.Blocked = "max_downscale_factor"
		case f.Least > 0: // no other step can follow
			d.Blocked = "min_replicas"
		}
	}
	d.Desired, d.Rule = int(max(highest, 1)), RuleQuiet
	if f.Raw != nil {
		d.Rule = RulePolicy
	}
}

func perMinute(steps float64) time.Duration { return time.Duration(float64(time.Minute) / steps) }

// ceil is the next whole number. A number that is whole but for its last digits stays.
func ceil(x float64) int { return int(min(math.Ceil(x-1e-9), math.MaxInt32)) }

// quietUntil is the time before which the number does not shrink, with the name of the cause: the end of a panic, of the pause between steps, of the start of new replicas, and of the calm after
// a step down that was taken back. A stable window of which a part was not seen, as after a restart without a state, says nothing.
func (s *State) quietUntil(c Config, f Facts) (until time.Time, name string) {
	calm := time.Time{}
	if f.Target <= s.around {
		calm = s.asked.Add(s.calm)
	}
	until, name = s.panics.Add(c.PanicWindow), "panic_window_s"
	for _, x := range []struct {
		until time.Time
		name  string
	}{{s.grown.Add(c.PanicWindow + f.StartTime), "panic_window_s"}, {calm, takenBack}, {s.whole.Add(c.StableWindow), "stable_window_s"}, {s.shrunk.Add(perMinute(c.DownStepsPerMin)), "downscale_steps_per_minute"}} {
		if x.until.After(until) {
			until, name = x.until, x.name
		}
	}
	return until, name
}

// takenBack is the cause of a number that stays although fewer replicas are needed: see [State].calmed.
const takenBack = "a step down was taken back"

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// calmed learns from a change: a step down that is soon taken back doubles the time for which numbers up to that one do not shrink after a step up, up to ten stable
// windows. A step down that stays halves it. Steps that the load, or a policy, has not asked for teach nothing: see [State].unrelated.
//
// For example, 9 replicas are a little too few and 10 a little too many: the steps from 10 to 9 come after 1, 2, 4 and 8 minutes.
func (s *State) calmed(now time.Time, c Config, from, to int) {
	if to == 0 || from == 0 {
		s.before = 0
		return
	}
	back := max(s.calm, c.StableWindow)
	near := int(float64(s.before)*(1+c.Tolerance)) + 1
	switch stayed := to < from || now.Sub(s.shrunk) >= 2*back; {
	case s.before == 0:
	case stayed:
		if s.calm /= 2; s.calm < c.StableWindow {
			s.calm, s.around = 0, 0
		}
	case to <= near:
		s.calm, s.around = min(2*back, 10*c.StableWindow), near
	}
	if s.before = 0; to < from {
		s.before = from
	}
}

// unrelated notes a step that the load, or a policy, has not asked for: by a bound, the target capacity or a deploy, or after a restart. The last step down was not taken back by it, and is compared with no later step either.
//
// For example, the number falls from 10 to 9 by the load, and a minute later to 5 and back to 10 by the target capacity: the calm after a step down that was taken back stays as long as it was.
func (s *State) unrelated() { s.before = 0 }

// settle brings the decision within the bounds and under the holds, and records it.
func (s *State) settle(now time.Time, c Config, f Facts, d Decision) Decision {
	warm := min(f.Warm, f.Most) > max(f.Target, f.Least)
	if f.Least = max(f.Least, min(f.Warm, f.Most)); warm {
		s.whole, s.down = now, time.Time{} // see Begin
	}
	d.Replicas = min(max(d.Desired, f.Least), f.Most)
	switch {
	case d.Replicas < d.Desired:
		d.Blocked, d.Until = "max_replicas", time.Time{}
	case d.Replicas > d.Desired:
		d.Blocked, d.Until = "min_replicas", time.Time{}
	}
	within := min(max(f.Target, f.Least), f.Most)
	switch {
	case d.Replicas > within && f.HoldUp != "":
		d.Replicas, d.Rule, d.Blocked = within, RuleHeld, f.HoldUp
	case d.Replicas < within && f.HoldDown != "":
		d.Replicas, d.Rule, d.Blocked = within, RuleHeld, f.HoldDown
	}
	switch {
	case d.Replicas == f.Target:
		if d.Rule != RuleWaitingUp && d.Rule != RuleWaitingDown && d.Rule != RuleHeld {
			d.Rule = RuleSteady
		}
		return d
	case d.Replicas == within && warm:
		d.Rule, d.Blocked = RuleWarm, ""
	case d.Replicas == within:
		d.Rule = RuleBounds
	}
	if d.Replicas == within {
		s.unrelated()
	} else {
		s.calmed(now, c, within, d.Replicas)
	}
	if s.up, s.down = (time.Time{}), (time.Time{}); d.Replicas > f.Target {
		if s.grown, s.LastUp = now, s.clock(now).Round(0); d.Replicas != within {
			s.asked = now
		}
	} else {
		s.shrunk, s.LastDown = now, s.clock(now).Round(0)
	}
	return d
}
