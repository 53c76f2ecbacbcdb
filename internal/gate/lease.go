package gate

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Lease is a slot that was promised to somebody who may never come for it: it returns by itself. Its methods may be called
// from any goroutine.
type Lease struct {
	gate *Gate

	mu    sync.Mutex
	over  bool // used, released or expired
	timer *time.Timer
}

// Lease turns a slot that the caller holds into one that returns after ttl. From now on it is the lease's.
func (g *Gate) Lease(ttl time.Duration) *Lease {
	l := &Lease{gate: g}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(ttl, func() {
		l.Release(nil)
	})
	return l
}

// Use takes the slot out of the lease: it is the caller's, who releases it at the gate. false: the lease is over.
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
