package clients

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// counted counts the deadlines that reach a connection.
type counted struct {
	net.Conn
	deadlines int
}

func (c *counted) SetReadDeadline(t time.Time) error {
	c.deadlines++
	return c.Conn.SetReadDeadline(t)
}

// TestReadDeadline: a read ends at the deadline that was set last, wherever the earlier ones of the connection below are.
func TestReadDeadline(t *testing.T) {
	t.Parallel()
	const idle, whole, stall = 2 * time.Minute, 5 * time.Minute, 30 * time.Second
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, test := range map[string]func(t *testing.T, c *Conn, below *counted, other net.Conn){
		"later than before": func(t *testing.T, c *Conn, below *counted, other net.Conn) {
			c.SetReadDeadline(in(idle))
			go other.Write([]byte("x"))
			readByte(t, c, 0)
			c.SetReadDeadline(time.Time{})
			c.SetReadDeadline(in(10 * time.Second))
			c.SetReadDeadline(in(whole))
			if below.deadlines != 1 {
				t.Errorf("%d deadlines have reached the connection, want 1", below.deadlines)
			}
			time.AfterFunc(whole-time.Second, func() { other.Write([]byte("x")) })
			readByte(t, c, whole-time.Second)
			readUntil(t, c, time.Second)
		},
		"earlier than before": func(t *testing.T, c *Conn, _ *counted, other net.Conn) {
			c.SetReadDeadline(in(whole))
			go other.Write([]byte("x"))
			readByte(t, c, 0)
			c.SetReadDeadline(in(idle))
			readUntil(t, c, idle)
		},
		"none any more": func(t *testing.T, c *Conn, _ *counted, other net.Conn) {
			c.SetReadDeadline(in(idle))
			go other.Write([]byte("x"))
			readByte(t, c, 0)
			c.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Hour, func() { other.Write([]byte("x")) })
			readByte(t, c, time.Hour)
		},
		"while a read waits": func(t *testing.T, c *Conn, _ *counted, other net.Conn) {
			time.AfterFunc(time.Second, func() { c.SetReadDeadline(Expired) })
			readUntil(t, c, time.Second)
			c.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Hour, func() { other.Write([]byte("x")) })
			readByte(t, c, time.Hour)
		},
		"a body that stalls": func(t *testing.T, c *Conn, _ *counted, other net.Conn) {
			c.SetReadDeadline(in(whole))
			c.BeginBody(false)
			for range 3 {
				time.AfterFunc(stall-time.Second, func() { other.Write([]byte("x")) })
				readByte(t, c, stall-time.Second)
			}
			readUntil(t, c, stall)
			readUntil(t, c, 0)
		},
		"a body near the end of its request": func(t *testing.T, c *Conn, _ *counted, _ net.Conn) {
			c.SetReadDeadline(in(time.Second))
			c.BeginBody(false)
			readUntil(t, c, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				own, other := net.Pipe()
				below := &counted{Conn: own}
				c := NewSet(1, stall).Add(below)
				defer c.Close()
				test(t, c, below, other)
			})
		})
	}
}

// readByte reads a byte, which comes after a time.
func readByte(t *testing.T, c *Conn, after time.Duration) {
	t.Helper()
	begun := time.Now()
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil || time.Since(begun) != after {
		t.Fatalf("read %d bytes, error %v, after %v; want one after %v", n, err, time.Since(begun), after)
	}
}

// readUntil reads until the deadline, which comes after a time.
func readUntil(t *testing.T, c *Conn, after time.Duration) {
	t.Helper()
	begun := time.Now()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != after {
		t.Fatalf("read %d bytes, error %v, after %v; want the end of the time after %v", n, err, time.Since(begun), after)
	}
}
