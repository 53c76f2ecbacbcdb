package transport

import (
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// maxRoutes is how many ways a handle finds without making them anew.
const maxRoutes = 1024

// RouteCache are those that calls to one deployment or replica have taken, by the names of methods. Names may be a client's, of a
// dispatcher, so they are forgotten when they are too many. The zero value has none.
type RouteCache struct {
	routes sync.Map // name of a method -> *wire.Way
	count  atomic.Int32
}

// Get is the way of a route over peer.
func (w *RouteCache) Get(peer *wire.Peer, r wire.Route) (*wire.BoundRoute, *call.Error) {
	if v, ok := w.routes.Load(r.Method); ok && v.(*wire.BoundRoute).Peer() == peer {
		return v.(*wire.BoundRoute), nil
	}
	way, e := peer.Bind(r)
	if e != nil {
		return nil, e
	}
	if w.count.Add(1) > maxRoutes {
		w.routes.Clear()
		w.count.Store(0)
	}
	w.routes.Store(r.Method, way) // two goroutines may make one each; both lead there
	return way, nil
}
