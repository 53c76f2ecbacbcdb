package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// This file is the side of the gate: replicas of this node that the other one calls.

// Admission is the gate of a replica as one router elsewhere has it (gate.Remote, which says more). Its methods may be called from
// any goroutine.
type Admission interface {
	// Arrive gives a call a slot: the one that was kept under that id, or one that is free.
	Arrive(slot uint64) bool
	// Want says how many slots of all that are ever kept for the router it can use.
	Want(b *call.Batch, upto uint64)
	// Return gives one back that was kept.
	Return(b *call.Batch, slot uint64)
	// Done gives back the slot of a call that arrived.
	Done(b *call.Batch)
	// Lost says that nothing comes from the router any more.
	Lost(b *call.Batch)
	// Load is how many slots are taken. It takes no lock.
	Load() int
}

// Granter is who an [Admission] tells that a slot is kept.
type Granter interface {
	Grant(b *call.Batch, id uint64, ttl time.Duration)
}

// Starter begins a call that was accepted; whoever runs it gives the slot back to the gate, before in.Complete. It has the
// contract of [Server.Call], except that it may run on any goroutine, though one at a time for a connection, and that the
// arguments stay valid.
type Starter func(b *call.Batch, in *Incoming) call.Canceler

// Served is a replica of this node as one other node knows it. Its methods may be called from any goroutine.
type Served struct {
	nodes  *nodes
	number uint32
	slots  int
	gate   Admission
	start  Starter

	mu     sync.Mutex // held while a load is read and the frame queued that says it, so that they leave in order
	full   bool       // as the other side knows it
	active bool       // calls have come since it was told that the gate is not full
	gone   bool
}

// admitted is what an [Incoming] has that came for a slot.
type admitted struct {
	at  *Served
	end uint64 // of the ACCEPT, in the stream
}

// AddMember tells the other node that it may call a replica. join makes the gate's side of that node's router; [Served.Changed] is
// told when the gate becomes full or is full no more. It fails when the connection has ended, and for a description over 32 KiB.
func (p *Peer) AddMember(m Member, join func(to Granter) Admission, start Starter) (*Served, error) {
	n := p.nodes
	s := &Served{nodes: n, slots: m.Slots, start: start}
	s.gate = join(s)
	m.Load = s.gate.Load()
	s.full = m.Load >= m.Slots
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return nil, errEnded
	}
	if len(n.served) == maxMembers || n.last == math.MaxUint32 {
		return nil, fmt.Errorf("over %d replicas on one connection", len(n.served))
	}
	// Under the lock, so that they are announced in the order of their numbers.
	if err := p.conn.small.Replace(Header{Type: TypeMember, ID: uint64(n.last + 1)}, nil, body); err != nil {
		return nil, err
	}
	n.last++
	s.number = n.last
	n.served[s.number] = s
	n.soon()
	return s, nil
}

// Remove tells the other node that the replica takes no more calls: those that arrive are rejected, slots that were kept return.
// Calls that were accepted end as usual.
func (s *Served) Remove(b *call.Batch) {
	n := s.nodes
	n.mu.Lock()
	delete(n.served, s.number)
	n.mu.Unlock()
	s.mu.Lock()
	again := s.gone
	s.gone = true
	conn, id := n.peer.conn.small, uint64(s.number)
	if !again {
		conn.Withdraw(TypeLoad, id)
		conn.Withdraw(TypeModels, id)
		if !conn.Withdraw(TypeMember, id) { // else it was never announced
			conn.Replace(Header{Type: TypeMember, Flags: FlagGone, ID: id}, nil, nil) //nolint:errcheck // it has ended
		}
	}
	s.mu.Unlock()
	if !again {
		s.gate.Lost(b)
		n.soon()
	}
}

