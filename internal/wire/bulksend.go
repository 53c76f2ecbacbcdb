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

// bulkPos marks a position (see [Conn.Append]) that is the number of an announced body.
const bulkPos = 1 << 63

// maxQueuedBodies is the largest number of bodies that wait to be sent. Their bytes are limited by the backlog of the
// connection.
const maxQueuedBodies = 1 << 15

// The receiver of announced bodies limits their metas and the frames that wait for them (maxAnnouncedMeta, maxHeld). The
// sender keeps to three quarters of these limits, because the receiver may not have read all that was sent.
const (
	maxMetaBytes = maxAnnouncedMeta / 4 * 3
	maxHeldBytes = maxHeld / 4 * 3
)

// outBody is one announced body that is to be sent.
type outBody struct {
	number uint64
	h      Header
	meta   []byte
	segs   [][]byte
	total  int
	credit int // the length up to which it may be sent

	seg, off   int // the begin of the next chunk
	sent       int
	begun      bool // counts in maxBegun
	parked     bool // begun, but without credit
	finalChunk bool // its last chunk is written, or is being written
	finalSent  bool // a byte of the last chunk has reached the kernel
	withdrawn  bool // the call was taken back
	heldBytes  int  // bytes of later items of the same stream, which wait for this body at the other side
}

// bulkSender writes announced bodies. It writes a chunk of each body in turn, so that a body of 1 MB that comes behind
// one of 1 GB needs twice its time, and not the time of both. One goroutine writes as long as there are chunks, and may
// block.
type bulkSender struct {
	l          *Link
	waiting    atomic.Bool // set when a body is queued, cleared by startWriter
	congestion congestion

	mu        sync.Mutex
	idle      *sync.Cond // signalled when writing becomes false
	nc        net.Conn
	number    uint64 // of the body that was announced last
	bodies    map[uint64]*outBody
	queue     []*outBody // announced and not begun, in order
	sending   []*outBody // begun and with credit; the first is next
	begun     int
	bytes     int                 // of all bodies
	metaBytes int                 // of the metas of all bodies
	heldBytes int                 // of items that wait for bodies at the other side
	lastItems map[uint64]*outBody // for each stream, the last of its items that was announced
	streams   atomic.Int32        // the length of lastItems
	aborts    []uint64
	writing   bool
	err       error
}

func (s *bulkSender) init(l *Link) {
	s.l, s.bodies, s.lastItems = l, map[uint64]*outBody{}, map[uint64]*outBody{}
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
	m := &outBody{h: h, segs: copySegments(segs, n), total: n, credit: min(n, s.l.freeCredit)}
	m.meta = append(make([]byte, 0, len(meta)+announceLen), meta...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, fmt.Errorf("%w: %w", ErrClosed, s.err)
	}
	if (h.Type == TypeCall || h.Type == TypeControl || h.Type == TypeItems) && (len(s.bodies) >= maxQueuedBodies || s.bytes > s.l.small.backlog || s.metaBytes+len(meta) > maxMetaBytes) {
		return 0, errBacklog
	}
	if s.bytes > 4*s.l.small.backlog { // answers do not fail, but a connection whose other side takes none of them ends
		s.l.small.failAll(errBacklog)
		return 0, errBacklog
	}
	m.number = s.number + 1
	full := le.AppendUint64(le.AppendUint64(m.meta, m.number), uint64(n))
	h.Flags |= FlagBulk
	// The lock is held, so that announcements are in the order of their numbers.
	if _, err := s.l.small.Append(h, full); err != nil {
		return 0, err
	}
	s.number = m.number
	s.bodies[m.number] = m
	s.queue = append(s.queue, m)
	s.bytes += n
	s.metaBytes += len(meta)
	if h.Type == TypeItems {
		if s.lastItems[h.ID] == nil {
			s.streams.Add(1)
		}
		s.lastItems[h.ID] = m
	}
	s.updateCongestion()
	s.waiting.Store(true)
	return bulkPos | m.number, nil
}

// forget removes a body that was sent, or that will not be sent.
func (s *bulkSender) forget(m *outBody) {
	delete(s.bodies, m.number)
	s.bytes -= m.total
	s.metaBytes -= len(m.meta)
	s.heldBytes -= m.heldBytes
	if m.h.Type == TypeItems && s.lastItems[m.h.ID] == m {
		delete(s.lastItems, m.h.ID)
		s.streams.Add(-1)
	}
	s.updateCongestion()
}

// updateCongestion holds streams back if too many bytes wait to be sent, or wait for bodies at the other side.
func (s *bulkSender) updateCongestion() {
	s.congestion.update(max(s.bytes, 2*s.heldBytes*s.l.small.streamBacklog/maxHeldBytes), s.l.small.streamBacklog)
}

