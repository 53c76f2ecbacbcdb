package instance

import (
	"context"
	"math"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestRunningCallsAreListed: from before the code of a call runs until it has returned, also if it panics, and never for long after.
func TestRunningCallsAreListed(t *testing.T) {
	t.Parallel()
	i := New("D#1", nil)
	const calls = 8
	entered, goOn := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	for k := range uint64(calls) {
		running.Go(func() {
			c := &call.Inline{Caller: context.Background(), Info: call.Info{Call: math.MaxUint64 - 100 + k*9, Place: &call.Place{App: "app", Deployment: "D", Method: "M"}}}
			x := Execution{Of: i, Call: &c.Info, Caller: c.Caller}
			x.Run(func() error {
				entered <- struct{}{}
				<-goOn
				if k%2 == 0 {
					panic("no")
				}
				return nil
			})
		})
	}
	for range calls {
		<-entered
	}
	seen := map[uint64]bool{}
	for _, c := range i.Running() {
		if c.Place.Method != "M" || c.Since == 0 {
			t.Errorf("%+v", c)
		}
		seen[c.Call] = true
	}
	if len(seen) != calls {
		t.Errorf("%d of %d calls are listed", len(seen), calls)
	}
	close(goOn)
	running.Wait()
	if left := i.Running(); len(left) > 0 {
		t.Errorf("%+v", left)
	}
	if k := i.Counts(); k.Started != calls || k.Failed != calls/2 || k.Ended() != calls {
		t.Errorf("%+v", k)
	}
}

// TestMoreCallsThanPlaces: more calls than the first table has places, and calls that share one id, are listed too.
func TestMoreCallsThanPlaces(t *testing.T) {
	t.Parallel()
	i := New("D#1", nil)
	const depths = 1000
	var nest func(depth uint64)
	nest = func(depth uint64) {
		if depth == depths {
			if got := len(i.Running()); got != depths {
				t.Errorf("%d are listed, want %d", got, depths)
			}
			return
		}
		c := &call.Inline{Caller: context.Background(), Info: call.Info{Call: depth / 10}}
		x := Execution{Of: i, Call: &c.Info}
		x.Run(func() error { nest(depth + 1); return nil })
	}
	nest(0)
	if left := i.Running(); len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
}

// TestRunningWhileCallsComeAndGo is for the race detector.
func TestRunningWhileCallsComeAndGo(t *testing.T) {
	t.Parallel()
	i := New("D#1", nil)
	over := make(chan struct{})
	var reading, calling sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				for _, c := range i.Running() {
					if c.Place == nil {
						t.Errorf("%+v", c)
					}
				}
			}
		}
	})
	for g := range uint64(4) {
		calling.Go(func() {
			for k := range uint64(1000) {
				c := &call.Inline{Caller: context.Background(), Info: call.Info{Call: g*1000 + k, Place: &call.Place{}}}
				x := Execution{Of: i, Call: &c.Info}
				x.Run(func() error { return nil })
			}
		})
	}
	calling.Wait()
	close(over)
	reading.Wait()
}

// TestUnreadOfRunningCalls: a list says since when a call waits for its reader, and the next call at its place has nothing of that.
func TestUnreadOfRunningCalls(t *testing.T) {
	t.Parallel()
	i := New("D#1", nil)
	var u call.Unread
	list := func() (since int64) {
		all := i.Running()
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		return all[0].Unread
	}
	run := func(unread *call.Unread, f func()) {
		x := Execution{Of: i, Call: &call.Info{Call: 7, Place: &call.Place{}}, Streams: true, Unread: unread}
		x.Run(func() error { f(); return nil })
	}
	run(&u, func() {
		if since := list(); since != 0 {
			t.Errorf("at first it waits since %d", since)
		}
		u.Full(42)
		if since := list(); since != 42 {
			t.Errorf("it waits since %d, want 42", since)
		}
	})
	run(nil, func() {
		if since := list(); since != 0 {
			t.Errorf("the next one waits since %d", since)
		}
	})
}
