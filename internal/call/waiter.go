package call

import "context"

// Waiter is a Sink for one goroutine that waits, once. (Pooled ones saved little beside what they wait for, and a channel
// that was made in one testing/synctest bubble cannot be used in another.)
type Waiter struct {
	done   chan struct{}
	result Result
}

// NewWaiter makes one.
func NewWaiter() *Waiter { return &Waiter{done: make(chan struct{}, 1)} }

// Complete keeps the result, with memory of its own, and wakes the waiting goroutine.
func (w *Waiter) Complete(_ *Batch, r Result) {
	r.Own()
	w.result = r
	w.done <- struct{}{}
}

// TakesParts says that the result may lie in parts; whoever gets it releases them.
func (w *Waiter) TakesParts() {}

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
	return w.result.Payload, w.result.Err
}
