package router

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestWithout: a router knows how much of a wait that has ended was without a replica, also of several absences, and of one that lasts.
func TestWithout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, one := New("n"), []Replica{replica("D#1", 1)}
		begin := call.Now()
		time.Sleep(4 * time.Second)
		r.Update(nil, one) // 4 s without
		time.Sleep(3 * time.Second)
		r.Update(nil, nil)
		r.Update(nil, nil)
		time.Sleep(2 * time.Second)
		r.Update(nil, one) // 2 s without
		busy := call.Now()
		time.Sleep(5 * time.Second)
		if got := r.Without(begin, call.Now()); got != 6*time.Second {
			t.Errorf("%v of all the time, want 6s", got)
		}
		if got := r.Without(begin+int64(3*time.Second), busy); got != 3*time.Second {
			t.Errorf("%v of a part, want 3s", got)
		}
		if got := r.Without(busy, call.Now()); got != 0 {
			t.Errorf("%v while there was a replica", got)
		}
		r.Update(nil, nil)
		time.Sleep(time.Second)
		if got := r.Without(busy, call.Now()); got != time.Second {
			t.Errorf("%v of an absence that lasts, want 1s", got)
		}
	})
}
