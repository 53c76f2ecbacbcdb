package serving

import (
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/wire"
)

// ancestors are the calls above c: the calls that its caller in this process has noted, or, for a call from a worker, the calls that are
// still under way. The latter are copies, because a call that is routed again changes. A call that waits asks for them, and a call that goes on in this
// process, where the next call asks by itself.
func ancestors(c *call.Call) *call.Info { return ancestorsUpTo(c, wire.MaxDepth) }

// bounded, because workers say what they like.
func ancestorsUpTo(c *call.Call, most int) *call.Info {
	a := c.Above
	if c.Info.Above != nil || a == nil || most <= 0 {
		return c.Info.Above
	}
	s, ok := a.From.(*Caller)
	if !ok {
		return nil
	}
	above := s.ancestor(a.Frame, most-1-len(a.Hops))
	link := a.Link
	for i := len(a.Hops) - 1; i >= 0; i-- {
		h := a.Hops[i]
		above = &call.Info{
			Place: &call.Place{App: s.App, Deployment: deploymentOf(h.Replica), Method: h.Method}, Replica: h.Replica, Link: link, Above: above,
		}
		link = h.Link
	}
	return above
}

// ancestor is a copy of a call that runs at the other side, nil if it has ended.
func (s *Caller) ancestor(frame uint32, most int) *call.Info {
	if frame == 0 || s.App == "" {
		return nil
	}
	var c *call.Call
	var i call.Info
	switch sink := s.Peer.Outgoing(frame).(type) {
	case *Flight:
		sink.mu.Lock()
		c, i = sink.call, sink.call.Info
		sink.mu.Unlock()
	case *ControlCall:
		c, i = sink.call, sink.call.Info
	default:
		return nil
	}
	i.Above = ancestorsUpTo(c, most)
	return &i
}
