package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// creditLen is the length of the meta of CREDIT.
const creditLen = 8

// itemsFrame is the size up to which items are sent together in one frame; a larger item has a frame of its own. It is
// also the size up to which the receiver copies a frame.
const itemsFrame = 32 << 10

// outflow is the producing end of a row of items: of a stream, whose caller is on the other side, or of the parts that a caller sends
// with an exchange (UPLOAD). Its frames have the type and the id that it is made with.
type outflow struct {
	peer *Peer
	typ  Type // TypeItems or TypeUpload
	id   uint64

	mu           sync.Mutex
	items, bytes int64 // the window: items and bytes that may still be sent
	pending      []byte
	writing      bool          // a goroutine is about to send the pending items
	failed       *call.Error   // the reason why items are missing, with which the stream ends
	ended        bool          // the END is written or has come, or is about to be
	asked        bool          // credit has come
	source       call.Source   // of a relayed stream, from its first items on
	credited     chan struct{} // of one: credit has come, or the end; nil before a sender waits for the first time

	unread call.Unread  // of the stream of a call that the other side has made
	ending atomic.Int64 // pending bytes that count in Link.ending, from Drain to the END
}

func newOutflow(p *Peer, typ Type, id uint64, w call.Window) *outflow {
	return &outflow{peer: p, typ: typ, id: id, items: int64(w.Items), bytes: int64(w.Bytes)}
}

// Item sends an item of a method in this process. It is called on the goroutine of the method.
func (in *Incoming) Item(ctx context.Context, p call.Payload) bool {
	o := in.out
	if p.Codec == call.Native {
		return false // not possible: Local has encoded it
	}
	if n, limit := call.ItemOverhead+len(p.Data), in.peer.maxOut(); n > limit {
		o.mu.Lock()
		o.fail(tooLarge(n, limit))
		o.mu.Unlock()
		return false
	}
	if !o.reserve(ctx, p, itemsFrame) {
		return false
	}
	o.pending = call.AppendItem(o.pending, p)
	full := len(o.pending) >= itemsFrame
	begin := !full && !o.writing
	if begin {
		o.writing = true
	}
	o.mu.Unlock()
	switch {
	case full:
		if !o.sendPending(ctx) {
			return false
		}
	case begin:
		// While the goroutine writes, the method produces the items of the next frame. So the size of a frame adapts to
		// the speed of both, without a setting.
		go o.write(ctx)
	}
	return ctx.Err() == nil
}

// reserve waits until the window and the frame, of at most size bytes, have room for an item, and takes the room. If it returns true, o.mu is held.
func (o *outflow) reserve(ctx context.Context, p call.Payload, size int) bool {
	o.mu.Lock()
	for o.items <= 0 || o.bytes <= 0 {
		ended, credited := o.ended, o.waitLocked()
		o.mu.Unlock()
		if ended {
			return false
		}
		o.unread.Full(call.Now())
		if !o.sendPending(ctx) {
			return false
		}
		select {
		case <-credited:
			o.unread.Room()
		case <-ctx.Done():
			return false
		}
		o.mu.Lock()
	}
	if !o.fits(p, size) {
		o.mu.Unlock()
		if !o.sendPending(ctx) {
			return false
		}
		o.mu.Lock()
	}
	o.items--
	o.bytes -= int64(len(p.Data))
	return true
}

// fits returns true if the item and the pending items fit into one frame of at most size bytes. o.mu is held.
func (o *outflow) fits(p call.Payload, size int) bool {
	n := len(o.pending)
	return n == 0 || n+call.ItemOverhead+len(p.Data) <= min(size, o.peer.maxOut())
}

// sendItems appends the pending items to the connection as one frame. o.mu is held.
func (o *outflow) sendItems() {
	if len(o.pending) == 0 {
		return
	}
	if _, err := o.peer.conn.Append(Header{Type: o.typ, ID: o.id}, nil, o.pending); err != nil {
		o.fail(err)
	}
	if len(o.pending) > maxCopied { // the connection refers to it
		o.pending = nil
	}
	o.pending = o.pending[:0]
}

func (o *outflow) write(ctx context.Context) {
	o.mu.Lock()
	for len(o.pending) > 0 {
		o.mu.Unlock()
		ok := o.sendPending(ctx)
		o.mu.Lock()
		if !ok { // the END sends the rest, if the stream still counts
			break
		}
	}
	o.writing = false
	o.mu.Unlock()
}

// end notes that the other side takes no more items, and ends a wait for credit.
func (o *outflow) end() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.wakeLocked()
}

// waitLocked returns the channel that wakes a sender. o.mu is held.
func (o *outflow) waitLocked() <-chan struct{} {
	if o.credited == nil {
		o.credited = make(chan struct{}, 1)
	}
	return o.credited
}

// wakeLocked wakes the sender that waits, or the next one. o.mu is held.
func (o *outflow) wakeLocked() {
	select {
	case o.credited <- struct{}{}:
	default: // also without a channel
	}
}

