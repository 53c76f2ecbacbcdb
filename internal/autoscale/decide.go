package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Facts are the state of a deployment at the moment of a decision.
type Facts struct {
	Target   int // replicas that it should have now: the last decision
	Ready    int // replicas that get calls
	Starting int // replicas that start, or wait for their resources
	// Least and Most are the bounds: of min_replicas and max_replicas under the target capacity ([Bounds]).
	Least, Most int
	// HoldUp and HoldDown say why the number must not grow, or shrink, as a part of a sentence: "a rollout is under way". Empty: it may. Bounds act all the same.
	HoldUp, HoldDown string
	// Raw is the number of replicas that a custom policy asks for, in place of load over target; nil without one. Gains, delays, steps and bounds act on it.
	Raw *float64
	// StartTime is how long the last replica took from its start to its first call; 0 if it is not known.
	StartTime time.Duration
}

// Rule is the rule by which a decision was made.
type Rule string

// The rules.
const (
	RuleSteady      Rule = "steady"       // the number is right
	RuleColdStart   Rule = "cold_start"   // calls wait, and there is no replica
	RuleLoad        Rule = "load"         // up, by the panic window's mean
	RulePanic       Rule = "panic"        // up, by the last second
	RuleDelay       Rule = "delay"        // up or down, after the delay that was set
	RulePolicy      Rule = "policy"       // up or down, by the number of a custom policy
	RuleQuiet       Rule = "quiet"        // down, by the highest need of the stable window
	RuleIdle        Rule = "idle"         // to none
	RuleBounds      Rule = "bounds"       // the bounds have changed
	RuleWaitingUp   Rule = "waiting_up"   // more are due, and upscale_delay_s or the time between steps is not over
	RuleWaitingDown Rule = "waiting_down" // fewer are due, and downscale_delay_s or the time between steps is not over
	RuleHeld        Rule = "held"         // HoldUp or HoldDown
)

// Inputs are the numbers of a decision, for its event.
type Inputs struct {
	Calls    float64       `json:"calls"`            // the load that was compared with Target
	Window   time.Duration `json:"window_ns"`        // the period over which it was taken; 0 for one moment
	Target   float64       `json:"target"`           // calls that a replica should have
	Raw      *float64      `json:"policy,omitempty"` // answer of a custom policy
	Queued   int           `json:"queued"`           // of the newest sample
	Running  int           `json:"running"`
	Replicas int           `json:"replicas"` // wanted before this decision
	Ready    int           `json:"ready"`
	Least    int           `json:"least"`
	Most     int           `json:"most"`
}

// Decision is the number of replicas that a deployment should have. Reason says why, in one sentence.
type Decision struct {
	Replicas int // within the bounds
	Desired  int // before the bounds
	Rule     Rule
	Inputs   Inputs
	Blocked  string // why it is not Desired: "at most 4 by max_replicas", "a rollout is under way"; empty if it is
	// Next is when to ask again although no sample has come; zero when only a sample can change the answer.
	Next time.Time
}

// burst is the period by which the panic rule decides.
const burst = time.Second

// idleGrace is for how long a deployment has no call at all before its last replica stops, when no delay was set.
const idleGrace = 90 * time.Second

