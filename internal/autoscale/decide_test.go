package autoscale

import (
	"encoding/json"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, raw string) Config {
	t.Helper()
	c, err := Parse(json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStep: a load step has its number of replicas within two seconds, and keeps it.
func TestStep(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"min_replicas":1,"max_replicas":10,"target_ongoing_requests":2}`)
	var s State
	target, at := 1, time.Duration(0)
	for dt := time.Duration(0); dt < 20*time.Second; dt += 100 * time.Millisecond {
		now := start.Add(dt)
		s.Observe(now, Load{Queued: 9, Running: 5})
		d := Decide(now, c, &s, Facts{Target: target, Ready: 1, Least: 1, Most: 10})
		if d.Replicas != target {
			target, at = d.Replicas, dt
			t.Log(dt, d.Replicas, d.Reason())
		}
	}
	if target != 7 || at > 2*time.Second {
		t.Fatalf("%d replicas at %v", target, at)
	}
}
