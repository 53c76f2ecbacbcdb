package wire

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestUnsentParts: values that were put into the memory of a process that has ended are not returned as arguments.
func TestUnsentParts(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	p := NewPeer(NewLink(NewConn(a), Terms{Protocol: 2, Segments: true}), &server{})
	p.UseMemory(newShelf())
	var batch call.Batch // not flushed
	f := newPart()
	p.Start(&batch, 1, raw(pattern(SharedLeast)), 0, f)
	b.Close()
	go p.Serve() //nolint:errcheck // it ends at once
	<-f.done
	if !f.r.NotStarted || f.r.Unsent != nil {
		t.Errorf("not started %v, unsent %+v", f.r.NotStarted, f.r.Unsent)
	}
}

// TestRefusedCallHasNoParts: a call that is refused releases the references of its arguments.
func TestRefusedCallHasNoParts(t *testing.T) {
	t.Parallel()
	memory := newShelf()
	x, y := pair(t)
	ins := make(chan *Incoming, 2)
	terms := Terms{Protocol: 2, Segments: true, MaxIn: 1 << 10}
	p := NewPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true}), &server{})
	q := NewPeer(NewLink(NewConn(y), terms), &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		ins <- in
		return nil
	}})
	q.conn.terms.Calls = 100
	p.UseMemory(memory)
	q.UseMemory(memory)
	serve(t, p)
	serve(t, q)
	first, refused := newPart(), newPart()
	p.Start(nil, 0, raw(nil), 0, first)
	p.Start(nil, 0, raw(pattern(SharedLeast)), 0, refused)
	if <-refused.done; refused.r.Err == nil || refused.r.Err.Reason != helvetype.ReasonBackpressure {
		t.Fatalf("%+v", refused.r)
	}
	if n := memory.settled(); n != 0 {
		t.Errorf("%d references are left", n)
	}
	(<-ins).Complete(nil, call.Result{})
	<-first.done
}

// keepingServer is a node: it keeps results.
type keepingServer struct {
	server
	*shelf
}

// TestWorkersKeepNoResults: a worker that answers with a reference to a kept result has broken the protocol, and its
// connection ends before a caller fetches the result.
func TestWorkersKeepNoResults(t *testing.T) {
	t.Parallel()
	x, y := pair(t)
	p := NewPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true}), &keepingServer{shelf: newShelf()})
	ended := make(chan error, 1)
	go func() { ended <- p.Serve() }()
	f := newFuture() // its caller wants the result in one piece
	p.Start(nil, 1, raw(nil), 0, f)
	meta := append([]byte{byte(call.Raw), 0, 9}, "reference\x10\x00"...)
	meta = le.AppendUint64(le.AppendUint64(meta, 1), 100)
	write(t, y, frameOf(Header{Type: TypeEnd, ID: 1, Flags: FlagReference}, meta, nil))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "keeps") { // a reader that waits for its own connection hangs here
		t.Errorf("%v", err)
	}
	if <-f.done; f.r.Err == nil {
		t.Errorf("%+v", f.r)
	}
}

// TestResolveIsBounded: the number of arguments is checked while kept results are put among them.
func TestResolveIsBounded(t *testing.T) {
	t.Parallel()
	p := call.Payload{Codec: call.Cloudpickle, Parts: &call.Parts{Buffers: make([]call.Segment, 10_000)}}
	var c call.Call
	table := bytes.Repeat([]byte{1 | segmentKept, 2, 0, 0, numberLen, 0, 0, 0}, 1000)
	c.Encoded = call.Encoded{Slots: 1000, Table: table, Body: make([]byte, 1000*numberLen), Held: true}
	looked := 0
	e := Resolve(&c.Encoded, func(uint64) (call.Payload, *call.Error) {
		looked++
		return p, nil
	})
	if e == nil || e.Reason != helvetype.ReasonTooLarge || looked > 10 {
		t.Errorf("%v, after %d of 1000", e, looked)
	}
}

// reads counts how often a view is read.
type reads struct {
	call.Bytes
	n *int
}

func (r reads) Read(f func(b []byte) error) error {
	*r.n++
	return r.Bytes.Read(f)
}

// lostView is a view of a buffer that does not exist any more.
type lostView struct{ call.Bytes }

func (lostView) Read(func(b []byte) error) error {
	return call.NewError(helvetype.ReasonDataLoss, "it is gone")
}

