package settings

import (
	"encoding/json"
	"testing"

	"github.com/helve-serve/helve/internal/config"
)

// TestCapacityRises: the direction of the target capacity is that of its last change, survives the record of the settings, and is no field of a file.
func TestCapacityRises(t *testing.T) {
	t.Parallel()
	var s Node
	for i, step := range []struct {
		percent float64 // 0: the file has none
		rises   bool
	}{{20, false}, {50, true}, {50, true}, {30, false}, {30, false}, {80, true}, {0, false}, {90, false}} {
		file := &config.File{}
		if step.percent != 0 {
			file.TargetCapacity = &step.percent
		}
		s = s.Over(file, true)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		s = Node{}
		if err := json.Unmarshal(raw, &s); err != nil || s.Rising != step.rises {
			t.Errorf("step %d, %v percent: rises %t, %v", i, step.percent, s.Rising, err)
		}
		fields, err := s.Fields()
		if _, there := fields["target_capacity_rises"]; there || err != nil {
			t.Errorf("%v, %v", fields, err)
		}
	}
}
