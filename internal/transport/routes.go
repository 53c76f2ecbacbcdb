package transport

import (
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// maxRoutes is the number of routes that a cache stores.
const maxRoutes = 1024

// RouteCache stores the routes of calls to one deployment or replica, by the name of the method. A client outside may send
// any name to a dispatcher, so the cache is emptied when it has too many routes. For example, a client sends calls with
// 2,000 made-up names: after 1,024 of them the cache is emptied once, and the next call of a real method makes its route
// anew. The zero value is an empty cache.
type RouteCache struct {
	routes sync.Map // name of a method -> *wire.BoundRoute
	count  atomic.Int32
}

// Get returns the route to r over peer.
func (c *RouteCache) Get(peer *wire.Peer, r wire.Route) (*wire.BoundRoute, *call.Error) {
	if v, ok := c.routes.Load(r.Method); ok && v.(*wire.BoundRoute).Peer() == peer {
		return v.(*wire.BoundRoute), nil
	}
	route, e := peer.Bind(r)
	if e != nil {
		return nil, e
	}
	if c.count.Add(1) > maxRoutes {
		c.routes.Clear()
		c.count.Store(0)
	}
	c.routes.Store(r.Method, route) // two goroutines may each make a route; both are good
	return route, nil
}
