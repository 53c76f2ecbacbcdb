package keeper

import (
	"syscall"
	"time"
)

// wishes turn signals into what they mean. The first SIGTERM, SIGINT or SIGHUP has the node drain. A second SIGTERM or SIGINT cuts off the calls
// that are left, and a third ends all processes. Signals of one burst are one wish: service managers signal a process and then its whole group, and the node
// hands its signals to the keeper. SIGHUP is never a second wish, because it comes beside others; where it has a meaning of its own it is none.
type wishes struct {
	first time.Time // zero before
	cut   bool
}

// burstTime is how long the signals of one wish may take to arrive.
const burstTime = time.Second

type wish int

const (
	wishNone wish = iota
	wishDrain
	wishCut
	wishExit
	wishReload
)

// take takes a signal. reloads says that SIGHUP has a meaning of its own.
func (w *wishes) take(s syscall.Signal, reloads bool, now time.Time) wish {
	switch {
	case s == syscall.SIGHUP && reloads:
		return wishReload
	case w.first.IsZero():
		w.first = now
		return wishDrain
	case s == syscall.SIGHUP || now.Sub(w.first) < burstTime:
		return wishNone
	case !w.cut:
		w.cut = true
		return wishCut
	}
	return wishExit
}

// begin notes a drain that has another cause than a signal.
func (w *wishes) begin(now time.Time) {
	if w.first.IsZero() {
		w.first = now
	}
}
