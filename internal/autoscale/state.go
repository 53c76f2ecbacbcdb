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

// Numbers of buckets of the windows of a state.
const (
	recentBuckets   = 24
	lookBackBuckets = 30
	peakBuckets     = 30
)

// State is the memory of one deployment between decisions. The zero value is that of a new deployment. Its form in JSON has less than 4 KB, beside Policy. One
// goroutine at a time uses it.
type State struct {
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

	// LastUp and LastDown are the times of the last decisions that changed the number; zero for none.
	LastUp, LastDown time.Time
	// Policy is the state of a custom policy, as it returned it. Decide leaves it alone.
	Policy json.RawMessage
}

// Observe tells the state a sample. It stands until the next one, and for at most LongestHold. The caller samples at each change of an idle deployment, and at
// least each 100 ms while there is load.
func (s *State) Observe(now time.Time, l Load) {
	if s.hold(now); s.seen.IsZero() {
		s.whole = now
	} else {
		arrived, finished := grown(s.last.Arrived, l.Arrived), grown(s.last.Finished, l.Finished)
		s.recent.count(now, arrived, finished, s.last.Queued > 0)
		s.lookBack.count(now, arrived, finished, s.last.Queued > 0)
	}
	if s.last, s.seen = l, now; l.Queued+l.Running > 0 {
		s.busy = now
	}
}

// hold counts the newest sample up to now.
func (s *State) hold(now time.Time) {
	if s.seen.IsZero() || !now.After(s.seen) {
		return
	}
	to := now
	if longest := s.seen.Add(LongestHold); to.After(longest) { // the node was down
		to, s.whole, s.up, s.down = longest, now, time.Time{}, time.Time{}
	}
	s.recent.add(s.seen, to, s.last, s.ready)
	s.lookBack.add(s.seen, to, s.last, s.ready)
	if s.seen = now; s.last.Queued+s.last.Running > 0 {
		s.busy = to
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

func grown(before, after uint64) float64 {
	if after < before {
		return 0
	}
	return float64(after - before)
}

// Calls is the mean number of calls, waiting and running: over the look-back period where that, or a delay, was set, and else over the panic window. It is the load for custom policies.
func (s *State) Calls(now time.Time, c Config) float64 {
	s.fit(&c)
	s.hold(now)
	if c.delays() {
		return s.lookedBack(now, c)
	}
	return s.recent.sum(now, c.PanicWindow).total(c.PanicWindow)
}

// Idle reports whether no call is there, and since when.
func (s *State) Idle() (since time.Time, idle bool) {
	return s.busy, s.last.Queued+s.last.Running == 0
}

// Last is the newest sample, and its time.
func (s *State) Last() (Load, time.Time) { return s.last, s.seen }

type stateForm struct {
	Recent   window          `json:"recent"`
	LookBack window          `json:"look_back"`
	Needs    peaks           `json:"needs"`
	Last     Load            `json:"last"`
	Ready    int             `json:"ready"`
	Effort   float64         `json:"effort"`
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
	LastUp   time.Time       `json:"last_up,omitzero"`
	LastDown time.Time       `json:"last_down,omitzero"`
	Policy   json.RawMessage `json:"policy,omitempty"`
}

// MarshalJSON writes the state for the store.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(stateForm{
		Recent: s.recent, LookBack: s.lookBack, Needs: s.needs, Last: s.last, Ready: s.ready, Effort: s.effort, Seen: s.seen, Whole: s.whole, Up: s.up, Down: s.down,
		Busy: s.busy, Changed: s.changed, Alarm: s.alarm, Panics: s.panics, Calm: s.calm, Before: s.before, Around: s.around, LastUp: s.LastUp, LastDown: s.LastDown,
		Policy: s.Policy,
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
		Policy: f.Policy,
	}
	return nil
}
