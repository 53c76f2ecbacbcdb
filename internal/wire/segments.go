package wire

import (
	"errors"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// A segment is a part of a value: its main bytes, or a buffer out of band. These flags say that a segment is not in the
// body of the frame, but elsewhere. They stand in the kind of an argument slot, and in the second byte of an END's meta.
const (
	segmentInMemory = 0x80 // the body has a reference to shared memory
	segmentKept     = 0x40 // the body has the number of a result that the node keeps
	kindMask        = 0x3f
)

// RefLen is the length of a reference to shared memory, numberLen that of the number of a kept result.
const (
	RefLen    = 32
	numberLen = 8
)

// SharedLeast is the size in bytes from which on a segment goes through shared memory. Smaller segments are faster in
// their frame: an echo of 64 KB took 0.18 ms in frames and 0.19 through memory, one of 128 KB took 0.28 and 0.22.
const SharedLeast = 128 << 10

// keepValueMax is the size up to which a result is sent by value if the node should keep it and cannot.
const keepValueMax = 8 << 20

// Ref is an encoded reference to shared memory.
type Ref [RefLen]byte

// Memory is the memory that the two sides of a connection share, as one side uses it. Its methods may be called from any
// goroutine, and do not block.
type Memory interface {
	// Receive takes over the buffer that a reference of the other side names. An error is a violation of the protocol by
	// the other side, and ends the connection.
	Receive(r Ref) (*call.Shared, error)
	// Send gives the other side a reference to s. ok is false if s is not in this memory.
	Send(s *call.Shared) (r Ref, ok bool)
	// Put copies b into the memory and gives the other side a reference to it. ok is false if there is no room, or b is
	// too small.
	Put(b []byte) (r Ref, ok bool)
	// Unsent takes a reference back that Send or Put has given, because its frame is not sent. put says which of the two
	// it was.
	Unsent(r Ref, put bool)
	// Frame handles a LEASE, RELEASE or UNLEASE frame of the other side. An error ends the connection.
	Frame(t Type, body []byte) error
}

// segments collects the body of a frame with values that are in several parts, or that go through shared memory.
type segments struct {
	peer       *Peer
	table      []byte   // the slot table of a CALL
	slots      int      // entries of table
	body       [][]byte // in order
	size       int      // bytes of body
	inFrame    int      // bytes of values in body
	total      int      // bytes of all values, wherever they are
	references []sentReference
	heldShared []*call.Shared // kept alive until the other side has taken over its own references, which it does when it reads the frame
}

type sentReference struct {
	ref Ref
	put bool
}

// add adds one segment. The results are its place (0, segmentInMemory or segmentKept) and its length in the body.
func (s *segments) add(data []byte, shared *call.Shared) (where byte, n int, err error) {
	m := s.peer.memory
	if shared != nil {
		s.total += shared.Len()
	} else {
		s.total += len(data)
	}
	if limit := s.peer.conn.terms.MaxOut; s.total > limit { // checked before any further copy
		return 0, 0, tooLarge(s.total, limit)
	}
	if shared != nil {
		if k, ok := shared.View().(*kept); ok && k.peer == s.peer {
			s.heldShared = append(s.heldShared, shared.Keep())
			return segmentKept, s.append(le.AppendUint64(nil, k.id)), nil
		}
		if m != nil {
			if r, ok := m.Send(shared); ok {
				s.heldShared = append(s.heldShared, shared.Keep())
				s.references = append(s.references, sentReference{ref: r})
				return segmentInMemory, s.append(r[:]), nil
			}
		}
		switch v := shared.View().(type) {
		case call.Bytes:
			data = v
		case interface{ Heap() []byte }: // valid as long as the Shared has a user
			data = v.Heap()
		default:
			err = v.Read(func(b []byte) error {
				data = append([]byte(nil), b...)
				return nil
			})
			if err != nil {
				return 0, 0, err
			}
		}
	}
	if m != nil && len(data) >= SharedLeast {
		if r, ok := m.Put(data); ok {
			s.references = append(s.references, sentReference{r, true})
			return segmentInMemory, s.append(r[:]), nil
		}
	}
	s.inFrame += len(data)
	return 0, s.append(data), nil
}

func (s *segments) append(b []byte) int {
	s.body = append(s.body, b)
	s.size += len(b)
	return len(b)
}

// undo takes back the references, because the frame is not sent. A frame that was sent needs release instead, when the
// other side has answered: until it has read the frame, it has no references of its own.
func (s *segments) undo() {
	for _, r := range s.references {
		s.peer.memory.Unsent(r.ref, r.put)
	}
	s.release()
}

func (s *segments) release() {
	if s == nil {
		return
	}
	for _, k := range s.heldShared {
		k.Release()
	}
	s.heldShared = nil
}

func (s *segments) slot(kind call.SlotKind, cd call.Codec, key uint16, name string, data []byte, shared *call.Shared) error {
	if s.slots++; s.slots > maxSlots {
		return errTooMany
	}
	where, n, err := s.add(data, shared)
	if err != nil {
		return err
	}
	if where == 0 && kind == call.Buffer && !s.peer.conn.terms.Segments {
		return errors.New("the other side cannot take buffers out of band; name another codec (request_serialization, response_serialization)")
	}
	s.table = append(s.table, byte(kind)|where, byte(cd))
	s.table = le.AppendUint16(s.table, key)
	s.table = le.AppendUint32(s.table, uint32(n))
	s.table = append(s.table, name...)
	return nil
}

// needsSegments returns true if arguments of a call are in several parts, in shared memory, or large enough to go there.
func (p *Peer) needsSegments(c *call.Call) bool {
	if c.Exchange != nil { // the head of a request is read at once
		return false
	}
	if c.Encoded.Table != nil {
		return len(c.Encoded.Shared) > 0 || p.memory != nil && len(c.Encoded.Body) >= SharedLeast
	}
	for i := range c.Slots {
		if s := &c.Slots[i]; s.Parts != nil || p.memory != nil && len(s.Data) >= SharedLeast {
			return true
		}
	}
	return false
}

// argumentSegments collects the arguments of a call.
func (p *Peer) argumentSegments(c *call.Call) (*segments, error) {
	s := &segments{peer: p}
	if err := s.addArguments(c); err != nil {
		s.undo()
		return nil, err
	}
	return s, nil
}

func (s *segments) addArguments(c *call.Call) error {
	if c.Encoded.Table != nil {
		shared := c.Encoded.Shared
		return eachSegment(c.Encoded, func(t tableEntry, data []byte) error {
			var from *call.Shared
			if t.where != 0 {
				from, shared = shared[0], shared[1:]
			}
			return s.slot(t.kind, t.codec, t.key, t.name, data, from)
		})
	}
	for i := range c.Slots {
		a := &c.Slots[i]
		key := a.Index
		if a.Kind == call.Named {
			if len(a.Name) > maxMeta {
				return errMeta
			}
			key = uint16(len(a.Name))
		}
		parts := a.Parts
		if parts == nil {
			parts = &call.Parts{}
		}
		if err := s.slot(a.Kind, a.Codec, key, a.Name, a.Data, parts.Main); err != nil {
			return err
		}
		for _, b := range parts.Buffers {
			if err := s.slot(call.Buffer, call.Raw, 0, "", b.Data, b.Shared); err != nil {
				return err
			}
		}
	}
	return nil
}

// tableEntry is one entry of a slot table.
type tableEntry struct {
	kind  call.SlotKind
	where byte
	codec call.Codec
	key   uint16
	name  string
}

// eachSegment calls f for each entry of the slot table of a call that was parsed. data are the bytes of the body that
// belong to the entry.
func eachSegment(e call.Encoded, f func(t tableEntry, data []byte) error) error {
	rest, body := e.Table, e.Body
	for range e.Slots { // parseCallMeta has checked the lengths
		t := tableEntry{kind: call.SlotKind(rest[0] & kindMask), where: rest[0] &^ kindMask, codec: call.Codec(rest[1]), key: le.Uint16(rest[2:])}
		size := le.Uint32(rest[4:])
		rest = rest[8:]
		if t.kind == call.Named {
			t.name = string(rest[:t.key])
			rest = rest[t.key:]
		}
		if err := f(t, body[:size:size]); err != nil {
			return err
		}
		body = body[size:]
	}
	return nil
}

// hasMemoryReference returns true if an argument of a call is in shared memory. meta has not been checked yet.
func hasMemoryReference(meta []byte) bool {
	if len(meta) < callLen {
		return false
	}
	rest := meta[callLen:]
	for range le.Uint16(meta[6:]) {
		if len(rest) < 8 {
			return false
		}
		n := 8
		if call.SlotKind(rest[0]&kindMask) == call.Named {
			n += int(le.Uint16(rest[2:]))
		}
		if rest[0]&segmentInMemory != 0 {
			return true
		}
		rest = rest[min(n, len(rest)):]
	}
	return false
}

// tailOf returns the part of a call's meta that follows the slot table.
func tailOf(e call.Encoded) []byte {
	rest := e.Table
	for range e.Slots {
		n := 8
		if call.SlotKind(rest[0]&kindMask) == call.Named {
			n += int(le.Uint16(rest[2:]))
		}
		rest = rest[n:]
	}
	return rest
}

// receiveArguments takes over the arguments of an incoming call that are in shared memory.
func (p *Peer) receiveArguments(e *call.Encoded) error {
	if !e.Held && len(e.Shared) == 0 {
		return nil
	}
	if !p.conn.terms.Segments || p.memory == nil && len(e.Shared) > 0 {
		return errors.New("segments outside of the frame, which was not agreed on")
	}
	i := 0
	err := eachSegment(*e, func(t tableEntry, data []byte) error {
		if t.where != segmentInMemory {
			return nil
		}
		s, err := p.memory.Receive(Ref(data))
		if err != nil {
			return err
		}
		e.Shared[i] = s
		i++
		return nil
	})
	if err != nil {
		e.Shared = e.Shared[:i]
		e.Release()
	}
	return err
}

var errTooMany = fmt.Errorf("over %d arguments and buffers, which a call cannot have", maxSlots)

// Resolve replaces the numbers of kept results among the arguments of an incoming call by the results. lookup returns a
// payload for a number; Resolve releases it.
func Resolve(e *call.Encoded, lookup func(number uint64) (call.Payload, *call.Error)) *call.Error {
	out := call.Encoded{Table: []byte{}}
	shared := e.Shared
	add := func(kind call.SlotKind, where byte, cd call.Codec, key uint16, name string, data []byte) {
		out.Slots++
		out.Table = append(out.Table, byte(kind)|where, byte(cd))
		out.Table = le.AppendUint16(out.Table, key)
		out.Table = le.AppendUint32(out.Table, uint32(len(data)))
		out.Table = append(out.Table, name...)
		out.Body = append(out.Body, data...)
	}
	share := func(kind call.SlotKind, cd call.Codec, key uint16, name string, s *call.Shared) {
		out.Shared = append(out.Shared, s)
		add(kind, segmentInMemory, cd, key, name, make([]byte, RefLen))
	}
	var failure *call.Error
	err := eachSegment(*e, func(t tableEntry, data []byte) error {
		switch t.where {
		case segmentInMemory:
			share(t.kind, t.codec, t.key, t.name, shared[0].Keep())
			shared = shared[1:]
		case segmentKept:
			var p call.Payload
			if p, failure = lookup(le.Uint64(data)); failure != nil {
				return failure
			}
			parts := p.Parts
			if parts == nil {
				parts = &call.Parts{}
			}
			main := parts.Main
			if main == nil {
				main = call.NewShared(call.Bytes(p.Data))
			}
			if out.Slots+1+len(parts.Buffers) > maxSlots {
				p.Release()
				return errTooMany
			}
			share(t.kind, p.Codec, t.key, t.name, main)
			for _, b := range parts.Buffers {
				if b.Shared == nil {
					b.Shared = call.NewShared(call.Bytes(b.Data))
				}
				share(call.Buffer, call.Raw, 0, "", b.Shared)
			}
		default:
			add(t.kind, 0, t.codec, t.key, t.name, data)
		}
		return nil
	})
	if err == nil && out.Slots > maxSlots {
		err = errTooMany
	}
	if err != nil && failure == nil {
		failure = call.NewError(helvetype.ReasonTooLarge, err.Error())
	}
	e.Release()
	if failure != nil {
		out.Release()
		return failure
	}
	out.Table = append(out.Table, tailOf(*e)...)
	*e = out
	return nil
}

// Slots returns the argument slots of an incoming call. The data of the slots points into e.Body, and names are copied.
// The shared values still belong to e.
func Slots(e call.Encoded) []call.Slot {
	slots := make([]call.Slot, 0, e.Slots)
	shared := e.Shared
	eachSegment(e, func(t tableEntry, data []byte) error { //nolint:errcheck // the function returns no error
		var from *call.Shared
		if t.where == segmentInMemory && len(shared) > 0 {
			from, shared = shared[0], shared[1:]
			data = nil
		}
		if t.kind == call.Buffer {
			last := &slots[len(slots)-1]
			if last.Parts == nil {
				last.Parts = &call.Parts{}
			}
			last.Parts.Buffers = append(last.Parts.Buffers, call.Segment{Data: data, Shared: from})
			return nil
		}
		s := call.Slot{Kind: t.kind, Index: t.key, Name: t.name, Payload: call.Payload{Codec: t.codec, Data: data}}
		if t.kind == call.Named {
			s.Index = 0
		}
		if from != nil {
			s.Parts = &call.Parts{Main: from}
		}
		slots = append(slots, s)
		return nil
	})
	return slots
}

// resultSegments collects the segments of a result. meta is the meta of the END.
func (p *Peer) resultSegments(r call.Payload) (s *segments, meta []byte, err error) {
	s = &segments{peer: p}
	defer func() {
		if err != nil {
			s.undo()
		}
	}()
	parts := r.Parts
	if parts == nil {
		parts = &call.Parts{}
	}
	where, _, err := s.add(r.Data, parts.Main)
	if err != nil {
		return s, nil, err
	}
	meta = []byte{byte(r.Codec), where}
	if n := len(parts.Buffers); n > 0 {
		if !p.conn.terms.Segments {
			return s, nil, errors.New("the caller cannot take buffers out of band; it should name another codec (response_serialization)")
		}
		if bufferEntry*n > maxMeta-256 {
			return s, nil, fmt.Errorf("the result has %d buffers, which an answer cannot carry", n)
		}
		meta = append(meta, byte(len(tailBuffers)))
		meta = append(meta, tailBuffers...)
		meta = le.AppendUint16(meta, uint16(bufferEntry*n))
		for _, b := range parts.Buffers {
			where, k, err := s.add(b.Data, b.Shared)
			if err != nil {
				return s, nil, err
			}
			meta = append(meta, where)
			meta = le.AppendUint32(meta, uint32(k))
		}
	}
	if len(parts.Head) > 0 {
		meta = appendTail(meta, tailHead, string(parts.Head))
		if len(meta) > maxMeta {
			return s, nil, errors.New("the head of the answer does not fit beside the buffers of the result")
		}
	}
	return s, meta, nil
}

// The keys in the tail of an END. An entry of the buffers has bufferEntry bytes: the place of the buffer, and its length
// in the body.
const (
	tailBuffers   = "buffers"
	tailReference = "reference"
	tailHead      = "head"
	bufferEntry   = 5
	referenceLen  = 16
)

// parseEnd reads the result from an END without FlagError.
func (p *Peer) parseEnd(flags byte, meta, body []byte) (r call.Payload, err error) {
	r.Codec = call.Codec(meta[0])
	where := meta[1]
	if where == 0 && len(meta) == endLen {
		r.Data = body
		return r, nil
	}
	var buffers, reference, head []byte
	for rest := meta[endLen:]; len(rest) > 0; {
		key, value, next, ok := nextTail(rest)
		if !ok {
			return r, errors.New("malformed end meta")
		}
		rest = next
		switch string(key) {
		case tailBuffers:
			buffers = value
		case tailReference:
			reference = value
		case tailHead:
			head = append([]byte(nil), value...)
		}
	}
	if !p.conn.terms.Segments && (where != 0 || buffers != nil || flags&FlagReference != 0) {
		return r, errors.New("an answer in parts, which was not agreed on")
	}
	if flags&FlagReference != 0 {
		if _, node := p.server.(References); node {
			return r, errors.New("a result that the other side keeps, which only a node does")
		}
		if len(reference) != referenceLen || len(body) > 0 {
			return r, errors.New("malformed reference")
		}
		k := newKept(p, le.Uint64(reference), int(min(le.Uint64(reference[8:]), 1<<40)))
		r.Parts = &call.Parts{Main: call.NewShared(k)}
		return r, nil
	}
	if len(buffers)%bufferEntry != 0 {
		return r, errors.New("malformed end meta")
	}
	sum := 0
	for i := 0; i < len(buffers); i += bufferEntry {
		if sum += int(le.Uint32(buffers[i+1:])); sum > len(body) {
			return r, errors.New("buffers are longer than their frame")
		}
	}
	defer func() {
		if err != nil {
			r.Release()
		}
	}()
	parts := &call.Parts{Head: head}
	if head != nil {
		r.Parts = parts
	}
	r.Data = body[: len(body)-sum : len(body)-sum]
	body = body[len(body)-sum:]
	if where != 0 {
		if parts.Main, err = p.receiveSegment(where, r.Data); err != nil {
			return r, err
		}
		r.Data, r.Parts = nil, parts
	}
	for i := 0; i < len(buffers); i += bufferEntry {
		n := le.Uint32(buffers[i+1:])
		s := call.Segment{Data: body[:n:n]}
		body = body[n:]
		if buffers[i] != 0 {
			if s.Shared, err = p.receiveSegment(buffers[i], s.Data); err != nil {
				return r, err
			}
			s.Data = nil
		}
		parts.Buffers = append(parts.Buffers, s)
		r.Parts = parts
	}
	return r, nil
}

func (p *Peer) receiveSegment(where byte, data []byte) (*call.Shared, error) {
	if where != segmentInMemory || len(data) != RefLen || p.memory == nil {
		return nil, errors.New("a segment that is neither in the frame nor in shared memory")
	}
	return p.memory.Receive(Ref(data))
}

// completeInSegments sends the END of a result that has several parts, goes through shared memory, or may be kept in
// this process.
func (in *Incoming) completeInSegments(b *call.Batch, r call.Result, busy bool) {
	defer r.Release()
	p := in.peer
	h := Header{Type: TypeEnd, ID: in.id}
	s, meta, err := p.resultSegments(r.Payload)
	if err == nil && in.References != nil && s.inFrame > in.Over {
		keep := r.Payload
		keep.Own()
		switch number, failure := in.References.Keep(keep); {
		case failure == nil:
			size := s.total
			s.undo()
			s = &segments{peer: p}
			h.Flags = FlagReference
			meta = append([]byte{byte(r.Codec), 0, byte(len(tailReference))}, tailReference...)
			meta = le.AppendUint16(meta, referenceLen)
			meta = le.AppendUint64(meta, number)
			meta = le.AppendUint64(meta, uint64(size))
		case s.total >= keepValueMax:
			s.undo()
			h.Flags = FlagError
			s = &segments{peer: p, body: [][]byte{codec.AppendError(nil, failure)}}
			meta = make([]byte, endLen)
		}
	}
	if err == nil {
		_, err = p.conn.Append(h, meta, s.body...)
		if err != nil {
			s.undo()
		}
	}
	if err != nil {
		if p.conn.Err() != nil {
			return
		}
		e, known := errors.AsType[*call.Error](err)
		if _, large := errors.AsType[*sizeError](err); large {
			e = call.NewError(helvetype.ReasonTooLarge, "the result is "+err.Error())
		} else if !known {
			e = call.NewError(helvetype.ReasonBadInput, err.Error())
		}
		h.Flags = FlagError
		if _, err := p.conn.Append(h, make([]byte, endLen), codec.AppendError(nil, e)); err != nil {
			return
		}
	}
	// The other side owns references as soon as the memory on this side has given them. Nothing has to be kept alive for
	// it.
	s.release()
	if b == nil {
		p.conn.FlushSoon(busy)
	} else {
		b.Touch(p.conn)
	}
}

// TakesParts marks Incoming as a sink that passes a result in parts on in parts.
func (in *Incoming) TakesParts() {}

// SendMemoryFrame sends a frame about shared memory. It does not block. After the end of the connection it does nothing.
func (p *Peer) SendMemoryFrame(t Type, body []byte) {
	if _, err := p.conn.Append(Header{Type: t}, nil, body); err == nil {
		p.conn.Flush()
	}
}