// TestPartsOfACallThatFails: a value that is too large is refused before it is copied, and a lost value is an error with
// the reason lost.
func TestPartsOfACallThatFails(t *testing.T) {
	t.Parallel()
	x, _ := pair(t)
	p := NewPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true, MaxOut: 1 << 20}), &server{})
	n := 0
	c := raw(nil)
	s := call.NewShared(reads{call.Bytes(pattern(300_000)), &n})
	c.Slots = nil
	for range 1000 {
		c.Slots = append(c.Slots, call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Parts: &call.Parts{Main: s}}})
	}
	f := newPart()
	p.Start(nil, 0, c, 0, f)
	if <-f.done; f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonTooLarge || !strings.Contains(f.r.Err.Message, "at most 1048576") || n > 4 {
		t.Errorf("%+v, read %d times", f.r.Err, n)
	}
	c.Slots = c.Slots[:1]
	c.Slots[0].Parts = &call.Parts{Main: call.NewShared(lostView{})}
	f = newPart()
	p.Start(nil, 0, c, 0, f)
	if <-f.done; f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonDataLoss {
		t.Errorf("%+v", f.r.Err)
	}
	in := &Incoming{peer: p, id: 1}
	in.Complete(nil, call.Result{Payload: c.Slots[0].Payload})
}

// TestCancelOvertakesParts: a call that is cancelled before its body has arrived releases the references of its
// arguments.
func TestCancelOvertakesParts(t *testing.T) {
	t.Parallel()
	memory := newShelf()
	s := &server{call: func(_ *call.Batch, in *Incoming) call.Canceler { return untilCancelled{in} }}
	terms := Terms{Protocol: 2, Bulk: true, Segments: true}
	p, e := halfLinked(t, s, terms)
	p.UseMemory(memory)
	serve(t, p)
	ref, _ := memory.Put([]byte("there"))
	body := append(pattern(300_000), ref[:]...)
	c := &call.Call{Encoded: call.Encoded{Slots: 2, Table: le.AppendUint32([]byte{1, 5, 0, 0}, 300_000)}}
	c.Encoded.Table = append(c.Encoded.Table, 1|segmentInMemory, 5, 1, 0, RefLen, 0, 0, 0)
	c.Info.Request = call.NewID()
	meta, err := appendCall(nil, 0, c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta = le.AppendUint64(le.AppendUint64(meta, 1), uint64(len(body)))
	write(t, e.small, frameOf(Header{Type: TypeCall, Flags: FlagBulk, ID: 1}, meta, nil), frameOf(Header{Type: TypeCancel, ID: 1}, nil, nil))
	write(t, e.bulk, chunks(1, body, maxChunk))
	small := reader{t, e.small}
	small.expect(TypeEnd, FlagError, 1)
	if n := memory.settled(); n != 0 || memory.received != 1 {
		t.Errorf("%d references are left, %d were received", n, memory.received)
	}
}

// untilCancelled ends a call when it is cancelled.
type untilCancelled struct{ in *Incoming }

func (e untilCancelled) Cancel(b *call.Batch, cause error) {
	e.in.Complete(b, call.Result{Err: call.FromCause(cause)})
}

// anything is a memory in which every reference is valid. It counts references that are given and released.
type anything struct{ given, released, sent, unsent int }

type anywhere struct {
	call.Bytes
	ref Ref
	m   *anything
}

func (v anywhere) Release() { v.m.released++ }

func (m *anything) Receive(r Ref) (*call.Shared, error) {
	if r[0] == 0xff {
		return nil, errors.New("not this one")
	}
	m.given++
	return call.NewShared(anywhere{call.Bytes(r[:8]), r, m}), nil
}

func (m *anything) Send(s *call.Shared) (Ref, bool) {
	v, ok := s.View().(anywhere)
	if ok {
		m.sent++
	}
	return v.ref, ok
}

func (m *anything) Put([]byte) (Ref, bool)   { return Ref{}, false }
func (m *anything) Unsent(Ref, bool)         { m.unsent++ }
func (m *anything) Frame(Type, []byte) error { return nil }

// FuzzParts: for any description of values in segments, each reference that is accepted is released once, and a value
// that is sent on is accepted by the next peer.
func FuzzParts(f *testing.F) {
	for _, frame := range segmentExamples(f) {
		if h := parseHeader(frame); h.Type == TypeCall || h.Type == TypeEnd {
			f.Add(h.Type == TypeEnd, h.Flags, frame[headerLen:headerLen+int(h.Meta)], frame[headerLen+int(h.Meta):])
		}
	}
	many := &call.Call{Info: call.Info{Request: call.NewID()}, Encoded: call.Encoded{Slots: 4, Table: []byte{
		1 | segmentKept, 2, 0, 0, numberLen, 0, 0, 0, 3 | segmentInMemory, 5, 0, 0, RefLen, 0, 0, 0, 2, 5, 1, 0, 2, 0, 0, 0, 'n', 1 | segmentInMemory, 1, 1, 0, RefLen, 0, 0, 0,
	}}}
	meta, err := appendCall(nil, 0, many, 0, nil)
	if err != nil {
		f.Fatal(err)
	}
	body := append(append(make([]byte, numberLen+RefLen), "ab"...), make([]byte, RefLen)...)
	f.Add(false, byte(0), meta, body)
	f.Add(false, byte(0), meta, append(body[:len(body)-RefLen:len(body)-RefLen], bytes.Repeat([]byte{0xff}, RefLen)...))
	f.Fuzz(func(t *testing.T, end bool, flags byte, meta, body []byte) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		m := &anything{}
		p := NewPeer(NewLink(NewConn(a), Terms{Protocol: 2, Segments: true}), &server{})
		p.UseMemory(m)
		p.conn.Close(ErrClosed) // its frames are not read
		if end {
			fuzzResult(t, p, flags, meta, body)
		} else {
			fuzzArguments(t, p, m, meta, body)
		}
		if m.given != m.released || m.sent != m.unsent {
			t.Errorf("of %d references %d were released, of %d sent %d are taken back", m.given, m.released, m.sent, m.unsent)
		}
	})
}

