package call

import (
	"context"
	"encoding/binary"
	"reflect"
	"time"
)

// Payload is one value: in memory (Codec Native, Value) or encoded (Data). Data is read-only; [Sink] says how long it stays
// valid.
type Payload struct {
	Codec Codec
	Value any
	Data  []byte
	Parts *Parts // the parts outside of Data; nil if the whole value is in Data
}

// SlotKind is the kind of argument that a slot holds.
type SlotKind uint8

// The kinds of slots. A Packed slot is the only slot of its call: one payload holds the whole argument list, such as Python's
// pair (args, kwargs). A Buffer is a part of the value before it that its codec keeps apart, such as the data of an array.
const (
	Packed     SlotKind = 0
	Positional SlotKind = 1
	Named      SlotKind = 2
	Buffer     SlotKind = 3
)

// Slot is one argument of a call.
type Slot struct {
	Kind  SlotKind
	Index uint16 // the place of a Positional argument
	Name  string // the name of a Named argument
	Payload
}

// Empty is the input of a method that takes nothing and the output of a method that gives nothing. Users have it as helve.None,
// which is a struct of an Empty and nothing else, so that this package and helve each have a type of their own.
type Empty struct{}

func (Empty) empty() {}

var emptyType = reflect.TypeFor[Empty]()

// IsEmpty reports whether t is [Empty] or helve.None.
func IsEmpty(t reflect.Type) bool {
	return t == emptyType || t.Kind() == reflect.Struct && t.NumField() == 1 && t.Field(0).Type == emptyType && t.Field(0).Anonymous
}

// IsEmptyValue reports whether v is an [Empty] or a helve.None.
func IsEmptyValue(v any) bool {
	_, marked := v.(interface{ empty() })
	return marked && IsEmpty(reflect.TypeOf(v))
}

// Args has arguments of both kinds, for deployments written in Python. Users have it as helve.Args, a type with the same fields.
type Args struct {
	Positional []any
	Named      map[string]any
}

// Encoded is the argument list of a call as it came over a wire: the slot table with its tail, and the value segments. A node
// forwards all of it, so that a newer worker can send fields to another newer worker through an older node.
type Encoded struct {
	Slots  int       // number of argument slots
	Table  []byte    // slot table and extensible tail
	Body   []byte    // value segments, one after another
	Shared []*Shared // the shared segments of the table, in order; Body has placeholders for them
	Held   bool      // some segments are numbers of results that the receiver keeps
}

// Call is one untyped call. Its arguments are in Slots or, if it came over a wire, in Encoded (Table is not nil). The maker of
// a call may write to it until it is submitted. From then until the [Sink] has the result it is read-only, except that the node
// sets Info.Replica on admission.
type Call struct {
	Info     Info
	Slots    []Slot
	Encoded  Encoded
	Deadline time.Time       // zero for none
	Origin   string          // the queue in which it waits: "proxy", "driver:…", or "app/deployment" of the caller
	Values   context.Context // the context values of a method that runs in this process; nil for none
	Want     Codec           // the encoding of the result; Native if the caller shares the replica's process
	Options  *Options        // nil for none
	Items    Items           // the consumer of a stream; nil for a call with one result
	Window   Window          // the first window of a stream that crosses processes
	Unread   *Unread         // of the reader of the stream, or of the HTTP client; nil where nothing looks at it
	Mode     Mode            // the request to the deployment
	Open     bool            // the node that gets the call decides whether it is sampled, although it has a trace
	Lease    uint64          // the slot that a Reserve got, for this call to use; 0 for none
	Above    *Above          // the position of a call that came from a worker's method; nil for others
	From     Caller          // the deployment whose method in another process has made it; zero where that is not known
	Kept     uint64          // the number of the result that a Fetch asks for
	Exchange *Exchange       // the HTTP that the call carries; nil for others
	one      [1]Slot
}

// Caller is a deployment whose method makes calls.
type Caller struct{ App, Deployment string }

// Above is the position of a call in its worker, as the worker reported it (docs/wire.md). It is read only if the call has to
// wait. For example, a frame of the node ran A.Run in the worker, A.Run called B.Get there without a frame, and B.Get made this
// call: Hops has B.Get, and Frame is the frame that ran A.Run.
type Above struct {
	Hops  []Hop  // calls that ran in the worker without a frame, the nearest first
	Frame uint32 // the low half of the id of the frame above Hops; 0 for none
	Link  Link   // the link between that frame and the farthest of Hops, or this call if there are no Hops
	From  any    // the connection of the frame, which can look it up
}

// Hop is one call above another, with the link between them.
type Hop struct {
	Link            Link
	Replica, Method string
}

// Mode is the kind of request that a call makes to its deployment. Modes other than Run are for callers in other processes than
// the router. Callers in the router's process use its methods.
type Mode uint8

// The modes. Run runs the method at one replica. Broadcast runs it at every replica, through the queues of broadcasts; the
// answers are a stream (docs/wire.md). Reserve takes a slot and holds it; the answer names the slot. Fetch answers with a kept
// result.
const (
	Run Mode = iota
	Broadcast
	Reserve
	Fetch
)

// Items is the consumer of a stream. A stream has one source at a time, which uses one of the two methods.
type Items interface {
	// Item takes one item on the goroutine of a method in this process. It waits while the consumer is behind, until ctx
	// ends, and returns false if the stream has no consumer any more. p is valid during the call only.
	Item(ctx context.Context, p Payload) bool
	// Frame takes items as they came over a wire ([NextItem]). It does not block: the source keeps to the window, which the
	// consumer widens through from. frame is valid during the call only.
	Frame(b *Batch, from Source, frame []byte)
}

