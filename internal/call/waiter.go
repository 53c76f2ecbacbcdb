package call

import (
	"context"
	"sync"
)

// Waiter is a Sink for one goroutine that waits. Waiters are pooled: it must not be used after Wait.
type Waiter struct {
	done   chan struct{}
	result Result
}

var waiters = sync.Pool{New: func() any { return &Waiter{done: make(chan struct{}, 1)} }} //nolint:gochecknoglobals // a pool is not state

// NewWaiter takes one from the pool.
func NewWaiter() *Waiter { return waiters.Get().(*Waiter) }

// Complete keeps the result, with memory of its own, and wakes the waiting goroutine.
func (w *Waiter) Complete(_ *Batch, r Result) {
	if len(r.Data) > 0 {
		r.Data = append([]byte(nil), r.Data...)
	}
	w.result = r
	w.done <- struct{}{}
}

// Canceler ends a submitted call: its sink is told at once.
type Canceler interface {
	Cancel(b *Batch, cause error)
}

// Wait waits for the result. When ctx ends first the call is cancelled, and the result is the context's cause.
func (w *Waiter) Wait(ctx context.Context, c Canceler) (Payload, *Error) {
	select {
	case <-w.done:
	case <-ctx.Done():
		c.Cancel(nil, Cause(ctx))
		<-w.done // a flight answers exactly once, and by now it has or is about to
	}
	r := w.result
	w.result = Result{}
	waiters.Put(w)
	return r.Payload, r.Err
}
