package call

import (
	"context"
	"slices"
	"sync"
	"time"
)

type infoKey struct{}

// InfoFrom is the information of the call whose method received ctx, or nil outside of any.
func InfoFrom(ctx context.Context) *Info {
	switch c := ctx.(type) { // the two that methods receive, without walking
	case *Inline:
		return &c.Info
	case *Context:
		return c.info
	}
	i, _ := ctx.Value(infoKey{}).(*Info)
	return i
}

// Cause is context.Cause that also knows the cause of a [Context].
func Cause(ctx context.Context) error {
	if c, ok := ctx.Value(contextKey{}).(*Context); ok {
		c.mu.Lock()
		cause := c.cause
		c.mu.Unlock()
		if cause != nil {
			// A cancellable context below c may have ended first, by itself.
			if own := context.Cause(ctx); own != nil && own != context.Canceled && own != context.DeadlineExceeded { //nolint:errorlint // identity
				return own
			}
			return cause
		}
	}
	return context.Cause(ctx)
}

type contextKey struct{}

// Inline is what a method receives that runs on its caller's goroutine: the caller's context, so the same end, with
// information of its own. It is the only allocation that a call in process needs.
type Inline struct {
	context.Context
	Info Info
}

// Value finds the call's information here and everything else in the caller's context.
func (c *Inline) Value(key any) any {
	if key == (infoKey{}) {
		return &c.Info
	}
	return c.Context.Value(key)
}

// Context is what a method receives that runs on a goroutine of its own. It ends when its call is cancelled or its
// deadline passes, and not when the method returns: what the method started lives on, bounded by the deadline.
//
// The standard library's cancelCtx was tried: it stays registered with its parent, with a timer, until somebody cancels
// it, and nobody may when a method returns. Here the flight that owns the call cancels (it watches caller and deadline
// anyway); [Context.End] leaves a timer only if somebody still listens.
type Context struct {
	values   context.Context
	info     *Info
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{} // made by the first Done
	cause error
	after []*afterFunc
	timer *time.Timer
	ended bool
}

type afterFunc struct{ f func() }

// NewContext makes the context of one call. values is asked for keys other than Helve's; its end is ignored.
// c must not change any more.
func NewContext(values context.Context, c *Call) *Context {
	return &Context{values: values, info: &c.Info, deadline: c.Deadline}
}

// Deadline is the call's.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done is closed when the call is cancelled or its deadline passes.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.cause != nil {
			close(c.done)
		} else {
			c.armLocked()
		}
	}
	return c.done
}

// Err is context.Canceled or context.DeadlineExceeded once the context ended.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause == nil:
		if c.ended && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
			return context.DeadlineExceeded
		}
		return nil
	case FromCause(c.cause).Reason == Deadline:
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// Value gives the call's information, and everything else from the context that the call came with.
func (c *Context) Value(key any) any {
	switch key {
	case infoKey{}:
		return c.info
	case contextKey{}:
		return c
	}
	return c.values.Value(key)
}

// AfterFunc is what context.AfterFunc and derived contexts of the standard library use, instead of a goroutine that
// waits for Done.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	a := &afterFunc{f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		go f()
		return func() bool { return false }
	}
	c.after = append(c.after, a)
	c.armLocked()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, a)
		if i < 0 {
			return false
		}
		c.after = slices.Delete(c.after, i, i+1)
		if len(c.after) == 0 && c.done == nil && c.timer != nil {
			c.timer.Stop()
			c.timer = nil
		}
		return true
	}
}

// Cancel ends the context with a cause; only the first counts.
func (c *Context) Cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, a := range c.after {
		go a.f()
	}
	c.after = nil
}

// End says that the method returned. From now on nobody cancels, and the deadline is watched only while somebody
// listens.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.done != nil || len(c.after) > 0 {
		c.armLocked()
	}
}

func (c *Context) armLocked() {
	if !c.ended || c.timer != nil || c.cause != nil || c.deadline.IsZero() {
		return
	}
	c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.Cancel(context.DeadlineExceeded) })
}

// AfterFunc is context.AfterFunc that leaves nothing behind on a [Context]: the standard one asks for Done first.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	switch c := ctx.(type) {
	case *Context:
		return c.AfterFunc(f)
	case *Inline:
		return AfterFunc(c.Context, f)
	}
	return context.AfterFunc(ctx, f)
}
