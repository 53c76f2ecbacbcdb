package cli

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// TestWishes: one wish to end may come as several signals, and SIGHUP is never a second one.
func TestWishes(t *testing.T) {
	t.Parallel()
	const term, interrupt, hup = syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP
	type at struct {
		after time.Duration
		s     os.Signal
	}
	for name, c := range map[string]struct {
		reloads, held    bool
		begin            bool // the drain begins for another reason, at 0
		signals          []at
		drain, cut, exit bool
	}{
		"one":                         {signals: []at{{0, term}}, drain: true},
		"SIGHUP":                      {signals: []at{{0, hup}}, drain: true},
		"a reload":                    {reloads: true, signals: []at{{0, hup}}},
		"to the process and to group": {signals: []at{{0, term}, {time.Millisecond, term}, {2 * time.Millisecond, hup}, {3 * time.Millisecond, interrupt}}, drain: true},
		"a second one":                {signals: []at{{0, interrupt}, {burstTime, interrupt}}, drain: true, cut: true},
		"a late SIGHUP":               {signals: []at{{0, term}, {burstTime, hup}, {2 * burstTime, hup}}, drain: true},
		"a third one":                 {signals: []at{{0, term}, {burstTime, term}, {2 * burstTime, term}}, drain: true, cut: true, exit: true},
		"of a driver that lives":      {held: true, signals: []at{{0, term}, {burstTime, term}, {2 * burstTime, hup}}},
		"with the end of the driver":  {held: true, begin: true, signals: []at{{time.Millisecond, term}}},
		"after the end of the driver": {held: true, begin: true, signals: []at{{2 * burstTime, term}}, cut: true},
	} {
		w := newWishes()
		exited := false
		w.exit = func(int) { exited = true }
		start := time.Now()
		if c.begin {
			w.begin()
		}
		for _, s := range c.signals {
			w.take(s.s, c.reloads, c.held, start.Add(s.after))
		}
		if drain, cut := w.drain.Err() != nil, w.cut.Err() != nil; drain != c.drain || cut != c.cut || exited != c.exit || len(w.reload) > 0 != c.reloads {
			t.Errorf("%s: drain %v, cut %v, exit %v", name, drain, cut, exited)
		}
	}
}
