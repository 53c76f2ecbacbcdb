package call

import (
	"context"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
	"weak"
)

type infoKey struct{}

// InfoFrom returns the information of the call whose method received ctx. It is nil outside of methods.
func InfoFrom(ctx context.Context) *Info {
	switch c := ctx.(type) { // the two types that methods receive, without a walk
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
	if c, ok := ctx.Value(contextKey{}).(*Context); ok && c != nil {
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

// scopeKey is the key of the context of the method that a context comes from.
type scopeKey struct{}

// AtEnd runs f when the method that received ctx returns, on the method's goroutine. It returns false, and does not run f, if
// ctx belongs to no method or the method has returned.
func AtEnd(ctx context.Context, f func()) bool {
	c, _ := ctx.Value(scopeKey{}).(*Context)
	return c != nil && c.tellEnd(f)
}

// Inline is the context of a method that runs on its caller's goroutine. It ends with the caller's context until the method
// returns, and then, as [Context] does, only when the deadline passes. It is the only allocation of a call in process: the
// channel and the timers that a method rarely asks for are made on demand.
type Inline struct {
	Caller context.Context
	Info   Info
	Breaks bool                    // Cancel may end the context although the caller's never ends
	own    atomic.Pointer[Context] // made by the first Done or AfterFunc
}

// over is the value of Inline.own after the return of a method that did not ask for a context of its own.
var over = new(Context)

// Deadline returns the caller's deadline.
func (c *Inline) Deadline() (time.Time, bool) { return c.Caller.Deadline() }

// Done is closed when the caller's context ends before the method returned, or when the deadline passes.
func (c *Inline) Done() <-chan struct{} {
	if c.Caller.Done() == nil && !c.Breaks {
		return nil
	}
	return c.context().Done()
}

// Err returns context.Canceled or context.DeadlineExceeded after the end of the context.
func (c *Inline) Err() error {
	switch own := c.own.Load(); own {
	case nil:
		return c.Caller.Err()
	case over:
		if d, ok := c.Caller.Deadline(); ok && !time.Now().Before(d) {
			return context.DeadlineExceeded
		}
		return nil
	default:
		return own.Err()
	}
}

// Value returns the call's information for the keys of this package, and the values of the caller's context for all others.
func (c *Inline) Value(key any) any {
	switch key {
	case infoKey{}:
		return &c.Info
	case scopeKey{}:
		return c.context()
	case contextKey{}:
		switch own := c.own.Load(); own {
		case nil:
		case over:
			return nil
		default:
			return own
		}
	}
	v := c.Caller.Value(key)
	if isCancel(key, v) {
		if own := c.own.Load(); own != nil {
			return own.known(v)
		}
	}
	return v
}

// AfterFunc is [Context.AfterFunc].
func (c *Inline) AfterFunc(f func()) (stop func() bool) {
	if c.Caller.Done() == nil && !c.Breaks {
		return func() bool { return true }
	}
	return c.context().AfterFunc(f)
}

// context returns c.own, which it makes if there is none.
func (c *Inline) context() *Context {
	for {
		own := c.own.Load()
		if own != nil && own != over {
			return own
		}
		x := &Context{values: c.Caller, info: &c.Info, ended: own == over}
		x.deadline, _ = c.Caller.Deadline()
		if c.own.CompareAndSwap(own, x) {
			if own == nil {
				x.follow(c.Caller)
			}
			return x
		}
	}
}

// Cancel ends the context although the caller's goes on. Breaks must be set.
func (c *Inline) Cancel(cause error) { c.context().Cancel(cause) }

// End is called when the method has returned.
func (c *Inline) End() {
	if !c.own.CompareAndSwap(nil, over) {
		c.own.Load().End()
	}
}

// Detach returns a context with the values of ctx, without its deadline and its end.
func Detach(ctx context.Context) context.Context { return detached{ctx} }

type detached struct{ of context.Context }

func (detached) Deadline() (t time.Time, ok bool) { return }
func (detached) Done() <-chan struct{}            { return nil }
func (detached) Err() error                       { return nil }

// Value hides the call's context. Its cause would else be taken for the cause of contexts that are made from d.
func (d detached) Value(key any) any {
	if key == (contextKey{}) || key == (scopeKey{}) || key == (methodKey{}) {
		return nil
	}
	return d.of.Value(key)
}

// Context is the context of a method that runs on a goroutine of its own. It ends when its call is cancelled or its deadline
// passes, and not when the method returns: goroutines and calls that the method started go on, bounded by the deadline.
//
// The standard library's cancelCtx was tried. It stays registered with its parent, with a timer, until it is cancelled, and the
// return of a method must not cancel it. Here the flight that owns the call cancels, because it watches the caller and the
// deadline anyway. [Context.End] leaves a timer only if the context still has listeners.
type Context struct {
	values   context.Context
	info     *Info
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{} // made by the first Done
	cause error
	late  bool // the cause is the deadline
	after []*afterFunc
	timer *time.Timer // cancels at the deadline, for the functions in after
	swept bool        // closeAt closes done at the deadline
	ended bool
	atEnd func()      // runs when the method returns; nil for nothing
	stop  func() bool // ends the watch over the caller's context

	inside atomic.Pointer[Nested] // at which the method waits; nil for none
}

type afterFunc struct{ f func() }

// NewContext makes the context of one call. It takes the values for keys other than Helve's from values, and ignores the end of
// values. c must not change any more.
func NewContext(values context.Context, c *Call) *Context {
	return &Context{values: values, info: &c.Info, deadline: c.Deadline}
}

// Init is NewContext for a Context that is part of something else.
func (c *Context) Init(values context.Context, info *Info, deadline time.Time) {
	c.values, c.info, c.deadline = values, info, deadline
}

// Deadline returns the call's deadline.
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

// Err returns context.Canceled or context.DeadlineExceeded after the end of the context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause == nil:
		if c.ended && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
			return context.DeadlineExceeded
		}
		return nil
	case c.late:
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// Value returns the call's information for the keys of this package, and the values that the call came with for all others.
func (c *Context) Value(key any) any {
	switch key {
	case infoKey{}:
		return c.info
	case contextKey{}, scopeKey{}, methodKey{}:
		return c
	}
	v := c.values.Value(key)
	if isCancel(key, v) {
		return c.known(v)
	}
	return v
}

// isCancel reports whether v is the cancellable context that the standard library looks for with key.
func isCancel(key, v any) bool {
	_, ok := key.(*int)
	return ok && reflect.TypeOf(v) == cancelType
}

var cancelType = func() reflect.Type {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return reflect.TypeOf(ctx)
}()

// known returns v, the caller's context, if both contexts have ended with one cause or neither has ended. Else it returns nil,
// because context.Cause would take the cause of v for the cause of c.
func (c *Context) known(v any) any {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	if !Is(context.Cause(v.(context.Context)), cause) {
		return nil
	}
	return v
}

// AfterFunc serves context.AfterFunc and the derived contexts of the standard library, which call it instead of starting a
// goroutine that waits for Done.
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
		if len(c.after) == 0 && c.timer != nil {
			c.timer.Stop()
			c.timer = nil
		}
		return true
	}
}

