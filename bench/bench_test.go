package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

// A row is excused by the machine's speed before it or after it, not at another row.
func TestTableBusy(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	scalings := []float64{2, 1.9, 1.2, 1.8, 1.9}
	tab := newTable(&out, func() float64 { v := scalings[0]; scalings = scalings[1:]; return v })
	for range 4 {
		err := tab.measure(measurement{name: "slow", bar: 1, measure: func() (result, error) { return result{"2 s", "1 s", 2}, nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); f[0] == "slow" {
			got = append(got, f[len(f)-1])
		}
	}
	if want := "short busy busy short"; strings.Join(got, " ") != want {
		t.Errorf("verdicts %v, want %s\n%s", got, want, out.String())
	}
}

func TestRunGroupSelects(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{".": "a b end", "g/a": "a end", "^g/b$": "b end", "none": "end"} {
		var done []string
		plan := func(b *bench) []measurement {
			b.onEnd(func() { done = append(done, "end") })
			var all []measurement
			for _, name := range []string{"a", "b"} {
				all = append(all, measurement{name: name, measure: func() (result, error) {
					done = append(done, name)
					return result{}, nil
				}})
			}
			return all
		}
		tab := newTable(io.Discard, func() float64 { return 2 })
		if err := runGroup(t.Context(), settings{}, tab, "g", regexp.MustCompile(pattern), plan); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(done, " "); got != want {
			t.Errorf("-run %q did %q, want %q", pattern, got, want)
		}
	}
}

// A row whose peer is not installed says so, and the rows after it are measured.
func TestTableMissing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tab := newTable(&out, func() float64 { return 2 })
	for _, err := range []error{fmt.Errorf("peer: %w", missingError("mosec")), nil} {
		if err := tab.measure(measurement{name: "row", bar: 1, measure: func() (result, error) { return result{"2 s", "1 s", 2}, err }}); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if n := len(lines); n < 2 || !strings.HasSuffix(lines[n-2], "missing: mosec") || !strings.HasSuffix(lines[n-1], "short") {
		t.Errorf("printed %q, want a row that misses mosec, and one that is short", lines)
	}
}

// When a row fails, its processes are ended, the last first.
func TestRunGroupEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var ended []int
	plan := func(b *bench) []measurement {
		return []measurement{{name: "a", measure: func() (result, error) {
			for i := range 3 {
				b.onEnd(func() { ended = append(ended, i) })
			}
			return result{}, broken
		}}}
	}
	tab := newTable(io.Discard, func() float64 { return 2 })
	err := runGroup(t.Context(), settings{}, tab, "g", regexp.MustCompile("."), plan)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "g/a") {
		t.Errorf("error %v, want the row's with its name", err)
	}
	if len(ended) != 3 || ended[0] != 2 || ended[2] != 0 {
		t.Errorf("ended %v, want 2 1 0", ended)
	}
}
