package wire

import (
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// The types and flags of frames about large bodies. They exist only if [Terms.Bulk] was agreed on.
const (
	TypeChunk Type = 21 // on the bulk connection: a part of an announced body
	TypeGrant Type = 22 // on the small connection: the length up to which an announced body may be sent
	// FlagBulk marks a frame whose body comes in chunks: the last 16 bytes of its meta are the number and the length of
	// the body.
	FlagBulk = 0x80
	// FlagAbort marks a CHUNK that ends a body early.
	FlagAbort = 1
)

const (
	// maxChunk is the size of the largest body that travels inside its frame, and of the largest chunk.
	maxChunk = 256 << 10
	// defaultCredit is the part of a body that may be sent before the receiver has granted it. So 1 MB costs no round
	// trip.
	defaultCredit = 1 << 20
	// maxBegun is the number of bodies of which a part may be on its way. A receiver holds at most maxBegun times
	// defaultCredit bytes that it has not granted.
	maxBegun    = 64
	announceLen = 16
)

// linger is the time for which one connection is still read after the other one has ended, or after a write has failed.
// A process that exits closes both connections at once, and the frames that it has written before still count.
const linger = time.Second

// Terms are the result of an opening. The zero value is protocol 1 with the default limits.
type Terms struct {
	Protocol int
	Bulk     bool // a second connection carries large bodies
	Segments bool // values may have several parts: buffers out of band, shared memory, kept results
	HTTP     bool // the node may send exchanges
	MaxIn    int  // bytes of the largest body that this side takes; 0 for MaxBody
	MaxOut   int  // bytes of the largest body that the other side takes; 0 for MaxBody
	Budget   int  // bytes of incomplete bodies that this side holds; 0 for MaxBody, at least MaxIn
	Calls    int  // bytes of unfinished calls of the other side; 0 for 1 GiB, at least MaxIn
	Controls int  // bytes of unanswered control requests of the other side; 0 for the larger of 512 MiB and 2 MaxIn
}

// Link is the connection of a [Peer], or its pair of connections. In a pair every frame travels on the small connection.
// A body over 256 KiB does not travel in its frame: the frame announces it, and the body follows in chunks on the bulk
// connection. So a large body does not hold up the frames behind it.
//
// All frames keep the order of the small connection, with one exception: a frame waits if a body of the same call is
// announced before it and is not complete. Example: a worker sends an END with a body of 5 MB for call 7, and then an
// END of three bytes for call 8. The announcement and the END of call 8 arrive at once, and call 8 ends. Call 7 ends
// when the last of its 20 chunks has come.
//
// An alternative was to send whole large frames on the bulk connection. It would need routes that are declared on both
// connections, cancels that are remembered when they overtake their call, and numbers for the items of a stream.
//
// Append and Flush may be called from any goroutine, Read from one. If one of the connections ends, the other is ended
// too.
type Link struct {
	small *Conn
	terms Terms
	send  bulkSender
	recv  bulkReceiver

	itemTurn              chan struct{} // a stream holds it while it sends items
	ending                atomic.Int64  // bytes that streams are about to send with their ENDs: see [Incoming.Drain]
	chunkSize, freeCredit int           // maxChunk and defaultCredit, but smaller in tests

	mu          sync.Mutex // guards the fields below
	bulk        net.Conn   // nil before Attach
	ended       bool
	reading     bool        // Read has begun
	attachTimer *time.Timer // ends the link if the second connection does not come
	readers     sync.WaitGroup
}

// NewLink makes a link of the small connection, whose opening has agreed on t.
func NewLink(small *Conn, t Terms) *Link {
	for _, n := range []*int{&t.MaxIn, &t.MaxOut, &t.Budget} {
		if *n <= 0 {
			*n = MaxBody
		}
	}
	t.MaxOut = min(t.MaxOut, math.MaxUint32) // the length field has 32 bits
	if t.Calls <= 0 {
		t.Calls = maxCallBytes
	}
	t.Calls = max(t.Calls, t.MaxIn)
	if t.Controls <= 0 {
		t.Controls = max(maxControlBytes, 2*t.MaxIn)
	}
	l := &Link{small: small, terms: t, itemTurn: make(chan struct{}, 1), chunkSize: maxChunk, freeCredit: defaultCredit}
	small.maxIn, small.maxOut = t.MaxIn, t.MaxOut
	if t.Bulk {
		small.maxIn = min(t.MaxIn, maxChunk)
	}
	l.send.init(l)
	l.recv.init(l)
	return l
}

// Attach adds the second connection, after its opening. It fails if the terms have no second connection or if there is
// one already; then it closes nc.
func (l *Link) Attach(nc net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	switch {
	case !l.terms.Bulk:
		err = errors.New("a second connection, which was not agreed on")
	case l.bulk != nil:
		err = errors.New("a second connection, and there is one already")
	case l.ended:
		err = ErrClosed
	}
	if err != nil {
		nc.Close()
		return err
	}
	nc = newSocket(nc)
	l.bulk = nc
	if l.attachTimer != nil {
		l.attachTimer.Stop()
	}
	if l.reading {
		l.startReader()
	}
	l.send.attach(nc)
	return nil
}

// startReader starts the reader of the second connection. mu is held.
func (l *Link) startReader() {
	nc := l.bulk
	l.readers.Go(func() { l.bulkEnded(l.recv.read(nc)) })
}

// inFrame says whether a body of n bytes travels inside its frame, in order with all frames. A larger one travels on the second connection, and frames that are appended later may overtake it.
func (l *Link) inFrame(n int) bool { return !l.terms.Bulk || n <= l.chunkSize }

// Append queues one frame, as [Conn.Append] does. A body over 256 KiB is announced and sent in chunks; its segments over
// 32 KiB are referenced until the last chunk is written.
func (l *Link) Append(h Header, meta []byte, segs ...[]byte) (pos uint64, err error) {
	if !l.terms.Bulk {
		return l.small.Append(h, meta, segs...)
	}
	n := 0
	for _, s := range segs {
		n += len(s)
	}
	if l.inFrame(n) {
		if h.Type == TypeItems && l.send.streams.Load() > 0 {
			if err := l.send.countHeld(h.ID, len(meta)+n); err != nil {
				return 0, err
			}
		}
		return l.small.Append(h, meta, segs...)
	}
	return l.send.announce(h, meta, segs, n)
}

// Flush starts to write the frames that were appended. It does not block.
func (l *Link) Flush() {
	l.small.Flush()
	if l.send.waiting.Load() {
		l.send.startWriter()
	}
}

// FlushSoon is Flush for a goroutine that runs one call: see [Conn.FlushSoon].
func (l *Link) FlushSoon(busy bool) {
	if busy {
		runtime.Gosched()
	}
	l.Flush()
}

// Err is the cause of the link's end, or nil before it.
func (l *Link) Err() error { return l.small.Err() }

// Close ends both connections. Frames that are not written are lost. The first cause stays.
func (l *Link) Close(cause error) {
	l.small.Close(cause)
	l.mu.Lock()
	l.ended = true
	if l.attachTimer != nil {
		l.attachTimer.Stop()
	}
	if l.bulk != nil {
		l.bulk.Close()
	}
	l.mu.Unlock()
}

// Sent returns true if the other side may have acted on the frame at pos. For a frame with its body inside this means
// that any byte of it has reached the kernel; for an announced body, any byte of its last chunk. The result is final
// after awaitWriters.
func (l *Link) Sent(pos uint64) bool {
	if pos&bulkPos != 0 {
		return l.send.sent(pos)
	}
	return l.small.Sent(pos)
}

func (l *Link) unsentFrame(pos uint64) (h Header, meta, body []byte, ok bool) {
	if pos&bulkPos != 0 {
		return l.send.unsent(pos)
	}
	return l.small.unsentFrame(pos)
}

// withdraw takes back the frame at pos, if its body is announced and not sent completely. The caller flushes.
func (l *Link) withdraw(pos uint64) bool { return pos&bulkPos != 0 && l.send.withdraw(pos) }

// awaitWriters returns when no goroutine writes any more. It is called after Read has returned.
func (l *Link) awaitWriters() {
	l.small.awaitWriter()
	l.send.awaitWriter()
}

// Read calls frame for every frame, one at a time, until the link ends or frame returns an error, which is sent to the
// other side. [Conn.Read] says how long meta and body are valid.
func (l *Link) Read(frame func(b *call.Batch, h Header, meta, body []byte) error) error {
	l.recv.frame = frame
	l.mu.Lock()
	l.reading = true
	switch {
	case l.bulk != nil:
		l.startReader()
	case l.terms.Bulk && !l.ended:
		l.attachTimer = time.AfterFunc(openingTime, func() { l.Close(errors.New("the second connection was not opened in time")) })
	}
	l.mu.Unlock()
	err := l.small.Read(l.recv.small)
	l.recv.close()
	l.mu.Lock()
	l.ended = true
	if l.attachTimer != nil {
		l.attachTimer.Stop()
	}
	if l.bulk != nil {
		if l.small.closedHere() {
			l.bulk.Close()
		} else {
			l.bulk.SetReadDeadline(time.Now().Add(l.small.linger)) //nolint:errcheck // Read closes it in any case
		}
	}
	l.mu.Unlock()
	l.readers.Wait()
	l.mu.Lock()
	if l.bulk != nil {
		l.bulk.Close()
	}
	l.mu.Unlock()
	l.send.close()
	return err
}

// bulkEnded ends the small connection because the bulk connection has ended. If the other side has broken the protocol,
// it ends at once with a GOAWAY; otherwise when all data that has arrived is read.
func (l *Link) bulkEnded(err error) {
	if p, ok := errors.AsType[*protocolError](err); ok {
		l.small.endForViolation(p.err)
		return
	}
	l.small.endAfterReading(fmt.Errorf("the bulk connection has ended: %w", err))
}
