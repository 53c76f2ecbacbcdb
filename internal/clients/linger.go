package clients

import (
	"io"
	"net/http"
	"time"
)

// A handler may answer before it has read the body of its request. The server ends such a connection after the answer, because the rest of the body
// stands between the answer and the next request. A connection that is closed with bytes that were not read is reset by the kernel, and the client,
// which still sends, sees an error in place of the answer. So the connection lingers, as nginx has it: the answer is complete and its direction is
// closed, and the rest of the body is read and thrown away.
//
// Example: a client uploads 100 MB to a path that does not exist. It gets 404 after the first bytes, sends the rest within lingerTime, and reads the
// answer. A client that pauses for lingerPause, sends for longer than lingerTime or more than lingerBytes, is cut off.
const (
	lingerTime  = 30 * time.Second
	lingerPause = 5 * time.Second // or the stall time, if that is shorter
	lingerBytes = 1 << 30
)

// The states of lingering. The server closes the connection half a second after CloseWrite, or later.
const (
	lingersNot  int32 = iota
	lingers           // the rest is being read
	lingersLast       // likewise, and the server has closed the connection
)

// CloseWrite is for net/http, which calls it when the answer to a body that was not read to its end is complete. The connection lingers then. It does
// not if a handler has taken it over, or if its client still waits for the word to send the body: it sees the answer in place of that.
func (c *Conn) CloseWrite() error {
	h, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	err := h.CloseWrite()
	if err == nil && http.ConnState(c.state.Load()) != http.StateHijacked && !c.asks.Load() && c.linger.CompareAndSwap(lingersNot, lingers) {
		go c.drop()
	}
	return err
}

// drop reads the rest of a body.
func (c *Conn) drop() {
	io.CopyN(io.Discard, &rest{c, time.Now().Add(lingerTime)}, lingerBytes) //nolint:errcheck // the connection ends in any case
	if !c.linger.CompareAndSwap(lingers, lingersNot) {
		c.end() //nolint:errcheck // it is over
	}
}

// rest is the rest of a body.
type rest struct {
	c     *Conn
	until time.Time
}

func (r *rest) Read(b []byte) (int, error) {
	by := time.Now().Add(min(lingerPause, r.c.stall))
	if by.After(r.until) {
		by = r.until
	}
	r.c.Conn.SetReadDeadline(by) //nolint:errcheck // the read tells
	return r.c.Conn.Read(b)
}

// EndLingering closes the connections that linger and have no server any more.
func (s *Set) EndLingering() {
	s.mu.Lock()
	var all []*Conn
	for c := range s.all {
		if c.linger.Load() == lingersLast {
			all = append(all, c)
		}
	}
	s.mu.Unlock()
	for _, c := range all {
		c.end() //nolint:errcheck // it is over
	}
}
