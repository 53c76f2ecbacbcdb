package scaler

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
)

// TestTakenOver: while replicas of the node before are being taken over, and for a moment after that, calls that wait are no sign of a load that needs more. It ends if they never come.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for name, x := range map[string]struct {
		until time.Duration // from when on no replica is being taken over
		holds time.Duration
	}{
		"none":            {0, 0},
		"within a second": {900 * time.Millisecond, 1800 * time.Millisecond},
		"for ever":        {time.Hour, 11 * time.Second},
	} {
		e, held := &scaled{}, time.Duration(0)
		for after := time.Duration(0); after < time.Minute; after += busyPeriod {
			recovering := 0
			if after < x.until {
				recovering = 2
			}
			if e.takenOver(begin.Add(after), recovering) {
				held = after + busyPeriod
			}
		}
		if held > x.holds || held < x.holds-time.Second-busyPeriod {
			t.Errorf("%s: held for %v, want %v", name, held, x.holds)
		}
	}
}

// TestRestartTakesNothingBack: a number that grows after a restart of the node says nothing about the step down before it, and the next step down does not wait for that.
func TestRestartTakesNothingBack(t *testing.T) {
	t.Parallel()
	config, err := autoscale.Parse([]byte(`{"min_replicas": 1, "max_replicas": 20, "initial_replicas": 10}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, restarted := range []bool{false, true} {
		e, facts, now := &scaled{}, autoscale.Facts{Target: 10, Ready: 10, Least: 1, Most: 20}, time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
		load := func(length time.Duration, calls int) (waits bool) {
			for end := now.Add(length); now.Before(end); now = now.Add(busyPeriod) {
				e.memory.State.Observe(now, autoscale.Load{Running: calls})
				d := autoscale.Decide(now, config, &e.memory.State, facts)
				facts.Target, facts.Ready = d.Replicas, d.Replicas
				waits = waits || d.Blocked == "a step down was taken back"
			}
			return waits
		}
		load(2*time.Minute, 18)
		if restarted {
			raw, err := json.Marshal(e.memory)
			if err != nil {
				t.Fatal(err)
			}
			e = &scaled{}
			e.recall(raw)
		}
		load(10*time.Second, 22)
		if waits := load(5*time.Minute, 2); waits == restarted {
			t.Errorf("restarted %v: the next step down waits %v", restarted, waits)
		}
	}
}
