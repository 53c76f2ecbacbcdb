package gate

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Lease is a slot with a time limit. A slot is leased when its holder is outside of the node's control and may never come
// back. For example, a program selects a replica and gets a lease of 10 s for one of its slots. The call of the program
// uses the lease; if the program ends before it calls, the slot returns to the gate after 10 s. Methods may be called from
// any goroutine.
type Lease struct {
	gate *Gate

	mu    sync.Mutex
	over  bool // used, released or expired
	timer *time.Timer
}

// Lease makes a lease of a slot that the caller holds. The slot belongs to the lease from then on, and returns to the gate
// after ttl.
func (g *Gate) Lease(ttl time.Duration) *Lease {
	l := &Lease{gate: g}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(ttl, func() {
		l.Release(nil)
	})
	return l
}

// Use takes the slot out of the lease. If the result is true, the slot is the caller's, to be released at the gate. If it
// is false, the lease was used, released or has expired, and the caller has no slot.
func (l *Lease) Use() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.over = true
	l.timer.Stop()
	return true
}

// Release gives the slot back, unless the lease is over.
func (l *Lease) Release(b *call.Batch) {
	if l.Use() {
		l.gate.Release(b)
	}
}
