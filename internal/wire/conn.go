package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

const (
	readBuf = 64 << 10
	// maxCopied is the largest frame that is handed over inside the read buffer, and the largest segment that is copied into
	// the write buffer. A larger frame is read into memory of its own. So a value over this size can be relayed from one
	// connection to another by reference, without a copy.
	maxCopied = call.GivenAway
	maxSpare  = 1 << 20 // the largest write buffer that is used again
)

// ErrClosed is the error of a connection that this side has closed.
var ErrClosed = errors.New("connection closed")

// Conn is one framed connection. Append and Flush may be called from any goroutine, Read from one.
//
// Writing has two steps. Append adds a frame to a buffer. Flush makes its goroutine the writer, unless another goroutine is
// the writer already; the writer also writes the frames that other goroutines append meanwhile. For example, 128 goroutines
// each append a call and flush: the first one writes its own frame, and then the frames of the other 127 in one system call.
//
// Flush does not block. If the kernel does not take all bytes at once, a new goroutine takes over as the writer, because the
// goroutine that flushes is often the reader of another connection, for example in a node that relays calls between two
// workers: a full socket of one worker must not stop the reading from the other.
//
// Append returns the position of the frame in the stream of written bytes. After the connection has ended, the position shows
// whether any byte of the frame has reached the kernel. A call of which no byte was written has not started, and can run
// elsewhere.
type Conn struct {
	nc net.Conn
	// tryWrite writes the bytes that the kernel takes at once, maybe none. It is nil if nc has no descriptor; then a goroutine makes all writes.
	tryWrite func(p []byte) (int, error)

	maxIn, maxOut, backlog int           // bytes; set before the connection is used
	streamBacklog          int           // bytes that wait, over which streams are held back
	linger                 time.Duration // the constant, but longer in tests
	congestion             congestion
	partCongestion         congestion // of the parts of exchanges, at partBacklog

	mu       sync.Mutex
	pending  []byte   // frames since the last flush, contiguous
	parts    [][]byte // frames before pend that include referenced segments, in order
	spare    []byte
	appended uint64 // bytes ever appended
	writing  bool
	err      error
	endCause error  // why it ends soon
	closed   bool   // this side ended it
	unsent   []byte // the end of a write that failed

	written atomic.Uint64 // bytes that the kernel has taken

	through net.Buffers // of appendThrough; it belongs to the goroutine that is the writer

	readsParts func(h Header) bool // a large frame may be read into memory that is used again: see FreeFrame
}

// NewConn makes a connection of nc, which has completed the opening. It takes nc over: only the result is used from then on.
func NewConn(nc net.Conn) *Conn {
	nc = newSocket(nc)
	return &Conn{
		nc: nc, tryWrite: writerOf(nc), maxIn: MaxBody, maxOut: MaxBody, backlog: maxBacklog, streamBacklog: maxStreamBacklog, linger: linger,
	}
}

