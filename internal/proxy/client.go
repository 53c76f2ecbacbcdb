package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/listen"
)

// leastTaken is the number of bytes of a long write that a client must take within the stall time: by default about
// two kilobytes a second.
const leastTaken = 64 << 10

// client is a connection of a client. The server has it, or a handler that has taken it over. It limits the time in
// which no byte moves. For example, with a stall time of 30 s a write of 64 MiB may take hours at 3 KB/s, and ends
// after 30 s with a client that reads nothing. A connection without anything to write is not limited at all.
//
// A deadline that a handler sets by itself (http.ResponseController, or SetDeadline of a connection that it has taken
// over) holds instead, until the handler sets the zero time.
type client struct {
	net.Conn
	clients *clients
	stall   time.Duration

	held atomic.Int64 // bytes of its requests and results

	writeUntil  atomic.Int64 // the deadline of writes, by call.Now; 0 for none
	writeChosen atomic.Bool  // a handler has set the deadline of writes
	readBy      atomic.Int64 // the deadline of reads that the server set, by call.Now; 0 for none
	readUntil   atomic.Int64 // the deadline of reads that is set while a body is read
	body        atomic.Bool  // a body is being read

	lengths lengthScan

	// endless is set while the answer under way ends with the end of the connection (HTTP/1.0). Only a reset tells
	// the client then that the answer is incomplete.
	endless atomic.Bool

	state  atomic.Int32 // an http.ConnState
	since  atomic.Int64 // time of the last change of state, by call.Now
	closed sync.Once
}

// clientKey is the key of the client in the context of a request.
type clientKey struct{}

func clientOf(r *http.Request) *client {
	c, _ := r.Context().Value(clientKey{}).(*client)
	return c
}

// Write implements net.Conn. Every quarter of the stall time it compares the number of bytes that were taken: the
// kernel's buffer takes megabytes at once, and after that none.
func (c *client) Write(b []byte) (n int, err error) {
	since, taken := call.Now(), 0 // the time at which the client last had taken enough, and the bytes taken since
	for now := since; ; now = call.Now() {
		if !c.writeChosen.Load() && c.mustSetDeadline(&c.writeUntil, now, c.stall/4) {
			c.writeUntil.Store(now + int64(c.stall/4))
			c.Conn.SetWriteDeadline(time.Now().Add(c.stall / 4)) //nolint:errcheck // the write tells
		}
		m, err := c.Conn.Write(b[n:])
		n, taken = n+m, taken+m
		if err == nil || !c.stalled(err) {
			return n, err
		}
		switch now = call.Now(); {
		case taken >= leastTaken:
			since, taken = now, 0
		case now-since >= int64(c.stall):
			c.reset()
			return n, err
		}
		c.writeUntil.Store(0)
	}
}

// mustSetDeadline reports whether a deadline has to be set anew. It is false for most small writes, because setting one costs a
// lock.
func (c *client) mustSetDeadline(until *atomic.Int64, now int64, after time.Duration) bool {
	u := until.Load()
	return u == 0 || u-now < int64(after)*4/5
}

// stalled reports whether a write ended by the deadline that c has set.
func (c *client) stalled(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.writeChosen.Load()
}

