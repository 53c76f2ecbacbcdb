// Package await lets goroutines wait for facts that a mutex guards. For example, a goroutine waits until an application has no replica: each
// replica that goes tells the [Signal], and the goroutine looks again under the mutex.
package await

import (
	"context"
	"sync"
	"time"
)

// Signal tells the goroutines that wait that a fact may have changed. The mutex of the fact guards the signal. The zero value is ready.
type Signal struct{ next chan struct{} }

// Next gives a channel that is closed by the next Tell.
func (s *Signal) Next() <-chan struct{} {
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Tell has all goroutines that wait look again.
func (s *Signal) Tell() {
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// Until waits until the fact is true, and looks at it first and after each Tell. It returns false if ctx ended before. mu guards the fact and
// the signal, and is not held by the caller.
func (s *Signal) Until(ctx context.Context, mu sync.Locker, fact func() bool) bool {
	for {
		mu.Lock()
		holds, next := fact(), s.Next()
		mu.Unlock()
		if holds {
			return true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false
		}
	}
}

// Slow puts the reason why a goroutine waits into a slot, until done is called. If that takes longer than the time after, report is called, once. mu
// guards the slot, and is not held by the caller.
func Slow[T any](mu sync.Locker, slot **T, reason *T, after time.Duration, report func()) (done func()) {
	set := func(r *T) {
		mu.Lock()
		defer mu.Unlock()
		*slot = r
	}
	set(reason)
	slow := time.AfterFunc(after, func() {
		mu.Lock()
		still := *slot == reason
		mu.Unlock()
		if still {
			report()
		}
	})
	return func() {
		slow.Stop()
		set(nil)
	}
}
