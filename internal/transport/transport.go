// Package transport moves one call to a replica. It has one transport for each place in which a replica can be: Local runs the
// method on a goroutine of this process, Encoded does the same with encoded values (for tests), and Wire sends the call to a
// worker. A call that a transport is given has a slot of the replica's gate already.
//
// Example: a deployment has one replica in the node and one in a Python worker. The router gives a call a slot of the first:
// Local decodes the argument and runs the method. It gives the next call a slot of the second: Wire encodes the argument,
// writes a CALL frame, and the END frame of the worker completes the call.
package transport

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/wire"
)

// Transport starts calls at one replica. The caller holds a slot of the replica's gate for each.
type Transport interface {
	// Start starts c and does not block. sink.Complete is called exactly once, during Start or later. If Keeps returns false,
	// the arguments of c need not stay valid after Start.
	Start(b *call.Batch, c *call.Call, sink call.Sink) Handle
	// Keeps returns true if the arguments of a call must stay valid until its end.
	Keeps() bool
}

// Handle cancels a call that a transport has started. The zero Handle does nothing.
type Handle struct {
	peer *wire.Peer
	id   uint64
	ctx  *call.Context
}

// Cancel ends the context of the method, or asks the worker to do so. The sink is completed when the method has returned.
func (h Handle) Cancel(b *call.Batch, cause error) {
	if h.ctx != nil {
		h.ctx.Cancel(cause)
	}
	if h.peer != nil && h.id != 0 {
		h.peer.Cancel(b, h.id)
	}
}

// Local runs calls on goroutines of this process.
type Local struct {
	Replica *instance.Instance
	Codec   *codec.Codec
}

// Keeps is true: the method decodes its arguments on its own goroutine.
func (l *Local) Keeps() bool { return true }

// Start runs the method on a goroutine of its own.
func (l *Local) Start(_ *call.Batch, c *call.Call, sink call.Sink) Handle {
	values := c.Values
	if values == nil {
		values = context.Background()
	}
	ctx := call.NewContext(values, c)
	go l.run(ctx, c, sink)
	return Handle{ctx: ctx}
}

func (l *Local) run(ctx *call.Context, c *call.Call, sink call.Sink) {
	var r call.Result
	ended := false
	defer func() {
		if !ended { // a panic or runtime.Goexit of the method
			r = call.Result{Err: call.Recovered(recover())}
		}
		ctx.End()
		if r.Err != nil && c.Want != call.Native {
			r.Err = l.describeError(r.Err)
		}
		if h := call.RemoteHTTPOf(c); h != nil && r.Err == nil {
			if head := h.HTTPAnswer().Encode(); head != nil { // of a stream it has travelled already
				r.Parts = &call.Parts{Head: head}
			}
		}
		sink.Complete(nil, r)
	}()
	r = l.call(ctx, c)
	ended = true
}

// describeError returns e for another process. If the cause of e is a registered error of the application, the result has
// its description, from which the other process makes the same error.
func (l *Local) describeError(e *call.Error) *call.Error {
	if e.Cause == nil || e.Known != nil {
		return e
	}
	known := *e
	l.Replica.Class.Errors.Describe(l.Codec, &known)
	return &known
}

// Inline runs the method on the caller's goroutine.
func (l *Local) Inline(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
	in := &call.Inline{Caller: ctx, Info: c.Info}
	defer in.End()
	r := l.call(in, c)
	return r.Payload, r.Err
}

func (l *Local) call(ctx context.Context, c *call.Call) call.Result {
	m, e := l.Replica.Class.Lookup(c.Info.Method)
	if e == nil && (m.Shape == instance.Stream) != (c.Items != nil) {
		e = m.Mismatch()
	}
	if e != nil {
		return call.Result{Err: e}
	}
	slots := c.Slots
	if c.Encoded.Table != nil {
		slots = wire.Slots(c.Encoded)
	}
	in, e := m.Decode(l.Codec, slots)
	if e != nil {
		return call.Result{Err: e}
	}
	if ctx.Err() != nil {
		return call.Result{Err: call.FromContext(ctx)}
	}
	if c.Items != nil {
		return call.Result{Err: l.stream(ctx, c, m, in)}
	}
	out, e := l.Replica.Run(ctx, m, in)
	if e != nil {
		return call.Result{Err: e}
	}
	p, e := m.Encode(l.Codec, c.Want, out)
	return call.Result{Payload: p, Err: e}
}