// ReadFrom implements io.ReaderFrom, with which net/http sends files without reading them.
func (c *client) ReadFrom(r io.Reader) (n int64, err error) {
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
	for {
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

// beginBody begins the time of a request's body.
func (c *client) beginBody() {
	c.readUntil.Store(0)
	c.body.Store(true)
}

// Read implements net.Conn.
func (c *client) Read(b []byte) (int, error) {
	if c.body.Load() {
		if now := call.Now(); c.mustSetDeadline(&c.readUntil, now, c.stall) {
			left := int64(c.stall)
			if by := c.readBy.Load(); by != 0 {
				left = min(left, by-now)
			}
			c.readUntil.Store(now + left)
			c.Conn.SetReadDeadline(time.Now().Add(time.Duration(left))) //nolint:errcheck // the read tells
		}
	}
	n, err := c.Conn.Read(b)
	if !c.lengths.seen.Load() {
		c.lengths.scan(b[:n])
	}
	if err != nil { // also before the part of the body that the server reads after the handler
		c.body.Store(false)
	}
	return n, err
}

// lengthScan finds out whether a client has sent the header Content-Length on its connection. A request with that header and with chunks is how
// requests are smuggled past a proxy in front: one of the two goes by the length, the other by the chunks, and they see the next request at
// different bytes. Package net/http goes by the chunks, and removes the length without a trace, so the connection is looked through here.
// Once seen is set nothing more is looked at: a connection that has had both kinds of requests ends after the next one with chunks.
type lengthScan struct {
	seen atomic.Bool
	tail []byte // the end of the bytes before
}

const lengthName = "\ncontent-length"

// scan looks at the bytes that were read. It is for the goroutine that reads.
func (l *lengthScan) scan(b []byte) {
	if len(l.tail) > 0 {
		joined := append(l.tail, b[:min(len(b), len(lengthName))]...)
		if findLength(joined) {
			l.seen.Store(true)
			return
		}
		l.tail = joined[:copy(joined, joined[max(0, len(joined)-len(lengthName)+1):])]
	}
	if findLength(b) {
		l.seen.Store(true)
		return
	}
	if end := b[max(0, len(b)-len(lengthName)+1):]; len(b) >= len(lengthName) {
		l.tail = l.tail[:0]
		if i := bytes.LastIndexByte(end, '\n'); i >= 0 {
			l.tail = append(l.tail, end[i:]...)
		}
	} else if len(l.tail) == 0 {
		l.tail = append(l.tail, b...)
	}
}

func findLength(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 || len(b)-i < len(lengthName) {
			return false
		}
		if bytes.EqualFold(b[i:i+len(lengthName)], []byte(lengthName)) {
			return true
		}
		b = b[i+1:]
	}
}

// SetReadDeadline implements net.Conn. A deadline that is set while a body is read is for the time after it, and is
// applied then.
func (c *client) SetReadDeadline(t time.Time) error {
	c.body.Store(false)
	by := int64(0)
	if !t.IsZero() {
		by = call.Now() + int64(time.Until(t))
	}
	c.readBy.Store(by)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *client) SetWriteDeadline(t time.Time) error {
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
func (c *client) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite is for net/http, which lets a client read the answer to a body that was not read to its end.
func (c *client) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// reset ends the connection with a TCP reset, so that the peer learns that data is missing, and the kernel keeps no
// data for it.
func (c *client) reset() {
	c.endless.Store(true)
	c.Close() //nolint:errcheck // it is over
}

// Close implements net.Conn.
func (c *client) Close() error {
	if c.endless.Load() {
		if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
			tcp.SetLinger(0) //nolint:errcheck // it is closed all the same
		}
	}
	c.closed.Do(func() { c.clients.remove(c) })
	return c.Conn.Close()
}

// clients has the open connections.
type clients struct {
	limit int
	stall time.Duration

	mu  sync.Mutex
	all map[*client]struct{}
}

// add takes a connection. If there are too many, it closes an idle one; if none is idle, it returns nil.
func (s *clients) add(nc net.Conn) *client {
	c := &client{Conn: nc, clients: s, stall: s.stall}
	c.setState(http.StateNew)
	s.mu.Lock()
	var idle *client
	if len(s.all) >= s.limit {
		if idle = s.idlestLocked(); idle == nil {
			s.mu.Unlock()
			return nil
		}
		delete(s.all, idle)
	}
	s.all[c] = struct{}{}
	s.mu.Unlock()
	if idle != nil {
		idle.Close() //nolint:errcheck // it is over
	}
	return c
}

// timeToBegin is the time in which a new connection counts as busy although it has not sent a request.
const timeToBegin = time.Second

// idlestLocked is the connection that has been without a request for the longest time. It is nil if all have one or
// are new.
func (s *clients) idlestLocked() (idlest *client) {
	now := call.Now()
	for c := range s.all {
		switch http.ConnState(c.state.Load()) {
		case http.StateNew:
			if now-c.since.Load() < int64(timeToBegin) {
				continue
			}
		case http.StateIdle:
		default:
			continue
		}
		if idlest == nil || c.since.Load() < idlest.since.Load() {
			idlest = c
		}
	}
	return idlest
}

func (s *clients) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// setState notes a change of the server's state of the connection.
func (c *client) setState(to http.ConnState) {
	c.since.Store(call.Now())
	c.state.Store(int32(to))
}

// limitedListener is the listener as the server sees it: it refuses connections above the limit.
type limitedListener struct {
	*listen.Listener
	clients *clients
}

const fullAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n" +
	"Content-Length: 49\r\n\r\nUnavailable: too many clients are connected here\n"

// Accept implements net.Listener.
func (d *limitedListener) Accept() (net.Conn, error) {
	for {
		nc, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := d.clients.add(nc); c != nil {
			return c, nil
		}
		nc.SetWriteDeadline(time.Now().Add(time.Second)) // the answer is so short that it fits into the kernel's buffer
		io.WriteString(nc, fullAnswer)                   // the client sees the connection end
		nc.Close()
	}
}

// withClient puts the client into the context of its requests.
func withClient(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, clientUnder(nc))
}

// clientUnder is the client of a connection of the server, which may be one of TLS around it.
func clientUnder(nc net.Conn) *client {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	return nc.(*client)
}
