package wire

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/internal/call"
)

// asked is a control request that was sent. Whoever asked may have given up, in which case nobody is told its reply; it is under
// way until that comes.
type asked struct {
	to   chan<- reply // nil: nobody
	size int          // in bytes
}

func (a asked) tell(r reply) {
	if a.to != nil {
		a.to <- r // has room for one
	}
}

// asking bounds the control requests that the other side has under way, because over its limits it ends the connection; the others
// wait for their turn. Peer.mu guards it.
//
// Example: 5,000 goroutines give back a selection each. 4,096 requests are sent, and with every reply one more.
type asking struct {
	n, bytes int
	most     int // bytes; 0 for what follows from the other side's max_body
	queue    []*turn
}

// turn is a request that waits.
type turn struct {
	size int
	come chan struct{} // closed when it is counted
}

func (s *asking) room(size, limit int) bool {
	return s.n < maxControls && (s.n == 0 || s.bytes+size <= limit)
}

// answered is told that a request is not under way any more.
func (s *asking) answered(size int) {
	s.n--
	s.bytes -= size
}

// next lets those in that there is room for, in their order.
func (s *asking) next(limit int) {
	for len(s.queue) > 0 && s.room(s.queue[0].size, limit) {
		t := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.n++
		s.bytes += t.size
		close(t.come)
	}
}

// controlLimit is how many bytes of control requests the other side takes at once.
func (p *Peer) controlLimit() int {
	if p.asking.most > 0 { // in tests
		return p.asking.most
	}
	return max(maxControlBytes, 2*p.conn.terms.MaxOut)
}

// admitAsking waits until a request of that size may be sent, and counts it.
func (p *Peer) admitAsking(ctx context.Context, size int) error {
	t := &turn{size, make(chan struct{})}
	p.mu.Lock()
	p.asking.queue = append(p.asking.queue, t)
	p.asking.next(p.controlLimit())
	p.mu.Unlock()
	select {
	case <-t.come: // also of a ctx that has ended: the request is sent, and its reply not waited for
		return nil
	default:
	}
	var err error
	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
		err = call.EndOf(ctx)
	case <-p.ctx.Done():
		err = errEnded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.asking.queue {
		if other == t {
			p.asking.queue = append(p.asking.queue[:i:i], p.asking.queue[i+1:]...)
			p.asking.next(p.controlLimit())
			return err
		}
	}
	p.asking.answered(size) // it was counted meanwhile
	p.asking.next(p.controlLimit())
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
		return p.unsent("the request is ", tooLarge(len(body), limit))
	}
	if err := p.admitAsking(ctx, len(body)); err != nil {
		return err
	}
	c := make(chan reply, 1)
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return errEnded
	}
	p.nextCtl++
	id := p.nextCtl
	p.controls[id] = asked{c, len(body)}
	p.mu.Unlock()
	if _, err := p.conn.Append(Header{Type: TypeControl, ID: id}, nil, body); err != nil {
		p.mu.Lock()
		if _, live := p.controls[id]; live {
			delete(p.controls, id)
			p.asking.answered(len(body))
			p.asking.next(p.controlLimit())
		}
		p.mu.Unlock()
		return p.unsent("the request is ", err)
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
			a.to = nil
			p.controls[id] = a
		}
		p.mu.Unlock()
		return call.EndOf(ctx)
	}
}

// unsent is the error of what Append refused; what says what it was, before a size.
func (p *Peer) unsent(what string, err error) error {
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
