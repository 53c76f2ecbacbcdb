package wire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// shelf is a Memory and a References for both sides of a test: buffers and results by number.
type shelf struct {
	mu       sync.Mutex
	buffers  map[Ref][]byte
	results  map[uint64]call.Payload
	given    map[Ref]int // references that were given and not released
	last     uint64
	full     bool
	dropped  []uint64
	received int
}

func newShelf() *shelf {
	return &shelf{buffers: map[Ref][]byte{}, results: map[uint64]call.Payload{}, given: map[Ref]int{}}
}

type onShelf struct {
	call.Bytes
	shelf *shelf
	ref   Ref
}

func (v onShelf) Release() {
	v.shelf.mu.Lock()
	defer v.shelf.mu.Unlock()
	v.shelf.given[v.ref]--
}

func (s *shelf) Receive(r Ref) (*call.Shared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buffers[r]
	if !ok || s.given[r] == 0 {
		return nil, errors.New("an invented reference")
	}
	s.received++
	return call.NewShared(onShelf{b, s, r}), nil
}

func (s *shelf) Send(of *call.Shared) (Ref, bool) {
	v, ok := of.View().(onShelf)
	if !ok || v.shelf != s {
		return Ref{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given[v.ref]++
	return v.ref, true
}

func (s *shelf) Put(b []byte) (Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return Ref{}, false
	}
	s.last++
	r := Ref{byte(s.last)}
	s.buffers[r] = bytes.Clone(b)
	s.given[r]++
	return r, true
}

func (s *shelf) Unsent(r Ref, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given[r]--
}

func (s *shelf) Frame(Type, []byte) error { return nil }

func (s *shelf) Keep(p call.Payload) (uint64, *call.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return 0, call.NewError(helvetype.ReasonTooLarge, "no room")
	}
	s.last++
	p.Keep()
	s.results[s.last] = p
	return s.last, nil
}

func (s *shelf) Drop(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = append(s.dropped, n)
}

func (s *shelf) look(n uint64) (call.Payload, *call.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.results[n]
	if !ok {
		return p, call.NewError(helvetype.ReasonDataLoss, "not kept")
	}
	p.Keep()
	return p, nil
}

// settled returns the number of references that are not released.
func (s *shelf) settled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.given {
		n += g
	}
	return n
}

