package response

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// flight counts the cancels of a call.
type flight struct{ causes []error }

func (f *flight) Cancel(_ *call.Batch, cause error) { f.causes = append(f.causes, cause) }

func newResponse() *Response {
	r := &Response{}
	r.Info = &call.Info{}
	return r
}

// native is a result as a value.
func native(v any) call.Result {
	return call.Result{Payload: call.Payload{Codec: call.Native, Value: v}}
}

// TestCancel: a cancel ends the answer at once and cancels the flight once, whether the flight has set out before or sets out later.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"flight under way": true, "flight sets out later": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := newResponse(), &flight{}
			if early {
				r.Carry(f)
			}
			r.Cancel(context.Canceled)
			if !early {
				r.Carry(f)
			}
			r.Cancel(context.DeadlineExceeded)
			r.Complete(nil, native("late"))
			if len(f.causes) != 1 || !errors.Is(f.causes[0], context.Canceled) {
				t.Errorf("the flight was cancelled with %v, want once, with the first cause", f.causes)
			}
			if e := r.Failure(); e == nil || e.Reason != helvetype.ReasonCancelled || r.HasPayload() {
				t.Errorf("failure %v, payload %v; want the cancel", e, r.HasPayload())
			}
			if r.RunAt("D#1") || r.Waiting() {
				t.Error("a call that was cancelled still runs")
			}
		})
	}
}

// TestEnd: the first end counts, functions run once after it, and a result cancels nothing.
func TestEnd(t *testing.T) {
	t.Parallel()
	r, f, ends := newResponse(), &flight{}, 0
	r.Carry(f)
	r.WhenEnded(func() { ends++ })
	r.Complete(nil, native("first"))
	r.Complete(nil, call.Result{Err: call.NewError(helvetype.ReasonInternal, "second")})
	r.WhenEnded(func() { ends++ })
	r.Cancel(context.Canceled)
	if r.Failure() != nil || ends != 2 || len(f.causes) != 0 || !r.Wait(t.Context()) {
		t.Errorf("failure %v, %d of 2 functions have run, cancels %v", r.Failure(), ends, f.causes)
	}
}

// TestWait: the end of the reader's context does not end the call, and the end of the watched context does.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, f := newResponse(), &flight{}
		r.Carry(f)
		caller, cancel := context.WithCancel(t.Context())
		r.Watch(caller, &r.State)
		reader, leave := context.WithCancel(t.Context())
		leave()
		if r.Wait(reader) || !r.Waiting() {
			t.Error("the end of the reader's context has ended the call")
		}
		cancel()
		if !r.Wait(t.Context()) || r.Failure().Reason != helvetype.ReasonCancelled {
			t.Errorf("failure %v, want the end of the caller's context", r.Failure())
		}
		synctest.Wait()
		if len(f.causes) != 1 {
			t.Errorf("%d cancels of the flight, want 1", len(f.causes))
		}
	})
}

// TestRead: a payload is decoded once, and a payload that was passed on as a reference stays.
func TestRead(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"value": false, "reference": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResponse()
			r.Complete(nil, native(7))
			if !r.HasPayload() || r.Encoded() {
				t.Error("a native result is a payload that is not encoded")
			}
			var got []any
			for range 2 {
				if e := r.Read(t.Context(), keep, func(p call.Payload) { got = append(got, p.Value) }); e != nil {
					t.Fatal(e)
				}
			}
			if len(got) != 1 || got[0] != 7 || (r.payload.Value == nil) == keep {
				t.Errorf("decoded %v, and the payload has %v", got, r.payload.Value)
			}
		})
	}
}

// TestClose: a result that was given up cannot be read or passed on.
func TestClose(t *testing.T) {
	t.Parallel()
	r := newResponse()
	r.Close()
	res := native(nil)
	res.Codec, res.Parts = call.Msgpack, &call.Parts{}
	r.Keep(res)
	if _, ok := r.Apart(); ok {
		t.Error("a closed response is passed on")
	}
	e := r.Read(t.Context(), false, func(call.Payload) { t.Error("a closed response is decoded") })
	if e == nil || e.Reason != helvetype.ReasonDataLoss {
		t.Errorf("failure %v, want the loss of the result", e)
	}
}
