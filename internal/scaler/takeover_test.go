package scaler

import (
	"testing"
	"time"
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
