package wire

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/internal/call"
)

// sentControl is a control request that was sent. Whoever asked may have given up, in which case nobody is told its reply; it is under
// way until that comes.
type sentControl struct {
	reply chan<- reply // nil: nobody
	size  int          // in bytes
}

func (a sentControl) deliver(r reply) {
	if a.reply != nil {
		a.reply <- r // has room for one
	}
}

// controlQueue bounds the control requests that the other side has under way, because over its limits it ends the connection; the others
// wait for their turn. Peer.mu guards it.
//
// Example: 5,000 goroutines give back a selection each. 4,096 requests are sent, and with every reply one more.
type controlQueue struct {
	inFlight, bytes int
	limit           int // bytes; 0 for what follows from the other side's max_body
	waiting         []*queuedControl
}

// queuedControl is a request that waits.
type queuedControl struct {
	size     int
	admitted chan struct{} // closed when it is counted
}

func (s *controlQueue) hasRoom(size, limit int) bool {
	return s.inFlight < maxControls && (s.inFlight == 0 || s.bytes+size <= limit)
}

// remove is told that a request is not under way any more.
func (s *controlQueue) remove(size int) {
	s.inFlight--
	s.bytes -= size
}

// admitNext lets those in that there is room for, in their order.
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

// controlLimit is how many bytes of control requests the other side takes at once.
func (p *Peer) controlLimit() int {
	if p.controlQueue.limit > 0 { // in tests
		return p.controlQueue.limit
	}
	return max(maxControlBytes, 2*p.conn.terms.MaxOut)
}

// awaitControlTurn waits until a request of that size may be sent, and counts it.
func (p *Peer) awaitControlTurn(ctx context.Context, size int) error {
	t := &queuedControl{size, make(chan struct{})}
	p.mu.Lock()
	p.controlQueue.waiting = append(p.controlQueue.waiting, t)
	p.controlQueue.admitNext(p.controlLimit())
	p.mu.Unlock()
	select {
	case <-t.admitted: // also of a ctx that has ended: the request is sent, and its reply not waited for
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
	p.controlQueue.remove(size) // it was counted meanwhile
	p.controlQueue.admitNext(p.controlLimit())
	return err
}

// Control sends a control request, a value whose JSON is an object that has "op" or that JSON as a [json.RawMessage], and
// waits for the reply, which is unmarshalled into out if that is not nil. It waits first until the other side has room for
// one more. The types of the requests are in package protocol.
func (p *Peer) Control(ctx context.Context, request, out any) error {
	body, encoded := request.(json.RawMessage)
	if !encoded {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	if limit := p.conn.terms.MaxOut; len(body) > limit {
		return p.appendError("the request is ", tooLarge(len(body), limit))
	}
	if err := p.awaitControlTurn(ctx, len(body)); err != nil {
		return err
	}
	c := make(chan reply, 1)
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return errEnded
	}
	p.nextControl++
	id := p.nextControl
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
		return p.appendError("the request is ", err)
	}
	p.conn.Flush()
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

// appendError is the error of what Append refused; what says what it was, before a size.
func (p *Peer) appendError(what string, err error) error {
	switch {
	case p.conn.Err() != nil || errors.Is(err, ErrClosed):
		return errEnded
	case errors.Is(err, errBacklog):
		return call.NewError(call.ReplicaUnavailable, err.Error())
	}
	return call.NewError(call.TooLarge, what+err.Error())
}

// reply answers a control request. A reply that the other side does not take is an error there: somebody waits for it.
func (p *Peer) reply(id uint64, body []byte) {
	h := Header{Type: TypeReply, ID: id}
	if _, err := p.conn.Append(h, nil, body); err != nil {
		if p.conn.Err() != nil || errors.Is(err, ErrClosed) {
			return
		}
		body, _ = json.Marshal(replyBody{&replyError{Reason: call.TooLarge, Message: "the reply is " + err.Error()}})
		if _, err := p.conn.Append(h, nil, body); err != nil {
			return
		}
	}
	p.conn.Flush()
}