// countHeld counts items of n bytes that the other side holds until the body before them is complete. It fails over the
// limit. Streams of methods in this process wait before that (see updateCongestion); a relayed stream cannot wait, and
// ends.
func (s *bulkSender) countHeld(id uint64, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.lastItems[id]
	if m == nil {
		return nil
	}
	if n += heldOverhead; s.heldBytes+n > maxHeldBytes {
		return errBacklog
	}
	m.heldBytes += n
	s.heldBytes += n
	s.updateCongestion()
	return nil
}

// copySegments returns the segments of a body for later. It copies small ones, which their owners may change after
// Append.
func copySegments(segs [][]byte, n int) [][]byte {
	out := make([][]byte, 0, len(segs))
	var own []byte
	for _, seg := range segs {
		switch {
		case len(seg) == 0:
		case len(seg) > maxCopied:
			out = append(out, seg)
		default:
			if cap(own)-len(own) < len(seg) {
				own = make([]byte, 0, max(len(seg), min(n, maxCopied)))
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
	s.startWriter()
}

// startWriter starts the goroutine that writes, if there are chunks to write and it does not run.
func (s *bulkSender) startWriter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.Store(false)
	s.startWriterLocked()
}

func (s *bulkSender) startWriterLocked() {
	work := len(s.aborts) > 0 || len(s.sending) > 0 || len(s.queue) > 0 && s.begun < maxBegun
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
			n := min(s.l.chunkSize, m.credit-m.sent)
			h.ID, h.Body = m.number, uint32(n)
			chunk = m.appendChunk(chunk, n)
			m.finalChunk = m.sent == m.total
		case len(s.aborts) > 0:
			h.ID, h.Flags = s.aborts[0], FlagAbort
			s.aborts = s.aborts[1:]
		default:
			return
		}
		chunk[0] = appendHeader(head[:0], h)
		s.mu.Unlock()
		bufs := net.Buffers(chunk)
		n, err := writeAll(s.nc, &bufs)
		s.mu.Lock()
		clear(chunk)
		if m != nil {
			m.finalSent = m.finalChunk && n > 0
			switch {
			case err != nil || m.withdrawn:
			case m.finalChunk:
				s.begun--
				s.forget(m)
			case m.sent == m.credit:
				m.parked = true
			default:
				s.sending = append(s.sending, m)
			}
		}
		if err != nil {
			s.writeFailed(err)
		}
	}
}

// next returns the body of which a chunk is to be written next, or nil if an abort or nothing is to be written. Aborts
// come first, because they make room.
func (s *bulkSender) next() *outBody {
	if len(s.aborts) > 0 {
		return nil
	}
	for s.begun < maxBegun && len(s.queue) > 0 {
		m := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if !m.withdrawn {
			m.begun = true
			s.begun++
			s.sending = append(s.sending, m)
		}
	}
	if len(s.sending) == 0 {
		return nil
	}
	m := s.sending[0]
	s.sending = slices.Delete(s.sending, 0, 1) // Delete clears the slot, so that the body can be collected
	return m
}

// appendChunk appends the next n bytes of the body to chunk.
func (m *outBody) appendChunk(chunk [][]byte, n int) [][]byte {
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

// writeFailed handles a failed write. mu is held. The reader ends the link when it has read all data that has arrived.
func (s *bulkSender) writeFailed(err error) {
	if s.err == nil {
		s.err = err
	}
	s.congestion.update(0, 0)
	s.nc.SetReadDeadline(time.Now().Add(s.l.small.linger)) //nolint:errcheck // it has ended already then
}

// grant handles a GRANT.
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
		s.sending = append(s.sending, m)
		s.startWriterLocked()
	}
	return nil
}

func (s *bulkSender) withdraw(pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.bodies[pos&^bulkPos]
	if m == nil || m.finalChunk || s.err != nil {
		return false
	}
	s.forget(m)
	m.withdrawn = true
	if m.begun {
		s.begun--
		if i := slices.Index(s.sending, m); i >= 0 {
			s.sending = slices.Delete(s.sending, i, i+1)
		}
	} else {
		m.segs = nil // it stays in the queue until its turn comes
	}
	s.aborts = append(s.aborts, m.number)
	s.waiting.Store(true)
	return true
}

func (s *bulkSender) sent(pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.bodies[pos&^bulkPos]
	return m == nil || m.finalSent
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

// close refuses further bodies. Bodies that were not sent stay there for unsent.
func (s *bulkSender) close() {
	s.mu.Lock()
	if s.err == nil {
		s.err = errors.New("the link has ended")
	}
	s.congestion.update(0, 0)
	s.mu.Unlock()
}

func (s *bulkSender) awaitWriter() {
	s.mu.Lock()
	for s.writing { // the write fails soon, because the socket is closed
		s.idle.Wait()
	}
	s.mu.Unlock()
}
