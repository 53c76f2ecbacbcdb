package wire

import (
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// The frame types of the second connection, and the flags that belong to them. They exist only where [Terms.Bulk] was
// agreed on; 19 and 20 are the streams' own.
const (
	TypeChunk Type = 21 // a part of an announced body, on the bulk connection
	TypeGrant Type = 22 // how far an announced body may be sent, on the small one
	// FlagBulk marks a frame that only announces its body: the last 16 bytes of the meta are the body's number and length.
	FlagBulk = 0x80
	// FlagAbort marks a CHUNK that ends an announced body early.
	FlagAbort = 1
)

const (
	// maxChunk bounds a body that travels inside its frame, and a chunk.
	maxChunk = 256 << 10
	// defaultCredit is how much of every body may be sent before the receiver granted it: 1 MB costs no round trip.
	defaultCredit = 1 << 20
	// maxBegun bounds the bodies of which a part was sent, and with freeCredit what a peer can make us hold unasked.
	maxBegun    = 64
	announceLen = 16
)

// linger is how long one connection of a pair is read on after the other one ended: a process that ends closes both, and
// what it had written before counts.
const linger = time.Second

// Terms are what both sides of an opening agreed on. The zero value is protocol 1 with the default limits.
type Terms struct {
	Protocol int
	Bulk     bool // a second connection carries the large bodies
	Segments bool // values may lie in parts: buffers out of band, shared memory, results that the node keeps
	MaxIn    int  // the largest body that this side takes, in bytes; 0 for MaxBody
	MaxOut   int  // the largest that the other side takes; 0 for MaxBody
	Budget   int  // bytes of unfinished bodies that this side holds at most; 0 for MaxBody, and never less than MaxIn
	Calls    int  // bytes of calls that have not ended, which the other side may have here; 0 for 1 GiB, and never less than MaxIn
	Controls int  // bytes of its control requests that are not answered; 0 for 512 MiB or two of MaxIn
}

// Link is what a [Peer] writes to and reads from: one connection, or a pair of them. In a pair every frame travels on the
// small connection, in order, and bodies over 256 KiB follow in chunks on the bulk connection, announced by their frame.
// So routes, calls, cancels and items keep their order, whichever way their bodies take; a frame whose id still waits for
// an announced body waits with it, and nothing else does.
//
// (The alternative, whole large frames on the bulk connection, would need routes declared on both, cancels remembered
// that overtook their calls, and sequence numbers for the items of a stream.)
//
// Append and Flush may be called from any goroutine; Read has one. If either connection ends, both do.
type Link struct {
	small *Conn
	terms Terms
	send  bulkSender
	recv  bulkReceiver

	itemTurn              chan struct{} // held by the stream that sends items
	chunkSize, freeCredit int           // chunkMax and freeCredit, except in tests

	mu          sync.Mutex // guards what follows
	bulk        net.Conn   // nil until attached
	ended       bool
	reading     bool        // Read has begun
	attachTimer *time.Timer // ends a link whose second connection does not come
	readers     sync.WaitGroup
}

// NewLink makes a link of the small connection, whose opening agreed on t.
func NewLink(small *Conn, t Terms) *Link {
	for _, n := range []*int{&t.MaxIn, &t.MaxOut, &t.Budget} {
		if *n <= 0 {
			*n = MaxBody
		}
	}
	t.MaxOut = min(t.MaxOut, math.MaxUint32) // a frame cannot say more
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

// Attach gives the link its second connection, after its opening. It fails if none was agreed on or there is one already;
// nc is the link's in any case.
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

// startReader is called with mu held.
func (l *Link) startReader() {
	nc := l.bulk
	l.readers.Go(func() { l.bulkEnded(l.recv.read(nc)) })
}

// Append queues one frame as [Conn.Append] does. A body over 256 KiB is announced, and sent beside other bodies; its
// segments over 32 KiB are referenced until then.
func (l *Link) Append(h Header, meta []byte, segs ...[]byte) (pos uint64, err error) {
	if !l.terms.Bulk {
		return l.small.Append(h, meta, segs...)
	}
	n := 0
	for _, s := range segs {
		n += len(s)
	}
	if n <= l.chunkSize {
		if h.Type == TypeItems && l.send.streams.Load() > 0 {
			if err := l.send.countHeld(h.ID, len(meta)+n); err != nil {
				return 0, err
			}
		}
		return l.small.Append(h, meta, segs...)
	}
	return l.send.announce(h, meta, segs, n)
}

// Flush writes what was appended, or leaves it to whoever is writing. It does not block.
func (l *Link) Flush() {
	l.small.Flush()
	if l.send.waiting.Load() {
		l.send.startWriter()
	}
}

// FlushSoon is Flush for a caller on a goroutine of its own: see [Conn.FlushSoon].
func (l *Link) FlushSoon(busy bool) {
	if busy {
		runtime.Gosched()
	}
	l.Flush()
}

// Err is why the link ended, nil while it lives.
func (l *Link) Err() error { return l.small.Err() }

// Close ends both connections; frames not yet written are dropped. The first cause stays.
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

// Sent says whether the other side may act on the frame at pos: whether any byte of it reached the kernel or, where its
// body was announced, any byte of the last chunk. Its answer is final only after settled.
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

// withdraw takes back the frame at pos if the other side cannot have acted on it yet. The caller flushes.
func (l *Link) withdraw(pos uint64) bool { return pos&bulkPos != 0 && l.send.withdraw(pos) }

// awaitWriter waits until nobody writes, after Read returned.
func (l *Link) awaitWriters() {
	l.small.awaitWriter()
	l.send.awaitWriter()
}

// Read hands over frames, one at a time, until the link ends or frame returns an error, which the other side is told.
// What is valid for how long is said at [Conn.Read].
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
			l.bulk.SetReadDeadline(time.Now().Add(linger)) //nolint:errcheck // it is closed in the end anyway
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

// bulkEnded ends the small connection after the bulk connection: at once if the other side broke the rules, which it is
// told, and otherwise when what has arrived is read.
func (l *Link) bulkEnded(err error) {
	if p, ok := errors.AsType[*protocolError](err); ok {
		l.small.endForViolation(p.err)
		return
	}
	l.small.endAfterReading(fmt.Errorf("the bulk connection has ended: %w", err))
}