func (l *Local) stream(ctx context.Context, c *call.Call, m *instance.Method, in any) (failure *call.Error) {
	var buf []byte // used for every item: an item is valid only while it is handed over
	http := call.RemoteHTTPOf(c)
	e := l.Replica.RunStream(ctx, m, in, c.Unread, func(v any) bool {
		p, e := m.EncodeTo(buf, l.Codec, c.Want, v)
		if e != nil {
			failure = e
			return false
		}
		if c.Want != call.Native && cap(p.Data) <= scratchMax {
			buf = p.Data
		}
		return sendHead(ctx, http, c.Items) && c.Items.Item(ctx, p)
	})
	if failure == nil {
		failure = e
	}
	if failure == nil {
		sendHead(ctx, http, c.Items)
	}
	if d, ok := c.Items.(interface{ Drain(ctx context.Context) }); ok {
		d.Drain(ctx)
	}
	return failure
}

// sendHead sends the head of an HTTP answer that a method in a worker has chosen, before the first item of its stream.
func sendHead(ctx context.Context, http *call.RemoteHTTP, to call.Items) bool {
	if http == nil {
		return true
	}
	head := http.HTTPAnswer().Encode() // nil after the first item
	return head == nil || to.Item(ctx, call.Payload{Codec: call.Head, Data: head})
}

// Wire sends calls over a connection to a replica in a worker.
type Wire struct {
	Peer    *wire.Peer
	Replica string
	// App and Deployment are set in place of Replica if the other side is the node to which this one has handed over.
	App, Deployment string
	Python          bool // the replica is in Python: a struct becomes keyword arguments instead of one argument
	Codec           *codec.Codec

	routes RouteCache
}

// NextNode says that the calls go to the node to which this one has handed over.
func (w *Wire) NextNode() bool { return w.Replica == "" }

// Keeps is false: the bytes are in the connection's buffer when Start returns.
func (w *Wire) Keeps() bool { return false }

// Start writes the call. Go values are encoded here, on the caller's goroutine.
func (w *Wire) Start(b *call.Batch, c *call.Call, sink call.Sink) Handle {
	route, e := w.routes.Get(w.Peer, wire.Route{App: w.App, Deployment: w.Deployment, Replica: w.Replica, Method: c.Info.Method})
	if e != nil {
		sink.Complete(b, call.Result{Err: e})
		return Handle{}
	}
	return Send(route, w.Codec, w.Python, b, c, sink)
}

// scratchMax is the largest buffer that is used again. The connection refers to larger values instead of copying them, so their
// buffers belong to it.
const scratchMax = 32 << 10

// encodeBuffer holds the encoded form of a call while Send runs. The call itself is not changed, because the router may send
// it to another replica, which may be in this process.
type encodeBuffer struct {
	call call.Call
	buf  []byte
}

var encodeBuffers = sync.Pool{New: func() any { return &encodeBuffer{buf: make([]byte, 0, 512)} }} //nolint:gochecknoglobals // a pool of buffers is not state

// Send encodes the arguments of c that are Go values, and sends the call over a route.
func Send(route *wire.BoundRoute, cd *codec.Codec, python bool, b *call.Batch, c *call.Call, sink call.Sink) Handle {
	h := Handle{peer: route.Peer()}
	var left time.Duration
	if !c.Deadline.IsZero() {
		left = c.TimeLeft(time.Now())
	}
	if isEncoded(c) {
		h.id = route.Start(b, c, left, sink)
		return h
	}
	s := encodeBuffers.Get().(*encodeBuffer)
	out := &s.call
	out.Info, out.Slots, out.Encoded, out.Want = c.Info, c.Slots, c.Encoded, c.Want
	out.Items, out.Window, out.Mode, out.Lease, out.Options = c.Items, c.Window, c.Mode, c.Lease, c.Options
	out.Unread = c.Unread
	out.Exchange, out.Values, out.Open = c.Exchange, c.Values, c.Open
	if out.Items != nil && out.Window == (call.Window{}) {
		out.Window = call.Room
	}
	request, response := call.Msgpack, call.Msgpack
	if o := c.Options; o != nil {
		request, response = orDefault(o.Request, request), orDefault(o.Response, response)
	}
	if out.Want == call.Native {
		out.Want = response
	}
	var err error
	switch {
	case c.Encoded.Table != nil:
	case len(c.Slots) == 1 && c.Slots[0].Codec == call.Native:
		err = encodeOne(cd, request, python, &c.Slots[0], out, &s.buf)
	default:
		err = encodeMany(cd, request, out)
	}
	if err == nil {
		h.id = route.Start(b, out, left, sink)
	}
	if cap(s.buf) <= scratchMax {
		*s = encodeBuffer{buf: s.buf[:0]}
		encodeBuffers.Put(s)
	}
	if err != nil {
		sink.Complete(b, call.Result{Err: argumentFailure(err)})
	}
	return h
}

