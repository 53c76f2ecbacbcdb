package agenda_test

import (
	"slices"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/agenda"
)

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// expect fails unless these parts are to be looked at.
func expect(t *testing.T, a *agenda.Agenda[string], now time.Time, want ...string) {
	t.Helper()
	if due := a.Due(now); due != (len(want) > 0) {
		t.Errorf("due: %t", due)
	}
	of, all := a.Take(now, false)
	slices.Sort(of)
	if all || !slices.Equal(of, want) {
		t.Errorf("%v (all: %t), want %v", of, all, want)
	}
}

// expectAll fails unless all has to be looked at.
func expectAll(t *testing.T, a *agenda.Agenda[string], now time.Time) {
	t.Helper()
	if !a.Due(now) {
		t.Error("nothing is due")
	}
	if of, all := a.Take(now, false); !all || of != nil {
		t.Errorf("%v (all: %t), want all", of, all)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	var a agenda.Agenda[string]
	expect(t, &a, start)
	a.Change("A")
	a.Change("B")
	a.Change("A")
	expect(t, &a, start, "A", "B")
	expect(t, &a, start)
	a.Change("A")
	a.ChangeAll()
	expectAll(t, &a, start)
	expect(t, &a, start)
}

// TestWaits: a part that waits for others is looked at with each that changes, and once if it does not wait any more.
func TestWaits(t *testing.T) {
	t.Parallel()
	var a agenda.Agenda[string]
	a.Wait("A")
	expect(t, &a, start)
	a.Change("B")
	expect(t, &a, start, "A", "B")
	a.Change("B")
	expect(t, &a, start, "B")
}

func TestTimes(t *testing.T) {
	t.Parallel()
	var a agenda.Agenda[string]
	soon, late := start.Add(time.Second), start.Add(time.Minute)
	a.Wake("A", late)
	a.Wake("B", soon)
	a.Wake("C", time.Time{})
	if at := a.Next(); !at.Equal(soon) {
		t.Errorf("next at %s", at)
	}
	expect(t, &a, start)
	expect(t, &a, soon, "B")
	if at := a.Next(); !at.Equal(late) {
		t.Errorf("next at %s", at)
	}
	a.Change("A") // looked at before its time, which is noted anew
	expect(t, &a, soon, "A")
	expect(t, &a, late)
	a.WakeAll(late)
	a.Wake("A", late.Add(time.Second))
	expect(t, &a, soon)
	expectAll(t, &a, late)
	if at := a.Next(); !at.IsZero() {
		t.Errorf("next at %s after a look at all", at)
	}
}

// TestWhole: the owner asks for a look at all.
func TestWhole(t *testing.T) {
	t.Parallel()
	var a agenda.Agenda[string]
	a.Change("A")
	a.Wait("B")
	a.Wake("C", start)
	if of, all := a.Take(start, true); !all || of != nil {
		t.Errorf("%v (all: %t)", of, all)
	}
	expect(t, &a, start.Add(time.Hour))
}
