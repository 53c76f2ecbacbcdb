package clients

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// leastTaken is the number of bytes of a long write that a client must take within the stall time: by default about
// two kilobytes a second.
const leastTaken = 64 << 10

// Conn is a connection of a client. The server has it, or a handler that has taken it over. It limits the time in
// which no byte moves. For example, with a stall time of 30 s a write of 64 MiB may take hours at 3 KB/s, and ends
// after 30 s with a client that reads nothing. A connection without anything to write is not limited at all.
//
// A deadline that a handler sets by itself (http.ResponseController, or SetDeadline of a connection that it has taken
// over) holds instead, until the handler sets the zero time.
type Conn struct {
	net.Conn
	set   *Set
	stall time.Duration

	held atomic.Int64 // bytes of its requests and results

	writeUntil  atomic.Int64 // the deadline of writes, by call.Now; 0 for none
	writeChosen atomic.Bool  // a handler has set the deadline of writes
	reads       readDeadline
	expects     atomic.Bool  // the client has asked whether to send the body (Expect: 100-continue)
	asks        atomic.Bool  // likewise, and was not told to send it
	linger      atomic.Int32 // see linger.go

	lengths lengthScan
	unread  call.Unread // of the answer under way

	endless atomic.Bool // see SetEndless
	rests   atomic.Bool // the next deadline of reads is the server's for the idle time
	expired atomic.Bool // a deadline of reads has passed since BeginRequest

	state  atomic.Int32 // an http.ConnState
	since  atomic.Int64 // time of the last change of state, by call.Now
	closed sync.Once
}

// connKey is the key of the client in the context of a request.
type connKey struct{}

// Of is the connection of a request; nil for a request of the server of a program, or of a test.
func Of(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// Unread says since when a write waits for the client.
func (c *Conn) Unread() *call.Unread { return &c.unread }

// SetEndless says whether the answer under way ends with the end of the connection, as those of HTTP/1.0 do. Only a reset tells the client then that
// the answer is incomplete, so a connection that closes meanwhile is reset.
func (c *Conn) SetEndless(endless bool) { c.endless.Store(endless) }

// Write implements net.Conn. Every quarter of the stall time it compares the number of bytes that were taken: the
// kernel's buffer takes megabytes at once, and after that none.
func (c *Conn) Write(b []byte) (n int, err error) {
	if c.asks.Load() && bytes.HasPrefix(b, []byte("HTTP/1.1 100 ")) {
		c.asks.Store(false)
	}
	since, taken := call.Now(), 0 // the time at which the client last had taken enough, and the bytes taken since
	c.unread.Full(since)
	defer c.unread.Room()
	for now := since; ; now = call.Now() {
		if !c.writeChosen.Load() && c.mustSetWriteDeadline(now) {
			c.writeUntil.Store(now + int64(c.stall/4))
			c.Conn.SetWriteDeadline(time.Now().Add(c.stall / 4)) //nolint:errcheck // the write tells
		}
		m, err := c.Conn.Write(b[n:])
		n, taken = n+m, taken+m
		if err == nil || !c.stalled(err) {
			return n, err
		}
		now = call.Now()
		if m > 0 {
			c.unread.Full(now)
		}
		switch {
		case taken >= leastTaken:
			since, taken = now, 0
		case now-since >= int64(c.stall):
			c.reset()
			return n, err
		}
		c.writeUntil.Store(0)
	}
}

// mustSetWriteDeadline reports whether the deadline has to be set anew. It is false for most small writes, because setting one costs a
// lock.
func (c *Conn) mustSetWriteDeadline(now int64) bool {
	u := c.writeUntil.Load()
	return u == 0 || u-now < int64(c.stall/4)*4/5
}

// stalled reports whether a write ended by the deadline that c has set.
func (c *Conn) stalled(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.writeChosen.Load()
}

// ReadFrom implements io.ReaderFrom, with which net/http sends files without reading them.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	to, ok := c.Conn.(io.ReaderFrom)
	limited, bounded := r.(*io.LimitedReader)
	from := r
	if bounded {
		from = limited.R
	}
	file, isFile := from.(*os.File)
	if !ok || !isFile {
		return io.Copy(writeOnly{c}, r)
	}
	defer c.unread.Room()
	for {
		c.unread.Full(call.Now())
		part := &io.LimitedReader{R: file, N: leastTaken}
		if bounded {
			part.N = min(part.N, limited.N)
		}
		if part.N == 0 {
			return n, nil
		}
		if !c.writeChosen.Load() {
			c.writeUntil.Store(call.Now() + int64(c.stall))
			c.Conn.SetWriteDeadline(time.Now().Add(c.stall)) //nolint:errcheck // as above
		}
		m, err := to.ReadFrom(part)
		n += m
		if bounded {
			limited.N -= m
		}
		if err != nil && c.stalled(err) {
			c.reset()
		}
		if err != nil || m == 0 {
			return n, err
		}
	}
}

