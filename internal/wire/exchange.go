package wire

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// An exchange is a call that carries HTTP (docs/wire.md, "HTTP"). The answer is a stream of parts. The parts of the request go the other
// way in UPLOAD frames, with the same items, windows and flows as a stream. The window of UPLOAD begins at nothing: so a callee that never
// asks for parts gets none, and a call that was not started elsewhere can begin anew, because none of its parts are lost.
//
// Example: a handler reads the body of its request. The worker sends an ALLOW of 256 items and 1 MiB, the node sends the body in UPLOAD
// frames, and at its end a part of the kind partLast.

// exchangeMore is the flag in the tail key "http" that says that parts follow in UPLOAD frames.
const exchangeMore = 1

// The kinds of parts that this package tells from others; package exchange has all. The first three end a row of parts, and take nothing of the
// window. For example, an application closes a WebSocket whose client has read nothing for a while: its close passes by the messages' window,
// which is empty. The answer is one row. After partTakeover, from the callee, the caller begins a new row.
const (
	partLast     call.Codec = 37
	partBroken   call.Codec = 38
	partClose    call.Codec = 44
	partTakeover call.Codec = 36
)

// kindWebSocket is the kind of an exchange whose parts always follow.
const kindWebSocket = 2

func endsParts(kind call.Codec) bool {
	return kind == partLast || kind == partBroken || kind == partClose
}

// newUploads makes the receiving end of the parts of a call. A call that announced none takes none.
func newUploads(p *Peer, id uint64, x *call.Exchange) *inflow {
	f := &inflow{peer: p, typ: TypeAllow, id: id}
	if x.More || x.Kind == kindWebSocket {
		f.rows = 1
	}
	return f
}

// Parts has the parts that the caller sends handed to items. It is called before the first Credit of the result, which asks for parts.
func (in *Incoming) Parts(items call.Items) call.Source {
	in.up.mu.Lock()
	defer in.up.mu.Unlock()
	in.up.items = items
	return in.up
}

// Part sends a part of the answer: see [call.Uplink].
func (in *Incoming) Part(ctx context.Context, kind call.Codec, data []byte, hold bool) error {
	if kind == partTakeover {
		in.up.mu.Lock()
		in.up.rows++
		in.up.mu.Unlock()
	}
	return in.out.Part(ctx, kind, data, hold)
}

// SendHeld sends the parts that are held.
func (in *Incoming) SendHeld(ctx context.Context) {
	o := in.out
	o.mu.Lock()
	held := len(o.pending) > 0
	o.mu.Unlock()
	if held {
		o.sendPending(ctx)
	}
}

var errPartsEnd = errors.New("the exchange has ended")

// Part implements [call.Uplink].
func (o *outflow) Part(ctx context.Context, kind call.Codec, data []byte, hold bool) error {
	p := call.Payload{Codec: kind, Data: data}
	if n, limit := call.ItemOverhead+len(data), o.peer.maxOut(); n > limit {
		return tooLarge(n, limit)
	}
	direct := !hold && len(data) >= directLeast && call.ItemOverhead+len(data) <= frameRoom
	size := itemsFrame
	if direct {
		size = frameRoom
	}
	switch {
	case endsParts(kind):
		o.mu.Lock()
	case !o.reserve(ctx, p, size):
		return o.stopped(ctx)
	}
	if o.ended {
		o.mu.Unlock()
		return errPartsEnd
	}
	if direct {
		head := call.AppendItemHead(o.pending, p)
		o.pending = nil
		o.mu.Unlock()
		return o.sendDirect(ctx, head, data)
	}
	o.pending = call.AppendItem(o.pending, p)
	hold = hold && len(o.pending) < itemsFrame
	o.mu.Unlock()
	if !hold && (!o.peer.conn.small.partCongestion.awaitRelief(ctx) || !o.sendPending(ctx)) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.failed != nil {
			return o.failed
		}
		// The part is in its place and goes with the next one, or the END.
	}
	return nil
}

// stopped is why nothing more can be sent.
func (o *outflow) stopped(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.failed != nil:
		return o.failed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errPartsEnd
}

// Wanted implements [call.Uplink].
func (o *outflow) Wanted(ctx context.Context) error {
	for {
		o.mu.Lock()
		asked, ended, credited := o.asked, o.ended, o.waitLocked()
		if asked {
			o.wakeLocked() // the signal was that of the credit
		}
		o.mu.Unlock()
		switch {
		case asked:
			return nil
		case ended:
			return errPartsEnd
		}
		select {
		case <-credited:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// onParts handles UPLOAD, which names a call of the other side, and ALLOW, which names a call of this side.
func (p *Peer) onParts(b *call.Batch, h Header, meta, body []byte) error {
	if h.Type == TypeUpload {
		p.mu.Lock()
		in := p.incoming[h.ID]
		p.mu.Unlock()
		switch {
		case in == nil:
			return nil
		case in.up == nil:
			return errors.New("a part for a call that takes none")
		}
		return in.up.frame(b, body)
	}
	if len(meta) != creditLen {
		return errors.New("malformed credit")
	}
	p.mu.Lock()
	o, ok := p.calls[h.ID]
	p.mu.Unlock()
	switch {
	case !ok:
		return nil
	case o.up == nil:
		return errors.New("an allow for a call that sends no parts")
	}
	return o.up.addCredit(b, windowIn(meta))
}

// windowIn reads the meta of a CREDIT or ALLOW.
func windowIn(meta []byte) call.Window {
	return call.Window{Items: le.Uint32(meta), Bytes: le.Uint32(meta[4:])}
}

// errNoHTTP is the failure of an exchange with a worker that does not know them.
var errNoHTTP = call.NewError(helvetype.ReasonInternal, "the replica's worker is of a version of Helve that does not serve HTTP in workers")
