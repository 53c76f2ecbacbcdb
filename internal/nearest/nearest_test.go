package nearest

import (
	"strings"
	"testing"
)

// TestOf counts characters more, less, other and swapped.
func TestOf(t *testing.T) {
	t.Parallel()
	known := []string{"", "num_replicas", "name", "version"}
	for _, c := range []struct {
		name    string
		changes int
		want    string
	}{
		{"num_replica", 1, "num_replicas"},
		{"num_replicass", 1, "num_replicas"},
		{"num-replicas", 1, "num_replicas"},
		{"num_repilcas", 1, "num_replicas"},
		{"NAME", 0, "name"},
		{"nmae", 0, ""},
		{"nom", 1, ""},
		{"nom", 2, "name"},
		{"", 3, ""},
		{strings.Repeat("x", 100), 59, ""},
	} {
		if got := Of(c.name, known, c.changes); got != c.want {
			t.Errorf("%q with %d changes: %q, want %q", c.name, c.changes, got, c.want)
		}
	}
	if got := Question("num_replica", known); got != "; did you mean num_replicas?" {
		t.Error(got)
	}
	if got := Question("something", known); got != "" {
		t.Error(got)
	}
}
