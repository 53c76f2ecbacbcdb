package planner

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestPlaces: a replica inherits the restarts of its place, and no more places are open than replicas are wanted.
func TestPlaces(t *testing.T) {
	t.Parallel()
	var p Places
	if f := p.Take(); f != (Former{}) {
		t.Errorf("the first replica inherits %+v", f)
	}
	first, second := &helvetype.Exit{Reason: "first"}, &helvetype.Exit{Reason: "second"}
	p.Leave(Former{}, first, 7, 1)
	copied := p.Clone()
	f := p.Take()
	if f != (Former{1, first, 7}) {
		t.Errorf("the second inherits %+v", f)
	}
	p.GiveBack(f)
	p.Leave(Former{Restarts: 4}, second, 9, 1)
	if f := p.Take(); f != (Former{5, second, 9}) || p.LastExit != second {
		t.Errorf("with one wanted replica, the oldest place is still there: %+v", f)
	}
	if f := p.Take(); f != (Former{}) {
		t.Errorf("two places for one replica: %+v", f)
	}
	p.GiveBack(Former{})
	if f := p.Take(); f != (Former{}) {
		t.Errorf("a replica without one before it has left a place: %+v", f)
	}
	if f := copied.Take(); f.Exit != first || copied.LastExit != first {
		t.Errorf("the copy has changed: %+v", f)
	}
}
