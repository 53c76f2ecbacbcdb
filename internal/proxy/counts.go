package proxy

import "github.com/helve-serve/helve/internal/telemetry"

// routeCounts counts the requests of one route of one application.
type routeCounts struct {
	routeKey
	telemetry.Requests
}

type routeKey struct{ prefix, app string }

// goneMax is the number of routes that are served no more and keep their counts. For example, an application that is deleted
// and deployed again counts on, and a thousand that were deployed once each do not stay for ever.
const goneMax = 32

// countLocked gives each route its counts: those that it had before, or new ones.
func (p *Proxy) countLocked(rs []served) {
	before := make(map[routeKey]*routeCounts, len(p.counted))
	for _, c := range p.counted {
		before[c.routeKey] = c
	}
	counted := make([]*routeCounts, 0, len(rs)+goneMax)
	for i := range rs {
		k := routeKey{rs[i].Prefix, rs[i].App}
		c := before[k]
		if c == nil {
			c = &routeCounts{routeKey: k}
		}
		delete(before, k)
		rs[i].requests = &c.Requests
		counted = append(counted, c)
	}
	for _, c := range p.counted {
		if before[c.routeKey] != nil && len(counted) < len(rs)+goneMax {
			counted = append(counted, c)
		}
	}
	p.counted = counted
}

// Counts are the requests to applications that have ended, by route, method and status, and the number of requests that are not
// answered yet. The paths of the node itself (/-/healthz, for example) are not in them.
func (p *Proxy) Counts() (ended []telemetry.RequestCounts, ongoing int) {
	p.setting.Lock()
	counted := p.counted
	p.setting.Unlock()
	for _, c := range counted {
		for _, k := range c.Requests.Counts() {
			k.Route, k.Application = c.prefix, c.app
			ended = append(ended, k)
		}
	}
	return append(ended, p.unrouted.Counts()...), int(p.active.Load())
}
