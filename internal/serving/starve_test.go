package serving

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// TestStarving: calls that have waited for a second behind streams are reported, with the option to raise, once a minute.
func TestStarving(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		streams []bool // of the calls that hold the slots
		age     time.Duration
		want    int // warnings in the first two and a half minutes
	}{
		{"streams hold all slots", []bool{true, true}, time.Hour, 3},
		{"streams that are new when the call comes", []bool{true, true}, 0, 3},
		{"another call has one of the slots", []bool{true, false}, time.Hour, 0},
		{"a slot is free", []bool{true}, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := New(slog.New(slog.DiscardHandler), "node", "app", "Chat")
				var noted atomic.Int32
				var text atomic.Value
				d.Starving = func(s string) {
					noted.Add(1)
					text.Store(s)
				}
				r := &fakeReplica{}
				r.Init(t.Context(), "Chat#1", "node", 2)
				d.Router.Update(nil, []router.Replica{r})
				at := &call.Place{App: "app", Deployment: "Chat", Method: "M"}
				for _, streams := range test.streams {
					r.gate.TryAcquire()
					r.running.Enter(&call.Info{Place: at}, call.Now(), streams, nil)
				}
				time.Sleep(test.age)
				var ends []string
				for range 3 { // one more than there are free slots, if there is one
					d.NewPlace(&call.Info{Place: at}, &placed{name: "x", all: &ends}).Enter("one")
				}
				time.Sleep(999 * time.Millisecond)
				synctest.Wait()
				if noted.Load() > 0 {
					t.Error("warned too early")
				}
				time.Sleep(150 * time.Second)
				synctest.Wait()
				if got := int(noted.Load()); got != test.want {
					t.Errorf("%d warnings, want %d", got, test.want)
				}
				const want = "all 2 slots (max_ongoing_requests) have been held by HTTP requests, streams or connections for more than 1s, with 3 calls waiting: helve why app/Chat says what holds them, and what frees them"
				if test.want > 0 && text.Load() != want {
					t.Errorf("the warning is %q", text.Load())
				}
				for r.gate.Load() > 0 { // the timer looks until no call waits
					r.Gate().Release(nil)
				}
			})
		})
	}
}

// TestStarvingEnds: the queue is not watched when no call waits, and is watched again for the next call.
func TestStarvingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(slog.New(slog.DiscardHandler), "node", "app", "Chat")
		var noted atomic.Int32
		d.Starving = func(string) { noted.Add(1) }
		r := &fakeReplica{}
		r.Init(t.Context(), "Chat#1", "node", 1)
		d.Router.Update(nil, []router.Replica{r})
		at := &call.Place{App: "app", Deployment: "Chat", Method: "M"}
		r.gate.TryAcquire()
		r.running.Enter(&call.Info{Place: at}, call.Now(), true, nil)
		for range 2 {
			var ends []string
			p := d.NewPlace(&call.Info{Place: at}, &placed{name: "x", all: &ends})
			p.Enter("one")
			time.Sleep(900 * time.Millisecond)
			p.Cancel(nil, context.Canceled)
			time.Sleep(10 * time.Second)
			if d.watching.Load() || noted.Load() > 0 {
				t.Errorf("watching %t, %d warnings", d.watching.Load(), noted.Load())
			}
		}
		var ends []string
		p := d.NewPlace(&call.Info{Place: at}, &placed{name: "x", all: &ends})
		p.Enter("one")
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if noted.Load() != 1 {
			t.Errorf("%d warnings, want 1", noted.Load())
		}
		p.Cancel(nil, context.Canceled)
		time.Sleep(2 * time.Minute)
		if d.watching.Load() {
			t.Error("an empty queue is watched")
		}
	})
}
