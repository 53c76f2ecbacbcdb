package transport

import (
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// knownWays is how many ways a handle finds without making them anew.
const knownWays = 1024

// Ways are those that calls to one deployment or replica have taken, by the names of methods. Names may be a client's, of a
// dispatcher, so they are forgotten when they are too many. The zero value has none.
type Ways struct {
	known sync.Map // name of a method -> *wire.Way
	n     atomic.Int32
}

// To is the way of a route over peer.
func (w *Ways) To(peer *wire.Peer, r wire.Route) (*wire.Way, *call.Error) {
	if v, ok := w.known.Load(r.Method); ok && v.(*wire.Way).Peer() == peer {
		return v.(*wire.Way), nil
	}
	way, e := peer.Way(r)
	if e != nil {
		return nil, e
	}
	if w.n.Add(1) > knownWays {
		w.known.Clear()
		w.n.Store(0)
	}
	w.known.Store(r.Method, way) // two goroutines may make one each; both lead there
	return way, nil
}
