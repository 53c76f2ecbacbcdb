package keeper

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestWatchdog: silence ends a node, an answer begins the count again, and the time in which the keeper was held up does not count.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type step struct {
		after    time.Duration // the time of the tick, after the one before
		answered bool
	}
	regular := func(n int) []step { return slices.Repeat([]step{{after: time.Second / 2}}, n) }
	for _, c := range []struct {
		name  string
		steps []step
		stuck bool
	}{
		{"silent for the limit", regular(20), true},
		{"silent for less", regular(19), false},
		{"an answer in between", slices.Concat(regular(19), []step{{after: time.Second / 2, answered: true}}, regular(18)), false},
		{"silent after an answer", slices.Concat(regular(19), []step{{answered: true}}, regular(20)), true},
		{"the machine slept", slices.Concat(regular(19), []step{{after: time.Hour}}), false},
		{"the machine slept, and the node is stuck", slices.Concat(regular(10), []step{{after: time.Hour}}, regular(10)), true},
		{"each tick is late", slices.Repeat([]step{{after: 2 * time.Second}}, 100), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := begin
			w := newWatchdog(limit, now)
			stuck := false
			for _, s := range c.steps {
				now = now.Add(s.after)
				if s.answered {
					w.answered()
				}
				stuck = w.tick(now)
			}
			if stuck != c.stuck {
				t.Errorf("stuck %v, want %v", stuck, c.stuck)
			}
		})
	}
}

// TestBackoff: the first ends have no pause, the next ones have growing pauses up to a limit, and a node that has served for a while begins anew.
func TestBackoff(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var b backoff
	var got []time.Duration
	for range 14 {
		got = append(got, b.ended(now, now.Add(-time.Second)))
	}
	ms := time.Millisecond
	want := []time.Duration{
		0, 0, 0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, longest, longest,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p := b.ended(now, now.Add(-stableTime)); p != 0 {
		t.Errorf("a node that had served waits %s", p)
	}
	for i := range freeCrashes {
		if p := b.ended(now, time.Time{}); p != 0 {
			t.Errorf("end %d before it was ready, after a stable one, waits %s", i, p)
		}
	}
	if p := b.ended(now, time.Time{}); p != firstPause {
		t.Errorf("the next one waits %s", p)
	}
}

// TestWishes: signals of one burst are one wish, and SIGHUP is never a second one.
func TestWishes(t *testing.T) {
	t.Parallel()
	type signal struct {
		after time.Duration
		s     syscall.Signal
		want  wish
	}
	for _, c := range []struct {
		name    string
		reloads bool
		signals []signal
	}{
		{"a burst, then a second and a third", false, []signal{
			{0, syscall.SIGTERM, wishDrain}, {time.Millisecond, syscall.SIGTERM, wishNone}, {0, syscall.SIGINT, wishNone},
			{2 * time.Second, syscall.SIGTERM, wishCut}, {time.Second, syscall.SIGINT, wishExit},
		}},
		{"a terminal that closes", false, []signal{{0, syscall.SIGHUP, wishDrain}, {time.Minute, syscall.SIGHUP, wishNone}, {0, syscall.SIGTERM, wishCut}}},
		{"a certificate", true, []signal{{0, syscall.SIGHUP, wishReload}, {0, syscall.SIGTERM, wishDrain}, {time.Minute, syscall.SIGHUP, wishReload}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var w wishes
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for i, s := range c.signals {
				now = now.Add(s.after)
				if got := w.take(s.s, c.reloads, now); got != s.want {
					t.Errorf("signal %d (%s) is %d, want %d", i, s.s, got, s.want)
				}
			}
		})
	}
}
