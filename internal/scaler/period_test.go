package scaler

import (
	"testing"
	"time"
)

// TestPeriodOfRecords: a delay that begins is written within a second, and one that begins and ends with each call no more often than each 5 s.
func TestPeriodOfRecords(t *testing.T) {
	t.Parallel()
	var e scaled
	if got := e.period(); got != savePeriod {
		t.Errorf("no delay: %v", got)
	}
	e.savedDelay = time.Now() // it has ended
	if got := e.period(); got != turnPeriod {
		t.Errorf("the end of a delay: %v", got)
	}
	e.turned = true // its begin was the reason of the last record
	if got := e.period(); got != delayPeriod {
		t.Errorf("the end of a delay that has just begun: %v", got)
	}
}