// writerOf returns the function for [Conn.tryWrite].
func writerOf(nc net.Conn) func([]byte) (int, error) {
	if s, ok := nc.(interface{ tryWrite(p []byte) (int, error) }); ok {
		return s.tryWrite
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	var buf []byte
	var n int
	var errno error
	write := func(fd uintptr) bool { // one closure for all writes, because each closure is an allocation
		for {
			n, errno = syscall.Write(int(fd), buf)
			if errno != syscall.EINTR { //nolint:errorlint // raw errno
				return true
			}
		}
	}
	return func(p []byte) (int, error) {
		buf, n, errno = p, 0, nil
		err := raw.Write(write)
		buf = nil
		if err == nil && errno != nil && errno != syscall.EAGAIN { //nolint:errorlint // raw errno
			err = errno
		}
		return max(n, 0), err
	}
}

// writeAll writes all of bufs, which it consumes, with as few system calls as can be.
func writeAll(nc net.Conn, bufs *net.Buffers) (int64, error) {
	if s, ok := nc.(interface {
		writev(bufs *net.Buffers) (int64, error)
	}); ok {
		return s.writev(bufs)
	}
	return bufs.WriteTo(nc)
}

// Append adds one frame to the write buffer. The body of the frame is the concatenation of segs. Segments over 32 KiB are
// referenced instead of copied, and must not change any more. No byte is written before Flush. pos is the position of the
// frame in the stream of written bytes.
func (c *Conn) Append(h Header, meta []byte, segs ...[]byte) (pos uint64, err error) {
	n := 0
	for _, s := range segs {
		n += len(s)
	}
	if n > c.maxOut {
		return 0, tooLarge(n, c.maxOut)
	}
	if len(meta) > maxMeta {
		return 0, fmt.Errorf("%d bytes with %d bytes of names and metadata, at most %d of those are possible", n, len(meta), maxMeta)
	}
	h.Meta, h.Body = uint16(len(meta)), uint32(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if pos, err = c.admit(h, headerLen+len(meta)+n); err != nil {
		return pos, err
	}
	c.pending = appendHeader(c.pending, h)
	c.pending = append(c.pending, meta...)
	for _, s := range segs {
		if len(s) <= maxCopied {
			c.pending = append(c.pending, s...)
			continue
		}
		c.parts = append(c.parts, c.pending, s)
		c.pending = nil
	}
	return pos, nil
}

// admit counts a frame of size bytes that is about to be appended, and has a buffer ready for it. c.mu is held.
func (c *Conn) admit(h Header, size int) (pos uint64, err error) {
	if c.err != nil {
		return c.appended, c.err
	}
	if wait := c.appended - c.written.Load(); wait > uint64(c.backlog) {
		if h.Type == TypeCall || h.Type == TypeControl || h.Type == TypeItems || h.Type == TypeUpload {
			return c.appended, errBacklog
		}
		if wait > 4*uint64(c.backlog) {
			c.failLocked(errBacklog)
			return c.appended, errBacklog
		}
	}
	pos = c.appended
	c.appended += uint64(size)
	c.updateCongestion()
	if c.pending == nil {
		c.pending = c.spare[:0]
		c.spare = nil
	}
	return pos, nil
}

// Flush writes the frames that were appended. If another goroutine is the writer, it leaves them to that goroutine.
func (c *Conn) Flush() {
	c.mu.Lock()
	if c.writing || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for len(c.pending) > 0 || len(c.parts) > 0 {
		if len(c.parts) > 0 || c.tryWrite == nil {
			c.mu.Unlock()
			go c.drain(nil)
			return
		}
		b := c.pending
		c.pending = c.spare[:0]
		c.spare = nil
		c.mu.Unlock()
		n, err := c.tryWrite(b)
		c.written.Add(uint64(n))
		if err == nil && n < len(b) {
			go c.drain(b[n:])
			return
		}
		c.mu.Lock()
		c.updateCongestion()
		if err != nil {
			c.writeFailedLocked(err)
			c.unsent = b[n:]
			break
		}
		if cap(b) <= maxSpare {
			c.spare = b
		}
		if c.err != nil {
			break
		}
	}
	c.writing = false
	c.mu.Unlock()
}

// FlushSoon is Flush for a goroutine that runs one call. busy says that other calls are in flight on the connection: then
// other goroutines run first, so that one write takes the frames of many calls. With 128 calls in flight this makes a third
// of the system calls (measured).
func (c *Conn) FlushSoon(busy bool) {
	if busy {
		runtime.Gosched()
	}
	c.Flush()
}

// drain is the writer on a goroutine of its own, and may block. rest are the bytes that Flush could not write.
func (c *Conn) drain(rest []byte) {
	var bufs net.Buffers
	var own []byte // the write buffer in bufs, to be used again
	if len(rest) > 0 {
		bufs = append(bufs, rest)
	}
	for {
		if len(bufs) > 0 {
			n, err := writeAll(c.nc, &bufs)
			c.written.Add(uint64(n))
			if err != nil {
				c.mu.Lock()
				c.writeFailedLocked(err)
				c.unsent = bytes.Join(bufs, nil)
				c.writing = false
				c.mu.Unlock()
				return
			}
		}
		c.mu.Lock()
		c.updateCongestion()
		if own != nil && c.spare == nil && cap(own) <= maxSpare {
			c.spare = own[:0]
		}
		bufs, own = append(bufs[:0], c.parts...), nil
		if len(c.pending) > 0 {
			bufs, own = append(bufs, c.pending), c.pending
		}
		c.parts, c.pending = nil, nil
		if len(bufs) == 0 || c.err != nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// updateCongestion notes how many bytes wait to be written. c.mu is held.
func (c *Conn) updateCongestion() {
	wait := int(c.appended - c.written.Load())
	c.congestion.update(wait, c.streamBacklog)
	c.partCongestion.update(wait, partBacklog)
}

func (c *Conn) failLocked(err error) {
	if c.err == nil {
		c.err = err
	}
	c.nc.Close() // the reader ends, and then the peer
}

// writeFailedLocked ends writing after a write has failed. Frames that the other side has written before are still read, for at
// most [linger]. For example, a worker that exits answers a call and closes its socket. The node's next write fails, but the
// answer lies in the socket's buffer and is read after that.
func (c *Conn) writeFailedLocked(err error) {
	if c.err == nil {
		c.err = err
		c.congestion.update(0, 0)
		c.partCongestion.update(0, 0)
		c.nc.SetReadDeadline(time.Now().Add(c.linger)) //nolint:errcheck // it has ended already then
	}
}

// Close ends the connection. Frames that are not written are lost. If the connection has ended already, its first cause stays.
func (c *Conn) Close(cause error) {
	c.mu.Lock()
	if c.err == nil {
		c.closed = true
	}
	c.failLocked(cause)
	c.mu.Unlock()
}

// closedHere returns true, after the end, if this side has ended the connection.
func (c *Conn) closedHere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Err is the cause of the connection's end, or nil before it.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Sent returns true if any byte of the frame at pos has reached the kernel. The result is final when the connection has ended
// and [Conn.awaitWriter] has returned.
func (c *Conn) Sent(pos uint64) bool { return c.written.Load() > pos }

// unsentFrame returns the frame at pos, of which no byte was written. It is called after the connection has ended and
// [Conn.awaitWriter] has returned. ok is false if the frame is not complete there.
func (c *Conn) unsentFrame(pos uint64) (h Header, meta, body []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.parts) > 0 || len(c.pending) > 0 {
		c.unsent = bytes.Join(append(append([][]byte{c.unsent}, c.parts...), c.pending), nil)
		c.parts, c.pending = nil, nil
	}
	off := pos - c.written.Load()
	if off+headerLen > uint64(len(c.unsent)) {
		return h, nil, nil, false
	}
	b := c.unsent[off:]
	h = parseHeader(b)
	m, n := headerLen+int(h.Meta), headerLen+int(h.Meta)+int(h.Body)
	if n > len(b) {
		return h, nil, nil, false
	}
	return h, b[headerLen:m], b[m:n:n], true
}

// awaitWriter returns when no goroutine is the writer. It is called after the connection has ended.
func (c *Conn) awaitWriter() {
	for {
		c.mu.Lock()
		w := c.writing
		c.mu.Unlock()
		if !w {
			return
		}
		runtime.Gosched() // the writer fails at once: the socket is closed
	}
}

// Read calls frame for every frame that arrives, until the connection ends or frame returns an error, and returns the cause of
// the end. meta and body are valid only during the call of frame; but a body over 32 KiB has memory of its own and stays
// valid. An error of frame is sent to the other side, in a GOAWAY. The batch b ends after the complete frames of one read, so
// that answers to all of them are flushed together.
func (c *Conn) Read(frame func(b *call.Batch, h Header, meta, body []byte) error) error {
	err := c.read(frame)
	if p, ok := errors.AsType[*protocolError](err); ok {
		err = p.err
		c.endForViolation(err)
	}
	c.mu.Lock()
	if c.err == nil && c.endCause != nil {
		err = c.endCause
	}
	if c.err != nil {
		err = c.err
	}
	c.failLocked(err)
	c.mu.Unlock()
	return err
}

func (c *Conn) read(frame func(b *call.Batch, h Header, meta, body []byte) error) error {
	var batch call.Batch
	defer batch.End()
	buf := make([]byte, readBuf)
	lo, hi := 0, 0
	most := readBuf
	for {
		for hi-lo >= headerLen {
			h := parseHeader(buf[lo:])
			if int64(h.Body) > int64(c.maxIn) {
				return &protocolError{fmt.Errorf("frame of %d bytes, at most %d are allowed", h.Body, c.maxIn)}
			}
			size := headerLen + int(h.Meta) + int(h.Body)
			if size > maxCopied {
				batch.End() // frames that came before do not wait until the large body has arrived
				own, err := c.readLarge(h, buf[lo:hi], size)
				if err != nil {
					return err
				}
				most = readNext
				if used := min(size, hi-lo); used < hi-lo {
					lo += used
				} else {
					lo, hi = 0, 0
				}
				m := int(h.Meta)
				if err := frame(&batch, h, own[:m], own[m:]); err != nil {
					return &protocolError{err}
				}
				continue
			}
			if hi-lo < size {
				break
			}
			m := lo + headerLen + int(h.Meta)
			body := buf[m : lo+size : lo+size]
			meta := buf[lo+headerLen : m : m]
			lo += size
			if err := frame(&batch, h, meta, body); err != nil {
				return &protocolError{err}
			}
		}
		batch.End()
		if lo == hi {
			lo, hi = 0, 0
		} else if len(buf)-lo < maxCopied {
			hi = copy(buf, buf[lo:hi])
			lo = 0
		}
		n, err := c.nc.Read(buf[hi:min(len(buf), hi+most)])
		hi += n
		most = readBuf
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && hi > lo {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// readNext is the number of bytes that are read after a large frame. Another one follows often, which is read into memory of its own then, and not
// by way of the read buffer.
const readNext = 4 << 10

// readLarge reads the meta and body of a large frame of size bytes into memory of its own, of which have is the beginning. The memory grows with the
// bytes that arrive, so that a peer that only announces a large size causes an allocation of at most twice the bytes that it has sent.
func (c *Conn) readLarge(h Header, have []byte, size int) ([]byte, error) {
	have, size = have[headerLen:min(len(have), size)], size-headerLen
	if c.readsParts != nil && c.readsParts(h) {
		own := frames.Get().(*[frameRoom]byte)[:size] //nolint:forcetypeassert // the pool has nothing else
		_, err := io.ReadFull(c.nc, own[copy(own, have):])
		return own, err
	}
	own := make([]byte, min(size, 1<<20))
	n := copy(own, have)
	for {
		if _, err := io.ReadFull(c.nc, own[n:]); err != nil {
			return nil, err
		}
		if n = len(own); n == size {
			return own[:size:size], nil
		}
		next := make([]byte, min(size, 2*n))
		copy(next, own)
		own = next
	}
}
