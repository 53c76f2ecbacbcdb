package call

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		s := id.String()
		if !uuid.MatchString(s) || seen[s] || IDFromBytes(id.Bytes()).String() != s {
			t.Fatalf("%s", s)
		}
		seen[s] = true
	}
	if id := IDFrom("mine"); id.String() != "mine" || id.Text() != "mine" || id.IsZero() {
		t.Errorf("%v", id)
	}
	if !(ID{}).IsZero() || (ID{}).String() != "" {
		t.Error("the zero id")
	}
}

func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	seen := map[helvetype.Reason]bool{}
	for _, r := range Table {
		if seen[r.Reason] || r.HTTP < 400 || r.Code == helvetype.CodeOK || RowOf(r.Reason) != r {
			t.Errorf("%+v", r)
		}
		seen[r.Reason] = true
	}
	if r := RowOf("from a newer peer"); r.Code != helvetype.CodeInternal || r.HTTP != 500 {
		t.Errorf("%+v", r)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	e := AsError(fmt.Errorf("outer: %w", inner))
	if e.Reason != helvetype.ReasonUser || !errors.Is(e, inner) || e.Error() != "outer: inner" {
		t.Errorf("%v", e)
	}
	coded := NewError(helvetype.ReasonDeadline, "late")
	if AsError(coded) != coded || !errors.Is(coded, context.DeadlineExceeded) || errors.Is(coded, context.Canceled) {
		t.Error("a coded error")
	}
	if wrapped := AsError(fmt.Errorf("more: %w", coded)); wrapped.Reason != helvetype.ReasonUser || !errors.Is(wrapped, context.DeadlineExceeded) {
		t.Errorf("%v", wrapped)
	}
	at := coded.At(&Info{Place: &Place{App: "a", Deployment: "D", Method: "M"}, Replica: "D#1", Request: IDFrom("r")})
	if at.Error() != "a/D.M: late (deadline)" || at.RequestID != "r" || coded.Deployment != "" {
		t.Errorf("%v", at)
	}
}

func newContext(c *Call) *Context { return NewContext(context.Background(), c) }

func TestContextEndsWithItsCall(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	c := newContext(&Call{})
	child, cancel := context.WithCancel(c)
	defer cancel()
	ran := make(chan bool)
	stop := AfterFunc(c, func() { close(ran) })
	c.Cancel(why)
	c.Cancel(errors.New("too late"))
	<-child.Done()
	<-ran
	if c.Err() != context.Canceled || Cause(c) != why || Cause(child) == nil || stop() { //nolint:errorlint // identity
		t.Errorf("%v, cause %v", c.Err(), Cause(c))
	}
	again := make(chan bool)
	AfterFunc(c, func() { close(again) }) // after the end of the context: at once
	<-again
}

// TestContextAfterReturn: goroutines that a method started live on, bounded by the deadline, and nothing is left of a
// context without listeners.
func TestContextAfterReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newContext(&Call{Deadline: time.Now().Add(time.Minute)})
		done := c.Done()
		c.End()
		select {
		case <-done:
			t.Fatal("the context ended with the method")
		default:
		}
		time.Sleep(time.Minute) // fake: the bubble's clock
		synctest.Wait()
		<-done
		if c.Err() != context.DeadlineExceeded { //nolint:errorlint // identity
			t.Error(c.Err())
		}
		quiet := newContext(&Call{Deadline: time.Now().Add(time.Minute)})
		quiet.End()
		stop := quiet.AfterFunc(func() { t.Error("it was stopped") })
		if quiet.timer == nil {
			t.Error("somebody listens, and nobody watches the deadline")
		}
		if !stop() || quiet.timer != nil {
			t.Error("a timer is left behind")
		}
		time.Sleep(2 * time.Minute)                  // fake
		if quiet.Err() != context.DeadlineExceeded { //nolint:errorlint // identity
			t.Error("a passed deadline, without a timer:", quiet.Err())
		}
	})
}

func TestInfoTravels(t *testing.T) {
	t.Parallel()
	type key struct{}
	values := context.WithValue(context.Background(), key{}, "v")
	c := &Call{Info: Info{Call: 7, Depth: 2, Request: IDFrom("r")}}
	ctx := NewContext(values, c)
	derived, cancel := context.WithTimeout(context.WithValue(ctx, key{}, "w"), time.Hour)
	defer cancel()
	inline := &Inline{Caller: derived}
	inline.Info.Child(InfoFrom(derived))
	if ctx.Value(key{}) != "v" || InfoFrom(derived) != &c.Info || InfoFrom(inline) != &inline.Info || InfoFrom(context.Background()) != nil {
		t.Error("information or values are lost")
	}
	if i := inline.Info; i.Parent != 7 || i.Depth != 3 || i.Request.String() != "r" {
		t.Errorf("%+v", i)
	}
}

type flusher struct{ n int }

func (f *flusher) Flush() { f.n++ }

func TestBatch(t *testing.T) {
	t.Parallel()
	var b Batch
	var none *Batch
	x, y := &flusher{}, &flusher{}
	b.Touch(x)
	b.Touch(y)
	b.Touch(x)
	if x.n+y.n != 0 {
		t.Error("flushed before the end")
	}
	b.End()
	b.End()
	none.Touch(x)
	if x.n != 2 || y.n != 1 {
		t.Errorf("%d, %d flushes", x.n, y.n)
	}
}

