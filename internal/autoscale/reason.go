package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Reason says in one sentence how the number came about, with its inputs.
func (d Decision) Reason() string {
	in := &d.Inputs
	text := in.load()
	switch {
	case d.Rule == RuleBounds:
		return fmt.Sprintf("the bounds are %d to %d", in.Least, in.Most) + in.capacity()
	case d.Rule == RuleWarm:
		return fmt.Sprintf("the target capacity has risen to %s %%, and initial_replicas are %d there", number(*in.Capacity), d.Replicas)
	case d.Rule == RuleColdStart:
		text = plural(in.Queued+in.Running, "call waits", "calls wait") + ", and there is no replica"
	case in.Raw != nil:
		text = "the policy asks for " + number(*in.Raw)
		if d.Rule == RulePolicy && d.Replicas < in.Replicas && ceil(in.Highest) > ceil(in.need()) {
			text = fmt.Sprintf("the policy has asked for at most %s in the last %s, and asks for %s now", number(in.Highest), seconds1(in.Stable), number(*in.Raw))
		}
	case d.Rule == RuleQuiet:
		text = fmt.Sprintf("at most %s replicas were needed in the last %s", number(in.Highest), seconds1(in.Stable))
	case d.Rule == RuleIdle:
		text = "no call for " + seconds1(in.Held)
	case d.Rule == RulePanic:
		text += " (panic)"
	}
	if in.Held > 0 && (d.Rule == RuleDelay || d.Rule == RulePolicy) {
		text += ", for " + seconds1(in.Held)
	}
	switch {
	case d.Blocked == "":
		if d.Rule == RuleWaitingUp {
			text += "; it looks at the load for " + seconds1(look)
		}
	case d.Blocked == "max_replicas":
		text += fmt.Sprintf("; at most %d by max_replicas", in.Most) + in.capacity()
	case d.Blocked == "min_replicas":
		text += fmt.Sprintf("; at least %d by min_replicas", in.Least) + in.capacity()
	case d.Blocked == "max_upscale_factor" || d.Blocked == "max_downscale_factor":
		text += "; no more in one step by " + d.Blocked
	case d.Rule == RuleHeld:
		text += "; held: " + d.Blocked
	case d.Blocked == "upscale_steps_per_minute" || d.Blocked == "downscale_steps_per_minute":
		text += "; it waits for the time between steps (" + d.Blocked + ")"
	case d.Blocked == takenBack:
		text += "; it waits because " + takenBack
	default:
		text += "; it waits for " + d.Blocked
		if d.Peak {
			text += fmt.Sprintf(", because %s replicas were %s in the last %s", number(in.Highest), in.needed(), seconds1(in.Stable))
		}
	}
	if !d.Until.IsZero() {
		text += ", until " + d.Until.UTC().Format(time.RFC3339) + " at the latest"
	}
	return text
}

// need is the number of replicas that the load, or a custom policy, asks for now.
func (in *Inputs) need() float64 {
	if in.Raw != nil {
		return *in.Raw
	}
	return in.Calls / in.Target
}

// needed is how a number of replicas came to be the highest one of the stable window.
func (in *Inputs) needed() string {
	if in.Raw != nil {
		return "asked for"
	}
	return "needed"
}

// load is the load as it was compared with the target, such as "14.0 calls in the last 6 s / 2 a replica = 7.0".
func (in *Inputs) load() string {
	over := ""
	switch {
	case in.Arrived > 0:
		over = fmt.Sprintf(", of %.1f a second and %d that wait,", in.Arrived, in.Queued)
	case in.Window > 0:
		over = " in the last " + seconds1(in.Window)
	}
	return fmt.Sprintf("%.1f calls%s / %s a replica = %.1f", in.Calls, over, number(in.Target), in.Calls/in.Target)
}

// capacity names the target capacity that has made the bounds; "" without one.
func (in *Inputs) capacity() string {
	if in.Capacity == nil || *in.Capacity >= wholeMachine {
		return ""
	}
	return fmt.Sprintf(" at a target capacity of %s %%", number(*in.Capacity))
}

func seconds1(d time.Duration) string { return number(d.Seconds()) + " s" }

func number(x float64) string { return strconv.FormatFloat(math.Round(x*100)/100, 'f', -1, 64) }

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}
