package lending_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/lending"
	"github.com/helve-serve/helve/internal/serving"
)

// TestTakeOver: calls that go on in a worker that was taken over hold slots of the replica. For example, three calls run and the replica has two slots by now: both are taken,
// and the first call that ends frees none.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	newSlots := func() (*lending.Slots, *serving.Base) {
		b := &serving.Base{}
		b.Init(t.Context(), "D#1", "local", 2)
		l := &lending.Slots{}
		l.Init(b, nil, func() bool { return true })
		l.TakeOver(3)
		return l, b
	}
	l, b := newSlots()
	for i, want := range []int{2, 1, 0, 0} { // the last: a worker cannot return more than it has
		l.Returned(1)
		if got := b.Slots().Load(); got != want {
			t.Errorf("after the end of %d calls %d slots are taken, want %d", i+1, got, want)
		}
	}
	l, b = newSlots()
	if n := l.ForgetResumed(); n != 2 || b.Slots().Load() != 0 {
		t.Errorf("the worker tells the next node of %d slots, and %d stay taken", n, b.Slots().Load())
	}
	l, b = newSlots()
	l.End()
	l.End()
	if n := b.Slots().Load(); n != 0 {
		t.Errorf("%d slots are taken after the end of the connection", n)
	}
}
