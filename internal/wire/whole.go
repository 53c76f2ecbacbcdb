package wire

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// deafLocked is failLocked after a write that failed: the other side takes nothing more, but what it has written before counts.
func (c *Conn) deafLocked(err error) {
	if c.err == nil {
		c.err = err
		c.jam.update(0, 0)
		c.nc.SetReadDeadline(time.Now().Add(linger)) //nolint:errcheck // it has ended already then
	}
}

// toTheEnd says, of a connection whose reading ended with err, whether everything was read that the other side's kernel took. A
// connection that was reset may have lost some of it, except on one machine.
func toTheEnd(nc net.Conn, err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) && nc.LocalAddr().Network() == "unix"
}

// wholly says, after the end, whether everything was read that the other side wrote.
func (c *Conn) wholly() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole
}
