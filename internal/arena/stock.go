package arena

import (
	"slices"
	"sync"
)

// MinBuffer is the size in bytes from which on a buffer goes through the arena. Smaller buffers are faster in their
// frame (measured).
const MinBuffer = 128 << 10

const firstAsk = 1 << 20

// The stock asks for more when it has less than leastAhead buffers of the recent size. The number doubles, up to mostAhead, after a buffer found no
// room, and falls by one after enoughTimes requests between which all found some. For example, with four calls of 1 MB at a time a stock of 2 MB is
// used up before the next grant comes: the bytes of every second value went into its frame, which cost twice the processor time.
const (
	leastAhead  = 2
	mostAhead   = 16
	enoughTimes = 8
)

// Stock is the list of extents that a worker has leased and not used. It does no I/O and uses no clock. All methods may
// be called from any goroutine.
//
// Take never waits: a buffer for which the stock has no extent goes into its frame. After each Take the worker calls
// NextRequest, and sends the request if the result is not 0. One request is in flight at a time. For example, a worker
// that sends values of 1 MB asks for 4 MB after the first, and again when less than 2 MB are left.
type Stock struct {
	arena uint64
	most  uint64

	mu      sync.Mutex
	grants  []Grant
	surplus []Grant // pieces that are too small, to be returned
	held    uint64  // bytes of grants
	typical uint64  // about the size of the largest recent buffer
	ahead   uint64  // the number of buffers of that size below which the stock asks for more
	short   bool    // a buffer found no room since the last request
	enough  int     // the number of requests since a buffer found no room
	asked   bool
	refused bool // the last request was refused: the next one is smaller
}

// NewStock makes an empty stock. most is the number of bytes that the node leases to one worker.
func NewStock(arena, most uint64) *Stock {
	return &Stock{arena: arena, most: most / Slab * Slab, ahead: leastAhead}
}

// Take returns a place for n bytes. The caller writes the bytes there and sends the Ref. The result is false if no
// extent in stock is large enough.
func (s *Stock) Take(n uint64) (Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || n > s.most {
		return Ref{}, false
	}
	first := s.typical == 0
	s.typical = max(slabs(n), s.typical-s.typical/8) // a few smaller buffers make it fall
	best := -1
	for i, g := range s.grants {
		if g.Length >= n && (best < 0 || g.Length < s.grants[best].Length) {
			best = i
		}
	}
	if best < 0 {
		s.short = !first
		return Ref{}, false
	}
	g := s.grants[best]
	r := Ref{s.arena, g.Generation, g.Offset, n}
	used := slabs(n)
	s.held -= used
	if rest := (Grant{Extent{g.Offset + used, g.Length - used}, g.Generation}); rest.Length >= MinBuffer {
		s.grants[best] = rest
		return r, true
	} else if rest.Length > 0 {
		s.surplus = append(s.surplus, rest)
		s.held -= rest.Length
	}
	s.grants = slices.Delete(s.grants, best, best+1)
	return r, true
}

// PutBack returns a place of Take to the stock, because the Ref was not sent.
func (s *Stock) PutBack(r Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(Grant{Extent{r.Offset, slabs(r.Length)}, r.Generation})
}

// NextRequest returns the number of bytes to request from the node now, or 0. After a request AddGrant must follow.
func (s *Stock) NextRequest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked || s.typical == 0 || s.held >= s.least() || s.held+s.typical > s.most {
		return 0
	}
	switch {
	case s.short:
		s.ahead, s.short, s.enough = min(2*s.ahead, mostAhead), false, 0
	case s.ahead > leastAhead:
		if s.enough++; s.enough == enoughTimes {
			s.ahead, s.enough = s.ahead-1, 0 // few extents that are used in turn stay in the caches of the processor
		}
	}
	n := min(max(2*s.least(), firstAsk), s.most-s.held)
	if s.refused {
		n = s.typical
	}
	s.asked = true
	return n
}

// least is the number of bytes below which the stock asks for more: ahead buffers, but at most a quarter of most, unless two buffers are
// more than that. mu is held.
func (s *Stock) least() uint64 {
	return max(min(s.ahead*s.typical, s.most/4), leastAhead*s.typical)
}

// AddGrant adds the extent of the node's answer. The length is 0 if the request was refused.
func (s *Stock) AddGrant(g Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.refused = false, g.Length == 0
	if s.refused { // there are others that need memory
		s.ahead = leastAhead
		return
	}
	s.add(g)
}

// Surplus returns the extents that the worker should give back to the node now. If idle is true these are all extents: a
// worker without traffic keeps no lease.
func (s *Stock) Surplus(idle bool) []Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.surplus
	s.surplus = nil
	if idle {
		out = append(out, s.grants...)
		s.grants, s.held, s.typical = nil, 0, 0
		s.ahead, s.short = leastAhead, false
	}
	return out
}

// add adds an extent to the stock, and joins it with adjacent extents of the same lease. mu is held.
func (s *Stock) add(g Grant) {
	s.held += g.Length
	for i := 0; i < len(s.grants); {
		switch o := s.grants[i]; {
		case o.Generation == g.Generation && o.end() == g.Offset:
			g = Grant{Extent{o.Offset, o.Length + g.Length}, g.Generation}
		case o.Generation == g.Generation && g.end() == o.Offset:
			g.Length += o.Length
		default:
			i++
			continue
		}
		s.grants = slices.Delete(s.grants, i, i+1)
	}
	s.grants = append(s.grants, g)
}
