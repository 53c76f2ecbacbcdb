package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// This file is the side of the router: calls to replicas of the other node.

// Departure is told what becomes of a call to a replica of another node: Accepted or Rejected at most once, and Complete exactly
// once unless it was rejected. All on a reader goroutine, or within [Peer.Cancel], without locks; none may block.
type Departure interface {
	// Accepted says that the call has a slot, and is about to start. load is the gate's.
	Accepted(load int)
	// Rejected says that it has none, has not started and is the caller's again. The gate counts it as one that waits, if no
	// later frame has said what waits; gone means that the replica takes no more calls.
	Rejected(b *call.Batch, load int, gone bool)
	// Load comes before Complete where the end of the call said how many slots are taken now.
	Load(load int)
	// Complete is told the end. Of a call whose connection ended NotStarted means that it did not start, for certain, and Lost
	// that nobody here can know.
	Complete(b *call.Batch, r call.Result)
}

// Arrival says where a call goes and what its router says with it.
type Arrival struct {
	Replica uint32 // the number that its node gave it
	Slot    uint64 // that was kept for it; 0: it asks to be admitted
	Upto    uint64 // see [Peer.Want]
}

// departed is a call at a replica of another node, as the sink of its connection.
type departed struct {
	peer     *Peer
	to       Departure
	accepted bool // guarded by Peer.mu
}

// Depart queues a call to a replica of the other node; to is told its end. Arguments must be encoded; those over 32 KiB must not
// change before that. Those that lie in this node's memory are copied out of it. If it fails the result says why, and to is told
// nothing. Nothing is written before [Peer.Sent].
func (p *Peer) Depart(a Arrival, w *Way, c *call.Call, left time.Duration, to Departure) (id uint64, failed *call.Result) {
	var scratch [256]byte
	meta := le.AppendUint32(scratch[:0], a.Replica)
	meta = le.AppendUint32(meta, 0)
	meta = le.AppendUint64(le.AppendUint64(meta, a.Slot), a.Upto)
	var apart *segments
	var err error
	if p.apart(c) {
		apart, err = p.arguments(c)
	}
	if err == nil {
		meta, err = appendCall(meta, 0, c, left, apart)
	}
	if err == nil && len(meta) > maxMeta {
		err = fmt.Errorf("names and metadata of a call take %d bytes, at most %d are possible", len(meta), maxMeta)
	}
	if err != nil {
		apart.release()
		return 0, &call.Result{Err: fault(err)}
	}
	var room [4][]byte
	segs := room[:0]
	switch {
	case apart != nil:
		segs = apart.body
	case c.Encoded.Table != nil:
		segs = append(segs, c.Encoded.Body)
	default:
		for i := range c.Slots {
			segs = append(segs, c.Slots[i].Data)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		apart.release()
		return 0, nodeEnded()
	}
	if failed := p.admitOutLocked(w, meta[arrivalLen:]); failed != nil {
		apart.release()
		if failed.NotStarted {
			failed = nodeEnded()
		}
		return 0, failed
	}
	id = p.nextCall + 1
	pos, err := p.conn.Append(Header{Type: TypeArrival, ID: id}, meta, segs...)
	if err != nil {
		apart.release()
		switch {
		case p.conn.Err() != nil || errors.Is(err, ErrClosed):
			return 0, nodeEnded()
		case errors.Is(err, errBacklog):
			return 0, &call.Result{Err: call.NewError(call.ReplicaUnavailable, err.Error())}
		}
		return 0, &call.Result{Err: call.NewError(call.TooLarge, "the arguments are "+err.Error())}
	}
	p.nextCall = id
	o := outgoing{sink: &departed{peer: p, to: to}, pos: pos, apart: apart, way: w}
	w.calls++
	if c.Items != nil {
		o.flow = newInflow(p, id, c)
	}
	p.calls[id] = o
	return id, nil
}

func nodeEnded() *call.Result {
	return &call.Result{Err: call.NewError(call.ReplicaUnavailable, "the replica's node has gone away"), NotStarted: true}
}

// Sent flushes what was queued, now or when the batch ends.
func (p *Peer) Sent(b *call.Batch) {
	if b != nil {
		b.Touch(p.conn)
		return
	}
	p.mu.Lock()
	busy := len(p.calls) > 1
	p.mu.Unlock()
	p.conn.FlushSoon(busy)
}

// SentSoon flushes what was queued, on a goroutine of its own, for those who hold locks. It is for peers between nodes.
func (p *Peer) SentSoon() { p.nodes.soon() }

// Want queues what a router says to a replica's gate: that of the slots that were ever kept for it on this connection it can use
// so many. More than have come: calls wait. It is queued whatever waits before it, and fails with the connection only.
func (p *Peer) Want(replica uint32, upto uint64) {
	var meta [wantLen]byte
	le.PutUint64(meta[:], upto)
	p.conn.Append(Header{Type: TypeWant, ID: uint64(replica)}, meta[:]) //nolint:errcheck // as said
}

// Return queues the answer to a slot that no call of the router needs; upto is as in [Peer.Want].
func (p *Peer) Return(replica uint32, slot, upto uint64) {
	var meta [returnLen]byte
	le.PutUint64(meta[:], slot)
	le.PutUint64(meta[8:], upto)
	p.conn.Append(Header{Type: TypeReturn, ID: uint64(replica)}, meta[:]) //nolint:errcheck // as Want
}

// onVerdict is told whether a call has a slot. A call that was taken back is not known any more.
func (n *nodes) onVerdict(b *call.Batch, h Header, load int) error {
	p := n.peer
	p.mu.Lock()
	o, live := p.calls[h.ID]
	d, waits := o.sink.(*departed)
	if live && (!waits || d.accepted) {
		p.mu.Unlock()
		return fmt.Errorf("a verdict, type %d, on call %d, which was not waiting for one", h.Type, h.ID)
	}
	if h.Type == TypeAccept {
		if live {
			d.accepted = true
		}
		p.mu.Unlock()
		if live {
			d.to.Accepted(load)
		}
		return nil
	}
	delete(p.calls, h.ID)
	o.ended()
	back := live && p.conn.withdraw(o.pos)
	p.mu.Unlock()
	if back { // the rest of the arguments need not travel
		b.Touch(p.conn)
	}
	if live {
		o.apart.release()
		d.to.Rejected(b, load, h.Flags&FlagGone != 0)
	}
	return nil
}

// end looks at the tail of an END.
func (d *departed) end(tail []byte) error {
	d.peer.mu.Lock()
	accepted := d.accepted
	d.peer.mu.Unlock()
	if !accepted {
		return errors.New("the end of a call that was not accepted")
	}
	for len(tail) > 0 {
		key, value, rest, ok := nextTail(tail)
		if !ok {
			return errors.New("malformed end meta")
		}
		if tail = rest; string(key) == "load" && len(value) == 4 {
			d.to.Load(int(le.Uint32(value)))
		}
	}
	return nil
}

// Complete is told the end by the connection, or that the connection has ended. Of a call of which bytes were sent and no verdict
// came, that tells whether it can have started: the other side's kernel had the ACCEPT before anything was started.
func (d *departed) Complete(b *call.Batch, r call.Result) {
	if r.Lost {
		if !d.accepted && d.peer.conn.small.wholly() {
			r = *nodeEnded()
		} else {
			r.Err = call.NewError(call.MayHaveRun, "the connection to the replica's node ended, and the call may have run")
		}
	}
	r.Unsent = nil // whoever sends a call to another node keeps its arguments
	d.to.Complete(b, r)
}
