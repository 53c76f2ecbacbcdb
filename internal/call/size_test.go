package call

import (
	"testing"
	"unsafe"
)

// TestInfoIsSmall: every call in process allocates an Info, so its size counts (see Info).
func TestInfoIsSmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(Info{}); size > 112 {
		t.Errorf("an Info has %d bytes", size)
	}
	if size := unsafe.Sizeof(Inline{}); size > 144 { // a size class of the allocator
		t.Errorf("an Inline has %d bytes", size)
	}
}
