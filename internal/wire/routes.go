package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/call"
)

// maxMethod bounds the name of a method in bytes: a longer one is no method's.
const maxMethod = 1024

// maxIdleRoutes is how many routes a connection has before those that no call uses lose their numbers, and keptRouteBytes how many
// bytes of their declarations.
const (
	maxIdleRoutes     = 4096
	maxIdleRouteBytes = maxRouteBytes / 2
)

// Bind is a route as its caller has it. It has a number on the connection as long as calls use it, and as long as there are
// numbers for all; it gets another one when it is used again. So names that the other side does not have, as a client outside may
// send them to a dispatcher, use up nothing, and a number is named again only when no call under it is under way.
//
// Example: 4,096 ways have numbers, no call is under way, and a call goes to one more. All lose their numbers, and the new
// one is number 1.
type BoundRoute struct {
	peer  *Peer
	route Route

	// Guarded by Peer.mu.
	number   uint32 // 0 for none
	bytes    int    // of its declaration
	inFlight int    // that have not ended
}

// Peer is whose connection it leads over.
func (w *BoundRoute) Peer() *Peer { return w.peer }

// boundRoutes are the routes that this side has told the other; Peer.mu guards them.
type boundRoutes struct {
	numbered []*BoundRoute // the way of number i+1
	free     []uint32
	bytes    int
	keepUpTo int // at so many those lose their numbers that no call uses
}

// Bind gives the way of a route, which has no number yet. It fails where the names can lead nowhere.
func (p *Peer) Bind(r Route) (*BoundRoute, *call.Error) {
	if len(r.Method) > maxMethod || !utf8.ValidString(r.Method) {
		return nil, call.NewError(call.NoMethod, fmt.Sprintf("there is no method %s: a name is UTF-8, of at most %d bytes", call.Quoted(r.Method), maxMethod))
	}
	if len(r.App) > call.MaxName || len(r.Deployment) > call.MaxName {
		return nil, call.NewError(call.DeploymentUnavailable, fmt.Sprintf("there is no deployment %s in application %s: names have at most %d bytes",
			call.Quoted(r.Deployment), call.Quoted(r.App), call.MaxName))
	}
	return &BoundRoute{peer: p, route: r}, nil
}

// Declare gives the number of a route that keeps it for the connection's life.
func (p *Peer) Declare(r Route) (uint32, error) {
	w, failure := p.Bind(r)
	if failure != nil {
		return 0, failure
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed := p.numberLocked(w); failed != nil {
		if failed.NotStarted {
			return 0, errEnded
		}
		return 0, failed.Err
	}
	w.inFlight++
	return w.number, nil
}

// numberLocked sees that w has a number, which the other side was told.
func (p *Peer) numberLocked(w *BoundRoute) *call.Result {
	if w.number != 0 {
		return nil
	}
	body, err := json.Marshal(w.route)
	if err != nil { // plain strings always marshal
		return &call.Result{Err: call.NewError(call.Fault, err.Error())}
	}
	s := &p.boundRoutes
	if used := len(s.numbered) - len(s.free); used >= max(s.keepUpTo, maxIdleRoutes) || s.bytes+len(body) > maxIdleRouteBytes {
		s.releaseUnused()
	}
	if len(s.free) == 0 && len(s.numbered) == maxRoute || s.bytes+len(body) > maxRouteBytes {
		return &call.Result{Err: call.NewError(call.Backpressure, fmt.Sprintf(
			"calls to %d different methods are under way on one connection, more are not possible: call again when some have ended", len(s.numbered)-len(s.free)))}
	}
	number := uint32(len(s.numbered) + 1)
	if n := len(s.free); n > 0 {
		number = s.free[n-1]
	}
	// Under the lock, so that no call on the route can be written before it.
	if _, err := p.conn.Append(Header{Type: TypeRoute, ID: uint64(number)}, nil, body); err != nil {
		return &call.Result{Err: call.NewError(call.ReplicaUnavailable, "the replica's process has ended"), NotStarted: true}
	}
	if n := len(s.free); n > 0 {
		s.free = s.free[:n-1]
		s.numbered[number-1] = w
	} else {
		s.numbered = append(s.numbered, w)
	}
	w.number, w.bytes = number, len(body)
	s.bytes += w.bytes
	return nil
}

// releaseUnused takes their numbers from the ways that no call uses. What stays doubles what is kept, so that the look at all is paid for
// by as many new ones.
func (s *boundRoutes) releaseUnused() {
	for i, w := range s.numbered {
		if w == nil || w.inFlight > 0 {
			continue
		}
		s.bytes -= w.bytes
		w.number, w.bytes = 0, 0
		s.numbered[i] = nil
		s.free = append(s.free, uint32(i+1))
	}
	s.keepUpTo = min(2*(len(s.numbered)-len(s.free)), maxRoute)
}

// Start sends a call on its way: see [Peer.Start].
func (w *BoundRoute) Start(b *call.Batch, c *call.Call, left time.Duration, sink call.Sink) (id uint64) {
	return w.peer.start(b, w, 0, c, left, sink)
}

// callError is the error of a call that cannot be written.
func callError(err error) *call.Error {
	if e, known := errors.AsType[*call.Error](err); known { // a result among the arguments that cannot be read any more
		return e
	}
	if _, large := errors.AsType[*sizeError](err); large {
		err = fmt.Errorf("the arguments are %w", err)
	}
	return call.NewError(call.TooLarge, err.Error())
}

// checkCallLocked sees that a call may be sent, and writes the number of its route into its meta, if it has a way.
func (p *Peer) checkCallLocked(w *BoundRoute, meta []byte) *call.Result {
	if len(p.calls) >= p.maxCalls {
		return &call.Result{Err: call.NewError(call.Backpressure, fmt.Sprintf(
			"%d calls are under way on this connection, more are not possible: call again when some have ended", len(p.calls)))}
	}
	if w == nil {
		return nil
	}
	failed := p.numberLocked(w)
	if failed == nil {
		le.PutUint32(meta, w.number)
	}
	return failed
}
