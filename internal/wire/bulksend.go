package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// bulkPos marks a position that is the number of an announced body.
const bulkPos = 1 << 63

// maxWaiting bounds the bodies that wait to be sent, in number; conn's backlog bounds them in bytes.
const maxWaiting = 1 << 15

// What waits at the other side for bodies that are not sent is within its limits (maxAnnouncedMeta, maxHeld), with room for what
// is sent and not read yet.
const (
	maxMetas = maxAnnouncedMeta / 4 * 3
	maxAfter = maxHeld / 4 * 3
)

// outBody is one announced body on its way out.
type outBody struct {
	number uint64
	h      Header
	meta   []byte
	segs   [][]byte
	total  int
	credit int // how far it may be sent

	seg, off int // where the next chunk begins
	sent     int
	begun    bool // counts against maxBegun
	parked   bool // begun, and out of credit
	last     bool // its last chunk is being written
	taken    bool // a byte of its last chunk reached the kernel
	dropped  bool // withdrawn
	after    int  // bytes of items of the same stream that were sent after its announcement, and wait for it
}

// bulkSender writes announced bodies, a chunk of each in turn. A goroutine writes while there is something to write; it
// may block, and nobody waits for it.
type bulkSender struct {
	l       *Link
	waiting atomic.Bool // something was queued since the last kick
	jam     congestion

	mu      sync.Mutex
	idle    *sync.Cond // writing became false
	nc      net.Conn
	number  uint64 // of the body announced last
	bodies  map[uint64]*outBody
	queue   []*outBody // announced, in order, and not begun
	turns   []*outBody // begun, with credit; the first is next
	begun   int
	bytes   int                 // of queued bodies
	metas   int                 // bytes of their metas
	after   int                 // bytes of items that wait for them at the other side
	last    map[uint64]*outBody // by stream, the body of items that was announced last
	streams atomic.Int32        // how many these are
	aborts  []uint64
	writing bool
	err     error
}

func (s *bulkSender) init(l *Link) {
	s.l, s.bodies, s.last = l, map[uint64]*outBody{}, map[uint64]*outBody{}
	s.idle = sync.NewCond(&s.mu)
}

func (s *bulkSender) announce(h Header, meta []byte, segs [][]byte, n int) (pos uint64, err error) {
	if limit := s.l.terms.MaxOut; n > limit {
		return 0, tooLarge(n, limit)
	}
	if len(meta)+announceLen > maxMeta {
		return 0, fmt.Errorf("%d bytes with %d bytes of names and metadata, at most %d of those are possible",
			n, len(meta), maxMeta-announceLen)
	}
	m := &outBody{h: h, segs: keep(segs, n), total: n, credit: min(n, s.l.free)}
	m.meta = append(make([]byte, 0, len(meta)+announceLen), meta...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, fmt.Errorf("%w: %w", ErrClosed, s.err)
	}
	if (h.Type == TypeCall || h.Type == TypeControl || h.Type == TypeItems) && (len(s.bodies) >= maxWaiting || s.bytes > s.l.small.backlog || s.metas+len(meta) > maxMetas) {
		return 0, errBacklog
	}
	if s.bytes > 4*s.l.small.backlog { // answers are not refused, but end a connection that takes none of them
		s.l.small.fail(errBacklog)
		return 0, errBacklog
	}
	m.number = s.number + 1
	full := le.AppendUint64(le.AppendUint64(m.meta, m.number), uint64(n))
	h.Flags |= FlagBulk
	// Under the lock, so that announcements are in the order of their numbers.
	if _, err := s.l.small.Append(h, full); err != nil {
		return 0, err
	}
	s.number = m.number
	s.bodies[m.number] = m
	s.queue = append(s.queue, m)
	s.bytes += n
	s.metas += len(meta)
	if h.Type == TypeItems {
		if s.last[h.ID] == nil {
			s.streams.Add(1)
		}
		s.last[h.ID] = m
	}
	s.jammed()
	s.waiting.Store(true)
	return bulkPos | m.number, nil
}

// gone is told that a body was sent, or will not be.
func (s *bulkSender) gone(m *outBody) {
	delete(s.bodies, m.number)
	s.bytes -= m.total
	s.metas -= len(m.meta)
	s.after -= m.after
	if m.h.Type == TypeItems && s.last[m.h.ID] == m {
		delete(s.last, m.h.ID)
		s.streams.Add(-1)
	}
	s.jammed()
}

// jammed sees that streams wait while too much waits to be sent, or to be read behind what does.
func (s *bulkSender) jammed() {
	s.jam.update(max(s.bytes, 2*s.after*s.l.small.streams/maxAfter), s.l.small.streams)
}

// behind counts items that the other side holds until the body before them has come. Streams that can wait do so before that
// is too much; one that is relayed ends.
func (s *bulkSender) behind(id uint64, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.last[id]
	if m == nil {
		return nil
	}
	if n += heldOverhead; s.after+n > maxAfter {
		return errBacklog
	}
	m.after += n
	s.after += n
	s.jammed()
	return nil
}

// keep copies the segments that their owners may change after Append.
func keep(segs [][]byte, n int) [][]byte {
	out := make([][]byte, 0, len(segs))
	var own []byte
	for _, seg := range segs {
		switch {
		case len(seg) == 0:
		case len(seg) > sharedFrame:
			out = append(out, seg)
		default:
			if cap(own)-len(own) < len(seg) {
				own = make([]byte, 0, max(len(seg), min(n, sharedFrame)))
			}
			at := len(own)
			own = append(own, seg...)
			out = append(out, own[at:])
		}
	}
	return out
}

