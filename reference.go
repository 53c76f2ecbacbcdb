package helve

import (
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/client"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/graph"
)

// ByReference leaves the result of a call to another process there until it is read. [Response.Result] fetches it, each time that
// it is called. A response that is passed on ([Method.RemoteFrom], [Fill]) passes the reference, so that the value goes from the
// replica that made it to the replica that takes it, and never to the caller. The result belongs to the method that made the
// call, and is dropped when that method returns. If the call was made with a [Detach]ed context, or outside of methods, the
// result lives until [Response.Close] or until the response is garbage collected. A later read is an error with reason
// data_loss. ByReference has no effect on Call and on streams.
var ByReference = CallOption{(*client.Options).SetByReference} //nolint:gochecknoglobals // a constant

// Close drops a result outside of this process early: a result by reference, or a large result that was not read. A value that was
// read stays, and so does the result for a call to which the response was passed. Close may be called at any time, any number of
// times. It does not cancel a call that has not ended; the result is dropped when the call ends.
func (r *Response[T]) Close() { r.r.Close() }

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
		name, found := graph.Codec.FieldAt(reflect.TypeFor[In](), at[i].from, field)
		if !found {
			p.Release()
			return nil, false
		}
		apart[name] = p
	}
	if len(apart) == 0 {
		return nil, false
	}
	fields, ok, err := graph.Codec.Fields(in)
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
