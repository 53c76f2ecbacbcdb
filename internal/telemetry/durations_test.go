package telemetry

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	d := NewDurations([]float64{1, 10})
	for _, took := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 10 * time.Millisecond, 11 * time.Millisecond} {
		d.Observe(took)
	}
	want := DurationCounts{Bounds: []float64{1, 10}, Buckets: []uint64{2, 2, 1}, Sum: 24 * time.Millisecond}
	if diff := cmp.Diff(want, d.Counts()); diff != "" || d.Counts().Count() != 5 {
		t.Error(diff)
	}
	var none *Durations
	none.Observe(time.Second)
	if none.Counts().Count() != 0 {
		t.Error("a nil Durations counts")
	}
}

// TestUtilization: the window moves on, and its start is the newest sample that is as old as the window.
func TestUtilization(t *testing.T) {
	t.Parallel()
	var u Utilization
	at := time.Unix(1_000, 0)
	for _, x := range []struct {
		after, busy time.Duration
		want        float64
	}{
		{0, 0, 0},
		{5 * time.Second, 5 * time.Second, 50}, // of two slots
		{10 * time.Second, 20 * time.Second, 100},
		{20 * time.Second, 20 * time.Second, 50},
		{610 * time.Second, 20 * time.Second, 0}, // the calls of the first 10 s are out of the window
		{620 * time.Second, 720 * time.Second, 50 * 700. / 600},
		{1300 * time.Second, 720 * time.Second, 0},
	} {
		if got := u.Percent(at.Add(x.after), x.busy, 2); got != x.want {
			t.Errorf("after %v: %v %%, want %v", x.after, got, x.want)
		}
	}
	if len(u.samples) > 1+int(utilizationWindow/utilizationPeriod) {
		t.Errorf("%d samples", len(u.samples))
	}
}
