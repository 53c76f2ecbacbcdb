package response

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
)

// frames has the items that came over a wire and were not read yet. The window of the stream bounds their number.
type frames struct {
	arrived atomic.Uint64 // frames so far
	mu      sync.Mutex
	waiting [][]byte
	from    call.Source

	// The reader's.
	taken uint64
	now   []byte // the rest of the frame that is being read
	owed  call.Window
}

// put adds a copy of a frame.
func (a *frames) put(from call.Source, frame []byte) {
	a.mu.Lock()
	a.waiting = append(a.waiting, append([]byte(nil), frame...))
	a.from = from
	a.mu.Unlock()
	a.arrived.Add(1)
}

func (a *frames) empty() bool { return len(a.now) == 0 && a.arrived.Load() == a.taken }

// take gives the next item, which stays valid, and lets the method go on when half of the window was read. It returns false if no item
// is there.
func (a *frames) take(item *call.Payload) bool {
	if len(a.now) == 0 {
		if a.arrived.Load() == a.taken {
			return false
		}
		a.mu.Lock()
		a.now, a.waiting = a.waiting[0], a.waiting[1:]
		a.mu.Unlock()
		a.taken++
	}
	p, rest, ok := call.NextItem(a.now)
	if !ok { // the connection has looked through it
		a.now = nil
		return false
	}
	a.now = rest
	a.owed.Items++
	a.owed.Bytes += uint32(min(len(p.Data), math.MaxUint32/2))
	if room := call.Room; a.owed.Items >= room.Items/2 || a.owed.Bytes >= room.Bytes/2 {
		a.mu.Lock()
		from := a.from
		a.mu.Unlock()
		from.Credit(nil, a.owed)
		a.owed = call.Window{}
	}
	*item = p
	return true
}
