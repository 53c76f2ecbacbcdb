package call

import "context"

// Waiter is a Sink for one goroutine that waits, once. A pool of waiters was tried: it saved little beside the call itself, and
// a channel that was made in one testing/synctest bubble cannot be used in another.
type Waiter struct {
	done   chan struct{}
	result Result
}

// NewWaiter makes a Waiter.
func NewWaiter() *Waiter { return &Waiter{done: make(chan struct{}, 1)} }

// Complete keeps the result, with memory of its own, and wakes the waiting goroutine.
func (w *Waiter) Complete(_ *Batch, r Result) {
	r.Own()
	w.result = r
	w.done <- struct{}{}
}

// TakesParts makes w a [Parted]. The caller of Wait releases the parts.
func (w *Waiter) TakesParts() {}

// Canceler ends a submitted call.
type Canceler interface {
	// Cancel completes the call's sink at once, with an error of the cause.
	Cancel(b *Batch, cause error)
}

// Wait waits for the result. If ctx ends first, the call is cancelled, and the result is the context's cause.
func (w *Waiter) Wait(ctx context.Context, c Canceler) (Payload, *Error) {
	select {
	case <-w.done:
	case <-ctx.Done():
		c.Cancel(nil, Cause(ctx))
		<-w.done // each call completes its sink exactly once, and Cancel makes this one do it now
	}
	return w.result.Payload, w.result.Err
}
