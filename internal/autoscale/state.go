package autoscale

import (
	"encoding/json"
	"time"
)

// Load is one sample of a deployment's load, counted by the node where calls queue and run. A call that was cancelled, or whose caller is gone, is in no number;
// calls that draining replicas still execute count for nothing.
type Load struct {
	Queued  int // calls that wait for a replica
	Running int // calls that replicas execute
	// Arrived and Finished are totals since the deployment is there: the calls that wanted a replica (also calls that a full queue refused), and the
	// executions that ended. With them a long queue is told apart from many calls that are slow. Both 0: they are not known. A total that is lower than the one before,
	// as after a restart of the node, begins anew.
	Arrived, Finished uint64
}

// LongestHold is the longest time for which a sample stands for the load after it. Time after that counts as not observed, as while the node was down.
const LongestHold = 10 * time.Second

// longestGap is the longest time without an observation after which the delays and the knowledge of the load go on, as after a restart of the node. The gap counts for none of them. For example,
// downscale_delay_s is 600, 500 s of it are over, and the node is away for 30 s: the step comes 100 s after it is back. After a longer gap all begins anew.
const longestGap = time.Minute

// Numbers of buckets of the windows of a state.
const (
	recentBuckets   = 24
	lookBackBuckets = 30
	peakBuckets     = 30
)

// State is the memory of one deployment between decisions. The zero value is that of a new deployment. Its form in JSON has less than 4 KB, beside Policy. One
// goroutine at a time uses it.
//
// The clock of the machine may be set while a deployment is there. The state has a time of its own for that, which goes on as time passes: all times in it are of that one, but for those that are
// shown. For example, the clock is set back from 12:00 to 11:00: the calls of the last seconds stay in the windows, and a delay of 30 s that has run for 20 s has 10 s left.
type State struct {
	at    time.Time     // the clock when the state was last told the time, with its monotonic part; zero for none
	ahead time.Duration // the time of the state is the clock and that

	recent   window // the panic window
	lookBack window // the look-back period, where a delay was set
	needs    peaks  // the stable window: how many replicas were needed

	last    Load          // the newest sample
	seen    time.Time     // its time; zero for none
	whole   time.Time     // since when the load is known without a gap
	ready   int           // replicas that got calls at the last decision
	effort  float64       // seconds that a call takes in a replica that has no more than its target; 0 if it is not known
	up      time.Time     // since when more replicas are due, for upscale_delay_s; zero while they are not
	down    time.Time     // since when fewer replicas are due, for downscale_delay_s
	busy    time.Time     // when the newest call was there
	changed time.Time     // when the number of ready replicas changed
	alarm   time.Time     // since when the last second asks for many more; zero while it does not
	panics  time.Time     // when the panic rule decided last
	calm    time.Duration // for which the number does not shrink after a step up; 0 for no time of its own
	before  int           // replicas before the last step down; 0 after a step up
	around  int           // largest number for which calm holds
	grown   time.Time     // when the number grew last
	asked   time.Time     // when it grew last because the load, or a policy, asked for that: calm begins there
	shrunk  time.Time     // when it shrank last

	// LastUp and LastDown are the times of the last decisions that changed the number, by the clock; zero for none.
	LastUp, LastDown time.Time
	// Policy is the state of a custom policy, as it returned it. Decide leaves it alone.
	Policy json.RawMessage
}

// Observe tells the state a sample. It stands until the next one, and for at most LongestHold. The caller samples at each change of an idle deployment, and at
// least each 100 ms while there is load.
func (s *State) Observe(clock time.Time, l Load) {
	now := s.pass(clock)
	if s.hold(now); s.seen.IsZero() {
		s.whole = now
	} else {
		arrived, finished := more(s.last.Arrived, l.Arrived), more(s.last.Finished, l.Finished)
		s.recent.count(now, arrived, finished, s.last.Queued > 0)
		s.lookBack.count(now, arrived, finished, s.last.Queued > 0)
	}
	if s.last, s.seen = l, now; l.Queued+l.Running > 0 {
		s.busy = now
	}
}

