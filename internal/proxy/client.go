package proxy

import (
	"context"
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

// leastTaken is how much of a long write a client must take within the stall time: by default about two kilobytes a second.
const leastTaken = 64 << 10

// client is a connection of a client, in the server's hands or in those of a handler that has taken it over. It bounds the time in
// which nothing moves. For example, with a stall time of 30 s a write of 64 MiB may take hours at 3 KB/s, and ends after 30 s
// with a client that reads nothing; a connection on which nothing is to be written is not bounded at all.
//
// A deadline that a handler sets by itself (http.ResponseController, or SetDeadline of a connection that it has taken over) holds
// instead, until it sets the zero time.
type client struct {
	net.Conn
	clients *clients
	stall   time.Duration

	held atomic.Int64 // bytes of its requests and results

	writeUntil  atomic.Int64 // the deadline of writes, by call.Now; 0: none is set
	writeChosen atomic.Bool  // by a handler
	readBy      atomic.Int64 // the deadline that the server set for reads, by call.Now; 0: none
	readUntil   atomic.Int64 // the one that is set while a body is read
	body        atomic.Bool  // a body is being read

	// endless is set while an answer is under way of which the end of the connection is the end: only a reset tells a client
	// that there should have been more.
	endless atomic.Bool

	state  atomic.Int32 // an http.ConnState
	since  atomic.Int64 // when it came to that, by call.Now
	closed sync.Once
}

// clientKey is where the context of a request has its client.
type clientKey struct{}

func clientOf(r *http.Request) *client {
	c, _ := r.Context().Value(clientKey{}).(*client)
	return c
}

// Write implements net.Conn. It looks every quarter of the stall time how far it has come: the kernel's buffer takes megabytes at
// once, and after that nothing.
func (c *client) Write(b []byte) (n int, err error) {
	since, taken := call.Now(), 0 // when the client last had taken enough, and what it has taken since
	for now := since; ; now = call.Now() {
		if !c.writeChosen.Load() && c.due(&c.writeUntil, now, c.stall/4) {
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

// due says that a deadline is to be set anew: not for every small write.
func (c *client) due(until *atomic.Int64, now int64, after time.Duration) bool {
	u := until.Load()
	return u == 0 || u-now < int64(after)*4/5
}

// stalled says whether a write ended by the deadline that c has set.
func (c *client) stalled(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.writeChosen.Load()
}

// ReadFrom implements io.ReaderFrom, by which net/http sends files without reading them.
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

// reading begins the time of a request's body.
func (c *client) reading() {
	c.readUntil.Store(0)
	c.body.Store(true)
}

// Read implements net.Conn.
func (c *client) Read(b []byte) (int, error) {
	if c.body.Load() {
		if now := call.Now(); c.due(&c.readUntil, now, c.stall) {
			left := int64(c.stall)
			if by := c.readBy.Load(); by != 0 {
				left = min(left, by-now)
			}
			c.readUntil.Store(now + left)
			c.Conn.SetReadDeadline(time.Now().Add(time.Duration(left))) //nolint:errcheck // the read tells
		}
	}
	n, err := c.Conn.Read(b)
	if err != nil { // also for what of the body the server would read after the handler
		c.body.Store(false)
	}
	return n, err
}

// SetReadDeadline implements net.Conn. Whoever sets one does so for what comes after a body, or knows better.
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

// reset ends the connection, so that the peer learns that something is missing and the kernel keeps nothing for it.
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

// clients are the connections that are open.
type clients struct {
	limit int
	stall time.Duration

	mu  sync.Mutex
	all map[*client]struct{}
}

// add takes a connection, perhaps in the place of another on which nothing happens. nil: there are too many.
func (s *clients) add(nc net.Conn) *client {
	c := &client{Conn: nc, clients: s, stall: s.stall}
	c.turned(http.StateNew)
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

// timeToBegin is how long a connection is left alone that has not sent a request yet.
const timeToBegin = time.Second

// idlestLocked is the connection that has been without a request for longest. nil: all have one, or are only just there.
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

// turned notes what the server says of a connection.
func (c *client) turned(to http.ConnState) {
	c.since.Store(call.Now())
	c.state.Store(int32(to))
}

// door is the listener as the server sees it.
type door struct {
	*listen.Listener
	clients *clients
}

const fullAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n" +
	"Content-Length: 49\r\n\r\nUnavailable: too many clients are connected here\n"

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		nc, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := d.clients.add(nc); c != nil {
			return c, nil
		}
		nc.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // so little fits into the kernel's buffer
		io.WriteString(nc, fullAnswer)                   //nolint:errcheck // the client sees the connection end
		nc.Close()
	}
}

// connected puts the client into the context of its requests.
func connected(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, nc)
}
