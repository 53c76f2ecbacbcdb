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
	recentBuckets   = 12
	lookBackBuckets = 30
	peakBuckets     = 30
)

// State is the memory of one deployment between decisions. The zero value is that of a new deployment. Its form in JSON has less than 4 KB, beside Policy. One
// goroutine at a time uses it.
type State struct {
	recent   window // the panic window
	lookBack window // the look-back period, where a delay was set
	needs    peaks  // the stable window: how many replicas were needed

	last   Load      // the newest sample
	seen   time.Time // its time; zero for none
	up     time.Time // since when more replicas are due, for upscale_delay_s; zero while they are not
	down   time.Time // since when fewer replicas are due, for downscale_delay_s
	busy   time.Time // when the newest call was there
	panics time.Time // until when the panic window decides

	// LastUp and LastDown are the times of the last decisions that changed the number; zero for none.
	LastUp, LastDown time.Time
	// Policy is the state of a custom policy, as it returned it. Decide leaves it alone.
	Policy json.RawMessage
}

// Observe tells the state a sample. It stands until the next one, and for at most LongestHold. The caller samples at each change of an idle deployment, and at
// least each 100 ms while there is load.
func (s *State) Observe(now time.Time, l Load) {
	s.fit(DefaultPanicWindow, DefaultLookBack, DefaultStableWindow)
	if s.hold(now); !s.seen.IsZero() {
		arrived, finished := grown(s.last.Arrived, l.Arrived), grown(s.last.Finished, l.Finished)
		s.recent.count(now, arrived, finished)
		s.lookBack.count(now, arrived, finished)
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
	if longest := s.seen.Add(LongestHold); to.After(longest) {
		to = longest
	}
	s.recent.add(s.seen, to, s.last)
	s.lookBack.add(s.seen, to, s.last)
	if s.seen = now; s.last.Queued+s.last.Running > 0 {
		s.busy = to
	}
}

// fit sets the spans of the windows where they have none yet.
func (s *State) fit(recent, lookBack, stable time.Duration) {
	if s.recent.width == 0 {
		s.recent.fit(recent, recentBuckets)
		s.lookBack.fit(lookBack, lookBackBuckets)
		s.needs.fit(stable, peakBuckets)
	}
}

func grown(before, after uint64) float64 {
	if after < before {
		return 0
	}
	return float64(after - before)
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
	Seen     time.Time       `json:"seen,omitzero"`
	Up       time.Time       `json:"up,omitzero"`
	Down     time.Time       `json:"down,omitzero"`
	Busy     time.Time       `json:"busy,omitzero"`
	Panics   time.Time       `json:"panics,omitzero"`
	LastUp   time.Time       `json:"last_up,omitzero"`
	LastDown time.Time       `json:"last_down,omitzero"`
	Policy   json.RawMessage `json:"policy,omitempty"`
}

// MarshalJSON writes the state for the store.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(stateForm{s.recent, s.lookBack, s.needs, s.last, s.seen, s.up, s.down, s.busy, s.panics, s.LastUp, s.LastDown, s.Policy})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (s *State) UnmarshalJSON(raw []byte) error {
	var f stateForm
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	*s = State{f.Recent, f.LookBack, f.Needs, f.Last, f.Seen, f.Up, f.Down, f.Busy, f.Panics, f.LastUp, f.LastDown, f.Policy}
	return nil
}
