package placement

import (
	"testing"
	"time"
)

// TestFirstToYield: a replica of the same deployment makes room before those of others, and the oldest first.
func TestFirstToYield(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for name, x := range map[string]struct {
		holders []Holder
		want    string
	}{
		"the oldest":         {[]Holder{{"D#2", true, at(2)}, {"D#1", true, at(1)}}, "D#1"},
		"its own":            {[]Holder{{"E#1", false, at(1)}, {"D#2", true, at(2)}, {"E#3", false, at(3)}}, "D#2"},
		"one that leaves":    {[]Holder{{"E#2", false, at(2)}, {"F#1", false, at(1)}}, "F#1"},
		"of the same moment": {[]Holder{{"D#2", true, at(1)}, {"D#1", true, at(1)}}, "D#1"},
	} {
		if got := FirstToYield(x.holders); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

// TestPlaceable: a limit of the node has the replicas beyond it wait, and the text says how many.
func TestPlaceable(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		wanted, most, placed int
		says                 string
	}{
		"no limit":      {3, 0, 3, ""},
		"a wide limit":  {3, 4, 3, ""},
		"just enough":   {3, 3, 3, ""},
		"too narrow":    {3, 1, 1, "max_replicas_per_node is 1: 2 of 3 replicas wait for another node"},
		"nothing asked": {0, 1, 0, ""},
	} {
		if got, says := Placeable(x.wanted, x.most), Unplaced(x.wanted, x.most); got != x.placed || says != x.says {
			t.Errorf("%s: %d and %q, want %d and %q", name, got, says, x.placed, x.says)
		}
	}
}