// Begin has the number stay for the time for which that of a new deployment stays, because it was set without regard to the load. For example, a deployment had no load for an hour, and a new
// configuration begins with 3 replicas: they are there for the stable window, or for downscale_delay_s, and do not stop in the next moment.
func (s *State) Begin(clock time.Time) {
	s.whole, s.down = s.pass(clock), time.Time{}
}

// Set tells the state that the number was changed from one to another without its decision. For example, a deploy has set initial_replicas.
func (s *State) Set(clock time.Time, from, to int) {
	now := s.pass(clock)
	s.unrelated()
	s.up = time.Time{}
	if to < from {
		s.shrunk, s.LastDown = now, clock.Round(0)
		return
	}
	s.grown, s.LastUp = now, clock.Round(0)
	s.whole, s.down = now, time.Time{} // see Begin
}

// Restarted tells the state that its node was away for a moment. Calls that have waited meanwhile, and not the last step down, may be why the number grows next. For example, the load has brought 4
// replicas to 3, the node is started again, and the calls of two seconds ask for 4: the next step down waits no longer for that.
func (s *State) Restarted() { s.unrelated() }

// pass gives the time of the state that is clock. It never goes back, and goes on as the monotonic clock does where the process has told the time before.
func (s *State) pass(clock time.Time) time.Time {
	wall := clock.Round(0)
	if !s.at.IsZero() {
		passed := max(clock.Sub(s.at), 0)
		s.ahead += passed - wall.Sub(s.at.Round(0))
	}
	s.at = clock
	return wall.Add(s.ahead)
}

// clock is a time of the state as the machine's clock has it. It has a monotonic part where the present time was told with one.
func (s *State) clock(of time.Time) time.Time {
	return s.at.Add(of.Sub(s.at.Round(0).Add(s.ahead)))
}

// hold counts the newest sample up to now.
func (s *State) hold(now time.Time) {
	if s.seen.IsZero() || !now.After(s.seen) {
		return
	}
	to := now
	if longest := s.seen.Add(LongestHold); to.After(longest) { // the node was down
		to = longest
		s.skip(now.Sub(longest), now)
	}
	s.recent.add(s.seen, to, s.last, s.ready)
	s.lookBack.add(s.seen, to, s.last, s.ready)
	if s.seen = now; s.last.Queued+s.last.Running > 0 {
		s.busy = to
	}
}

// skip leaves a gap up to now out of the delays, and of the time for which the load is known.
func (s *State) skip(gap time.Duration, now time.Time) {
	if gap > longestGap {
		s.whole, s.up, s.down = now, time.Time{}, time.Time{}
		return
	}
	for _, since := range []*time.Time{&s.whole, &s.up, &s.down} {
		if !since.IsZero() {
			*since = since.Add(gap)
		}
	}
}

// fit gives the windows the spans of the configuration. A window whose span has changed is empty, but for the highest need.
func (s *State) fit(c *Config) {
	s.recent.fit(c.PanicWindow, recentBuckets)
	if c.delays() {
		s.lookBack.fit(or(c.LookBack, DefaultLookBack), lookBackBuckets)
	} else if s.lookBack.buckets != nil {
		s.lookBack = window{}
	}
	s.needs.fit(c.StableWindow, peakBuckets)
}

// more is how much a total has grown.
func more(before, after uint64) float64 {
	if after < before {
		return 0
	}
	return float64(after - before)
}

// Calls is the mean number of calls, waiting and running: over the look-back period where that, or a delay, was set, and else over the panic window. It is the load for custom policies.
func (s *State) Calls(clock time.Time, c Config) float64 {
	now := s.pass(clock)
	s.fit(&c)
	s.hold(now)
	if c.delays() {
		return s.lookedBack(now, c)
	}
	return s.recent.sum(now, c.PanicWindow).total(c.PanicWindow)
}

