package planner

import "testing"

func TestCapacity(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		replicas int
		percent  float64
		want     int
	}{{3, 50, 2}, {3, 1, 1}, {3, 0, 0}, {0, 50, 0}, {10, 100, 10}, {10, 25, 3}} {
		if got := Capacity(tt.replicas, &tt.percent); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
	if got := Capacity(3, nil); got != 3 {
		t.Error(got)
	}
}
