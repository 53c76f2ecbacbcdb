package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// maxMethod is the largest length of a method's name, in bytes.
const maxMethod = 1024

// maxIdleRoutes is the number of routes, and maxIdleRouteBytes the size of their JSON, from which on routes that no call
// uses lose their numbers.
const (
	maxIdleRoutes     = 4096
	maxIdleRouteBytes = maxRouteBytes / 2
)

// BoundRoute is a route over one connection. On the wire a route has a number, which a ROUTE frame declares. A
// BoundRoute gets a number with its first call, and loses it when no call uses it and many routes have numbers; the next
// call declares it again, perhaps with another number. So the names of methods that a client makes up, which a
// dispatcher passes on, do not fill the table of the other side. A number is declared anew only when no call is in
// flight that uses it.
//
// Example: 4,096 routes have numbers, and no call is in flight. A call on another route comes: all 4,096 lose their
// numbers, and the new one gets number 1.
type BoundRoute struct {
	peer  *Peer
	route Route

	// The fields below are guarded by Peer.mu.
	number   uint32 // 0 if it has none
	bytes    int    // of its JSON
	inFlight int    // calls that have not ended
}

// Peer returns the peer over whose connection the route leads.
func (w *BoundRoute) Peer() *Peer { return w.peer }

// boundRoutes are the routes that this side has declared. Peer.mu guards them.
type boundRoutes struct {
	numbered []*BoundRoute // the route with number i+1
	free     []uint32
	bytes    int
	keepUpTo int // so many routes with numbers are kept before unused ones lose theirs
}

// Bind makes a BoundRoute, which has no number yet. It fails if a name in the route is longer than any real name.
func (p *Peer) Bind(r Route) (*BoundRoute, *call.Error) {
	if len(r.Method) > maxMethod || !utf8.ValidString(r.Method) {
		return nil, call.NewError(helvetype.ReasonNoMethod, fmt.Sprintf("there is no method %s: a name is UTF-8, of at most %d bytes", call.Quoted(r.Method), maxMethod))
	}
	if len(r.App) > call.MaxName || len(r.Deployment) > call.MaxName {
		return nil, call.NewError(helvetype.ReasonDeploymentUnavailable, fmt.Sprintf("there is no deployment %s in application %s: names have at most %d bytes",
			call.Quoted(r.Deployment), call.Quoted(r.App), call.MaxName))
	}
	return &BoundRoute{peer: p, route: r}, nil
}

// Declare returns a number for a route that keeps it until the connection ends.
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

// numberLocked gives w a number, if it has none, and declares it. The result is nil, or the failure of the call.
func (p *Peer) numberLocked(w *BoundRoute) *call.Result {
	if w.number != 0 {
		return nil
	}
	body, err := json.Marshal(w.route)
	if err != nil { // cannot fail: the struct has only strings
		return &call.Result{Err: call.NewError(helvetype.ReasonInternal, err.Error())}
	}
	s := &p.boundRoutes
	if used := len(s.numbered) - len(s.free); used >= max(s.keepUpTo, maxIdleRoutes) || s.bytes+len(body) > maxIdleRouteBytes {
		s.releaseUnused()
	}
	if len(s.free) == 0 && len(s.numbered) == maxRoute || s.bytes+len(body) > maxRouteBytes {
		return &call.Result{Err: call.NewError(helvetype.ReasonBackpressure, fmt.Sprintf(
			"calls to %d different methods are under way on one connection, more are not possible: call again when some have ended", len(s.numbered)-len(s.free)))}
	}
	number := uint32(len(s.numbered) + 1)
	if n := len(s.free); n > 0 {
		number = s.free[n-1]
	}
	// The lock is held, so that no call on the route is written before its declaration.
	if _, err := p.conn.Append(Header{Type: TypeRoute, ID: uint64(number)}, nil, body); err != nil {
		return &call.Result{Err: call.NewError(helvetype.ReasonReplicaUnavailable, "the replica's process has ended"), NotStarted: true}
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

// releaseUnused takes the numbers from routes that no call uses. It sets keepUpTo to twice the number of routes that
// stay, so that the next search through all of them comes after as many new routes.
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

// Start sends a call on the route: see [Peer.Start].
func (w *BoundRoute) Start(b *call.Batch, c *call.Call, left time.Duration, sink call.Sink) (id uint64) {
	return w.peer.start(b, w, 0, c, left, sink)
}

// callError is the error of a call whose frame cannot be made.
func callError(err error) *call.Error {
	if e, known := errors.AsType[*call.Error](err); known { // a kept result among the arguments that cannot be read any more
		return e
	}
	if _, large := errors.AsType[*sizeError](err); large {
		err = fmt.Errorf("the arguments are %w", err)
	}
	return call.NewError(helvetype.ReasonTooLarge, err.Error())
}

// checkCallLocked checks that one more call may be in flight. If w is not nil it writes the number of the route into the
// call's meta. The result is nil, or the failure of the call.
func (p *Peer) checkCallLocked(w *BoundRoute, meta []byte) *call.Result {
	if len(p.calls) >= p.maxCalls {
		return &call.Result{Err: call.NewError(helvetype.ReasonBackpressure, fmt.Sprintf(
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
