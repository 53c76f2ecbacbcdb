package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/telemetry"
)

// entered runs code in an execution, on a goroutine of its own, and gives the execution as its deferred functions see it.
func entered(x Execution, code func(x *Execution) error) Execution {
	ended := make(chan Execution)
	go func() {
		defer func() { ended <- x }()
		x.Run(func() error { return code(&x) })
	}()
	return <-ended
}

func TestExecution(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	for name, c := range map[string]struct {
		caller context.Context
		inline bool
		code   func(x *Execution) error
		want   helvetype.Reason // of the failure; "" for none
		text   string
		counts telemetry.Counts
	}{
		"returns":        {code: func(*Execution) error { return nil }},
		"error":          {code: func(*Execution) error { return io.ErrUnexpectedEOF }, want: helvetype.ReasonUser, text: "unexpected EOF", counts: telemetry.Counts{Failed: 1}},
		"panic":          {code: func(*Execution) error { panic("broken") }, want: helvetype.ReasonUser, text: "panic: broken", counts: telemetry.Counts{Failed: 1}},
		"end of routine": {code: func(*Execution) error { exit(); return nil }, want: helvetype.ReasonUser, text: "runtime.Goexit", counts: telemetry.Counts{Failed: 1}},
		"late":           {over, true, func(*Execution) error { return nil }, helvetype.ReasonCancelled, "", telemetry.Counts{Cancelled: 1, Late: 1}},
		"late with another error": {over, true, func(*Execution) error { return io.ErrUnexpectedEOF }, helvetype.ReasonCancelled, "",
			telemetry.Counts{Cancelled: 1, Late: 1}},
		"heeds its context":      {over, true, func(*Execution) error { return over.Err() }, helvetype.ReasonCancelled, "", telemetry.Counts{Cancelled: 1}},
		"heeds the cause":        {over, true, func(*Execution) error { return fmt.Errorf("stopped: %w", cause) }, helvetype.ReasonCancelled, "", telemetry.Counts{Cancelled: 1}},
		"late on its own":        {over, false, func(*Execution) error { return nil }, helvetype.ReasonCancelled, "", telemetry.Counts{Cancelled: 1}},
		"panics after the end":   {over, true, func(*Execution) error { panic("broken") }, helvetype.ReasonUser, "panic: broken", telemetry.Counts{Failed: 1}},
		"stream broken off":      {over, true, func(x *Execution) error { x.Stop(nil); return nil }, "", "", telemetry.Counts{}},
		"stream fails":           {code: func(x *Execution) error { x.Stop(io.EOF); return nil }, want: helvetype.ReasonUser, text: "EOF", counts: telemetry.Counts{Failed: 1}},
		"goes on after a break":  {code: func(x *Execution) error { x.Stop(nil); panic("broken") }},
		"goes on after an error": {code: func(x *Execution) error { x.Stop(io.EOF); panic("broken") }, want: helvetype.ReasonUser, text: "EOF", counts: telemetry.Counts{Failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := New("Model#1", nil)
			x := entered(Execution{Of: i, Caller: c.caller, Inline: c.inline}, c.code)
			switch {
			case c.want == "" && x.Failure != nil:
				t.Errorf("failed: %v", x.Failure)
			case c.want != "" && (x.Failure == nil || x.Failure.Reason != c.want || c.text != "" && !contains(x.Failure, c.text)):
				t.Errorf("the failure is %+v, want %s: %s", x.Failure, c.want, c.text)
			}
			got := i.Counts()
			got.Busy, got.Buckets, got.Peaks, c.counts.Started = 0, c.counts.Buckets, c.counts.Peaks, 1
			if got != c.counts {
				t.Errorf("counts are %+v, want %+v", got, c.counts)
			}
		})
	}
	t.Run("panic in the caller's loop", func(t *testing.T) {
		t.Parallel()
		i := New("Model#1", nil)
		x := Execution{Of: i}
		defer func() {
			if v := recover(); v != "mine" || x.Failure != nil || i.Counts().Failed != 0 || i.Counts().Started != 1 {
				t.Errorf("%v, %v, %+v", v, x.Failure, i.Counts())
			}
		}()
		x.Run(func() error {
			x.Outside = true
			panic("mine")
		})
	})
	t.Run("value of a panic", func(t *testing.T) {
		t.Parallel()
		if x := entered(Execution{}, func(*Execution) error { panic(io.EOF) }); x.Panic != io.EOF { //nolint:errorlint // the value itself
			t.Errorf("%v", x.Panic)
		}
	})
	t.Run("time in the code", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			i := New("Model#1", nil)
			entered(Execution{Of: i}, func(*Execution) error { time.Sleep(time.Minute); return nil })
			entered(Execution{Of: i}, func(*Execution) error { time.Sleep(time.Second); panic("broken") })
			if c := i.Counts(); c.Busy != 61*time.Second || c.Started != 2 || c.Failed != 1 {
				t.Errorf("%+v", c)
			}
		})
	})
}

