package autoscale

import "time"

// delayed is the number of replicas that the algorithm of the reference asks for, where it is above the present one (up) or below it (down); 0 and 0 where no delay
// was set, where it is the present one, and while no replica is ready. A number of 0 replicas is -1.
//
// For example, with 4 ready replicas, a target of 2, 16 calls over the look-back period and an upscaling_factor of 0.5 it is 4 + 0.5 * (16/2 - 4) = 6.
func (s *State) delayed(now time.Time, c Config, f Facts, in *Inputs) (up, down int) {
	if !c.delays() {
		return 0, 0
	}
	in.Calls, in.Window, in.Arrived = s.lookedBack(now, c), or(c.LookBack, DefaultLookBack), 0
	if f.Ready == 0 { // the delays that run go on: after a restart of the node the replicas are ready soon
		return 0, 0
	}
	bounded := min(max(s.scaled(c, f, in), f.Least), f.Most)
	if f.Target > 1 { // to none only from one
		bounded = max(1, bounded)
	}
	if bounded <= f.Target {
		s.up = time.Time{}
	}
	if bounded >= f.Target {
		s.down = time.Time{}
	}
	switch {
	case bounded > f.Target:
		return bounded, 0
	case bounded == 0 && f.Target > 0:
		return 0, -1
	case bounded < f.Target:
		return 0, bounded
	}
	return 0, 0
}

// scaled is the number of the algorithm of the reference, before the bounds.
func (s *State) scaled(c Config, f Facts, in *Inputs) int {
	running := float64(f.Ready)
	desired := in.Calls / c.Target
	if f.Raw != nil {
		desired = *f.Raw
	}
	factor := c.UpFactor
	if desired < running {
		factor = c.DownFactor
	}
	scaled := ceil(running + factor*(desired-running))
	if ceil(desired) < f.Ready && scaled == f.Ready { // the gain must not keep the number from shrinking
		scaled--
	}
	return scaled
}

// lookedBack is the load of the look-back period as one number.
func (s *State) lookedBack(now time.Time, c Config) float64 {
	period := or(c.LookBack, DefaultLookBack)
	seen := s.lookBack.sum(now, period)
	switch {
	case seen.Time == 0:
		return float64(s.last.Queued + s.last.Running)
	case c.Aggregation == Max:
		return seen.Most
	case c.Aggregation == Min:
		return seen.Least
	}
	return (seen.Waiting + seen.Running) / seen.Time
}

// delays reports whether a delay was set.
func (c *Config) delays() bool {
	return c.UpscaleDelay != nil || c.DownscaleDelay != nil || c.DownscaleToZeroDelay != nil
}

// delayDown is the delay of a step down from a number of replicas; nil where that is adaptive.
func (c *Config) delayDown(from int) *time.Duration {
	if from == 1 && c.DownscaleToZeroDelay != nil {
		return c.DownscaleToZeroDelay
	}
	return c.DownscaleDelay
}

func (c *Config) nameDown(from int) string {
	if from == 1 && c.DownscaleToZeroDelay != nil {
		return "downscale_to_zero_delay_s"
	}
	return "downscale_delay_s"
}

// idles reports whether downscale_to_zero_delay_s counts from the end of the last call: where it is set and look_back_period_s is not. With that the load of the period has to be none
// before the delay begins, as in the reference, whose period is 30 s also where nobody has set it.
//
// For example, with a downscale_to_zero_delay_s of 5 the last replica stops 5 s after its last call, and with a look_back_period_s of 30 beside it after 35 s.
func (s *State) idles(c Config, f Facts) bool {
	return f.Target == 1 && f.Least == 0 && f.Ready > 0 && f.Raw == nil && c.DownscaleToZeroDelay != nil && c.LookBack == nil && s.last.Queued+s.last.Running == 0
}

// toNone is the step to no replica of a deployment that idles.
func (s *State) toNone(now time.Time, c Config, f Facts, d *Decision, in Inputs) {
	s.down = latest(s.busy, s.whole)
	if s.later(now, f, d, 0, &s.down, *c.DownscaleToZeroDelay, "downscale_to_zero_delay_s", in); d.Rule == RuleDelay {
		d.Rule = RuleIdle
	}
}

// later takes a step once its condition has held for the delay. since is when the condition began to hold.
func (s *State) later(now time.Time, f Facts, d *Decision, to int, since *time.Time, delay time.Duration, name string, in Inputs) {
	if since.IsZero() {
		*since = now
	}
	d.Inputs = in
	d.Inputs.Held = now.Sub(*since)
	if next := since.Add(delay); now.Before(next) {
		d.Next, d.Until, d.Blocked = next, next, name
		if d.Rule = RuleWaitingUp; to < f.Target {
			d.Rule = RuleWaitingDown
		}
		return
	}
	if d.Desired, d.Rule = max(to, 0), RuleDelay; f.Raw != nil {
		d.Rule = RulePolicy
	}
}
