package autoscale

import (
	"math"
	"time"
)

// Periods of the panic rule.
const (
	// burst is the period whose load says that there is a panic; the last quarter of it says how many replicas it needs.
	burst = time.Second
	// look is the time from the alarm to the decision, in which the load of a step fills that quarter.
	look = 250 * time.Millisecond
)

// standing is the time in which the length of a queue must stay the same, with the same replicas, to count as standing.
const standing = 2 * time.Second

// drainTime is the time in which calls that wait should be worked off, beside the calls that come.
const drainTime = 5 * time.Second

// enough is the number of executions from which the pace of replicas is known.
const enough = 5

// load puts into the inputs the number of calls by which the deployment scales, and returns the rule.
func (s *State) load(now time.Time, c Config, f Facts, in *Inputs) Rule {
	s.learn(now, c, f)
	*in = s.demand(now, c, f, *in, c.PanicWindow)
	if f.Raw != nil {
		s.needs.add(now, *f.Raw)
		return RulePolicy
	}
	s.needs.add(now, in.Calls/c.Target)
	full := max(float64(f.Ready), 1) * c.Target
	if s.recent.sum(now, burst).total(burst) < max(c.PanicThreshold*full, full+3*math.Sqrt(full)) { // the root keeps chance out of it
		s.alarm = time.Time{}
		return RuleLoad
	}
	if s.alarm.IsZero() {
		s.alarm = now
	}
	if now.Before(s.alarm.Add(look)) {
		return RuleLoad
	}
	if quick := s.demand(now, c, f, *in, burst/4); quick.Calls > in.Calls {
		*in, s.panics = quick, now
		return RulePanic
	}
	return RuleLoad
}

// learn measures how long a call takes in a replica that has no more than its target, while no call waits.
func (s *State) learn(now time.Time, c Config, f Facts) {
	seen := s.recent.sum(now, c.PanicWindow)
	if seen.Finished >= 2*enough && math.Abs(seen.Arrived-seen.Finished) <= seen.Finished/4 && seen.Waiting == 0 && f.Ready > 0 && seen.total(c.PanicWindow) <= float64(f.Ready)*c.Target*(1+c.Tolerance) {
		s.effort = seen.Running / seen.Finished
	}
}

// demand is the number of calls that there would be if none waited, over a period: the panic window, or a quarter of a second in a panic.
//
// Calls that wait say how long the queue is, and not how many replicas are needed: 1 replica that executes 10 calls a second, and gets 20, has 600 waiting calls after
// a minute, and needs 1 more replica, not 300. So after calls have waited the demand is the rate of arrival, and of working off the queue, at the pace of a replica.
//
// Callers that wait for an answer before they send the next call arrive at the pace of the replicas, however many they are. Their queue neither grows nor shrinks, and
// then the calls that run count instead: 40 such callers of a replica with max_ongoing_requests 5 and a target of 2 get 3 replicas, then 8, then 20.
func (s *State) demand(now time.Time, c Config, f Facts, in Inputs, period time.Duration) Inputs {
	all := s.recent.sum(now, period).total(period)
	second := s.recent.sum(now, burst)
	if period > burst { // a queue that is gone is no load
		all = min(all, second.total(burst))
	}
	in.Calls, in.Window, in.Arrived = all, period, 0
	window := s.recent.sum(now, c.PanicWindow)
	pace, falls := 0.0, false // calls a second of one replica; whether more calls end than come
	switch {
	case window.Arrived == 0:
		return in
	case window.FullFinished >= enough && window.FullReady > 0:
		falls = second.Finished-second.Arrived > 2*math.Sqrt(second.Finished+second.Arrived)
		if second.Waiting == 0 && !falls && s.effort == 0 {
			return in
		}
		pace = window.FullFinished / window.FullReady
	case second.Waiting > 0 && s.effort > 0: // no replica is ready yet
		pace = c.Target / s.effort
	default:
		return in
	}
	arrived := window.Arrived / window.Time
	for p := 2 * burst; p >= max(period, burst/2); p /= 2 { // a shorter time counts by the rate that is certain
		n := s.recent.sum(now, p).Arrived
		arrived = max(arrived, (n-2*math.Sqrt(n))/p.Seconds())
	}
	drain := max(drainTime, f.StartTime).Seconds()
	calls := max((arrived+float64(s.last.Queued)/drain)/pace*c.Target, arrived*s.effort)
	if f.Starting == 0 && !falls && !now.Before(s.changed.Add(standing)) {
		early, late := s.recent.sum(now, standing), s.recent.sum(now, standing/2)
		before, after, running := early.Waiting/early.Time, late.Waiting/late.Time, late.Running/late.Time
		switch {
		case before > 0.5 && math.Abs(after-before) <= 0.02*before+0.25:
			calls = max(calls, running)
		case before < running/5:
			calls = max(calls, min(running, 1.5*c.Target*float64(f.Ready)))
		}
	}
	if calls < in.Calls {
		in.Calls, in.Arrived = calls, arrived
	}
	return in
}
