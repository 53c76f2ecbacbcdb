package exchange

import (
	"context"
	"os"
	"sync"
	"time"
)

// limit is the deadline of the reads or writes of a handler. Operations wait with its context, which ends with the call, with the handler's
// use of the connection, and at the deadline. For example, a goroutine reads a body; another one sets a deadline in the past, and
// the read ends with os.ErrDeadlineExceeded. A later deadline makes a new context, so that later reads work.
type limit struct {
	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // nil before the first use
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// context is the context for an operation that begins now.
func (l *limit) context(of context.Context) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancelCause(of)
	}
	return l.ctx
}

// set changes the deadline; the zero time is none.
func (l *limit) set(of context.Context, t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.ctx == nil || context.Cause(l.ctx) == os.ErrDeadlineExceeded { //nolint:errorlint // set below
		l.ctx, l.cancel = context.WithCancelCause(of)
	}
	cancel := l.cancel
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		cancel(os.ErrDeadlineExceeded)
	default:
		l.timer = time.AfterFunc(left, func() { cancel(os.ErrDeadlineExceeded) })
	}
}

// end ends operations that wait.
func (l *limit) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.cancel != nil {
		l.cancel(cause)
	}
}

// failure is the error of an operation that has failed with err: the reason for which its context has ended, if it has.
func failure(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
