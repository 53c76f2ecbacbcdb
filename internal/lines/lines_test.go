package lines

import (
	"slices"
	"strings"
	"testing"
)

// TestWriter: each line is passed on, the rest of one that is too long as another line, and the last ones are kept, however the process writes them.
func TestWriter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", Longest) + strings.Repeat("y", Longest) + "z"
	const text = "first\n\nsecond\r\n"
	want := []string{"first", "", "second\r", long[:Longest], long[Longest : 2*Longest], "z", "end"}
	for _, each := range []int{1, 100, Longest, 1 << 20} {
		var got []string
		w := NewWriter(func(text string) { got = append(got, text) })
		for part := range slices.Chunk([]byte(text+long+"\nend"), each) {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		w.End()
		w.End()
		if !slices.Equal(got, want) {
			t.Errorf("%d bytes at a time: %d lines, want %d", each, len(got), len(want))
		}
		if !w.Contains("seco") || w.Contains("third") || !strings.HasPrefix(w.Said(), ":\nfirst\n") {
			t.Error(w.Said()[:20])
		}
	}
	w := NewWriter(nil)
	if got := w.Said(); got != ", without a word" {
		t.Error(got)
	}
	w.Write([]byte(strings.Repeat("a\n", 50))) //nolint:errcheck // it never fails
	if got := strings.Count(w.Said(), "a"); got != Kept {
		t.Errorf("%d lines are kept", got)
	}
}