func fuzzResult(t *testing.T, p *Peer, flags byte, meta, body []byte) {
	if len(meta) < endLen {
		return
	}
	r, err := p.parseEnd(flags, meta, body)
	if err != nil {
		return
	}
	defer r.Release()
	if IsKept(r) { // which go on as arguments only
		return
	}
	s, onMeta, err := p.resultSegments(r)
	if err != nil {
		t.Fatalf("accepted, and cannot be sent on: %v", err)
	}
	defer s.undo()
	again, err := p.parseEnd(0, onMeta, bytes.Join(s.body, nil))
	if err != nil {
		t.Fatalf("sent on, it is refused: %v", err)
	}
	defer again.Release()
	same(t, r, again)
}

func same(t *testing.T, p, q call.Payload) {
	t.Helper()
	main, buffers := read(t, p)
	main2, buffers2 := read(t, q)
	if p.Codec != q.Codec || !bytes.Equal(main, main2) || !slices.EqualFunc(buffers, buffers2, bytes.Equal) {
		t.Fatalf("%x and %x, sent on, are %x and %x", main, buffers, main2, buffers2)
	}
}

func fuzzArguments(t *testing.T, p *Peer, m *anything, meta, body []byte) {
	var c call.Call
	route, left, err := parseCallMeta(meta, body, &c)
	if err != nil || p.receiveArguments(&c.Encoded) != nil {
		return
	}
	defer func() { c.Encoded.Release() }()
	kept := call.Payload{Codec: call.Cloudpickle, Data: []byte("kept"), Parts: &call.Parts{Buffers: []call.Segment{{Data: []byte("inline")}, {}}}}
	if c.Encoded.Held {
		failure := Resolve(&c.Encoded, func(n uint64) (call.Payload, *call.Error) {
			if n == 1 {
				return kept, call.NewError(helvetype.ReasonDataLoss, "it is not kept")
			}
			m.given++
			q := kept
			q.Parts = &call.Parts{Buffers: slices.Clone(kept.Parts.Buffers)}
			q.Parts.Buffers[1].Shared = call.NewShared(anywhere{make(call.Bytes, 8), Ref{}, m})
			return q, nil
		})
		if failure != nil {
			return
		}
	}
	s, err := p.argumentSegments(&c)
	if err != nil {
		return // too many, too large
	}
	defer s.undo()
	on, err := appendCall(nil, route, &c, left, s)
	if err != nil {
		return
	}
	var d call.Call
	if _, _, err := parseCallMeta(on, bytes.Join(s.body, nil), &d); err != nil {
		t.Fatalf("sent on, it is refused: %v", err)
	}
	if err := p.receiveArguments(&d.Encoded); err != nil {
		t.Fatalf("sent on, its parts are refused: %v", err)
	}
	defer func() { d.Encoded.Release() }()
	was, is := Slots(c.Encoded), Slots(d.Encoded)
	if len(was) != len(is) {
		t.Fatalf("%d arguments became %d", len(was), len(is))
	}
	for i := range was {
		if was[i].Kind != is[i].Kind || was[i].Name != is[i].Name || was[i].Index != is[i].Index {
			t.Fatalf("argument %+v became %+v", was[i], is[i])
		}
		same(t, was[i].Payload, is[i].Payload)
	}
}
