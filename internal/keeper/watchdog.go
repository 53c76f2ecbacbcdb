package keeper

import "time"

// watchdog decides when a node does not answer any more. Each tick asks, and an answer begins the count again. The time counts only while the
// keeper itself runs on time: a tick that comes late counts nothing, because the node may have been held up by the same thing. For example, a
// machine that sleeps for an hour wakes with a tick that is an hour late, and the node has all of its 10 s from then on.
type watchdog struct {
	limit, interval time.Duration
	silent          time.Duration // since the last answer
	last            time.Time     // of the last tick
}

// newWatchdog makes a watchdog that ends a node after limit.
func newWatchdog(limit time.Duration, now time.Time) *watchdog {
	return &watchdog{limit: limit, interval: min(max(limit/20, 50*time.Millisecond), time.Second/2), last: now}
}

// answered notes an answer.
func (w *watchdog) answered() { w.silent = 0 }

// tick is called once in an interval. The result says that the node is to be ended.
func (w *watchdog) tick(now time.Time) (stuck bool) {
	passed := now.Sub(w.last)
	w.last = now
	if passed <= 2*w.interval {
		w.silent += passed
	}
	return w.silent >= w.limit
}

// backoff decides how long a node that has ended waits for its next start. A node that has served for a while starts at once. One that ends soon
// after its start, again and again, waits longer each time. For example, a node that crashes a second after each start is started at once three times, and
// then after 100 ms, 200 ms, 400 ms and so on up to 30 s.
type backoff struct {
	crashes int // ends that were too soon, one after the other
}

const (
	// stableTime is how long a node must have served for its end not to count.
	stableTime = 10 * time.Second
	// freeCrashes is how many ends in a row have no pause.
	freeCrashes = 3
	firstPause  = 100 * time.Millisecond
	longest     = 30 * time.Second
)

// ended takes the end of a node that had been ready since a time, zero for one that never was.
func (b *backoff) ended(now, ready time.Time) (pause time.Duration) {
	if !ready.IsZero() && now.Sub(ready) >= stableTime {
		b.crashes = 0
		return 0
	}
	b.crashes++
	if b.crashes <= freeCrashes {
		return 0
	}
	return min(firstPause<<min(b.crashes-freeCrashes-1, 20), longest)
}
