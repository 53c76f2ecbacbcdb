package wire

import (
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/internal/call"
)

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
