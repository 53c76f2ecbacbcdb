package wire

import "slices"

// latest are frames that say how something is now, of which nobody needs an old one: of each type and id at most one waits, and
// a newer one takes its place. They join the stream when the writer is ready for more, so a peer that does not read keeps one
// of each waiting, however often things change meanwhile. The connection's lock guards it.
type latest struct {
	order  []latestKey // in which they join
	frames map[latestKey][]byte
}

type latestKey struct {
	t  Type
	id uint64
}

// Replace queues the newest frame of its type and id; a body over 32 KiB is refused. Nothing is written before Flush.
func (c *Conn) Replace(h Header, meta, body []byte) error {
	if limit := min(c.maxOut, sharedFrame); len(body) > limit {
		return tooLarge(len(body), limit)
	}
	h.Meta, h.Body = uint16(len(meta)), uint32(len(body))
	k := latestKey{h.Type, h.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	l := &c.latest
	f, waits := l.frames[k]
	if !waits {
		if l.frames == nil {
			l.frames = map[latestKey][]byte{}
		}
		l.order = append(l.order, k)
	}
	l.frames[k] = append(append(appendHeader(f[:0], h), meta...), body...)
	return nil
}

// Withdraw takes back a frame that waits, because another one says more. false: none waits.
func (c *Conn) Withdraw(t Type, id uint64) bool {
	k := latestKey{t, id}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &c.latest
	if l.frames[k] == nil {
		return false
	}
	delete(l.frames, k)
	i := slices.Index(l.order, k)
	l.order = slices.Delete(l.order, i, i+1)
	return true
}

// takeLatest has them join the stream. mu is held.
func (c *Conn) takeLatest() {
	l := &c.latest
	if len(l.order) == 0 {
		return
	}
	if c.pend == nil {
		c.pend = c.spare[:0]
		c.spare = nil
	}
	for _, k := range l.order {
		c.pend = append(c.pend, l.frames[k]...)
		c.queued += uint64(len(l.frames[k]))
	}
	l.order = l.order[:0]
	clear(l.frames)
}
