package wire

import (
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// starts are calls that were accepted and not started: each starts when the kernel has taken its ACCEPT, so that a caller which
// reads to the end of a connection without finding one knows that its call has not run.
type starts struct {
	conn *Conn

	mu       sync.Mutex
	idle     *sync.Cond // starting became false
	waiting  []*Incoming
	starting bool // somebody starts those whose time has come
	over     bool
}

func (s *starts) init(conn *Conn) {
	s.conn = conn
	s.idle = sync.NewCond(&s.mu)
	conn.passed = s.run
}

// add queues a call. Its ACCEPT is in the connection's buffer, and is flushed afterwards.
func (s *starts) add(in *Incoming) {
	s.mu.Lock()
	s.waiting = append(s.waiting, in)
	first := len(s.waiting) == 1 && !s.starting
	s.mu.Unlock()
	if first && s.conn.reached(in.admitted.end) { // somebody else has flushed
		go s.run()
	}
}

// run starts the calls whose ACCEPT was taken, in order. Others add to them meanwhile.
func (s *starts) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.starting {
		return // whoever starts looks again
	}
	s.starting = true
	for !s.over && len(s.waiting) > 0 && s.conn.reached(s.waiting[0].admitted.end) {
		n := 1
		for n < len(s.waiting) && s.conn.written.Load() >= s.waiting[n].admitted.end {
			n++
		}
		due := s.waiting[:n:n]
		s.waiting = s.waiting[n:]
		s.mu.Unlock()
		var b call.Batch
		for _, in := range due {
			in.begin(&b)
		}
		b.End()
		clear(due) // their arguments are in their hands now
		s.mu.Lock()
	}
	s.starting = false
	s.idle.Broadcast()
}

// end gives those that will never start.
func (s *starts) end() []*Incoming {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for s.starting {
		s.idle.Wait()
	}
	left := s.waiting
	s.waiting = nil
	return left
}

// wrote is told that the kernel has taken n more bytes.
func (c *Conn) wrote(n int) {
	at := c.written.Add(uint64(n))
	if m := c.mark.Load(); m != 0 && at >= m && c.mark.CompareAndSwap(m, 0) {
		go c.passed()
	}
}

// reached says whether the kernel has taken everything up to at. If not, passed is told when it has; one position is watched at
// a time.
func (c *Conn) reached(at uint64) bool {
	if c.written.Load() >= at {
		return true
	}
	c.mark.Store(at)
	// It may have been written before it was marked. Whoever takes the mark back is the one to say so.
	return c.written.Load() >= at && c.mark.CompareAndSwap(at, 0)
}
