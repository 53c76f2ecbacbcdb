package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

const (
	// maxAnnounced and maxAnnouncedMeta limit the bodies that were announced and are not complete, in number and in
	// bytes of their metas.
	maxAnnounced     = 1 << 16
	maxAnnouncedMeta = 64 << 20
	// maxHeld limits the frames that wait for an announced body, in bytes.
	maxHeld      = 64 << 20
	heldOverhead = 128
)

// inBody is one announced body that is being received. The lock of the receiver guards it, but buf belongs to the reader
// of the bulk connection.
type inBody struct {
	number      uint64
	h           Header
	meta        []byte
	order       order
	announcedAt time.Time // set when the announcement came
	total       int
	credit      int // the length up to which the other side may send

	buf      []byte
	received int
	begun    bool
	reserved bool // counts in the budget
	dropped  bool // further chunks are discarded
	complete bool
}

// order identifies frames that must be handed over in the order in which they came: the frames of one call, control
// request or reply. The class says which of these it is, because each has ids of its own.
type order struct {
	class uint8
	id    uint64
}

// orderOf returns the order of a frame. ordered is false if the frame may overtake every other.
func orderOf(h Header) (order, bool) {
	switch h.Type {
	case TypeCall, TypeCancel, TypeCredit, TypeUpload:
		return order{0, h.ID}, true
	case TypeEnd, TypeItems, TypeAllow:
		return order{1, h.ID}, true
	case TypeControl:
		return order{2, h.ID}, true
	case TypeReply:
		return order{3, h.ID}, true
	}
	return order{}, false
}

// hasBody says whether the body of a frame may be announced.
func hasBody(t Type) bool {
	return t != TypeCancel && t != TypeCredit && t != TypeUpload && t != TypeAllow
}

// heldFrame is an entry in the queue of one order: a body that is not complete, or a frame or complete body behind one.
type heldFrame struct {
	body *inBody // nil for a frame without an announced body
	h    Header
	meta []byte
	data []byte
}

// callMeta is the meta of the CALL.
func (e heldFrame) callMeta() []byte {
	if e.body != nil {
		return e.body.meta
	}
	return e.meta
}

// bulkReceiver assembles announced bodies. A body over [defaultCredit] waits until the budget has room for all of it, in
// the order of the announcements; then its memory is reserved and it is granted completely. So every body that was
// granted can be finished, and two bodies cannot wait for each other.
//
// Example: the budget is 256 MB. Bodies of 200, 100 and 10 MB are announced. The first is granted; the second waits, and
// the third waits behind it, although it would fit. When the first is complete, both are granted.
type bulkReceiver struct {
	l     *Link
	frame func(b *call.Batch, h Header, meta, body []byte) error

	mu         sync.Mutex // also held while a frame is handed over, so that the two readers hand over one frame at a time
	announced  *sync.Cond // signalled when a body is announced, or when no more will be
	ended      bool       // the small connection has ended
	lastCall   uint64
	number     uint64 // of the body that was announced last
	incomplete map[uint64]*inBody
	queues     map[order][]heldFrame
	waiting    []*inBody // bodies that wait for the budget, in order
	reserved   int       // bytes of the budget that are in use
	budget     int
	begun      int
	metaBytes  int
	heldBytes  int
}

func (r *bulkReceiver) init(l *Link) {
	r.l, r.incomplete, r.queues = l, map[uint64]*inBody{}, map[order][]heldFrame{}
	r.announced = sync.NewCond(&r.mu)
	r.budget = max(l.terms.Budget, l.terms.MaxIn)
}