// isEncoded says whether a call can be sent as it is: its arguments are encoded, and it names the codec of its result. For example, the
// calls of the proxy are, whose one argument is the body of a request.
func isEncoded(c *call.Call) bool {
	if c.Want == call.Native || c.Items != nil && c.Window == (call.Window{}) {
		return false
	}
	if c.Encoded.Table != nil {
		return true
	}
	return !slices.ContainsFunc(c.Slots, func(s call.Slot) bool { return s.Codec == call.Native })
}

// argumentFailure is the error of a call whose arguments cannot be encoded.
func argumentFailure(err error) *call.Error {
	const what = "the argument cannot be encoded"
	if e := codec.Panicked(what, err); e != nil {
		return e
	}
	return call.NewError(helvetype.ReasonBadInput, what+": "+err.Error())
}

// orDefault returns the codec that a handle's option names, or the default if the option is not set.
func orDefault(option, otherwise call.Codec) call.Codec {
	if option == call.None {
		return otherwise
	}
	return option
}

func encodeOne(cd *codec.Codec, as call.Codec, python bool, s *call.Slot, out *call.Call, buf *[]byte) error {
	if args, ok := s.Value.(call.Args); ok {
		return encodeArgs(cd, as, args, out)
	}
	if call.IsEmptyValue(s.Value) {
		out.Slots = nil
		return nil
	}
	if python && s.Kind == call.Positional {
		fields, ok, err := cd.Fields(s.Value)
		if err != nil {
			return err
		}
		if ok {
			slots := make([]call.Slot, 0, 8)
			for name, value := range fields {
				slots = append(slots, call.Slot{Kind: call.Named, Name: name, Payload: call.Payload{Codec: call.Native, Value: value}})
			}
			out.Slots = slots
			return encodeMany(cd, as, out)
		}
	}
	data, err := cd.Append((*buf)[:0], as, s.Value)
	if err != nil {
		return err
	}
	*buf = data
	out.SetOne(call.Slot{Kind: s.Kind, Index: s.Index, Name: s.Name, Payload: call.Payload{Codec: as, Data: data}})
	return nil
}

func encodeArgs(cd *codec.Codec, as call.Codec, args call.Args, out *call.Call) error {
	out.Slots = nil
	for i, v := range args.Positional {
		out.Slots = append(out.Slots, call.Slot{Kind: call.Positional, Index: uint16(i), Payload: call.Payload{Codec: call.Native, Value: v}})
	}
	for name, v := range args.Named {
		out.Slots = append(out.Slots, call.Slot{Kind: call.Named, Name: name, Payload: call.Payload{Codec: call.Native, Value: v}})
	}
	return encodeMany(cd, as, out)
}

func encodeMany(cd *codec.Codec, as call.Codec, out *call.Call) error {
	slots := make([]call.Slot, len(out.Slots))
	for i, s := range out.Slots {
		if s.Codec == call.Native {
			data, err := cd.Append(nil, as, s.Value)
			if err != nil {
				if s.Name != "" {
					return &argumentError{s.Name, err}
				}
				return err
			}
			s.Payload = call.Payload{Codec: as, Data: data}
		}
		slots[i] = s
	}
	out.Slots = slots
	return nil
}

type argumentError struct {
	name string
	err  error
}

func (e *argumentError) Error() string { return "argument " + e.name + ": " + e.err.Error() }
func (e *argumentError) Unwrap() error { return e.err }
