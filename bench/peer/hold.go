package peer

import (
	"context"
	"sync"
	"time"
)

// Holder is a handler that waits for the end of its context, one at a time.
type Holder struct {
	begun chan struct{}
	over  chan int // the time of the end, in nanoseconds of the clock that all processes share
}

// NewHolder makes the holder of a server.
func NewHolder() *Holder { return &Holder{make(chan struct{}, 1), make(chan int, 1)} }

// Hold is the handler.
func (h *Holder) Hold(ctx context.Context) {
	h.begun <- struct{}{}
	<-ctx.Done()
	h.over <- int(time.Now().UnixNano())
}

// Held waits until the handler waits.
func (h *Holder) Held(ctx context.Context) error {
	select {
	case <-h.begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ended waits until the context of the handler has ended, and gives the time of that.
func (h *Holder) Ended(ctx context.Context) (int, error) {
	select {
	case at := <-h.over:
		return at, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// CancelTime cancels a call of a Holder, and gives the nanoseconds until the context of its handler ended.
func CancelTime(ctx context.Context, hold, held func(context.Context) error, ended func(context.Context) (int, error)) (float64, error) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = hold(own) }) // the call ends with an error, because it is cancelled
	if err := held(ctx); err != nil {
		return 0, err
	}
	at := int(time.Now().UnixNano())
	cancel()
	end, err := ended(ctx)
	return float64(end - at), err
}