// small handles a frame of the small connection.
func (r *bulkReceiver) small(b *call.Batch, h Header, meta, body []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.Type == TypeCall {
		if h.ID <= r.lastCall {
			return fmt.Errorf("call id %d after %d: ids count up", h.ID, r.lastCall)
		}
		r.lastCall = h.ID
	}
	if r.l.terms.Bulk {
		key, ordered := orderOf(h)
		switch {
		case ordered && h.Flags&FlagBulk != 0 && hasBody(h.Type):
			return r.announce(b, key, h, meta, body)
		case h.Type == TypeGrant:
			if len(meta) < 8 {
				return errors.New("malformed grant meta")
			}
			return r.l.send.grant(h.ID, le.Uint64(meta))
		case ordered && len(r.queues) > 0 && r.queues[key] != nil:
			return r.hold(b, key, h, meta, body)
		}
	}
	return r.frame(b, h, meta, body)
}

func (r *bulkReceiver) announce(b *call.Batch, key order, h Header, meta, body []byte) error {
	n := len(meta) - announceLen
	if n < 0 || len(body) > 0 {
		return errors.New("malformed announcement of a body")
	}
	number, total := le.Uint64(meta[n:]), le.Uint64(meta[n+8:])
	switch {
	case number != r.number+1:
		return fmt.Errorf("body %d is announced after %d: they count up", number, r.number)
	case total == 0 || total > uint64(r.l.terms.MaxIn):
		return fmt.Errorf("a body of %d bytes is announced, at most %d are allowed", total, r.l.terms.MaxIn)
	case len(r.incomplete) == maxAnnounced || r.metaBytes+n > maxAnnouncedMeta:
		return fmt.Errorf("%d bodies are announced and not complete", len(r.incomplete))
	}
	r.number = number
	h.Flags &^= FlagBulk
	m := &inBody{number: number, h: h, meta: append([]byte(nil), meta[:n]...), order: key, announcedAt: time.Now(), total: int(total)}
	m.credit = min(m.total, r.l.freeCredit)
	r.metaBytes += n
	r.incomplete[number] = m
	r.queues[key] = append(r.queues[key], heldFrame{body: m})
	if m.total > r.l.freeCredit {
		r.waiting = append(r.waiting, m)
		if err := r.grantWaiting(b); err != nil {
			return err
		}
	}
	r.announced.Broadcast()
	return nil
}

// grantWaiting reserves memory for bodies that wait for the budget, in their order. A small body does not overtake a
// large one, which could wait forever otherwise.
func (r *bulkReceiver) grantWaiting(b *call.Batch) error {
	for len(r.waiting) > 0 {
		m := r.waiting[0]
		if !m.dropped {
			if r.reserved+m.total > r.budget {
				return nil
			}
			r.reserved += m.total
			m.reserved = true
			if err := r.grant(b, m); err != nil {
				return err
			}
		}
		r.waiting[0] = nil
		r.waiting = r.waiting[1:]
	}
	return nil
}

// grant lets the other side send all of m. The memory is reserved, so a smaller grant would save nothing.
func (r *bulkReceiver) grant(b *call.Batch, m *inBody) error {
	m.credit = m.total
	var meta [8]byte
	le.PutUint64(meta[:], uint64(m.total))
	if _, err := r.l.small.Append(Header{Type: TypeGrant, ID: m.number}, meta[:]); err != nil {
		return nil //nolint:nilerr // the connection has ended, and its reader sees it too
	}
	b.Touch(r.l)
	return nil
}

func (r *bulkReceiver) unreserve(m *inBody) {
	if m.reserved {
		r.reserved -= m.total
		m.reserved = false
	}
}

// hold queues a frame behind the announced body of the same order. A CANCEL of a call is handled at once: the call is
// answered without its body. But it waits too if an argument is in shared memory, because the reference must be taken
// over before it can be released.
func (r *bulkReceiver) hold(b *call.Batch, key order, h Header, meta, body []byte) error {
	if h.Type == TypeCancel && !hasMemoryReference(r.queues[key][0].callMeta()) {
		r.cancelCall(b, key)
		return nil
	}
	if r.heldBytes += heldOverhead + len(meta) + len(body); r.heldBytes > maxHeld {
		return fmt.Errorf("over %d bytes of frames wait for bodies that were announced before them", maxHeld)
	}
	data := make([]byte, len(meta)+len(body))
	copy(data, meta)
	copy(data[len(meta):], body)
	r.queues[key] = append(r.queues[key], heldFrame{h: h, meta: data[:len(meta):len(meta)], data: data[len(meta):]})
	return nil
}

