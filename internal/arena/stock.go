package arena

import (
	"slices"
	"sync"
)

// MinBuffer is the size from which on a buffer is worth a place here; smaller ones are faster inline (measured).
const MinBuffer = 128 << 10

const firstAsk = 1 << 20

// Stock is what a worker has leased and not used, on the worker's side. It does no I/O and knows no clock. All methods may
// be called from any goroutine.
//
// Take never waits: what is not in stock goes inline. After each Take the owner asks Want, and sends the request; one is
// under way at a time.
type Stock struct {
	arena uint64
	most  uint64

	mu      sync.Mutex
	grants  []Grant
	surplus []Grant // of no use here, to be given back
	held    uint64  // bytes of grants
	typical uint64  // about the largest buffer of late
	asked   bool
	refused bool // the last request was: ask for less
}

// NewStock makes an empty stock that asks for at most most bytes at a time, the limit that the node has for a holder.
func NewStock(arena, most uint64) *Stock { return &Stock{arena: arena, most: most / Slab * Slab} }

// Take is a place for n bytes: write them there, and send the Ref. False if nothing in stock is large enough.
func (s *Stock) Take(n uint64) (Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || n > s.most {
		return Ref{}, false
	}
	s.typical = max(slabs(n), s.typical-s.typical/8) // forgets a large one after some smaller ones
	best := -1
	for i, g := range s.grants {
		if g.Length >= n && (best < 0 || g.Length < s.grants[best].Length) {
			best = i
		}
	}
	if best < 0 {
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

// PutBack takes a place back that Take gave and that was not sent.
func (s *Stock) PutBack(r Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(Grant{Extent{r.Offset, slabs(r.Length)}, r.Generation})
}

// NextRequest is how many bytes to ask the node for now. Unless it is 0, Granted must follow.
func (s *Stock) NextRequest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked || s.typical == 0 || s.held >= 2*s.typical || s.held+s.typical > s.most {
		return 0
	}
	n := min(max(4*s.typical, firstAsk), s.most-s.held)
	if s.refused {
		n = s.typical
	}
	s.asked = true
	return n
}

// AddGrant takes the node's answer; a refusal has no length.
func (s *Stock) AddGrant(g Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.refused = false, g.Length == 0
	if g.Length > 0 {
		s.add(g)
	}
}

// Surplus is what to return to the node now. If idle, that is everything: a worker without traffic keeps no lease.
func (s *Stock) Surplus(idle bool) []Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.surplus
	s.surplus = nil
	if idle {
		out = append(out, s.grants...)
		s.grants, s.held, s.typical = nil, 0, 0
	}
	return out
}

// add puts g into stock, in one with its neighbours of the same lease. mu is held.
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
