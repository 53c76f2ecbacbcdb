package wire

import (
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// maxOut is the largest body, in bytes, that the other side takes.
func (p *Peer) maxOut() int { return p.conn.terms.MaxOut }

// fail records the reason why items of the stream could not be sent. o.mu is held. The first reason stays.
func (o *outflow) fail(err error) {
	switch {
	case o.failed != nil:
	case errors.Is(err, errBacklog):
		o.failed = errSlowReader
	default:
		o.failed = call.NewError(helvetype.ReasonTooLarge, "an item of the stream is "+err.Error())
	}
}

// flushItems sends the pending items before the END. If items of the stream could not be sent, the result is the error
// that the stream ends with.
func (in *Incoming) flushItems() *call.Error {
	o := in.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sendItems()
	o.ended = true
	return o.failed
}

// Frame relays items from another connection to the caller of this stream. The window of the caller is the window of the
// source too, so Frame counts nothing. If the caller's side cannot take the items, the stream ends.
func (in *Incoming) Frame(b *call.Batch, from call.Source, frame []byte) {
	o := in.out
	o.mu.Lock()
	if o.ended || o.failed != nil { // items that were on their way when the stream ended
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

// relayItems sends a frame of items on. It splits the frame if the receiver takes smaller frames than the source has
// sent. o.mu is held.
func (in *Incoming) relayItems(frame []byte) {
	limit := in.peer.maxOut()
	for rest := frame; len(rest) > 0 && in.out.failed == nil; {
		part := rest
		if len(part) > limit {
			n, next := 0, rest
			for {
				p, after, ok := call.NextItem(next) // the frame was checked when it arrived
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

// Send sends an item regardless of the window. It is for streams whose length both sides know: the answers to a
// broadcast. If the item is too large for the other side, the result is an error and the stream goes on.
func (in *Incoming) Send(b *call.Batch, p call.Payload) *call.Error {
	n, limit := call.ItemOverhead+len(p.Data), in.peer.maxOut()
	if n > limit {
		return call.NewError(helvetype.ReasonTooLarge, "the answer is "+tooLarge(n, limit).Error())
	}
	o := in.out
	o.mu.Lock()
	if !o.ended && o.failed == nil {
		o.pending = call.AppendItem(o.pending, p)
		o.sendItems()
	}
	o.mu.Unlock()
	b.Touch(in.peer.conn)
	return nil
}
