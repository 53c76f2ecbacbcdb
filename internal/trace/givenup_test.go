package trace

import (
	"testing"
	"time"
)

// TestGivenUp: the count has the kept requests of the last minute with the status 499 alone.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	var r Recorder
	now := time.Now()
	for _, k := range []struct {
		status uint16
		ago    time.Duration
	}{{499, time.Hour}, {499, time.Second}, {500, time.Second}, {499, 0}} {
		r.requests.lists[Failed].PushBack(&Kept{Root: Record{Status: k.status, End: now.Add(-k.ago).UnixNano()}})
	}
	if n := r.GivenUp(now.Add(-time.Minute)); n != 2 {
		t.Errorf("%d requests were given up, want 2", n)
	}
}
