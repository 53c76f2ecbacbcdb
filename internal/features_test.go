package internal_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFeatures holds docs/features.md: every feature of the study of Ray Serve is there once and in order, with the place where it is here or the reason why it
// is not. The links of the page are checked with those of all pages.
func TestFeatures(t *testing.T) {
	t.Parallel()
	const features = 199
	doc, err := os.ReadFile("../docs/features.md")
	if err != nil {
		t.Fatal(err)
	}
	last, states := 0, map[string]int{}
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		n, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if !strings.HasPrefix(line, "|") || err != nil {
			continue
		}
		if n != last+1 {
			t.Errorf("row %d follows row %d", n, last)
		}
		last = n
		if len(cells) != 5 {
			t.Errorf("row %d has %d cells, want 5", n, len(cells))
			continue
		}
		state, where := strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])
		states[state]++
		linked := strings.Contains(where, "](") || strings.Contains(where, "`")
		switch {
		case !slices.Contains([]string{"yes", "part", "no", "other"}, state):
			t.Errorf("row %d: %q is no state of a feature", n, state)
		case state == "no" && len(where) < 15:
			t.Errorf("row %d: no reason", n)
		case state != "no" && !linked && len(where) < 40:
			t.Errorf("row %d: neither a page nor a name", n)
		}
	}
	if last != features {
		t.Errorf("%d features, want %d", last, features)
	}
	if states["yes"] < features/4 {
		t.Errorf("only %d features are there: %v", states["yes"], states)
	}
}
