package telemetry

import (
	"sync"
	"time"
)

// The window of [Utilization], and the shortest time between two of its samples: the reference's.
const (
	utilizationWindow = 10 * time.Minute
	utilizationPeriod = 10 * time.Second
)

// Utilization is how much of its slots a replica has used in the last ten minutes. It keeps a sample each time that it is asked, at most one in ten
// seconds, so that a node that no scraper asks keeps none. A call counts when it ends. For example, a replica with two slots that has executed calls for
// 300 s in all, in the 600 s of the window, was used to 25 %. The zero Utilization is ready; its methods may be called from any goroutine.
type Utilization struct {
	mu      sync.Mutex
	samples []sample // the oldest first; the first is at most one window old, or the one before that
}

type sample struct {
	at   time.Time
	busy time.Duration
}

// Percent gives the use at a time, from 0 to 100. busy is the time of all calls that have ended, and slots how many calls may run at once.
func (u *Utilization) Percent(now time.Time, busy time.Duration, slots int) float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.samples); n == 0 || now.Sub(u.samples[n-1].at) >= utilizationPeriod {
		u.samples = append(u.samples, sample{now, busy})
	}
	for len(u.samples) > 1 && now.Sub(u.samples[1].at) >= utilizationWindow {
		u.samples = u.samples[1:]
	}
	first := u.samples[0]
	passed := now.Sub(first.at)
	if passed <= 0 || slots <= 0 {
		return 0
	}
	return min(100*float64(busy-first.busy)/(float64(passed)*float64(slots)), 100)
}
