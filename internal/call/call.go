package call

import (
	"context"
	"encoding/binary"
	"reflect"
	"time"
)

// Payload is one value: in memory (Codec Native, Value) or encoded (Data).
// Data is read-only for everybody who gets a Payload; see [Sink] for how long it stays valid.
type Payload struct {
	Codec Codec
	Value any
	Data  []byte
	Parts *Parts // nil: all of it is in Data
}

// SlotKind says which argument a slot is.
type SlotKind uint8

// A Packed slot is the whole argument list in one payload (a Python (args, kwargs) pair); it stands alone. A Buffer is out
// of band and belongs to the value before it.
const (
	Packed     SlotKind = 0
	Positional SlotKind = 1
	Named      SlotKind = 2
	Buffer     SlotKind = 3
)

// Slot is one argument of a call.
type Slot struct {
	Kind  SlotKind
	Index uint16 // Positional: which
	Name  string // Named: which
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

// Encoded is the argument list of a call as it came over a wire: the slot table with what follows it, and the value
// segments. A node forwards it as it is, with what it does not understand in it.
type Encoded struct {
	Slots  int       // number of argument slots
	Table  []byte    // slot table and extensible tail
	Body   []byte    // value segments, one after another
	Shared []*Shared // what the segments are that the table says to be shared, in order; the body has placeholders
	Held   bool      // some segments are results that the receiver keeps, by their numbers
}

// Call is one untyped call. Its arguments are in Slots or, when it came over a wire, in Encoded (Table is not nil). Whoever makes it owns it until it is submitted; from then on it is read-only, except that
// the node sets Info.Replica on admission, until the [Sink] was told the result.
type Call struct {
	Info     Info
	Slots    []Slot
	Encoded  Encoded
	Deadline time.Time       // zero for none
	Origin   string          // in whose queue it waits: "proxy", "driver:…", or "app/deployment" of the caller
	Values   context.Context // what a method in this process finds its context values in; nil for none
	Want     Codec           // how the result should be encoded; Native where the caller shares the replica's process
	Options  *Options        // nil for none
	Items    Items           // makes the call a stream; nil for none
	Window   Window          // of a stream that crosses processes: how far it may run ahead at first
	Mode     Mode            // what is asked of the deployment
	Lease    uint64          // the slot that a Reserve got, for this call to use; 0 for none
	Above    *Above          // of a call that came from a worker's method; nil for others
	Kept     uint64          // of a Fetch: the number of the result
	one      [1]Slot
}

// Above is where in a worker a call was made, as the worker said (docs/wire.md). It is read only if the call has to wait.
type Above struct {
	Hops  []Hop  // calls that ran in the worker without a frame, nearest first
	Frame uint32 // the call of the node above those: the low half of its frame's id; 0 for none
	Link  Link   // how the farthest of Hops, or without them the call itself, hangs on that
	From  any    // where it came from, for whoever looks the frame up
}

// Hop is one call above another, and how that hangs on it.
type Hop struct {
	Link            Link
	Replica, Method string
}

// Mode says what a call asks of its deployment. Other modes than Run are for callers in other processes than the router:
// those beside it ask it directly.
type Mode uint8

// Run runs the method at one replica. Broadcast runs it at every replica through the control lanes; the answers are a
// stream (docs/wire.md). Reserve takes a slot and holds it; the answer says which. Fetch answers with a result that was kept.
const (
	Run Mode = iota
	Broadcast
	Reserve
	Fetch
)

// Items is where the items of a stream go. A stream has one source at a time, which uses one of the two methods.
type Items interface {
	// Item is given one item on the goroutine of a method in this process, and waits while the consumer is behind, until
	// ctx ends. false: nobody wants more. p is valid during the call only.
	Item(ctx context.Context, p Payload) bool
	// Frame is given items as they came over a wire (see [NextItem]) and does not block: the source keeps to the window,
	// which from widens as the consumer reads. frame is valid during the call only.
	Frame(b *Batch, from Source, frame []byte)
}

// Source is the far side of a stream that came over a wire.
type Source interface {
	// Credit lets the source send that many more items and bytes. It may be called from any goroutine.
	Credit(b *Batch, w Window)
}

// Window is how far a stream may run ahead of what its consumer has read. An item may be sent while both are positive, and
// takes 1 and its length: so an item of any size passes, and Bytes is exceeded by one item at most.
type Window struct{ Items, Bytes uint32 }

// Room is the window of a consumer that has no reason for another. One of 64 items halves the throughput over a unix
// socket, where a round trip takes as long as 100 items (measured; more than 256 bring little).
var Room = Window{Items: 256, Bytes: 1 << 20} //nolint:gochecknoglobals // a constant

// AppendItem appends an encoded item to a frame of them.
func AppendItem(b []byte, p Payload) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	b = append(b, byte(p.Codec))
	return append(b, p.Data...)
}

// ItemOverhead is what AppendItem adds to an item's length.
const ItemOverhead = 5

// NextItem reads the first item of a frame, and gives what follows. ok is false for a frame that ends inside an item.
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

// Options are what a handle says of its calls beside [Affinity].
type Options struct {
	Request, Response Codec // for calls that leave their process; None: the default
	ByReference       bool  // the result stays where it is until it is read
	ByValue           bool  // and never does, whatever its size
	Idempotent        bool  // may run again when it is not known whether it ran
}

// Awaited is o for a caller that waits for its answer: it has no use for a reference.
func (o *Options) Awaited() *Options {
	if o == nil || !o.ByReference {
		return o
	}
	c := *o
	c.ByReference = false
	return &c
}

// TimeLeft is how long until the deadline: 0 means none, and a passed deadline is 1 ns, never 0.
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

// Result is how a call ended.
type Result struct {
	Payload
	Err *Error
	// NotStarted marks a failure before the call was started (docs of DESIGN's "admitted" and "started"): no byte of it
	// reached a worker and no user function was entered, so it may be routed again.
	NotStarted bool
	// Lost marks a failure of which nobody knows how far the call came: its process ended while it ran.
	Lost bool
	// Unsent are the arguments of a call that was not started, where the transport had taken them over; they own their memory.
	Unsent *Encoded
}

// Sink is told the end of a call, exactly once. Result.Data may point into a read buffer and is valid only
// during Complete: a sink that keeps it copies it. Complete must not block; b collects connections that it wrote to.
type Sink interface {
	Complete(b *Batch, r Result)
}

// Wanter is a [Sink] that knows when nobody wants its call any more, before whoever cancels can reach the call itself.
type Wanter interface{ Wanted() bool }

// Flusher is a connection with bytes waiting to be written.
type Flusher interface{ Flush() }

// Batch defers flushes while a reader works through what one read brought, so that every touched connection is written
// once. A nil *Batch flushes at once. A Batch belongs to one goroutine.
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

// End flushes what was touched and empties the batch for re-use.
func (b *Batch) End() {
	for i, f := range b.touched {
		f.Flush()
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
}

// Now is a monotonic reading in nanoseconds since an arbitrary start, for durations. It costs half of time.Now.
func Now() int64 { return int64(time.Since(start)) }

var start = time.Now()
