package response

import (
	"context"
	"fmt"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// Response is a [State] with one result. The typed code above has the value; a Response has the payload that the value is made of, if the
// call was no function call. A large payload may be shared memory, or a result by reference that another process keeps: the Response
// gives it up when it is closed, and the value that was made of it stays.
type Response struct {
	State

	reading sync.Mutex   // guards the fields below, after the end
	payload call.Payload // its Codec is None if the value was set at once
	read    bool
	closed  bool // the memory that payload shares was given up
}

// Complete ends the call with a result that is not there as a value. The result is valid during the call only.
func (r *Response) Complete(_ *call.Batch, res call.Result) {
	res.Own()
	if !r.Keep(res) {
		res.Release()
	}
}

// Keep is [Response.Complete] with a result that stays valid. It returns false if the call had ended before.
func (r *Response) Keep(res call.Result) bool {
	return r.End(res.Err, func() { r.payload = res.Payload })
}

// HasPayload reports, after the end, that the value has to be read ([Response.Read]).
func (r *Response) HasPayload() bool { return r.payload.Codec != call.None }

// Encoded reports, after the end, that the value has to be decoded.
func (r *Response) Encoded() bool {
	return r.payload.Codec != call.None && r.payload.Codec != call.Native
}

// WhenReadable is [State.WhenEnded] for functions that read the value. If the value has to be decoded, f runs on a goroutine of its
// own, because the goroutine that ends a response may be the reader of a connection, and must not wait for code of the value's type.
func (r *Response) WhenReadable(f func()) {
	r.WhenEnded(func() {
		if r.Encoded() {
			go f()
		} else {
			f()
		}
	})
}

// Close gives the payload up: now, or when the call ends. It does not cancel the call.
func (r *Response) Close() {
	r.WhenEnded(func() {
		r.reading.Lock()
		defer r.reading.Unlock()
		if r.closed || r.payload.Parts == nil {
			return
		}
		r.closed = true
		r.payload.Release()
	})
}

// Read makes the value of the payload: it fetches the payload if that is in another process, which may wait until ctx ends, and runs
// decode unless it has run before. The value that decode makes may be read after a Read without a failure. keep says that the payload
// stays where it is, because it is passed on as a reference.
func (r *Response) Read(ctx context.Context, keep bool, decode func(p call.Payload)) *call.Error {
	r.reading.Lock()
	if r.read {
		r.reading.Unlock()
		return nil
	}
	if r.closed {
		defer r.reading.Unlock()
		e := call.NewError(helvetype.ReasonDataLoss, fmt.Sprintf("the result of %d bytes was given up: the method that it belonged to has returned, or Close was called", r.payload.Len()))
		return e.At(r.Info)
	}
	p := r.payload
	p.Keep()
	r.reading.Unlock()
	defer p.Release()
	q, failure := wire.FetchKept(ctx, p) // may be tried again
	if failure != nil {
		return failure.At(r.Info)
	}
	if wire.IsKept(p) {
		defer q.Release()
	}
	r.reading.Lock()
	defer r.reading.Unlock()
	if !r.read {
		decode(q)
		r.read = true
		if !keep { // passed on from now on as a value
			if !r.closed {
				r.payload.Release()
			}
			r.payload.Value, r.payload.Data, r.payload.Parts = nil, nil, nil // the codec stays, which is read without a lock
		}
	}
	return nil
}

// Apart returns the payload as it is outside of this process, for a call that takes it from there and releases it. ok is false if the
// value is here, or may as well be sent from here.
func (r *Response) Apart() (_ call.Payload, ok bool) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.closed || r.payload.Parts == nil || r.failure != nil {
		return call.Payload{}, false
	}
	r.payload.Keep()
	return r.payload, true
}
