package arena

import "testing"

// TestAnArenaLeavesRoomForTheProgram: two mappings of it take a quarter of a limited address space at most.
func TestAnArenaLeavesRoomForTheProgram(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, test := range []struct {
		size  int64
		limit uint64
		want  bool
	}{
		{gib, 8 * gib, true}, {gib + 1, 8 * gib, false}, {gib, 2 * gib, false}, {gib, ^uint64(0), true}, {maxInt, ^uint64(0), true}, {0, 0, true},
	} {
		if got := roomFor(test.size, test.limit); got != test.want {
			t.Errorf("%d of %d: %v", test.size, test.limit, got)
		}
	}
	if !Fits(gib) || Fits(maxInt) || Fits(maxInt/2) || Fits(-1) {
		t.Error("what fits does not, or the other way round")
	}
}
