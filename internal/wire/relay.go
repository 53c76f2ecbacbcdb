package wire

import (
	"errors"

	"github.com/helve-serve/helve/internal/call"
)

// maxOut is the largest body that the other side takes.
func (p *Peer) maxOut() int { return p.conn.terms.MaxOut }

// failAll notes why items of the stream are missing; mu is held. The first reason stays.
func (o *outflow) fail(err error) {
	switch {
	case o.failed != nil:
	case errors.Is(err, errBacklog):
		o.failed = errSlowReader
	default:
		o.failed = call.NewError(call.TooLarge, "an item of the stream is "+err.Error())
	}
}

// flushItems sends what is pending before the END, and gives the error that the stream must end with because items are
// missing.
func (in *Incoming) flushItems() *call.Error {
	o := in.out
	o.mu.Lock()
	defer o.mu.Unlock()
	in.sendItems()
	o.ended = true
	return o.failed
}

// Frame relays items. The other side's window is the far side's too, so nothing is counted here. Items that the other side
// does not take are the end of the stream.
func (in *Incoming) Frame(b *call.Batch, from call.Source, frame []byte) {
	o := in.out
	o.mu.Lock()
	if o.ended || o.failed != nil { // what is under way after the end
		o.mu.Unlock()
		return
	}
	o.source = from
	in.relayItems(frame)
	e := o.failed
	o.mu.Unlock()
	b.Touch(in.peer.conn)
	if e != nil {
		in.cancelCall(b, e)
	}
}

// relayItems sends a frame of items on, in parts where the other side takes less than the far side sent; o.mu is held.
func (in *Incoming) relayItems(frame []byte) {
	limit := in.peer.maxOut()
	for rest := frame; len(rest) > 0 && in.out.failed == nil; {
		part := rest
		if len(part) > limit {
			n, next := 0, rest
			for {
				p, after, ok := call.NextItem(next) // of a frame that was looked through
				if size := call.ItemOverhead + len(p.Data); !ok || n+size > limit {
					break
				}
				n, next = len(rest)-len(after), after
			}
			if n == 0 {
				p, _, _ := call.NextItem(rest)
				in.out.fail(tooLarge(call.ItemOverhead+len(p.Data), limit))
				return
			}
			part = rest[:n]
		}
		rest = rest[len(part):]
		if len(part) > maxCopied {
			part = append([]byte(nil), part...) // the connection would refer to it
		}
		if _, err := in.peer.conn.Append(Header{Type: TypeItems, ID: in.id}, nil, part); err != nil {
			in.out.fail(err)
		}
	}
}

// Send sends an item at once, whatever the window: for streams whose length is known to both sides. An item that the other
// side does not take is an error, and nothing of it is sent; the stream goes on.
func (in *Incoming) Send(b *call.Batch, p call.Payload) *call.Error {
	n, limit := call.ItemOverhead+len(p.Data), in.peer.maxOut()
	if n > limit {
		return call.NewError(call.TooLarge, "the answer is "+tooLarge(n, limit).Error())
	}
	o := in.out
	o.mu.Lock()
	if !o.ended && o.failed == nil {
		o.pending = call.AppendItem(o.pending, p)
		in.sendItems()
	}
	o.mu.Unlock()
	b.Touch(in.peer.conn)
	return nil
}
