package clients

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/listen"
)

// Set has the open connections of clients. It limits their number: for example, with a limit of two and one connection that has no request under
// way, a third client takes the place of that one; if both have requests, the third is answered with 503.
type Set struct {
	limit int
	stall time.Duration
	idle  atomic.Int64 // see SetIdle

	mu  sync.Mutex
	all map[*Conn]struct{}
}

// NewSet makes a set without connections, for at most limit of them; stall is the longest time in which no byte moves.
func NewSet(limit int, stall time.Duration) *Set {
	return &Set{limit: limit, stall: stall, all: map[*Conn]struct{}{}}
}

// SetIdle changes the longest time without a request of connections of HTTP/1, while the server runs; 0 is for http.Server.IdleTimeout, which the server reads without a
// lock. A connection that is idle already keeps its time. Connections of HTTP/2 keep that of the server: a timer of its own ends them.
func (s *Set) SetIdle(d time.Duration) { s.idle.Store(int64(d)) }

// Idle is the time of [Set.SetIdle].
func (s *Set) Idle() time.Duration { return time.Duration(s.idle.Load()) }

// Len is the number of open connections.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Add takes a connection. If there are too many, it closes an idle one; if none is idle, it returns nil.
func (s *Set) Add(nc net.Conn) *Conn {
	c := &Conn{Conn: nc, set: s, stall: s.stall}
	c.setState(http.StateNew)
	s.mu.Lock()
	var idle *Conn
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
		idle.end() //nolint:errcheck // it is over
	}
	return c
}

// timeToBegin is the time in which a new connection counts as busy although it has not sent a request.
const timeToBegin = time.Second

// idlestLocked is the connection that has been without a request for the longest time. It is nil if all have one or
// are new.
func (s *Set) idlestLocked() (idlest *Conn) {
	now := call.Now()
	for c := range s.all {
		state := http.ConnState(c.state.Load())
		if c.linger.Load() != lingersNot { // its answer is complete
			state = http.StateIdle
		}
		switch state {
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

func (s *Set) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// Listener is l as an [http.Server] gets it: each connection is a [Conn], and the ones above the limit are refused.
func (s *Set) Listener(l *listen.Listener) net.Listener { return &limitedListener{l, s} }

type limitedListener struct {
	*listen.Listener
	set *Set
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
		if c := d.set.Add(nc); c != nil {
			return c, nil
		}
		nc.SetWriteDeadline(time.Now().Add(time.Second)) // the answer is so short that it fits into the kernel's buffer
		io.WriteString(nc, fullAnswer)                   // the client sees the connection end
		nc.Close()
	}
}

// Context is for http.Server.ConnContext. The requests of a connection find it by [Of].
func Context(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, under(nc))
}

// Note is for http.Server.ConnState.
func Note(nc net.Conn, to http.ConnState) { under(nc).setState(to) }

// under is the Conn of a connection of the server, which may be one of TLS around it.
func under(nc net.Conn) *Conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	return nc.(*Conn)
}

// setState notes a change of the server's state of the connection.
func (c *Conn) setState(to http.ConnState) {
	c.since.Store(call.Now())
	c.state.Store(int32(to))
	if to == http.StateIdle {
		c.expects.Store(false)
		if c.set.idle.Load() > 0 {
			c.rests.Store(true)
		}
	}
}
