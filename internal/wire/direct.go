package wire

import (
	"bytes"
	"context"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Large parts of exchanges (bodies of HTTP) are not copied on their way through a connection. The sender waits until the kernel has taken a part
// from the memory of its caller, and the receiver reads it into memory that is used again (FreeFrame).
//
// Example: a handler writes 1 MB. Its goroutine takes the turn of the connection, writes 128 KiB in one system call, together with the small
// frames that wait, and gives the turn to the next goroutine that sends a part. At most one part is in front of a small frame that comes meanwhile.
//
// A copy into the buffer of the connection was tried before: each byte was copied twice, and the buffers of eight bodies made the garbage collector
// and the kernel's page faults cost more than the copies.

// directLeast is the least size of a part that is written from the memory of its caller.
const directLeast = 8 << 10

// frameRoom is the size of the memory into which a large frame of parts is read.
const frameRoom = 128<<10 + 1<<10

var frames = sync.Pool{New: func() any { return new([frameRoom]byte) }} //nolint:gochecknoglobals // a pool of buffers is not state

// FreeFrame gives back the memory of a frame of parts that the connection has handed over to [call.Items], once nothing refers to it any more. It does
// nothing for other memory.
func FreeFrame(frame []byte) {
	if cap(frame) == frameRoom {
		frames.Put((*[frameRoom]byte)(frame[:frameRoom]))
	}
}

// readsParts says that the frame with this header has parts of an exchange, whose receiver uses [FreeFrame].
func (p *Peer) readsParts(h Header) bool {
	if h.Meta != 0 || h.Body > frameRoom || h.Type != TypeItems && h.Type != TypeUpload {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.Type == TypeUpload || p.calls[h.ID].up != nil
}

// sendDirect sends a frame of the items in head and of data, which belongs to the caller. On an error the items in front of the last one wait again.
func (o *outflow) sendDirect(ctx context.Context, head, data []byte) error {
	l := o.peer.conn
	err := ctx.Err()
	select {
	case l.itemTurn <- struct{}{}:
		if l.small.congestion.awaitRelief(ctx) && l.send.congestion.awaitRelief(ctx) && l.small.partCongestion.awaitRelief(ctx) {
			err = l.appendThrough(Header{Type: o.typ, ID: o.id}, head, data)
		} else {
			err = ctx.Err()
		}
		<-l.itemTurn
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.pending = head[:0]
	case ctx.Err() != nil && err == ctx.Err(): //nolint:errorlint // set above
		o.pending = head[:len(head)-call.ItemOverhead]
	default:
		o.fail(err)
		return o.failed
	}
	return err
}

// appendThrough is [Conn.appendThrough] for a frame that may wait at its receiver for a body in front of it.
func (l *Link) appendThrough(h Header, head, data []byte) error {
	if h.Type == TypeItems && l.send.streams.Load() > 0 {
		if err := l.send.countHeld(h.ID, len(head)+len(data)); err != nil {
			return err
		}
	}
	return l.small.appendThrough(h, head, data)
}

// appendThrough adds a frame of head and data, and returns when the kernel has taken all frames up to it, or another goroutine, which is the writer,
// has a copy.
func (c *Conn) appendThrough(h Header, head, data []byte) error {
	h.Body = uint32(len(head) + len(data))
	c.mu.Lock()
	if _, err := c.admit(h, headerLen+int(h.Body)); err != nil {
		c.mu.Unlock()
		return err
	}
	c.pending = append(appendHeader(c.pending, h), head...)
	if c.writing {
		c.pending = append(c.pending, data...)
		c.mu.Unlock()
		return nil
	}
	c.writing = true
	own := c.pending
	c.through = append(append(c.through[:0], c.parts...), own, data)
	c.parts, c.pending = nil, nil
	c.mu.Unlock()
	bufs := c.through
	n, err := writeAll(c.nc, &c.through)
	c.written.Add(uint64(n))
	c.mu.Lock()
	if err != nil {
		c.unsent = bytes.Join(c.through, nil)
		c.writeFailedLocked(err)
	} else {
		c.updateCongestion()
		if c.spare == nil && cap(own) <= maxSpare {
			c.spare = own[:0]
		}
	}
	clear(bufs)
	c.through = bufs[:0]
	c.writing = false
	c.mu.Unlock()
	c.Flush() // what other goroutines have left to this one
	return nil
}