// writeOnly hides ReadFrom.
type writeOnly struct{ io.Writer }

// BeginRequest begins the time of a request of HTTP/1. The result says that the connection must end with its answer: the request has a body in chunks, and
// may have had a length as well.
func (c *Conn) BeginRequest(r *http.Request) (last bool) {
	if c.expired.Load() {
		c.expired.Store(false)
	}
	if r.TLS != nil { // the connection has other bytes than the requests
		return len(r.TransferEncoding) > 0
	}
	return c.lengths.begin(r)
}

// ReadExpired reports whether a deadline of reads has passed in the request. The server ends the request's context then, as if the client had left.
func (c *Conn) ReadExpired() bool { return c.expired.Load() }

// BeginBody begins the time of a request's body. With expects the client asks whether to send it (Expect: 100-continue).
func (c *Conn) BeginBody(expects bool) {
	c.expects.Store(expects)
	c.asks.Store(expects)
	c.reads.beginBody()
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (n int, err error) {
	c.reads.begin(c.Conn, c.stall)
	for again := true; again; again = c.reads.end(c.Conn, err) {
		n, err = c.Conn.Read(b)
	}
	c.lengths.scan(b[:n])
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.expired.Store(true)
	}
	return n, err
}

// SetReadDeadline implements net.Conn. A deadline that is set while a body is read is for the time after it, and holds instead of the
// stall time.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.rests.Load() && c.rests.Swap(false) && !t.IsZero() { // the server sets it after the state, see [Set.SetIdle]
		if idle := c.set.idle.Load(); idle > 0 {
			t = time.Now().Add(time.Duration(idle))
		}
	}
	return c.reads.set(c.Conn, t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		if !c.writeChosen.Swap(false) { // the server does this after every request
			return nil
		}
		c.writeUntil.Store(0)
		return c.Conn.SetWriteDeadline(t)
	}
	c.writeChosen.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// reset ends the connection with a TCP reset, so that the peer learns that data is missing, and the kernel keeps no
// data for it.
func (c *Conn) reset() {
	c.endless.Store(true)
	c.end() //nolint:errcheck // it is over
}

// Close implements net.Conn. A connection that lingers is closed later.
func (c *Conn) Close() error {
	if c.expects.Load() && !c.asks.Load() && http.ConnState(c.state.Load()) == http.StateActive {
		c.CloseWrite() //nolint:errcheck // the server does not do so for a body that its client has asked for
	}
	if c.linger.CompareAndSwap(lingers, lingersLast) {
		return nil
	}
	return c.end()
}

// end closes the connection now.
func (c *Conn) end() error {
	if c.endless.Load() {
		if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
			tcp.SetLinger(0) //nolint:errcheck // it is closed all the same
		}
	}
	c.closed.Do(func() { c.set.remove(c) })
	return c.Conn.Close()
}