// Decide is the number of replicas from now on. The state records the decision: a change of the number counts as done. It allocates nothing while the
// number stays.
func Decide(now time.Time, c Config, s *State, f Facts) Decision {
	s.fit(c.PanicWindow, or(c.LookBack, DefaultLookBack), c.StableWindow)
	s.hold(now)
	d := Decision{Replicas: f.Target, Desired: f.Target, Rule: RuleSteady, Inputs: Inputs{
		Target: c.Target, Raw: f.Raw, Queued: s.last.Queued, Running: s.last.Running, Replicas: f.Target, Ready: f.Ready, Least: f.Least, Most: f.Most,
	}}
	if f.Target == 0 && f.Most > 0 && s.last.Queued+s.last.Running > 0 {
		d.Rule, d.Inputs.Calls = RuleColdStart, float64(s.last.Queued+s.last.Running)
		d.Desired = max(1, int(math.Ceil(d.Inputs.Calls/c.Target)))
		return s.settle(now, d, f)
	}
	seen := s.recent.sum(now, c.PanicWindow)
	d.Inputs.Calls, d.Inputs.Window = seen.total(c.PanicWindow), c.PanicWindow
	rule := RuleLoad
	if b := s.recent.sum(now, burst).total(burst); b/c.Target >= c.PanicThreshold*float64(max(f.Ready, 1)) && b > d.Inputs.Calls {
		d.Inputs.Calls, d.Inputs.Window, rule = b, burst, RulePanic
	}
	need := d.Inputs.Calls / c.Target
	if f.Raw != nil {
		need, rule = *f.Raw, RulePolicy
	}
	s.needs.add(now, need)
	highest := s.needs.highest(now)
	switch target := float64(f.Target); {
	case need > target*(1+c.Tolerance):
		d.Desired, d.Rule = int(math.Ceil(min(need, max(target, 1)*c.MaxUpFactor))), rule
	case math.Ceil(highest) < target && f.Target > 1:
		d.Desired, d.Rule = int(max(math.Ceil(highest), math.Ceil(target/c.MaxDownFactor), 1)), RuleQuiet
	case f.Target == 1 && highest == 0 && s.last.Queued+s.last.Running == 0 && !now.Before(s.busy.Add(idleGrace)):
		d.Desired, d.Rule = 0, RuleIdle
	}
	d.Next = now.Add(time.Second)
	return s.settle(now, d, f)
}

// settle brings the decision within the bounds, and records it.
func (s *State) settle(now time.Time, d Decision, f Facts) Decision {
	d.Replicas = min(max(d.Desired, f.Least), f.Most)
	switch {
	case d.Replicas < d.Desired:
		d.Blocked = "at most " + strconv.Itoa(f.Most) + " by max_replicas"
	case d.Replicas > d.Desired:
		d.Blocked = "at least " + strconv.Itoa(f.Least) + " by min_replicas"
	}
	within := min(max(f.Target, f.Least), f.Most)
	switch {
	case d.Replicas > within && f.HoldUp != "":
		d.Replicas, d.Rule, d.Blocked = within, RuleHeld, f.HoldUp
	case d.Replicas < within && f.HoldDown != "":
		d.Replicas, d.Rule, d.Blocked = within, RuleHeld, f.HoldDown
	}
	if d.Replicas == within && within != f.Target {
		d.Rule = RuleBounds
	}
	switch {
	case d.Replicas > f.Target:
		s.LastUp = now
	case d.Replicas < f.Target:
		s.LastDown = now
	}
	return d
}

// Reason says in one sentence how the number came about, with its inputs.
func (d Decision) Reason() string {
	in := &d.Inputs
	text := fmt.Sprintf("%s / %s a replica = %.1f", in.load(), number(in.Target), in.Calls/in.Target)
	if in.Raw != nil {
		text = fmt.Sprintf("the policy asks for %s", number(*in.Raw))
	}
	switch d.Rule {
	case RuleColdStart:
		text = fmt.Sprintf("%s, no replica", plural(in.Queued+in.Running, "call waits", "calls wait"))
	case RulePanic:
		text = fmt.Sprintf("%s (panic) / %s a replica = %.1f", in.load(), number(in.Target), in.Calls/in.Target)
	case RuleBounds:
		return fmt.Sprintf("the bounds are %d to %d", in.Least, in.Most)
	}
	if d.Blocked != "" {
		text += "; " + d.Blocked
	}
	return text
}

func (in *Inputs) load() string {
	if in.Window == 0 {
		return fmt.Sprintf("%.1f calls", in.Calls)
	}
	return fmt.Sprintf("%.1f calls in the last %s s", in.Calls, number(in.Window.Seconds()))
}

func number(x float64) string { return strconv.FormatFloat(math.Round(x*100)/100, 'f', -1, 64) }

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}