// Exchange is the part of a call that carries HTTP (docs/wire.md, "HTTP"). The answer of such a call is a stream of parts, as Items.
type Exchange struct {
	Kind uint8 // a request or a WebSocket (package exchange)
	More bool  // parts of the request follow the call
	// Begun gets the way for these parts each time the call is sent to a replica in another process, before the end of that attempt. It
	// must not block or use the way at once, because a lock is held. nil at the callee.
	Begun interface{ Begin(up Uplink) }
}

// Uplink carries the parts of an exchange to the other side of its call.
type Uplink interface {
	// Part sends a part. It waits for room in the window, until ctx ends or the call has ended. With hold the part may wait for the next
	// one, or for the end of the call. data is not kept.
	Part(ctx context.Context, kind Codec, data []byte, hold bool) error
	// Wanted waits until the other side has asked for parts.
	Wanted(ctx context.Context) error
}

// Source is the other side of a stream that came over a wire.
type Source interface {
	// Credit lets the source send that many more items and bytes. It may be called from any goroutine.
	Credit(b *Batch, w Window)
}

// Window bounds the part of a stream that was sent and not read yet. An item may be sent while both numbers are positive; it
// takes 1 from Items and its length from Bytes. So an item of any size passes. For example, with 10 bytes left an item of 1 MB
// is sent, and the next item waits for credit.
type Window struct{ Items, Bytes uint32 }

// Room is the usual window. A window of 64 items halves the throughput over a unix socket, where a round trip takes as long as
// 100 items; more than 256 bring little (measured).
var Room = Window{Items: 256, Bytes: 1 << 20} //nolint:gochecknoglobals // a constant

// AppendItem appends an encoded item to a frame of them.
func AppendItem(b []byte, p Payload) []byte { return append(AppendItemHead(b, p), p.Data...) }

// AppendItemHead appends the part of an encoded item in front of its data.
func AppendItemHead(b []byte, p Payload) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(p.Data))), byte(p.Codec))
}

// ItemOverhead is the number of bytes that AppendItem adds to an item.
const ItemOverhead = 5

// NextItem reads the first item of a frame and returns the rest of the frame. ok is false if the frame ends inside an item.
func NextItem(frame []byte) (p Payload, rest []byte, ok bool) {
	if len(frame) < ItemOverhead {
		return p, nil, false
	}
	n := uint64(binary.LittleEndian.Uint32(frame))
	if uint64(len(frame)-ItemOverhead) < n {
		return p, nil, false
	}
	end := ItemOverhead + int(n)
	return Payload{Codec: Codec(frame[4]), Data: frame[ItemOverhead:end:end]}, frame[end:], true
}

// Options are the options that a handle gives to its calls, beside [Affinity].
type Options struct {
	Request, Response Codec // of calls that leave their process; the codec None stands for the default
	ByReference       bool  // the result stays in its process until it is read
	ByValue           bool  // the result is sent with the answer, also if it is large
	Idempotent        bool  // the call may run again if its replica died while it ran
}

// Awaited returns o for a caller that waits for the answer, and so has no use for a reference.
func (o *Options) Awaited() *Options {
	if o == nil || !o.ByReference {
		return o
	}
	c := *o
	c.ByReference = false
	return &c
}

// TimeLeft returns the time until the deadline. It is 0 if there is no deadline, and 1 ns if the deadline has passed.
func (c *Call) TimeLeft(now time.Time) time.Duration {
	if c.Deadline.IsZero() {
		return 0
	}
	return max(c.Deadline.Sub(now), 1)
}

// SetOne makes s the only argument, without an allocation.
func (c *Call) SetOne(s Slot) {
	c.one[0] = s
	c.Slots = c.one[:]
}

// Result is the end of a call: a value or an error.
type Result struct {
	Payload
	Err *Error
	// NotStarted marks a failure before the call was started: no byte of it reached a worker and no user function was entered,
	// so it may be routed again.
	NotStarted bool
	// Lost marks the failure of a call whose process ended while the call ran, so that its effects are unknown.
	Lost bool
	// Unsent has the arguments of a call that was not started, if the transport had taken them over. They own their memory.
	Unsent *Encoded
}

// Sink receives the end of a call, exactly once. Result.Data may point into a read buffer and is valid only during Complete: a
// sink that keeps it copies it. Complete must not block; b collects connections that it wrote to.
type Sink interface {
	Complete(b *Batch, r Result)
}

// Wanter is a [Sink] that knows about the cancellation of its call before the call can be reached. For example, a response may
// be cancelled while its call is on the way from the queue to a replica; then Wanted returns false, and the call is not sent.
type Wanter interface{ Wanted() bool }

// Flusher is a connection with bytes waiting to be written.
type Flusher interface{ Flush() }

// Batch defers flushes while a reader handles the frames of one read, so that every touched connection is written once. For
// example, ten answers that arrive together for one worker are one write. A nil *Batch flushes at once. A Batch belongs to one
// goroutine.
type Batch struct{ touched []Flusher }

// Touch flushes f now, or when the batch ends.
func (b *Batch) Touch(f Flusher) {
	if b == nil {
		f.Flush()
		return
	}
	for _, t := range b.touched {
		if t == f {
			return
		}
	}
	b.touched = append(b.touched, f)
}

// End flushes the touched connections and empties the batch for re-use.
func (b *Batch) End() {
	for i, f := range b.touched {
		f.Flush()
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
}

// Now returns a monotonic time in nanoseconds since an arbitrary start, for durations. It costs half of time.Now.
func Now() int64 { return int64(time.Since(start)) }

// Unix is the time of day of a time by [Now], in nanoseconds since 1970. Two of them are as far apart as the times by Now, whatever becomes of the clock of
// the machine meanwhile.
func Unix(now int64) int64 { return start.UnixNano() + now }

var start = time.Now()