func TestInlineEndsWithItsCallerUntilItsMethodReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		run := func(touch bool) (*Inline, context.CancelCauseFunc) {
			outer, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			caller, stop := context.WithCancelCause(outer)
			c := &Inline{Caller: caller}
			if touch {
				c.Done()
			}
			return c, stop
		}
		for _, touch := range []bool{false, true} {
			c, stop := run(touch)
			child, cancel := context.WithCancel(c)
			stop(why)
			synctest.Wait()
			if c.Err() != context.Canceled || Cause(c) != why || Cause(child) != why || child.Err() == nil {
				t.Errorf("before the return: %v, cause %v, child %v", c.Err(), Cause(c), child.Err())
			}
			cancel()

			c, stop = run(touch)
			var early context.Context
			if touch {
				var stopEarly context.CancelFunc
				early, stopEarly = context.WithCancel(c)
				t.Cleanup(stopEarly)
			}
			c.End()
			stop(why)
			late, cancelLate := context.WithCancel(c)
			synctest.Wait()
			if c.Err() != nil || late.Err() != nil || early != nil && early.Err() != nil {
				t.Errorf("a context ended with its caller's after the method had returned: %v", c.Err())
			}
			done := c.Done()
			time.Sleep(time.Minute)
			synctest.Wait()
			if c.Err() != context.DeadlineExceeded || late.Err() == nil || early != nil && early.Err() == nil {
				t.Errorf("after the deadline: %v, %v", c.Err(), late.Err())
			}
			<-done
			cancelLate()
		}
	})
}

func TestDetach(t *testing.T) {
	t.Parallel()
	type key struct{}
	why := errors.New("why")
	c := NewContext(context.WithValue(t.Context(), key{}, 1), &Call{Info: Info{Call: 7}, Deadline: time.Now().Add(time.Hour)})
	c.Cancel(why)
	d := Detach(c)
	if _, limited := d.Deadline(); limited || d.Done() != nil || d.Err() != nil || d.Value(key{}) != 1 || InfoFrom(d).Call != 7 {
		t.Error("a detached context keeps the values and nothing else")
	}
	own, cancel := context.WithCancelCause(d)
	mine := errors.New("mine")
	cancel(mine)
	if Cause(own) != mine {
		t.Errorf("the cause of a context below a detached one: %v", Cause(own))
	}
}

// TestFinishedCallsLeaveNothing holds that calls which are over keep neither their context nor a timer until a deadline
// that is far away, although their methods asked for Done.
func TestFinishedCallsLeaveNothing(t *testing.T) {
	caller, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	const calls = 100_000
	heap := func() int64 {
		for range 3 { // a cleanup runs after the collection that found its channel, and frees the timer for the next
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// The runtime keeps blocks of memory for its cleanups, so the first rounds may leave some. A call that leaves something leaves it in each round.
	var left int64
	for range 3 {
		before := heap()
		for range calls {
			in := &Inline{Caller: caller}
			in.Done()
			in.End()
			c := NewContext(caller, &Call{Deadline: time.Now().Add(time.Hour)})
			c.Done()
			c.End()
		}
		for range 100 { // cleanups run on a goroutine of the runtime
			if left = (heap() - before) / calls; left < 8 {
				return
			}
			runtime.Gosched()
		}
	}
	t.Errorf("%d calls that are over hold %d bytes each", calls, left)
}

// TestConstructorError: the error of a start names its replica, and has the traceback or the type of the user's error in its text.
func TestConstructorError(t *testing.T) {
	t.Parallel()
	plain := errors.New("the worker has ended")
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"no error of a call": {plain, "the worker has ended"},
		"a traceback":        {&Error{Reason: helvetype.ReasonUser, Message: "bad", Type: "ValueError", Remote: true, Traceback: "line 1\n"}, "app/D.constructor: bad\nline 1"},
		"a type":             {&Error{Reason: helvetype.ReasonUser, Message: "bad", Type: "ValueError", Remote: true}, "app/D.constructor: ValueError: bad"},
		"another method":     {&Error{Reason: helvetype.ReasonUser, Message: "bad", Method: "Reconfigure"}, "app/D.Reconfigure: bad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ConstructorError(c.err, "app", "D", "D#1")
			if err.Error() != c.says {
				t.Error(err)
			}
			if e, ok := errors.AsType[*Error](err); ok && (e.Replica != "D#1" || e.Traceback != "") {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestTraceOfAnID: the trace of a request without a client's is its id, and of a client's own id a digest, which Python computes too (test_request_context.py).
func TestTraceOfAnID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mine":                                 "69187633b4757277b806e95bbec5586e",
		"5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55": "5f0c4f0e8f6a4d1e9f0b2f6f8a1f7c55",
	} {
		if trace := ParseID(text).Trace(); fmt.Sprintf("%x", trace) != want {
			t.Errorf("%s: %x", text, trace)
		}
	}
}

// TestTraceparent: the header of W3C's trace context, there and back, and texts that are none.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	const text = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
	trace, span, sampled, ok := ParseTraceparent(text)
	if u := NewUnder(nil, trace, span, sampled); !ok || Traceparent(u.Trace, u.Span, u.Sampled) != text {
		t.Errorf("%x %x %t %t", trace, span, sampled, ok)
	}
	for _, wrong := range []string{"", text[:54], "ff" + text[2:], text + "x", "01" + text[2:] + "x", strings.ToUpper(text), "00-" + strings.Repeat("0", 32) + text[35:], text[:36] + strings.Repeat("0", 16) + "-01"} {
		if _, _, _, ok := ParseTraceparent(wrong); ok {
			t.Errorf("%s is taken", wrong)
		}
	}
	if _, _, sampled, ok := ParseTraceparent("01" + text[2:53] + "00-more"); !ok || sampled {
		t.Error("a later version is not taken")
	}
}