// segmentExamples are the frames of docs/wire.md's section about values in parts.
func segmentExamples(t testing.TB) map[string][]byte {
	t.Helper()
	ref := Ref{}
	for i, v := range []uint64{7, 12, 0x20000, 200_000} {
		le.PutUint64(ref[8*i:], v)
	}
	c := call.Call{Want: call.Msgpack, Encoded: call.Encoded{Slots: 1, Table: []byte{1 | segmentInMemory, 1, 0, 0, RefLen, 0, 0, 0}}}
	c.Info = call.Info{Request: call.IDFromBytes([16]byte{0x11, 0x22}), Call: 8}
	meta, err := appendCall(nil, 3, &c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	buffers := append([]byte{byte(call.Cloudpickle), 0, 7}, "buffers\x05\x00\x80\x20\x00\x00\x00"...)
	reference := append([]byte{byte(call.Msgpack), 0, 9}, "reference\x10\x00"...)
	reference = le.AppendUint64(le.AppendUint64(reference, 4), 300_000)
	return map[string][]byte{
		"CALL with a shared argument":  frameOf(Header{Type: TypeCall, ID: 1}, meta, ref[:]),
		"END with a buffer":            frameOf(Header{Type: TypeEnd, ID: 1}, buffers, append([]byte("pickle"), ref[:]...)),
		"END with a reference":         frameOf(Header{Type: TypeEnd, ID: 1, Flags: FlagReference}, reference, nil),
		"LEASE of a worker":            frameOf(Header{Type: TypeLease}, nil, le.AppendUint64(nil, 1<<20)),
		"LEASE of the node or RELEASE": frameOf(Header{Type: TypeRelease}, nil, ref[:]),
		"DROP":                         frameOf(Header{Type: TypeDrop, ID: 4}, nil, nil),
	}
}

// inParts connects two peers that agreed on segments and, unless memory is nil, share it. The second one is the server
// s.
func inParts(t testing.TB, memory *shelf, s *server) *Peer {
	t.Helper()
	x, y := pair(t)
	terms := Terms{Protocol: 2, Segments: true}
	a, b := NewPeer(NewLink(NewConn(x), terms), &server{}), NewPeer(NewLink(NewConn(y), terms), s)
	if memory != nil {
		a.UseMemory(memory)
		b.UseMemory(memory)
	}
	serve(t, a)
	serve(t, b)
	return a
}

// part is a future that takes results in parts.
type part struct{ *future }

func newPart() part { return part{newFuture()} }

func (part) TakesParts() {}

func (p part) Complete(_ *call.Batch, r call.Result) {
	r.Own()
	p.r = r
	close(p.done)
}

func declared(t testing.TB, p *Peer) uint32 {
	t.Helper()
	route, err := p.Declare(Route{App: "a", Deployment: "d", Method: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return route
}

// read is a payload's bytes and those of its buffers.
func read(t testing.TB, p call.Payload) (main []byte, buffers [][]byte) {
	t.Helper()
	if err := p.Read(func(data []byte, bs [][]byte) error {
		main = bytes.Clone(data)
		for _, b := range bs {
			buffers = append(buffers, bytes.Clone(b))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return main, buffers
}

// mirror answers with its first argument.
func mirror(b *call.Batch, in *Incoming) call.Canceler {
	p := Slots(in.Encoded)[0].Payload
	p.Keep()
	p.Own()
	in.Complete(b, call.Result{Payload: p})
	return nil
}

// TestParts: values in parts come as they were, whether both sides share memory or not, and no reference is left.
func TestParts(t *testing.T) {
	t.Parallel()
	for name, memory := range map[string]*shelf{"memory": newShelf(), "full": {buffers: map[Ref][]byte{}, given: map[Ref]int{}, full: true}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inParts(t, memory, &server{call: mirror})
			route := declared(t, p)
			large, small := pattern(SharedLeast+5), []byte("small")
			for _, buffers := range [][][]byte{nil, {large}, {small}, {large, small, large}} {
				for _, main := range [][]byte{small, large} {
					c := raw(main)
					if buffers != nil {
						c.Slots[0].Parts = &call.Parts{}
						for _, b := range buffers {
							c.Slots[0].Parts.Buffers = append(c.Slots[0].Parts.Buffers, call.Segment{Data: b})
						}
					}
					f := newPart()
					p.Start(nil, route, c, 0, f)
					<-f.done
					if f.r.Err != nil {
						t.Fatal(f.r.Err)
					}
					gotMain, gotBuffers := read(t, f.r.Payload)
					if !bytes.Equal(gotMain, main) || len(gotBuffers) != len(buffers) {
						t.Fatalf("%d bytes and %d buffers came back as %d and %d", len(main), len(buffers), len(gotMain), len(gotBuffers))
					}
					for i := range buffers {
						if !bytes.Equal(gotBuffers[i], buffers[i]) {
							t.Errorf("buffer %d of %d bytes came back as %d", i, len(buffers[i]), len(gotBuffers[i]))
						}
					}
					if shared := f.r.Parts != nil && f.r.Parts.Main != nil; shared != (name == "memory" && len(main) > len(small)) {
						t.Errorf("%s, %d bytes: shared is %v", name, len(main), shared)
					}
					f.r.Release()
				}
			}
			if memory != nil && memory.settled() != 0 {
				t.Errorf("%d references are left", memory.settled())
			}
		})
	}
}

// TestReferences: a result that is kept is fetched, many times, and goes among the arguments of other calls by its number.
func TestReferences(t *testing.T) {
	t.Parallel()
	node := newShelf()
	var mu sync.Mutex
	var came []int
	s := &struct {
		server
		*shelf
	}{shelf: node}
	s.call = func(b *call.Batch, in *Incoming) call.Canceler {
		if in.Mode == call.Fetch {
			p, e := node.look(in.Kept)
			in.Complete(b, call.Result{Payload: p, Err: e})
			return nil
		}
		if in.Encoded.Held {
			if e := Resolve(&in.Encoded, node.look); e != nil {
				in.Complete(b, call.Result{Err: e})
				return nil
			}
		}
		if in.Options != nil && in.Options.ByReference {
			in.References = node
		}
		mu.Lock()
		came = append(came, Slots(in.Encoded)[0].Len())
		mu.Unlock()
		return mirror(b, in)
	}
	x, y := pair(t)
	terms := Terms{Protocol: 2, Segments: true}
	p, q := NewPeer(NewLink(NewConn(x), terms), &server{}), NewPeer(NewLink(NewConn(y), terms), s)
	serve(t, p)
	serve(t, q)
	route := declared(t, p)
	for _, data := range [][]byte{[]byte("small"), pattern(100_000)} {
		c := raw(data)
		c.Options = &call.Options{ByReference: true}
		f := newPart()
		p.Start(nil, route, c, 0, f)
		<-f.done
		if f.r.Err != nil || !IsKept(f.r.Payload) || f.r.Len() != len(data) {
			t.Fatalf("%d bytes are not kept: %+v", len(data), f.r)
		}
		for range 2 {
			if got, _ := read(t, f.r.Payload); !bytes.Equal(got, data) {
				t.Errorf("%d bytes were fetched as %d", len(data), len(got))
			}
		}
		on := raw(nil)
		on.Slots[0].Payload = f.r.Payload
		g := newPart()
		p.Start(nil, route, on, 0, g)
		<-g.done
		if got, _ := read(t, g.r.Payload); g.r.Err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes passed on came back as %d, %v", len(data), len(got), g.r.Err)
		}
		f.r.Release()
		lost := newPart()
		on.Slots[0].Payload = call.Payload{Codec: call.Raw, Parts: &call.Parts{Main: call.NewShared(newKept(p, 99, 1))}}
		p.Start(nil, route, on, 0, lost)
		<-lost.done
		if lost.r.Err == nil || lost.r.Err.Reason != helvetype.ReasonDataLoss {
			t.Errorf("a result that nobody keeps: %+v", lost.r)
		}
	}
	p.Close(ErrClosed)
	<-q.Done()
	slices.Sort(node.dropped)
	if !slices.Equal(slices.DeleteFunc(node.dropped, func(n uint64) bool { return n == 99 }), []uint64{1, 2}) { // the collector drops 99, or not
		t.Errorf("dropped: %v", node.dropped)
	}
}

// TestSegmentViolations: a side that sends segments which it does not have, or which were not agreed on, gets a GOAWAY
// with the reason, and the connection ends.
func TestSegmentViolations(t *testing.T) {
	t.Parallel()
	call1 := func(where byte, n uint32, body int) []byte {
		c := call.Call{Encoded: call.Encoded{Slots: 1, Table: append([]byte{1 | where, 1, 0, 0}, le.AppendUint32(nil, n)...)}}
		c.Info.Request = call.NewID()
		meta, err := appendCall(nil, 0, &c, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return frameOf(Header{Type: TypeCall, ID: 1}, meta, make([]byte, body))
	}
	buffer := func(first byte) []byte {
		c := call.Call{Encoded: call.Encoded{Slots: 2, Table: []byte{first, 1, 0, 0, 0, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0}}}
		c.Info.Request = call.NewID()
		meta, err := appendCall(nil, 0, &c, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return frameOf(Header{Type: TypeCall, ID: 1}, meta, nil)
	}
	agreed := Terms{Protocol: 2, Segments: true}
	for name, c := range map[string]struct {
		terms  Terms
		memory Memory
		frame  []byte
		why    string
	}{
		"shared, not agreed on":    {Terms{}, nil, call1(segmentInMemory, RefLen, RefLen), "not agreed on"},
		"kept, not agreed on":      {Terms{}, nil, call1(segmentKept, 8, 8), "not agreed on"},
		"shared without memory":    {agreed, nil, call1(segmentInMemory, RefLen, RefLen), "not agreed on"},
		"invented":                 {agreed, newShelf(), call1(segmentInMemory, RefLen, RefLen), "an invented reference"},
		"short reference":          {agreed, newShelf(), call1(segmentInMemory, 31, 31), "malformed"},
		"long number":              {agreed, newShelf(), call1(segmentKept, 9, 9), "malformed"},
		"both":                     {agreed, newShelf(), call1(segmentInMemory|segmentKept, RefLen, RefLen), "malformed"},
		"a buffer of nothing":      {agreed, newShelf(), buffer(3), "malformed"},
		"a lease, and no memory":   {agreed, nil, frameOf(Header{Type: TypeLease}, nil, make([]byte, 8)), "no memory"},
		"a release, and no memory": {agreed, nil, frameOf(Header{Type: TypeRelease}, nil, make([]byte, 32)), "no memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, y := pair(t)
			p := NewPeer(NewLink(NewConn(x), c.terms), &server{})
			p.UseMemory(c.memory)
			if c.memory == nil {
				p.memory = nil
			}
			ended := make(chan error, 1)
			go func() { ended <- p.Serve() }()
			if _, err := y.Write(c.frame); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	for name, c := range map[string]struct{ meta, body []byte }{
		"not ours":        {[]byte{5, segmentKept}, make([]byte, 8)},
		"invented":        {[]byte{5, segmentInMemory}, make([]byte, RefLen)},
		"long buffers":    {append([]byte{5, 0, 7}, "buffers\x05\x00\x00\xff\x00\x00\x00"...), []byte("x")},
		"half a buffer":   {append([]byte{5, 0, 7}, "buffers\x04\x00\x00\x00\x00\x00"...), nil},
		"buffer not ours": {append([]byte{5, 0, 7}, "buffers\x05\x00\x80\x01\x00\x00\x00"...), []byte("x")},
		"a cut tail":      {append([]byte{5, 0, 7}, "buff"...), nil},
	} {
		t.Run("END "+name, func(t *testing.T) {
			t.Parallel()
			x, y := pair(t)
			p := NewPeer(NewLink(NewConn(x), agreed), &server{})
			p.UseMemory(newShelf())
			ended := make(chan error, 1)
			go func() { ended <- p.Serve() }()
			f := newPart()
			p.Start(nil, 1, raw(nil), 0, f)
			if _, err := y.Write(frameOf(Header{Type: TypeEnd, ID: 1}, c.meta, c.body)); err != nil {
				t.Fatal(err)
			}
			<-f.done
			if err := <-ended; err == nil || f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonReplicaDied {
				t.Errorf("it ended with %v, and the call with %+v", err, f.r)
			}
		})
	}
}

// TestMemoryTravels: the descriptor of the memory comes with the node's READY, to diallers that want it.
func TestMemoryTravels(t *testing.T) {
	t.Parallel()
	for _, wants := range []bool{true, false} {
		x, y := pair(t)
		h := Hello{Kind: "worker", Features: []string{FeatureSegments}}
		if wants {
			h.Features = append(h.Features, FeatureArena)
		}
		got := make(chan Welcome, 1)
		go func() {
			w, err := Open(y, Token{1}, h)
			if err != nil {
				t.Error(err)
			}
			got <- w
		}()
		file := testFile(t)
		o := Offer{Features: []string{FeatureSegments, FeatureArena}, Arena: func(Hello) *Arena { return &Arena{ID: 7, Size: 4, Most: 2, File: file} }}
		answered, err := o.Accept(x, func(Hello) (Token, error) { return Token{1}, nil })
		w := <-got
		if err != nil || !answered.Terms.Segments || !w.Terms.Segments {
			t.Fatalf("%+v, %v", answered.Terms, err)
		}
		if !wants {
			if w.Arena != nil {
				t.Errorf("nobody asked for it: %+v", w.Arena)
			}
			continue
		}
		if w.Arena == nil || w.Arena.ID != 7 || w.Arena.Size != 4 || w.Arena.Most != 2 {
			t.Fatalf("%+v", w.Arena)
		}
		b := make([]byte, 4)
		if _, err := w.Arena.File.ReadAt(b, 0); err != nil || string(b) != "over" {
			t.Errorf("%q, %v", b, err)
		}
		w.Arena.File.Close()
	}
}