// cancelCall answers a call whose body is not complete, and discards the body.
func (r *bulkReceiver) cancelCall(b *call.Batch, key order) {
	for _, e := range r.queues[key] {
		if e.body == nil {
			r.heldBytes -= heldOverhead + len(e.meta) + len(e.data)
			continue
		}
		m := e.body
		m.dropped = true
		r.unreserve(m)
		if m.credit < m.total {
			r.grant(b, m) //nolint:errcheck // never fails
		}
	}
	delete(r.queues, key)
	r.grantWaiting(b) //nolint:errcheck // never fails
	e := call.NewError(helvetype.ReasonCancelled, "the call was cancelled before its arguments had arrived")
	h := Header{Type: TypeEnd, Flags: FlagError, ID: key.id}
	if _, err := r.l.small.Append(h, make([]byte, endLen), codec.AppendError(nil, e)); err == nil {
		b.Touch(r.l)
	}
}

// close records that no more announcements come.
func (r *bulkReceiver) close() {
	r.mu.Lock()
	r.ended = true
	r.announced.Broadcast()
	r.mu.Unlock()
}

// read reads the bulk connection until it ends. Chunks are read into the memory of their body; only bytes that a read
// has brought along with a header are copied.
func (r *bulkReceiver) read(nc net.Conn) error {
	var batch call.Batch
	defer batch.End()
	in := &chunkReader{nc: nc}
	var waste []byte
	for {
		head, err := in.header()
		if err != nil {
			return err
		}
		h := parseHeader(head)
		if h.Type != TypeChunk || h.Meta != 0 || int64(h.Body) > int64(r.l.chunkSize) {
			return &protocolError{fmt.Errorf("frame of type %d, with %d bytes of meta and %d of body, on the bulk connection",
				h.Type, h.Meta, h.Body)}
		}
		m, place, err := r.chunk(&batch, h)
		batch.End()
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if place == nil {
			if waste == nil {
				waste = make([]byte, r.l.chunkSize)
			}
			place = waste[:h.Body]
		}
		if err := in.full(place); err != nil {
			return err
		}
		err = r.bytesArrived(&batch, m, len(place))
		batch.End()
		if err != nil {
			return err
		}
	}
}

var errLinkEnded = errors.New("the small connection has ended")

// chunk checks the header of a chunk. place is the memory for its bytes, or nil if they are discarded. m is nil for an
// abort.
func (r *bulkReceiver) chunk(b *call.Batch, h Header) (m *inBody, place []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h.ID > r.number && !r.ended { // the chunk may be here before its announcement
		r.announced.Wait()
	}
	if h.ID > r.number {
		return nil, nil, errLinkEnded
	}
	m = r.incomplete[h.ID]
	n := int(h.Body)
	switch {
	case m == nil:
		return nil, nil, &protocolError{fmt.Errorf("a chunk of body %d, which is complete", h.ID)}
	case h.Flags&FlagAbort != 0:
		return nil, nil, r.abort(b, m, n)
	case n == 0:
		return nil, nil, &protocolError{fmt.Errorf("an empty chunk of body %d", h.ID)}
	case m.received+n > m.credit:
		return nil, nil, &protocolError{fmt.Errorf("body %d has %d bytes, of which %d may be sent; a chunk ends at %d",
			h.ID, m.total, m.credit, m.received+n)}
	}
	if !m.begun {
		if r.begun == maxBegun {
			return nil, nil, &protocolError{fmt.Errorf("over %d bodies at once", maxBegun)}
		}
		m.begun = true
		r.begun++
	}
	if m.dropped {
		m.buf = nil
		return m, nil, nil
	}
	if len(m.buf) < m.received+n {
		own := make([]byte, m.credit) // all of a granted body, or the part that may be sent before a grant
		copy(own, m.buf[:m.received])
		m.buf = own
	}
	return m, m.buf[m.received : m.received+n], nil
}

