package call

import (
	"context"
	"errors"
	"testing"
)

type nestedKey struct{}

// TestNested: the deadline of a method tells the innermost call on its goroutine, once, and no call that has ended.
func TestNested(t *testing.T) {
	t.Parallel()
	type calls struct {
		method       *Context
		told         []string
		outer, inner *Nested
	}
	begin := func(t *testing.T) *calls {
		c := &calls{method: NewContext(t.Context(), &Call{})}
		nest := func(caller context.Context, name string) *Nested {
			n := &Nested{At: name, Late: func(n *Nested) { c.told = append(c.told, n.At.(string)) }}
			n.Caller = caller
			n.Begin()
			return n
		}
		c.outer = nest(context.WithValue(c.method, nestedKey{}, 1), "outer")
		c.inner = nest(context.WithValue(&c.outer.Inline, nestedKey{}, 2), "inner")
		return c
	}
	for _, x := range []struct {
		name, told string
		do         func(*calls)
	}{
		{"both run", "inner", func(*calls) {}},
		{"the inner one has ended", "outer", func(c *calls) { c.inner.End() }},
		{"both have ended", "", func(c *calls) { c.inner.End(); c.outer.End() }},
		{"the outer one has ended first", "", func(c *calls) { c.outer.End(); c.inner.End() }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := begin(t)
			x.do(c)
			if got := c.method.Inside(); got != (x.told != "") {
				t.Errorf("inside: %t", got)
			}
			c.method.Cancel(context.DeadlineExceeded)
			c.method.Cancel(context.DeadlineExceeded)
			if got := append(c.told, ""); got[0] != x.told || len(c.told) > 1 {
				t.Errorf("told: %q", c.told)
			}
			if c.method.Inside() {
				t.Error("a call that was told still counts")
			}
			if x.told == "inner" && (c.inner.End() || !c.outer.End()) {
				t.Error("the end of the inner call is the first report, or that of the outer one is not")
			}
		})
	}
	t.Run("a cancel", func(t *testing.T) {
		t.Parallel()
		c := begin(t)
		c.method.Cancel(errors.New("the client has gone"))
		if c.told != nil || !c.inner.End() {
			t.Errorf("told: %q", c.told)
		}
	})
	t.Run("a caller that is no method of the goroutine", func(t *testing.T) {
		t.Parallel()
		c := begin(t)
		n := &Nested{}
		n.Caller = Detach(&c.inner.Inline)
		n.Begin()
		c.method.Cancel(context.DeadlineExceeded)
		if !n.End() {
			t.Error("the deadline of another method was told")
		}
	})
}
