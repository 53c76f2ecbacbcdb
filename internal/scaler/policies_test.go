package scaler

import "testing"

// TestKindOfFailure: failures that differ in a number or an address alone are one, and leave one event.
func TestKindOfFailure(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{
		{"no answer for 31.5 s", "no answer for 62 s"},
		{"<Model object at 0x7f3a12bc> is no number", "<Model object at 0x7f3a99de> is no number"},
	} {
		if kindOfFailure(same[0]) != kindOfFailure(same[1]) {
			t.Errorf("%q and %q are two", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{"", "ValueError: 1"}, {"ValueError: 1", "TypeError: 1"}} {
		if kindOfFailure(other[0]) == kindOfFailure(other[1]) {
			t.Errorf("%q and %q are one", other[0], other[1])
		}
	}
}
