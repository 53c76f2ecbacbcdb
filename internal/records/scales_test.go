package records

import (
	"fmt"
	"testing"

	"github.com/helve-serve/helve/internal/store"
)

// TestScales: the newest number counts, numbers wait while a deploy writes the records of their application, and a deleted record is forgotten unless
// it was written anew.
func TestScales(t *testing.T) {
	t.Parallel()
	var s Scales
	number := func(replicas int, modified int64) Scale { return Scale{store.Scale{Replicas: replicas}, modified} }
	if !s.Set("a", "D", number(2, 5)) || s.Set("a", "D", number(9, 5)) || s.Set("a", "D", number(9, 4)) || s.Of("a", "D").Record.Replicas != 2 {
		t.Errorf("the newest counts: %+v", s.Of("a", "D"))
	}
	s.Hold("a")
	if s.Set("a", "D", number(3, 6)) || !s.Set("b", "D", number(1, 7)) || s.Of("a", "D").Record.Replicas != 3 {
		t.Error("numbers of the application wait, and of others do not")
	}
	if app, names := s.Free(); app != "a" || fmt.Sprint(names) != "[D]" {
		t.Error(app, names)
	}
	if app, names := s.Free(); app != "" || names != nil {
		t.Error(app, names)
	}
	key := store.ScaleKey("a", "D").String()
	s.Forget(key, 6)
	if s.Of("a", "D").Modified != 6 {
		t.Error("a record that was written anew")
	}
	s.Forget(key, 8)
	if s.Of("a", "D").Modified != 0 {
		t.Error("a record that was deleted")
	}
}