// Last is the newest sample, and its time by the clock.
func (s *State) Last() (Load, time.Time) {
	if s.seen.IsZero() {
		return s.last, time.Time{}
	}
	return s.last, s.clock(s.seen).Round(0)
}

// DelayedSince is when the delay that runs has begun, in the time of the state; zero while none runs. It is for comparisons: another value says that a delay has begun or ended.
func (s *State) DelayedSince() time.Time { return latest(s.up, s.down) }

type stateForm struct {
	Recent   window          `json:"recent"`
	LookBack window          `json:"look_back"`
	Needs    peaks           `json:"needs"`
	Last     Load            `json:"last"`
	Ready    int             `json:"ready"`
	Effort   float64         `json:"effort"`
	At       time.Time       `json:"at,omitzero"`
	Seen     time.Time       `json:"seen,omitzero"`
	Whole    time.Time       `json:"whole,omitzero"`
	Up       time.Time       `json:"up,omitzero"`
	Down     time.Time       `json:"down,omitzero"`
	Busy     time.Time       `json:"busy,omitzero"`
	Changed  time.Time       `json:"changed,omitzero"`
	Alarm    time.Time       `json:"alarm,omitzero"`
	Panics   time.Time       `json:"panics,omitzero"`
	Calm     time.Duration   `json:"calm,omitempty"`
	Before   int             `json:"before,omitempty"`
	Around   int             `json:"around,omitempty"`
	Grown    time.Time       `json:"grown,omitzero"`
	Asked    time.Time       `json:"asked,omitzero"`
	Shrunk   time.Time       `json:"shrunk,omitzero"`
	LastUp   time.Time       `json:"last_up,omitzero"`
	LastDown time.Time       `json:"last_down,omitzero"`
	Policy   json.RawMessage `json:"policy,omitempty"`
}

// MarshalJSON writes the state for the store.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(stateForm{
		Recent: s.recent, LookBack: s.lookBack, Needs: s.needs, Last: s.last, Ready: s.ready, Effort: s.effort, Seen: s.seen, Whole: s.whole, Up: s.up, Down: s.down,
		Busy: s.busy, Changed: s.changed, Alarm: s.alarm, Panics: s.panics, Calm: s.calm, Before: s.before, Around: s.around, LastUp: s.LastUp, LastDown: s.LastDown,
		Policy: s.Policy, At: s.at, Grown: s.grown, Asked: s.asked, Shrunk: s.shrunk,
	})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (s *State) UnmarshalJSON(raw []byte) error {
	var f stateForm
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	*s = State{
		recent: f.Recent, lookBack: f.LookBack, needs: f.Needs, last: f.Last, ready: f.Ready, effort: f.Effort, seen: f.Seen, whole: f.Whole, up: f.Up, down: f.Down,
		busy: f.Busy, changed: f.Changed, alarm: f.Alarm, panics: f.Panics, calm: f.Calm, before: f.Before, around: f.Around, LastUp: f.LastUp, LastDown: f.LastDown,
		Policy: f.Policy, at: f.At, grown: f.Grown, asked: f.Asked, shrunk: f.Shrunk,
	}
	if s.at.IsZero() { // written by an older node, whose times are all those of the clock
		s.at, s.grown, s.shrunk = f.Seen, f.LastUp, f.LastDown
	} else if !s.seen.IsZero() {
		s.ahead = s.seen.Sub(s.at)
	}
	if s.asked.IsZero() && s.calm > 0 { // written by an older node, which had one time for both
		s.asked = s.grown
	}
	for _, at := range []*time.Time{&s.whole, &s.up, &s.down, &s.busy, &s.changed, &s.alarm, &s.panics, &s.grown, &s.asked, &s.shrunk} {
		if at.After(s.seen) { // nothing has happened after the newest sample
			*at = s.seen
		}
	}
	return nil
}
