package telemetry

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPeaks: the longest call of the last minute is known for it, and forgotten after it, also in a sum with the calls of other replicas.
func TestPeaks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a, b Calls
		a.End(12*time.Second, false)
		a.End(3*time.Second, true)
		b.Cancel(20 * time.Second)
		began := time.Now()
		sum := a.Counts()
		if got := sum.Peaks.Since(began); got != 12*time.Second {
			t.Errorf("the longest of one replica took %s", got)
		}
		sum.Add(b.Counts())
		if got := sum.Peaks.Since(began); got != 20*time.Second {
			t.Errorf("the longest of two replicas took %s", got)
		}
		time.Sleep(2 * time.Minute)
		a.End(2*time.Second, false)
		sum.Raise(a.Counts())
		if got := sum.Peaks.Since(time.Now().Add(-time.Minute)); got != 2*time.Second {
			t.Errorf("two minutes later the longest took %s", got)
		}
	})
}