// TestExecutionDoesNotAllocate: a call that is a function call pays for its context only.
func TestExecutionDoesNotAllocate(t *testing.T) {
	i := New("Model#1", nil)
	ctx := t.Context()
	out := 0
	if n := testing.AllocsPerRun(100, func() {
		x := Execution{Of: i, Caller: ctx, Inline: true}
		defer func() {
			if x.Failure != nil {
				t.Error(x.Failure)
			}
		}()
		x.Run(func() error { out++; return nil })
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	double := &Method{Name: "Double", Invoke: func(_ context.Context, recv, in any) (any, error) {
		if in.(int) < 0 {
			return 0, errors.New("negative")
		}
		return recv.(int) * in.(int), nil
	}}
	i := New("Model#1", nil)
	i.Value = 2
	if out, e := i.Run(t.Context(), double, 21); out != 42 || e != nil {
		t.Errorf("%v, %v", out, e)
	}
	if out, e := i.Run(t.Context(), double, -1); out != nil || e == nil || e.Type != "*errors.errorString" {
		t.Errorf("%v, %+v", out, e)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if out, e := i.Run(over, double, 21); out != nil || e == nil || e.Reason != helvetype.ReasonCancelled {
		t.Errorf("%v, %v", out, e)
	}
	if c := i.Counts(); c.Started != 3 || c.Failed != 1 || c.Cancelled != 1 || c.Late != 0 {
		t.Errorf("%+v", c)
	}
}

func TestRunStream(t *testing.T) {
	t.Parallel()
	var after error
	upTo := &Method{Name: "UpTo", Shape: Stream, Stream: func(_ context.Context, recv, in any) iter.Seq2[any, error] {
		return func(yield func(any, error) bool) {
			for n := range in.(int) {
				if !yield(recv.(int)+n, nil) {
					if after != nil {
						panic(after)
					}
					return
				}
			}
			yield(nil, io.ErrUnexpectedEOF)
		}
	}}
	take := func(ctx context.Context, n int, each func(int)) ([]any, *call.Error) {
		var items []any
		i := New("Model#1", nil)
		i.Value = 10
		e := i.RunStream(ctx, upTo, 3, nil, func(v any) bool {
			items = append(items, v)
			if each != nil {
				each(len(items))
			}
			return len(items) < n
		})
		return items, e
	}
	if items, e := take(t.Context(), 9, nil); fmt.Sprint(items) != "[10 11 12]" || e == nil || !contains(e, "unexpected EOF") {
		t.Errorf("%v, %v", items, e)
	}
	if items, e := take(t.Context(), 2, nil); len(items) != 2 || e != nil {
		t.Errorf("broken off: %v, %v", items, e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if items, e := take(ctx, 9, func(n int) {
		if n == 2 {
			cancel()
		}
	}); len(items) != 2 || e == nil || e.Reason != helvetype.ReasonCancelled {
		t.Errorf("cancelled: %v, %v", items, e)
	}
	after = errors.New("too late")
	if items, e := take(t.Context(), 2, nil); len(items) != 2 || e != nil {
		t.Errorf("goes on after the break: %v, %v", items, e)
	}
}