func (r *bulkReceiver) abort(b *call.Batch, m *inBody, n int) error {
	if n > 0 || m.h.Type != TypeCall && m.h.Type != TypeItems {
		return &protocolError{fmt.Errorf("an abort of body %d, a frame of type %d", m.number, m.h.Type)}
	}
	r.forget(m)
	r.unreserve(m)
	if !m.dropped {
		m.dropped = true
		q := r.queues[m.order]
		for i := range q {
			if q[i].body == m {
				r.queues[m.order] = append(q[:i:i], q[i+1:]...)
				break
			}
		}
		if err := r.handOver(b, m.order); err != nil {
			return err
		}
	}
	return r.grantWaiting(b)
}

// forget removes a body that gets no more chunks.
func (r *bulkReceiver) forget(m *inBody) {
	delete(r.incomplete, m.number)
	r.metaBytes -= len(m.meta)
	if m.begun {
		r.begun--
	}
}

// bytesArrived counts n more bytes of m.
func (r *bulkReceiver) bytesArrived(b *call.Batch, m *inBody, n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.received += n; m.received < m.total {
		return nil
	}
	r.forget(m)
	if m.dropped {
		return nil
	}
	m.complete = true
	if err := r.handOver(b, m.order); err != nil {
		return err
	}
	return r.grantWaiting(b)
}

// handOver hands over the queue of one order, up to a body that is not complete.
func (r *bulkReceiver) handOver(b *call.Batch, key order) error {
	q := r.queues[key]
	for len(q) > 0 && (q[0].body == nil || q[0].body.complete) {
		e := q[0]
		q = q[1:]
		// The queue is changed before the hand-over, because frame may cause further frames of the same order.
		if len(q) == 0 {
			delete(r.queues, key)
		} else {
			r.queues[key] = q
		}
		if m := e.body; m != nil {
			r.unreserve(m)
			m.h.Body = uint32(m.total)
			if m.h.Type == TypeCall {
				subtractTime(m.meta, time.Since(m.announcedAt))
			}
			e.h, e.meta, e.data = m.h, m.meta, m.buf
			m.buf = nil
		} else {
			r.heldBytes -= heldOverhead + len(e.meta) + len(e.data)
		}
		if err := r.frame(b, e.h, e.meta, e.data); err != nil {
			return &protocolError{err}
		}
	}
	if len(q) == 0 {
		delete(r.queues, key)
	}
	return nil
}

// subtractTime subtracts the time that a body took to arrive from the time that its call has left.
func subtractTime(meta []byte, d time.Duration) {
	if len(meta) < callLen {
		return
	}
	if left := le.Uint64(meta[8:]); left > 0 {
		spent := uint64(max(d, 0) / time.Microsecond)
		le.PutUint64(meta[8:], max(left, spent+1)-spent)
	}
}

// chunkReader reads the headers of chunks through a small buffer, and their bytes directly into their place.
type chunkReader struct {
	nc     net.Conn
	lo, hi int
	buf    [4 << 10]byte
}

func (c *chunkReader) header() ([]byte, error) {
	for c.hi-c.lo < headerLen {
		if c.lo > 0 {
			c.hi = copy(c.buf[:], c.buf[c.lo:c.hi])
			c.lo = 0
		}
		n, err := c.nc.Read(c.buf[c.hi:])
		c.hi += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && c.hi > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	c.lo += headerLen
	return c.buf[c.lo-headerLen : c.lo], nil
}

func (c *chunkReader) full(p []byte) error {
	n := copy(p, c.buf[c.lo:c.hi])
	if c.lo += n; n == len(p) {
		return nil
	}
	_, err := io.ReadFull(c.nc, p[n:])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
