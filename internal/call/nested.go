package call

import (
	"context"
	"sync/atomic"
)

// Nested is an [Inline] that the context of the method above it knows. When the deadline of that method passes, the call at which the method still waits is told:
// the method itself cannot tell, because its goroutine is in the call.
//
// Example: the method Search calls Rank, a method of another replica in the same worker, on its own goroutine, and Rank waits for a lock for ever. The deadline
// of Search passes, the node cancels Search, and Late of the call of Rank is called: the replica of Rank is the one that does not answer.
//
// The context knows one such call of its goroutine, the innermost. If a method makes several at once, on goroutines of its own, the context knows the newest of them.
type Nested struct {
	Inline
	// At is the caller's own record of the replica.
	At any
	// Late is told once that the deadline has passed. It runs on the goroutine that cancels the method above, and does not wait.
	Late func(*Nested)

	above *Context // nil for a caller that is no method
	outer *Nested  // that the method above waited for before
	told  atomic.Bool
}

// Begin is called before the method runs.
func (n *Nested) Begin() {
	if n.above = methodOf(n.Caller); n.above != nil {
		n.outer = n.above.inside.Swap(n)
	}
}

// End is called when the method has returned. The result is false if the deadline has passed before that, and Late was told.
func (n *Nested) End() (first bool) {
	n.Inline.End()
	if n.above != nil {
		n.above.inside.CompareAndSwap(n, n.outer)
	}
	return !n.told.Swap(true)
}

// late tells the innermost call that has not ended, unless it was told before.
func (n *Nested) late() {
	if n != nil && !n.told.Swap(true) {
		n.Late(n)
	}
}

// methodKey is the key of the context of the method that is on the goroutine, below the calls that run there too.
type methodKey struct{}

func methodOf(ctx context.Context) *Context {
	for {
		switch c := ctx.(type) {
		case *Context:
			return c
		case *Inline:
			ctx = c.Caller
		default:
			m, _ := ctx.Value(methodKey{}).(*Context)
			return m
		}
	}
}

// Inside says whether the method of the context waits for a [Nested] call.
func (c *Context) Inside() bool {
	n := c.inside.Load()
	return n != nil && !n.told.Load()
}