// addCredit handles a CREDIT or ALLOW: the other side has read more items.
func (o *outflow) addCredit(b *call.Batch, w call.Window) error {
	o.mu.Lock()
	far := o.source
	if far == nil {
		o.items, o.bytes, o.asked = o.items+int64(w.Items), o.bytes+int64(w.Bytes), true
		o.wakeLocked()
		if o.items > 1<<40 || o.bytes > 1<<50 { // more than any consumer can have read
			o.mu.Unlock()
			return errors.New("credit beyond all bounds")
		}
	}
	o.mu.Unlock()
	if far != nil {
		far.Credit(b, w)
	}
	return nil
}

// inflow is the consuming end of a row of items: of a stream, whose caller is on this side, or of the parts that come with an exchange.
type inflow struct {
	peer   *Peer
	typ    Type // of the frames that widen the window: TypeCredit or TypeAllow
	id     uint64
	items  call.Items
	unread *call.Unread // of the call; nil for parts that come with it

	mu     sync.Mutex
	window [2]int64 // items and bytes that may still come
	rows   int      // of an exchange: the number of rows of parts, in this direction, that have not ended
}

func newInflow(p *Peer, id uint64, c *call.Call) *inflow {
	w := windowOf(c)
	f := &inflow{peer: p, typ: TypeCredit, id: id, items: c.Items, unread: c.Unread, window: [2]int64{int64(w.Items), int64(w.Bytes)}}
	if c.Exchange != nil {
		f.rows = 1
	}
	return f
}

// Credit lets the other side send more items and bytes.
func (f *inflow) Credit(b *call.Batch, w call.Window) {
	f.mu.Lock()
	f.window[0] += int64(w.Items)
	f.window[1] += int64(w.Bytes)
	f.noteLocked(true)
	f.mu.Unlock()
	var meta [creditLen]byte
	le.PutUint32(meta[:], w.Items)
	le.PutUint32(meta[4:], w.Bytes)
	if _, err := f.peer.conn.Append(Header{Type: f.typ, ID: f.id}, meta[:]); err == nil {
		b.Touch(f.peer.conn)
	}
}

// frame handles an ITEMS or UPLOAD frame.
func (f *inflow) frame(b *call.Batch, body []byte) error {
	f.mu.Lock()
	for rest := body; ; {
		p, r, ok := call.NextItem(rest)
		if !ok {
			f.mu.Unlock()
			return errors.New("malformed items")
		}
		if err := f.admit(p); err != nil {
			f.mu.Unlock()
			return err
		}
		if rest = r; len(rest) == 0 {
			break
		}
	}
	f.noteLocked(false)
	f.mu.Unlock()
	f.items.Frame(b, f, body)
	return nil
}

// noteLocked notes that the window is full, and since when: with read the reader has taken items just now. f.mu is held.
func (f *inflow) noteLocked(read bool) {
	switch full := f.window[0] <= 0 || f.window[1] <= 0; {
	case full:
		f.unread.Full(call.Now())
	case read:
		f.unread.Room()
	}
}

// admit counts one item. f.mu is held.
func (f *inflow) admit(p call.Payload) error {
	if f.typ == TypeAllow && (f.rows == 0 || f.items == nil) {
		return errors.New("a part for a call that takes none")
	}
	if f.rows > 0 && endsParts(p.Codec) {
		f.rows--
		return nil
	}
	if f.window[0] <= 0 || f.window[1] <= 0 {
		return errors.New("items beyond the window of a stream")
	}
	f.window[0]--
	f.window[1] -= int64(len(p.Data))
	return nil
}

// failed is the codec of an answer to a broadcast whose data is an error envelope.
const failed call.Codec = 255

// Answer encodes the answer of one replica to a broadcast as an item of a stream.
func Answer(index int, r call.Result) call.Payload {
	b := le.AppendUint32(nil, uint32(index))
	if r.Err == nil && r.Parts != nil { // cannot happen: a worker knows that the call is a broadcast
		r.Err = call.NewError(helvetype.ReasonInternal, "the answer to a broadcast has buffers out of band")
	}
	if r.Err != nil {
		return call.Payload{Codec: call.Raw, Data: codec.AppendError(append(b, byte(failed)), r.Err)}
	}
	return call.Payload{Codec: call.Raw, Data: append(append(b, byte(r.Codec)), r.Data...)}
}

// ParseAnswer decodes an item that [Answer] has made.
func ParseAnswer(p call.Payload) (index int, r call.Result, err error) {
	b := p.Data
	if len(b) < 5 {
		return 0, r, errors.New("malformed answer to a broadcast")
	}
	index = int(le.Uint32(b))
	r.Payload = call.Payload{Codec: call.Codec(b[4]), Data: b[5:]}
	if r.Codec == failed {
		r.Payload = call.Payload{}
		if r.Err, err = codec.ParseError(b[5:]); err != nil {
			return 0, r, err
		}
	}
	return index, r, nil
}