func (s *bulkSender) attach(nc net.Conn) {
	s.mu.Lock()
	s.nc = nc
	s.mu.Unlock()
	s.kick()
}

// kick sees that somebody writes if there is something to write.
func (s *bulkSender) kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.Store(false)
	s.kickLocked()
}

func (s *bulkSender) kickLocked() {
	work := len(s.aborts) > 0 || len(s.turns) > 0 || len(s.queue) > 0 && s.begun < maxBegun
	if work && !s.writing && s.nc != nil && s.err == nil {
		s.writing = true
		go s.write()
	}
}

func (s *bulkSender) write() {
	var head [headerLen]byte
	var chunk [][]byte
	s.mu.Lock()
	defer func() {
		s.writing = false
		s.idle.Broadcast()
		s.mu.Unlock()
	}()
	for s.err == nil {
		h := Header{Type: TypeChunk}
		chunk = append(chunk[:0], nil)
		m := s.next()
		switch {
		case m != nil:
			n := min(s.l.chunk, m.credit-m.sent)
			h.ID, h.Body = m.number, uint32(n)
			chunk = m.take(chunk, n)
			m.last = m.sent == m.total
		case len(s.aborts) > 0:
			h.ID, h.Flags = s.aborts[0], FlagAbort
			s.aborts = s.aborts[1:]
		default:
			return
		}
		chunk[0] = appendHeader(head[:0], h)
		s.mu.Unlock()
		bufs := net.Buffers(chunk)
		n, err := bufs.WriteTo(s.nc)
		s.mu.Lock()
		clear(chunk)
		if m != nil {
			m.taken = m.last && n > 0
			switch {
			case err != nil || m.dropped:
			case m.last:
				s.begun--
				s.gone(m)
			case m.sent == m.credit:
				m.parked = true
			default:
				s.turns = append(s.turns, m)
			}
		}
		if err != nil {
			s.failed(err)
		}
	}
}

// next is the body whose turn it is. Aborts come first: they free places.
func (s *bulkSender) next() *outBody {
	if len(s.aborts) > 0 {
		return nil
	}
	for s.begun < maxBegun && len(s.queue) > 0 {
		m := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if !m.dropped {
			m.begun = true
			s.begun++
			s.turns = append(s.turns, m)
		}
	}
	if len(s.turns) == 0 {
		return nil
	}
	m := s.turns[0]
	s.turns = slices.Delete(s.turns, 0, 1) // which forgets the pointer, and with it the body
	return m
}

// take appends the next n bytes of the body to chunk.
func (m *outBody) take(chunk [][]byte, n int) [][]byte {
	m.sent += n
	for n > 0 {
		rest := m.segs[m.seg][m.off:]
		if len(rest) > n {
			m.off += n
			return append(chunk, rest[:n])
		}
		chunk = append(chunk, rest)
		n -= len(rest)
		m.seg, m.off = m.seg+1, 0
	}
	return chunk
}

// failed is called with mu held, after a write that failed. The reader ends the link, when it has read what arrived.
func (s *bulkSender) failed(err error) {
	if s.err == nil {
		s.err = err
	}
	s.jam.update(0, 0)
	s.nc.SetReadDeadline(time.Now().Add(linger)) //nolint:errcheck // it has ended already then
}

// grant is a GRANT that arrived.
func (s *bulkSender) grant(number, upto uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number > s.number {
		return fmt.Errorf("a grant for body %d, which was never announced", number)
	}
	m := s.bodies[number]
	if m == nil || upto <= uint64(m.credit) {
		return nil
	}
	m.credit = int(min(upto, uint64(m.total)))
	if m.parked {
		m.parked = false
		s.turns = append(s.turns, m)
		s.kickLocked()
	}
	return nil
}

func (s *bulkSender) withdraw(pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.bodies[pos&^bulkPos]
	if m == nil || m.last || s.err != nil {
		return false
	}
	s.gone(m)
	m.dropped = true
	if m.begun {
		s.begun--
		if i := slices.Index(s.turns, m); i >= 0 {
			s.turns = slices.Delete(s.turns, i, i+1)
		}
	} else {
		m.segs = nil // it stays in the queue until its turn
	}
	s.aborts = append(s.aborts, m.number)
	s.waiting.Store(true)
	return true
}

func (s *bulkSender) taken(pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.bodies[pos&^bulkPos]
	return m == nil || m.taken
}

func (s *bulkSender) unsent(pos uint64) (h Header, meta, body []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.bodies[pos&^bulkPos]
	if m == nil {
		return h, nil, nil, false
	}
	if len(m.segs) == 1 {
		return m.h, m.meta, m.segs[0], true
	}
	return m.h, m.meta, bytes.Join(m.segs, nil), true
}

// end refuses what comes later. What was not sent stays for unsent.
func (s *bulkSender) end() {
	s.mu.Lock()
	if s.err == nil {
		s.err = errors.New("the link has ended")
	}
	s.jam.update(0, 0)
	s.mu.Unlock()
}

func (s *bulkSender) settled() {
	s.mu.Lock()
	for s.writing { // its write fails at once: the socket is closed
		s.idle.Wait()
	}
	s.mu.Unlock()
}
