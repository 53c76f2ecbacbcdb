package transport

import (
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// Encoded runs calls in this process as if the replica were in another process: arguments, results, items and errors are
// encoded and decoded, and the values of the caller's context are not there. Tests use it. It finds values that two
// deployments share by a pointer, values that cannot be encoded, and errors that errors.Is does not find any more.
type Encoded struct {
	Local   *Local
	Default call.Codec // for calls whose handle names no codec
}

// Keeps is false: the arguments are encoded when Start returns.
func (*Encoded) Keeps() bool { return false }

// Start runs the method on a goroutine of its own.
func (t *Encoded) Start(b *call.Batch, c *call.Call, sink call.Sink) Handle {
	cd := t.Local.Codec
	out := &call.Call{Info: c.Info, Deadline: c.Deadline, Origin: c.Origin, Want: c.Want, Options: c.Options}
	request, response := t.Default, t.Default
	if o := c.Options; o != nil {
		request, response = orDefault(o.Request, request), orDefault(o.Response, response)
	}
	if out.Want == call.Native {
		out.Want = response
	}
	if c.Encoded.Table != nil {
		out.Encoded = call.Encoded{
			Slots: c.Encoded.Slots, Table: append([]byte{}, c.Encoded.Table...), Body: append([]byte(nil), c.Encoded.Body...),
			Shared: c.Encoded.Shared,
		}
	} else if err := encodeSlots(cd, request, c.Slots, out); err != nil {
		sink.Complete(b, call.Result{Err: argumentFailure(err)})
		return Handle{}
	}
	if h := call.HTTPOf(c); h != nil {
		out.Values = call.NewRemoteHTTP(call.AppendHTTPRequest(nil, h.HTTPRequest()))
	}
	if items := c.Items; items != nil {
		out.Items, out.Unread = items, c.Unread // Local encodes the items as out.Want
	}
	return t.Local.Start(b, out, encodedErrorSink{sink})
}

func encodeSlots(cd *codec.Codec, as call.Codec, slots []call.Slot, out *call.Call) error {
	for _, s := range slots {
		if s.Codec == call.Native {
			if call.IsEmptyValue(s.Value) {
				continue
			}
			data, err := cd.Append(nil, as, s.Value)
			if err != nil {
				return err
			}
			s.Payload = call.Payload{Codec: as, Data: data}
		} else {
			s.Data = append([]byte(nil), s.Data...)
		}
		out.Slots = append(out.Slots, s)
	}
	return nil
}

// encodedErrorSink encodes and decodes the error of a result, as it would be between processes.
type encodedErrorSink struct{ to call.Sink }

func (a encodedErrorSink) Complete(b *call.Batch, r call.Result) {
	if r.Err != nil {
		e, err := codec.ParseError(codec.AppendError(nil, r.Err))
		if err != nil {
			e = call.NewError(helvetype.ReasonInternal, "the error cannot be encoded: "+err.Error())
		}
		r.Err = e
	}
	a.to.Complete(b, r)
}

var _ Transport = (*Encoded)(nil)