// Cancel ends the context with a cause. A second call does nothing.
func (c *Context) Cancel(cause error) {
	late := late(cause) // runs methods of a user's error, so not under the lock
	if c.cancel(cause, late) && late {
		c.inside.Load().late()
	}
}

func (c *Context) cancel(cause error, late bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	c.cause, c.late = cause, late
	if c.done != nil && !c.swept {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, a := range c.after {
		go a.f()
	}
	c.after = nil
	return true
}

// follow cancels c when ctx ends, until End.
func (c *Context) follow(ctx context.Context) {
	if ctx.Err() != nil {
		c.Cancel(Cause(ctx))
		return
	}
	stop := AfterFunc(ctx, func() { c.Cancel(Cause(ctx)) })
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.stop = stop
	}
	c.mu.Unlock()
	if ended {
		stop()
	}
}

// End is called when the method has returned. From then on only the deadline ends the context, and a timer watches the deadline
// only if the context has listeners.
func (c *Context) End() {
	c.mu.Lock()
	c.ended = true
	stop, atEnd := c.stop, c.atEnd
	c.stop, c.atEnd = nil, nil
	c.armLocked()
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	if atEnd != nil {
		atEnd()
	}
}

func (c *Context) tellEnd(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if before := c.atEnd; before != nil {
		c.atEnd = func() {
			before()
			f()
		}
	} else {
		c.atEnd = f
	}
	return true
}

// armLocked starts to watch the deadline of a call that has ended, if the context has listeners.
func (c *Context) armLocked() {
	if !c.ended || c.cause != nil || c.deadline.IsZero() {
		return
	}
	if len(c.after) > 0 && c.timer == nil {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.Cancel(context.DeadlineExceeded) })
	}
	if c.done != nil && !c.swept {
		c.swept = true
		closeAt(c.done, c.deadline)
	}
}

// closeAt closes c at t, unless c has been garbage collected by then, which ends the timer too. Most methods that ask for Done
// return long before their deadline, and a plain timer of each would stay until then.
func closeAt(c chan struct{}, t time.Time) {
	p := (*byte)(reflect.ValueOf(c).UnsafePointer())
	seen := weak.Make(p)
	timer := time.AfterFunc(time.Until(t), func() {
		if p := seen.Value(); p != nil {
			close(*(*chan struct{})(unsafe.Pointer(&p))) // a channel is a pointer: reflect gave it as one above
		}
	})
	if t.Year() < realTime {
		return
	}
	runtime.AddCleanup(p, func(t *time.Timer) { t.Stop() }, timer)
}

// realTime is a year that no clock shows but that of a testing/synctest bubble, which begins in 2000. A timer of a bubble
// may not be stopped from outside, where cleanups run: the runtime ends the program, and recover does not help (Go 1.25
// made a fatal error of the panic). Such a timer stays until its deadline. Go has no function that reports a bubble.
const realTime = 2020

// AfterFunc is context.AfterFunc that leaves nothing behind on a [Context]: the standard one asks for Done first.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	switch c := ctx.(type) {
	case *Context:
		return c.AfterFunc(f)
	case *Inline:
		return c.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}
