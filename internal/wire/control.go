package wire

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// sentControl is a control request that was sent and has no reply yet. If its caller has given up, reply is nil; the
// request counts as in flight until the reply comes.
type sentControl struct {
	reply chan<- reply // nil if the caller has given up
	size  int          // in bytes
}

func (a sentControl) deliver(r reply) {
	if a.reply != nil {
		a.reply <- r // never blocks: the channel has room for one
	}
}

// controlQueue keeps the number of control requests in flight within the limits of the other side, which would end the
// connection otherwise. Requests over the limit wait in the order in which they came. Peer.mu guards it.
//
// Example: 5,000 goroutines each release a lease. 4,096 requests are sent at once, and each reply lets one more go.
type controlQueue struct {
	inFlight, bytes int
	limit           int // in bytes; 0 for a limit that follows from the other side's max_body
	waiting         []*queuedControl
}

// queuedControl is a request that waits for its turn.
type queuedControl struct {
	size     int
	admitted chan struct{} // closed when the request may be sent; it counts as in flight then
}

func (s *controlQueue) hasRoom(size, limit int) bool {
	return s.inFlight < maxControls && (s.inFlight == 0 || s.bytes+size <= limit)
}

// remove counts a request as no longer in flight.
func (s *controlQueue) remove(size int) {
	s.inFlight--
	s.bytes -= size
}

// admitNext admits waiting requests, in their order, while there is room.
func (s *controlQueue) admitNext(limit int) {
	for len(s.waiting) > 0 && s.hasRoom(s.waiting[0].size, limit) {
		t := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.inFlight++
		s.bytes += t.size
		close(t.admitted)
	}
}

// controlLimit is the number of bytes of control requests that the other side takes at once.
func (p *Peer) controlLimit() int {
	if p.controlQueue.limit > 0 { // set by tests
		return p.controlQueue.limit
	}
	return max(maxControlBytes, 2*p.conn.terms.MaxOut)
}

// awaitControlTurn waits until a request of this size may be sent, and counts it as in flight.
func (p *Peer) awaitControlTurn(ctx context.Context, size int) error {
	t := &queuedControl{size, make(chan struct{})}
	p.mu.Lock()
	p.controlQueue.waiting = append(p.controlQueue.waiting, t)
	p.controlQueue.admitNext(p.controlLimit())
	p.mu.Unlock()
	select {
	case <-t.admitted: // even if ctx has ended: then the request is sent, and its reply is not awaited
		return nil
	default:
	}
	var err error
	select {
	case <-t.admitted:
		return nil
	case <-ctx.Done():
		err = call.EndOf(ctx)
	case <-p.ctx.Done():
		err = errEnded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.controlQueue.waiting {
		if other == t {
			p.controlQueue.waiting = append(p.controlQueue.waiting[:i:i], p.controlQueue.waiting[i+1:]...)
			p.controlQueue.admitNext(p.controlLimit())
			return err
		}
	}
	p.controlQueue.remove(size) // the request was admitted meanwhile
	p.controlQueue.admitNext(p.controlLimit())
	return err
}

// Control sends a control request and waits for its reply, which it unmarshals into out if out is not nil. request is a
// value whose JSON is an object with the field "op", or this JSON as a [json.RawMessage]. If the other side has no room
// for another request, Control waits first. The types of the requests are in package protocol.
func (p *Peer) Control(ctx context.Context, request, out any) error {
	body, err := p.controlBody(request)
	if err != nil {
		return err
	}
	if err := p.awaitControlTurn(ctx, len(body)); err != nil {
		return err
	}
	c := make(chan reply, 1)
	id, err := p.sendControl(body, c)
	if err != nil {
		return err
	}
	select {
	case r := <-c:
		if r.err != nil || out == nil {
			return r.err
		}
		return json.Unmarshal(r.body, out)
	case <-ctx.Done():
		p.mu.Lock()
		if a, live := p.controls[id]; live {
			a.reply = nil
			p.controls[id] = a
		}
		p.mu.Unlock()
		return call.EndOf(ctx)
	}
}

// Tell sends a control request, and nothing reads its reply. The request stands before all frames that are sent from now on: for example, the report of a model that was loaded stands before the
// answer of the call that has loaded it. Where that cannot be, Tell waits for nothing: sent is false, without an error, if the other side has no room for another request, or if the request is over
// 256 KiB and travels on the second connection, where later frames overtake it.
func (p *Peer) Tell(request any) (sent bool, err error) {
	body, err := p.controlBody(request)
	if err != nil {
		return false, err
	}
	if !p.conn.inFrame(len(body)) {
		return false, nil
	}
	p.mu.Lock()
	q := &p.controlQueue
	room := len(q.waiting) == 0 && q.hasRoom(len(body), p.controlLimit())
	if room {
		q.inFlight++
		q.bytes += len(body)
	}
	p.mu.Unlock()
	if !room {
		return false, nil
	}
	_, err = p.sendControl(body, nil)
	return err == nil, err
}

// controlBody is a control request as JSON.
func (p *Peer) controlBody(request any) (json.RawMessage, error) {
	body, encoded := request.(json.RawMessage)
	if !encoded {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return nil, err
		}
	}
	if limit := p.conn.terms.MaxOut; len(body) > limit {
		return nil, p.appendError("the request is ", tooLarge(len(body), limit))
	}
	return body, nil
}

// sendControl sends a control request that has its turn. c, which has room for one, gets the reply; nil for none.
func (p *Peer) sendControl(body json.RawMessage, c chan<- reply) (id uint64, err error) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return 0, errEnded
	}
	p.nextControl++
	id = p.nextControl
	p.controls[id] = sentControl{c, len(body)}
	p.mu.Unlock()
	if _, err := p.conn.Append(Header{Type: TypeControl, ID: id}, nil, body); err != nil {
		p.mu.Lock()
		if _, live := p.controls[id]; live {
			delete(p.controls, id)
			p.controlQueue.remove(len(body))
			p.controlQueue.admitNext(p.controlLimit())
		}
		p.mu.Unlock()
		return 0, p.appendError("the request is ", err)
	}
	p.conn.Flush()
	return id, nil
}

// appendError makes the error of a control request from an error of Append. subject is the beginning of its text where
// the request is too large.
func (p *Peer) appendError(subject string, err error) error {
	switch {
	case p.conn.Err() != nil || errors.Is(err, ErrClosed):
		return errEnded
	case errors.Is(err, errBacklog):
		return call.NewError(helvetype.ReasonReplicaUnavailable, err.Error())
	}
	return call.NewError(helvetype.ReasonTooLarge, subject+err.Error())
}

// reply answers a control request. If the reply is too large for the other side, an error is sent instead, because the
// caller there waits.
func (p *Peer) reply(id uint64, body []byte) {
	h := Header{Type: TypeReply, ID: id}
	if _, err := p.conn.Append(h, nil, body); err != nil {
		if p.conn.Err() != nil || errors.Is(err, ErrClosed) {
			return
		}
		body, _ = json.Marshal(replyBody{&replyError{Reason: helvetype.ReasonTooLarge, Message: "the reply is " + err.Error()}})
		if _, err := p.conn.Append(h, nil, body); err != nil {
			return
		}
	}
	p.conn.Flush()
}
