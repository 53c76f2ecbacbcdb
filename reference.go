package helve

import (
	"context"
	"fmt"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/wire"
)

// ByReference leaves the result of a call to another process there until it is read. [Response.Result] fetches it, each time that
// it is called. A response that is passed on ([Method.RemoteFrom], [Fill]) passes the reference, so that the value goes from the
// replica that made it to the replica that takes it, and never to the caller. The result belongs to the method that made the
// call, and is dropped when that method returns. If the call was made with a [Detach]ed context, or outside of methods, the
// result lives until [Response.Close] or until the response is garbage collected. A later read is an error with reason
// data_loss. ByReference has no effect on Call and on streams.
var ByReference = CallOption{func(o *callOptions) { o.options.ByReference = true }} //nolint:gochecknoglobals // a constant

// Close drops a result outside of this process early: a result by reference, or a large result that was not read. A value that was
// read stays, and so does the result for a call to which the response was passed. Close may be called at any time, any number of
// times. It does not cancel a call that has not ended; the result is dropped when the call ends.
func (r *Response[T]) Close() {
	r.whenEnded(func() {
		r.decoding.Lock()
		defer r.decoding.Unlock()
		if r.closed || r.payload.Parts == nil {
			return
		}
		r.closed = true
		r.payload.Release()
	})
}

// read makes the value of a payload, once.
func (r *Response[T]) read(ctx context.Context) (T, error) {
	r.decoding.Lock()
	if r.decoded {
		defer r.decoding.Unlock()
		return r.value, r.err
	}
	if r.closed {
		defer r.decoding.Unlock()
		var none T
		e := call.NewError(call.Lost, fmt.Sprintf("the result of %d bytes was given up: the method that it belonged to has returned, or Close was called", r.payload.Len()))
		return none, public(e.At(r.info))
	}
	p := r.payload
	p.Keep()
	r.decoding.Unlock()
	defer p.Release()
	q, failure := wire.FetchKept(ctx, p) // may wait, and may be tried again
	if failure != nil {
		var none T
		return none, public(failure.At(r.info))
	}
	if wire.IsKept(p) {
		defer q.Release()
	}
	r.decoding.Lock()
	defer r.decoding.Unlock()
	if !r.decoded {
		r.value, r.err = decode[T](r.b, q)
		r.decoded = true
		if !r.byReference() { // passed on from now on as a value
			if !r.closed {
				r.payload.Release()
			}
			r.payload.Value, r.payload.Data, r.payload.Parts = nil, nil, nil // the codec stays, which is read without a lock
		}
	}
	return r.value, r.err
}

func (r *Response[T]) byReference() bool { return r.b.o != nil && r.b.o.options.ByReference }

// apart is the result as it lies somewhere else, for a call that takes it from there; false if it is here, or is as well
// sent from here. The call releases it.
func (r *Response[T]) apart() (call.Payload, bool) {
	r.decoding.Lock()
	defer r.decoding.Unlock()
	if r.closed || r.payload.Parts == nil || r.failure != nil {
		return call.Payload{}, false
	}
	r.payload.Keep()
	return r.payload, true
}

// scoped gives the result up when the method returns that made the call.
func (r *remote[In, Out]) scoped() {
	if r.byReference() {
		call.AtEnd(r.caller, r.Close)
	}
}

// beginApart is begin with arguments that lie somewhere else, which go to another process as they are. typed makes the input
// where the method runs in this one. It releases slots.
func (r *remote[In, Out]) beginApart(slots []call.Slot, typed func() (In, *call.Error)) {
	release := func() {
		for _, s := range slots {
			s.Release()
		}
	}
	if !r.wanted() { // the call was cancelled meanwhile
		release()
		return
	}
	b := r.m
	here := func() {
		defer release()
		if in, e := typed(); e != nil {
			r.end(e, nil)
		} else {
			r.begin(in)
		}
	}
	if b.fake != nil || b.apartUnfit(slots) {
		here()
		return
	}
	if d := b.d.serving(); d != nil {
		if b.invoke != nil && d.InProcess() {
			here()
			return
		}
	}
	c := b.untyped(r.caller, r.info, nil)
	c.Slots = slots
	r.carry(b.submit(c, r))
	r.whenEnded(release)
}

// apartUnfit says that arguments cannot be sent as they are: an explicit codec wants them in another.
func (b *binding) apartUnfit(slots []call.Slot) bool {
	if b.o == nil || b.o.options.Request == call.None {
		return false
	}
	for _, s := range slots {
		if s.Parts != nil && s.Codec != b.o.options.Request {
			return true
		}
	}
	return false
}

// fieldSlots returns the arguments of a call whose input has results of other calls in some fields. Each field is a keyword
// argument, and a result in another process goes as a reference. ok is false if that is not possible.
func fieldSlots[In any](in In, fills []Filler[In], at []span) (slots []call.Slot, ok bool) {
	apart := map[string]call.Payload{}
	defer func() {
		if !ok { // as values, then
			for _, p := range apart {
				p.Release()
			}
		}
	}()
	if !codec.IsRecord(reflect.TypeFor[In]()) {
		return nil, false
	}
	for i, f := range fills {
		field, p, there := f.apart()
		if !there {
			if f.write(&in, at[i].from) != nil { // the failure is reported when all fields are written
				return nil, false
			}
			continue
		}
		name, found := theCodec.FieldAt(reflect.TypeFor[In](), at[i].from, field)
		if !found {
			p.Release()
			return nil, false
		}
		apart[name] = p
	}
	if len(apart) == 0 {
		return nil, false
	}
	fields, ok, err := theCodec.Fields(in)
	if !ok || err != nil { // the codec says what is wrong when the call is sent
		return nil, false
	}
	for name, p := range apart {
		slots = append(slots, call.Slot{Kind: call.Named, Name: name, Payload: p})
	}
	for name, value := range fields {
		if _, there := apart[name]; !there {
			slots = append(slots, call.Slot{Kind: call.Named, Name: name, Payload: call.Payload{Codec: call.Native, Value: value}})
		}
	}
	return slots, true
}

// keywords says that an input of type t becomes keyword arguments, which a result that lies somewhere else cannot.
func (b *binding) keywords(t reflect.Type) bool { return b.d.python != nil && codec.IsRecord(t) }
