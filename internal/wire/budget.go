package wire

import (
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

const (
	// maxCallBytes bounds the arguments, in bytes, of calls of the other side that have not ended. (Bodies that have not
	// arrived completely have a budget of their own, [Terms.Budget].)
	maxCallBytes = 1 << 30
	// maxControlBytes bounds the control requests of the other side, in bytes, that are not answered.
	maxControlBytes = 512 << 20
)

// inFlight counts the bytes of calls and control requests of the other side that have not ended. Peer.mu guards it.
type inFlight struct{ calls, controls int }

// admitCall counts a call of n bytes. Over the limit the result is the error of the call; but if no other call is in
// flight, a call of any size is taken. p.mu is held. For example, with a limit of 1 GiB a call of 700 MiB runs, and a
// second one of 400 MiB beside it fails with backpressure.
func (p *Peer) admitCall(n int) *call.Error {
	limit := p.conn.terms.Calls
	if p.inFlight.calls > 0 && p.inFlight.calls+n > limit {
		return call.NewError(helvetype.ReasonBackpressure, fmt.Sprintf(
			"a call with %d bytes of arguments where the calls under way on this connection have %d, at most %d are possible: call again when some have ended",
			n, p.inFlight.calls, limit))
	}
	p.inFlight.calls += n
	return nil
}

// refuseCall answers a call that is not run with an error.
func (p *Peer) refuseCall(b *call.Batch, id uint64, e *call.Error) {
	h := Header{Type: TypeEnd, Flags: FlagError, ID: id}
	if _, err := p.conn.Append(h, make([]byte, endLen), codec.AppendError(nil, e)); err == nil {
		b.Touch(p.conn)
	}
}

// admitControl counts a control request of n bytes. An error ends the connection: a sender knows the limit and keeps to it.
func (p *Peer) admitControl(n int) error {
	limit := p.conn.terms.Controls
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inFlight.controls+n > limit {
		return fmt.Errorf("control requests of over %d bytes at once on one connection", limit)
	}
	p.inFlight.controls += n
	return nil
}

func (p *Peer) controlEnded(n int) {
	p.mu.Lock()
	p.inFlight.controls -= n
	p.mu.Unlock()
}