// Changed says that the gate has become full, or is full no more. The other side is told, unless it has sent no call since it was
// last told that the gate is not full: so a gate that is full every other moment costs a node that does not call it nothing. It
// does not block, and may be called with any lock held but those of this package.
func (s *Served) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := s.gate.Load()
	full := load >= s.slots
	if s.gone || full == s.full || full && !s.active {
		return
	}
	s.full = full
	s.active = s.active && full
	meta := le.AppendUint32(make([]byte, 0, verdictLen), uint32(load))
	s.nodes.peer.conn.small.Replace(Header{Type: TypeLoad, ID: uint64(s.number)}, meta, nil) //nolint:errcheck // it has ended
	s.nodes.soon()
}

// SetModels says which models the replica has or is loading, all of them. Those that do not fit in 32 KiB are left out: affinity
// is a preference.
func (s *Served) SetModels(ids []string) error {
	var body []byte
	for room := len(ids); ; room /= 2 {
		var err error
		if body, err = json.Marshal(append([]string{}, ids[:room]...)); err != nil {
			return err
		}
		if len(body) <= maxOneMember {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	err := s.nodes.peer.conn.small.Replace(Header{Type: TypeModels, ID: uint64(s.number)}, nil, body)
	s.nodes.soon()
	return err
}

// Grant tells the router that a slot is kept.
func (s *Served) Grant(b *call.Batch, id uint64, ttl time.Duration) {
	var meta [slotLen]byte
	le.PutUint64(meta[:], id)
	le.PutUint64(meta[8:], uint64(ttl/time.Microsecond))
	if _, err := s.append(Header{Type: TypeSlot, ID: uint64(s.number)}, meta[:], 16); err == nil {
		b.Touch(s.nodes.peer.conn)
	}
}

// append queues a frame that says the load, at that place of its meta, and gives the position in the stream.
func (s *Served) append(h Header, meta []byte, at int, segs ...[]byte) (pos uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := s.gate.Load()
	le.PutUint32(meta[at:], uint32(load))
	conn := s.nodes.peer.conn
	if pos, err = conn.Append(h, meta, segs...); err != nil {
		return pos, err
	}
	s.full = load >= s.slots
	s.active = s.active || h.Type == TypeAccept || h.Type == TypeReject
	conn.small.Withdraw(TypeLoad, uint64(s.number)) // older than this
	return pos, nil
}

// appendEnd queues the END of a call, with the load if it came for a slot.
func (in *Incoming) appendEnd(h Header, meta, body []byte) error {
	if in.admitted.at == nil {
		_, err := in.peer.conn.Append(h, meta, body)
		return err
	}
	full := [endLen + 11]byte{endLen: 4, endLen + 5: 4}
	copy(full[:endLen], meta)
	copy(full[endLen+1:], "load")
	_, err := in.admitted.at.append(h, full[:], endLen+7, body)
	return err
}

// earlyAdmission is who decides on calls whose arguments come in chunks.
type earlyAdmission interface {
	// announced is told of one, before its arguments come: whether they are wanted.
	announced(b *call.Batch, h Header, meta []byte) (wanted bool, err error)
	// forgotten is told that those of a wanted one will not come.
	forgotten(b *call.Batch, id uint64)
}

// find gives a replica of this side by its number; nil if it has gone.
func (n *nodes) find(number uint64) (*Served, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number == 0 || number > uint64(n.last) {
		return nil, fmt.Errorf("replica %d was never announced", number)
	}
	return n.served[uint32(number)], nil
}

// onArrival takes a call with all its arguments: one that is admitted now, or was when its arguments were announced.
func (n *nodes) onArrival(b *call.Batch, h Header, meta, body []byte) error {
	p := n.peer
	n.mu.Lock()
	in := n.early[h.ID]
	delete(n.early, h.ID)
	n.mu.Unlock()
	before := in != nil
	if !before {
		in = &Incoming{peer: p, id: h.ID}
	}
	route, left, err := parseCallMeta(meta[arrivalLen:], body, &in.Call)
	if err == nil && (in.Encoded.Held || len(in.Encoded.Shared) > 0) {
		err = errors.New("arguments in the memory of one node, of which another one has none")
	}
	if err != nil {
		if before {
			in.unstarted(b, errGone)
		}
		return err
	}
	in.placed(route, left)
	if !before {
		if admitted, err := n.admit(b, in, meta); err != nil || !admitted {
			return err
		}
	}
	p.mu.Lock()
	size := len(meta) + len(body)
	e := p.admit(size)
	if e == nil {
		in.size = size
	}
	p.mu.Unlock()
	if e != nil {
		in.unstarted(b, e)
		return nil
	}
	in.Keep()
	n.starts.add(in)
	return nil
}

// announced is told of a call whose arguments come in chunks, before any of them: it is admitted or rejected now, because a slot
// that is kept for it is not kept for as long as they take. So the arguments of a call that is rejected need not travel.
func (n *nodes) announced(b *call.Batch, h Header, meta []byte) (bool, error) {
	if len(meta) < arrivalLen+callLen {
		return false, errNodes
	}
	in := &Incoming{peer: n.peer, id: h.ID}
	admitted, err := n.admit(b, in, meta)
	if admitted {
		n.mu.Lock()
		n.early[h.ID] = in
		n.mu.Unlock()
	}
	return admitted, err
}

// forgotten is told that the arguments of a call that was announced will not come.
func (n *nodes) forgotten(b *call.Batch, id uint64) {
	n.mu.Lock()
	in := n.early[id]
	delete(n.early, id)
	n.mu.Unlock()
	if in == nil {
		return
	}
	in.mu.Lock()
	in.ended = true
	in.mu.Unlock()
	n.peer.mu.Lock()
	delete(n.peer.incoming, id)
	n.peer.mu.Unlock()
	in.admitted.at.gate.Done(b)
}

// admit gives in a slot, or says that there is none.
func (n *nodes) admit(b *call.Batch, in *Incoming, meta []byte) (bool, error) {
	a := Arrival{le.Uint32(meta), le.Uint64(meta[8:]), le.Uint64(meta[16:])}
	s, err := n.find(uint64(a.Replica))
	if err != nil {
		return false, err
	}
	p := n.peer
	var verdict [verdictLen]byte
	if s == nil {
		if _, err := p.conn.Append(Header{Type: TypeReject, Flags: FlagGone, ID: in.id}, verdict[:]); err == nil {
			b.Touch(p.conn)
		}
		return false, nil
	}
	if !s.gate.Arrive(a.Slot) {
		if _, err := s.append(Header{Type: TypeReject, ID: in.id}, verdict[:], 0); err == nil {
			b.Touch(p.conn)
		}
		s.gate.Want(b, max(a.Upto, a.Upto+1)) // it waits there, and the slot for it may follow at once
		return false, nil
	}
	in.admitted.at = s
	p.mu.Lock()
	_, dup := p.incoming[in.id]
	many := len(p.incoming) >= maxIncoming
	if !dup && !many {
		p.incoming[in.id] = in
	}
	p.mu.Unlock()
	if dup || many {
		s.gate.Done(b)
		if dup {
			return false, fmt.Errorf("call id %d is in use", in.id)
		}
		return false, fmt.Errorf("over %d calls at once on one connection", maxIncoming)
	}
	pos, err := s.append(Header{Type: TypeAccept, ID: in.id}, verdict[:], 0)
	if err != nil { // the connection has ended: the call is not started
		in.unstarted(b, errGone)
		return false, nil //nolint:nilerr // its reader will see it
	}
	in.admitted.end = pos + headerLen + verdictLen
	b.Touch(p.conn)
	s.gate.Want(b, a.Upto)
	return true, nil
}

// unstarted ends a call that has a slot and does not start.
func (in *Incoming) unstarted(b *call.Batch, cause error) {
	in.admitted.at.gate.Done(b)
	in.Complete(b, call.Result{Err: call.FromCause(cause)})
}

// begin starts a call that was accepted.
func (in *Incoming) begin(b *call.Batch) {
	in.mu.Lock()
	gone := in.gone
	in.mu.Unlock()
	if gone != nil {
		in.unstarted(b, gone)
		return
	}
	c := in.admitted.at.start(b, in)
	if c == nil {
		return
	}
	in.mu.Lock()
	gone = in.gone
	if !in.ended {
		in.cancel = c
	}
	in.mu.Unlock()
	if gone != nil {
		c.Cancel(b, gone)
	}
}
