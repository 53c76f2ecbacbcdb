package wire

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/kernel"
)

// pair is two ends of a unix socket.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := kernel.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	var out [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		out[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return out[0], out[1]
}

// server is a peer's side that tests script.
type server struct {
	call    func(b *call.Batch, in *Incoming) call.Canceler
	control func(op string, body json.RawMessage) (any, error)
	goaway  func(Goaway)
}

func (s *server) Call(b *call.Batch, in *Incoming) call.Canceler {
	if s.call == nil {
		in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
		return nil
	}
	return s.call(b, in)
}

func (s *server) Route(r Route) any { return r }
func (s *server) Goaway(g Goaway) {
	if s.goaway != nil {
		s.goaway(g)
	}
}

func (s *server) Control(_ context.Context, op string, body json.RawMessage) (any, error) {
	return s.control(op, body)
}

// newPeer makes a peer of one connection, with the default terms.
func newPeer(c *Conn, s Server) *Peer { return NewPeer(NewLink(c, Terms{}), s) }

// connect serves both ends and closes them at the test's end.
func connect(t testing.TB, a, b *server) (pa, pb *Peer) {
	t.Helper()
	x, y := pair(t)
	pa, pb = newPeer(NewConn(x), a), newPeer(NewConn(y), b)
	go pa.Serve() //nolint:errcheck // tests look at what they started
	go pb.Serve() //nolint:errcheck // as above
	t.Cleanup(func() { pa.Close(ErrClosed); pb.Close(ErrClosed); <-pa.Done(); <-pb.Done() })
	return pa, pb
}

type future struct {
	done chan struct{}
	r    call.Result
}

func newFuture() *future { return &future{done: make(chan struct{})} }

func (f *future) Complete(_ *call.Batch, r call.Result) {
	r.Data = bytes.Clone(r.Data)
	f.r = r
	close(f.done) // a second Complete panics: exactly once
}

func raw(data []byte) *call.Call {
	c := &call.Call{Want: call.Raw}
	c.Info.Request = call.NewID()
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Data: data}})
	return c
}

func TestCallsOfEverySize(t *testing.T) {
	t.Parallel()
	p, _ := connect(t, &server{}, &server{})
	route, err := p.Declare(Route{App: "a", Deployment: "d", Method: "m"})
	if err != nil {
		t.Fatal(err)
	}
	var fs []*future
	var want [][]byte
	for _, n := range []int{0, 1, 100, maxCopied - 100, maxCopied - 80, maxCopied, maxCopied + 1, readBuf, readBuf + 1, 1 << 20, 5 << 20, 3} {
		for range 3 {
			data := bytes.Repeat([]byte{byte(n)}, n)
			f := newFuture()
			p.Start(nil, route, raw(data), 0, f)
			fs, want = append(fs, f), append(want, data)
		}
	}
	for i, f := range fs {
		<-f.done
		if f.r.Err != nil || !bytes.Equal(f.r.Data, want[i]) {
			t.Errorf("%d bytes came back as %d, %v", len(want[i]), len(f.r.Data), f.r.Err)
		}
	}
}

func TestCallFields(t *testing.T) {
	t.Parallel()
	got := make(chan *Incoming, 1)
	p, _ := connect(t, &server{}, &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		in.Keep()
		got <- in
		in.Complete(b, call.Result{Err: &call.Error{Reason: helvetype.ReasonUser, Code: helvetype.CodeNotFound, Message: "no such thing", Type: "T", Public: "p"}})
		return nil
	}})
	route, err := p.Declare(Route{App: "a", Deployment: "d", Method: "m"})
	if err != nil {
		t.Fatal(err)
	}
	c := &call.Call{Want: call.Msgpack, Slots: []call.Slot{
		{Kind: call.Positional, Index: 0, Payload: call.Payload{Codec: call.Text, Data: []byte("one")}},
		{Kind: call.Named, Name: "two", Payload: call.Payload{Codec: call.Raw, Data: []byte{2}}},
		{Kind: call.Named, Name: "", Payload: call.Payload{Codec: call.None}},
	}}
	c.Info = call.Info{Request: call.IDFrom("my id"), Call: 7, Depth: 3, Sampled: true, Affinity: &call.Affinity{Model: "m:1", Session: "s"}}
	c.Options = &call.Options{Idempotent: true}
	c.Info.Trace[0], c.Info.Span[7] = 1, 2
	f := newFuture()
	p.Start(nil, route, c, 90*time.Second, f)
	in := <-got
	i := in.Info
	if i.Request.String() != "my id" || i.Call != 7 || i.Depth != 3 || !i.Sampled || in.Options == nil || !in.Options.Idempotent || *i.Affinity != *c.Info.Affinity ||
		i.Trace != c.Info.Trace || i.Span != c.Info.Span || in.Want != call.Msgpack || in.Left != 90*time.Second || in.Route != (Route{App: "a", Deployment: "d", Method: "m"}) {
		t.Errorf("arrived as %+v, left %v, route %v", i, in.Left, in.Route)
	}
	slots := Slots(in.Encoded)
	if len(slots) != 3 || string(slots[0].Data) != "one" || slots[1].Name != "two" || slots[1].Data[0] != 2 || slots[2].Codec != call.None {
		t.Errorf("slots %+v", slots)
	}
	<-f.done
	if e := f.r.Err; e.Reason != helvetype.ReasonUser || e.Code != helvetype.CodeNotFound || e.Message != "no such thing" || e.Type != "T" || e.Public != "p" || !e.Remote {
		t.Errorf("error %+v", e)
	}
}

type cancelFunc func(*call.Batch, error)

func (f cancelFunc) Cancel(b *call.Batch, cause error) { f(b, cause) }

func TestCancelReachesTheCall(t *testing.T) {
	t.Parallel()
	started := make(chan *Incoming, 1)
	p, _ := connect(t, &server{}, &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		started <- in
		return cancelFunc(func(b *call.Batch, cause error) {
			in.Complete(b, call.Result{Err: call.FromCause(cause)})
		})
	}})
	f := newFuture()
	id := p.Start(nil, 0, raw(nil), 0, f)
	<-started
	p.Cancel(nil, id)
	<-f.done
	if f.r.Err.Reason != helvetype.ReasonCancelled {
		t.Errorf("%v", f.r.Err)
	}
	p.Cancel(nil, id) // ids of a call that has ended, and of no call
	p.Cancel(nil, 99)
}

// TestBrokenConnection: a call of which no byte was written is distinguished from a call that may have started, and its
// arguments come back.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := NewConn(a)
	p := newPeer(c, &server{})
	first := newFuture()
	p.Start(nil, 1, raw([]byte("written")), 0, first)
	if h, _, err := readWhole(b); err != nil || h.Type != TypeCall {
		t.Fatal(h, err)
	}
	// Appended and not flushed: as when the connection breaks while others are being written.
	var batch call.Batch
	second := newFuture()
	k := raw([]byte("not written"))
	p.Start(&batch, 1, k, 0, second)
	b.Close()
	go p.Serve() //nolint:errcheck // it ends at once
	<-p.Done()
	<-first.done
	<-second.done
	if first.r.NotStarted || first.r.Err.Reason != helvetype.ReasonReplicaDied {
		t.Errorf("the written call: %+v", first.r)
	}
	if !second.r.NotStarted || second.r.Unsent == nil || string(second.r.Unsent.Body) != "not written" || second.r.Unsent.Slots != 1 {
		t.Errorf("the call that was not written: %+v", second.r)
	}
	late := newFuture()
	p.Start(nil, 1, raw(nil), 0, late)
	<-late.done
	if !late.r.NotStarted {
		t.Errorf("a call after the end: %+v", late.r)
	}
}

func readWhole(c net.Conn) (Header, []byte, error) {
	head := make([]byte, headerLen)
	if _, err := c.Read(head); err != nil {
		return Header{}, nil, err
	}
	h := parseHeader(head)
	body := make([]byte, int(h.Meta)+int(h.Body))
	_, err := c.Read(body)
	return h, body, err
}

// TestStoppedReader: a peer that does not read does not block Flush, and another connection goes on.
func TestStoppedReader(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := NewConn(a)
	data := bytes.Repeat([]byte("x"), 20<<10)
	for range 100 { // far more than a socket buffer takes
		if _, err := c.Append(Header{Type: TypeReply}, nil, data); err != nil {
			t.Fatal(err)
		}
		c.Flush() // returns, or the test hangs
	}
	n := 0
	r := NewConn(b)
	err := r.Read(func(_ *call.Batch, h Header, _, body []byte) error {
		if !bytes.Equal(body, data) {
			return fmt.Errorf("frame %d is damaged", n)
		}
		if n++; n == 100 {
			return ErrClosed
		}
		return nil
	})
	if n != 100 {
		t.Errorf("%d frames arrived: %v", n, err)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	p, _ := connect(t, &server{}, &server{control: func(op string, body json.RawMessage) (any, error) {
		switch op {
		case "double":
			var in struct{ N int }
			err := json.Unmarshal(body, &in)
			return map[string]int{"n": 2 * in.N}, err
		case "user":
			return nil, &call.Error{Reason: helvetype.ReasonUser, Message: "no", Type: "ValueError", Traceback: "tb"}
		}
		return nil, nil
	}})
	var out struct{ N int }
	if err := p.Control(t.Context(), map[string]any{"op": "double", "n": 21}, &out); err != nil || out.N != 42 {
		t.Errorf("%d, %v", out.N, err)
	}
	err := p.Control(t.Context(), map[string]any{"op": "user"}, nil)
	if e, ok := errors.AsType[*call.Error](err); !ok || e.Type != "ValueError" || e.Traceback != "tb" || e.Message != "no" {
		t.Errorf("%#v", err)
	}
	if err := p.Control(t.Context(), map[string]any{"op": "nothing"}, nil); err != nil {
		t.Error(err)
	}
}

func TestOpening(t *testing.T) {
	t.Parallel()
	token, other := NewToken(), NewToken()
	for name, test := range map[string]struct {
		dialler Token
		check   error
		text    string
	}{
		"good":    {dialler: token},
		"token":   {dialler: other, text: "did not prove"},
		"refused": {dialler: token, check: errors.New("the graphs differ"), text: "the graphs differ"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			result := make(chan error, 1)
			go func() {
				h, err := Offer{Version: "v", Node: "n"}.Accept(a, func(Hello) (Token, error) { return token, test.check })
				if err == nil && (h.ID != "me" || h.Kind != "worker") {
					err = fmt.Errorf("hello %+v", h)
				}
				result <- err
			}()
			_, err := Open(b, test.dialler, Hello{Kind: "worker", ID: "me"})
			b.Close()
			if test.text == "" {
				if err := errors.Join(err, <-result); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("the dialler says %v", err)
			}
			if err := <-result; err == nil {
				t.Error("the node accepted")
			}
		})
	}
	t.Run("version", func(t *testing.T) {
		t.Parallel()
		a, b := pair(t)
		go Offer{Version: "v", Node: "n"}.Accept(a, func(Hello) (Token, error) { return token, nil }) //nolint:errcheck // the dialler's side is looked at
		body, _ := json.Marshal(Hello{Protocol: [2]int{7, 9}, Kind: "worker", Connection: ConnSmall, Nonce: hex.EncodeToString(make([]byte, 16))})
		if err := WriteFrame(b, TypeHello, 0, body); err != nil {
			t.Fatal(err)
		}
		err := readOpening(b, TypeHello, nil)
		if refused, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(refused.Message, "protocol 7 to 9, this node speaks protocol 1 to 2: use builds of one version") {
			t.Errorf("%v", err)
		}
	})
	t.Run("wrong proof", func(t *testing.T) { // a dialler that does not know the token, and does not check the node's proof
		t.Parallel()
		a, b := pair(t)
		result := make(chan error, 1)
		go func() {
			_, err := Offer{Version: "v", Node: "n"}.Accept(a, func(Hello) (Token, error) { return token, nil })
			result <- err
		}()
		body, _ := json.Marshal(Hello{Protocol: [2]int{1, 1}, Connection: ConnSmall, Nonce: hex.EncodeToString(make([]byte, 16))})
		WriteFrame(b, TypeHello, 0, body)
		readOpening(b, TypeHello, nil)
		WriteFrame(b, TypeProof, 0, make([]byte, 32))
		if err := <-result; err == nil || err.Error() != "wrong token" {
			t.Errorf("%v", err)
		}
	})
}

// TestNothingBeforeTheProof: a dialler that has not proved its token gets no shared memory, and nothing is decided for it.
func TestNothingBeforeTheProof(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	o := Offer{
		Features: []string{FeatureArena},
		Admit:    func(Hello) error { t.Error("it was admitted"); return nil },
		Arena:    func(Hello) *Arena { t.Error("it was given memory"); return nil },
	}
	result := make(chan error, 1)
	go func() {
		_, err := o.Accept(a, func(Hello) (Token, error) { return NewToken(), nil })
		a.Close()
		result <- err
	}()
	body, _ := json.Marshal(Hello{
		Protocol: localVersions, Kind: "worker", Connection: ConnSmall, Nonce: hex.EncodeToString(make([]byte, 16)),
		Features: []string{FeatureReady, FeatureArena},
	})
	r := &fileReader{conn: b}
	var w Welcome
	err := errors.Join(WriteFrame(b, TypeHello, 0, body), readOpening(r, TypeHello, &w), WriteFrame(b, TypeProof, 0, make([]byte, 32)))
	if err != nil || r.file != nil {
		t.Errorf("%v, %v", r.file, err)
	}
	if err := readOpening(r, TypeReady, nil); err == nil || err.Error() != "wrong token" || r.file != nil {
		t.Errorf("%v, %v", r.file, err)
	}
	if err := <-result; err == nil || err.Error() != "wrong token" {
		t.Error(err)
	}
}

// TestRefusedAfterTheProof: a dialler that has the token and is not admitted reads why.
func TestRefusedAfterTheProof(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	token, result := NewToken(), make(chan error, 1)
	go func() {
		_, err := Offer{Admit: func(Hello) error { return errors.New("the graphs differ") }}.Accept(a, func(Hello) (Token, error) { return token, nil })
		a.Close()
		result <- err
	}()
	_, err := Open(b, token, Hello{Kind: "worker"})
	if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Message != "the graphs differ" {
		t.Error(err)
	}
	if err := <-result; err == nil || err.Error() != "the graphs differ" {
		t.Error(err)
	}
}

// TestFrameViolations: frames with wrong lengths or numbers end the connection, and allocate little.
func TestFrameViolations(t *testing.T) {
	t.Parallel()
	meta, err := appendCall(nil, 1, raw([]byte("abc")), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(h Header, rest ...[]byte) []byte { return append(appendHeader(nil, h), bytes.Join(rest, nil)...) }
	long := bytes.Clone(meta)
	long[68]++ // the slot's length
	for name, data := range map[string][]byte{
		"unknown type":      frame(Header{Type: 99}),
		"huge body":         frame(Header{Type: TypeCall, Body: 1<<32 - 1}),
		"short meta":        frame(Header{Type: TypeCall, ID: 1, Meta: 3}, []byte("abc")),
		"slots past body":   frame(Header{Type: TypeCall, ID: 1, Meta: uint16(len(long)), Body: 3}, long, []byte("abc")),
		"end without meta":  frame(Header{Type: TypeEnd, ID: 1}),
		"route not JSON":    frame(Header{Type: TypeRoute, ID: 1, Body: 1}, []byte("{")),
		"route number":      frame(Header{Type: TypeRoute, ID: 1 << 40, Body: 2}, []byte("{}")),
		"control not JSON":  frame(Header{Type: TypeControl, ID: 1, Body: 1}, []byte("{")),
		"duplicate call id": append(frame(Header{Type: TypeCall, ID: 1, Meta: uint16(len(meta)), Body: 3}, meta, []byte("abc")), frame(Header{Type: TypeCall, ID: 1, Meta: uint16(len(meta)), Body: 3}, meta, []byte("abc"))...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			p := newPeer(NewConn(a), &server{call: func(_ *call.Batch, in *Incoming) call.Canceler { return cancelFunc(func(*call.Batch, error) {}) }})
			go b.Write(data) //nolint:errcheck // the other side closes
			if err := p.Serve(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	p, q := connect(t, &server{}, &server{})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			peer := p
			if g%2 == 1 {
				peer = q
			}
			for i := range 200 {
				data := fmt.Appendf(nil, "%d/%d", g, i)
				w := call.NewWaiter()
				id := peer.Start(nil, 0, raw(data), 0, w)
				out, e := w.Wait(context.Background(), cancelFunc(func(b *call.Batch, _ error) { peer.Cancel(b, id) }))
				if e != nil || !bytes.Equal(out.Data, data) {
					t.Errorf("%s came back as %s, %v", data, out.Data, e)
				}
			}
		})
	}
	wg.Wait()
}

// TestExamples holds the byte-level examples of docs/wire.md.
func TestExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &call.Call{Want: call.Text}
	c.Info.Request = call.IDFromBytes([16]byte{0x11, 0x22})
	c.Info.Call = 5
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Text, Data: []byte("hi")}})
	meta, err := appendCall(nil, 3, c, 1500*time.Microsecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(appendHeader(nil, Header{Body: 2, Meta: uint16(len(meta)), Type: TypeCall, ID: 1}), meta...)
	frame = append(frame, "hi"...)
	end := append(appendHeader(nil, Header{Body: 3, Meta: 2, Type: TypeEnd, ID: 1}), byte(call.Text), 0, 'h', 'i', '!')
	envelope := codec.AppendError(nil, call.NewError(helvetype.ReasonNoMethod, "none"))
	failed := append(appendHeader(nil, Header{Body: uint32(len(envelope)), Meta: 2, Type: TypeEnd, Flags: FlagError, ID: 1}), 0, 0)
	failed = append(failed, envelope...)
	for name, b := range map[string][]byte{"CALL": frame, "END": end, "END with an error": failed} {
		if dump := hexDump(b); !strings.Contains(string(doc), dump) {
			t.Errorf("docs/wire.md does not show this %s:\n%s", name, dump)
		}
	}
}

func hexDump(b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i += 16 {
		fmt.Fprintf(&s, "% x\n", b[i:min(i+16, len(b))])
	}
	return s.String()
}

func FuzzCallMeta(f *testing.F) {
	meta, _ := appendCall(nil, 1, raw([]byte("abc")), time.Second, nil)
	f.Add(meta, []byte("abc"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, meta, body []byte) {
		var c call.Call
		route, left, err := parseCallMeta(meta, body, &c)
		if err != nil {
			return
		}
		n := 0
		for _, s := range Slots(c.Encoded) { // must not panic after parseCallMeta has accepted it
			n += len(s.Data)
			if s.Parts == nil {
				continue
			}
			if s.Data == nil { // the shared values were not taken over
				n += RefLen
			}
			for _, b := range s.Parts.Buffers {
				if n += len(b.Data); b.Data == nil {
					n += RefLen
				}
			}
		}
		if n != len(body) {
			t.Fatalf("slots hold %d of %d bytes", n, len(body))
		}
		// A call that a node forwards must be accepted by the next peer.
		again, err := appendCall(nil, route, &c, left, nil)
		if err != nil {
			return
		}
		var d call.Call
		if _, _, err := parseCallMeta(again, body, &d); err != nil {
			t.Fatalf("forwarded, it is refused: %v", err)
		}
	})
}

// FuzzConn feeds arbitrary bytes to a peer: it may end the connection, and must answer or end every call, without a panic.
func FuzzConn(f *testing.F) {
	meta, _ := appendCall(nil, 0, raw([]byte("abc")), 0, nil)
	f.Add(append(append(appendHeader(nil, Header{Body: 3, Meta: uint16(len(meta)), Type: TypeCall, ID: 1}), meta...), "abc"...))
	f.Add(appendHeader(nil, Header{Type: TypeCancel, ID: 1}))
	f.Add(append(appendHeader(nil, Header{Body: 2, Type: TypeRoute, ID: 5}), "{}"...))
	for _, c := range []call.Call{{Window: call.Room}, {Window: call.Room, Mode: call.Broadcast}, {Mode: call.Reserve}, {Lease: 3}} {
		f.Add(append(frameOf(Header{Type: TypeCall, ID: 1}, special(f, c), []byte("abxyz")), frameOf(Header{Type: TypeCredit, ID: 1}, make([]byte, creditLen), nil)...))
	}
	exchanged := special(f, call.Call{Window: call.Room, Exchange: &call.Exchange{Kind: 1, More: true}})
	f.Add(append(frameOf(Header{Type: TypeCall, ID: 1}, exchanged, []byte("abxyz")), upload(1, partOf(partBody, "a"), partOf(partLast, ""))...))
	f.Add(append(allow(3, 1, 1), frameOf(Header{Type: TypeEnd, ID: 3}, []byte{0, 0}, nil)...))
	f.Add(append(frameOf(Header{Type: TypeItems, ID: 2}, nil, itemsOf("a", "", "b")), frameOf(Header{Type: TypeEnd, ID: 2}, []byte{0, 0}, nil)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := pair(t)
		s := &server{control: func(string, json.RawMessage) (any, error) { return nil, nil }}
		s.call = func(b *call.Batch, in *Incoming) call.Canceler {
			if in.Exchange == nil {
				in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
				return nil
			}
			in.Parts(&collector{}).Credit(b, call.Window{Items: 2, Bytes: 10})
			return cancelFunc(func(b *call.Batch, cause error) { in.Complete(b, call.Result{Err: call.FromCause(cause)}) })
		}
		p := NewPeer(NewLink(NewConn(a), Terms{HTTP: true}), s)
		f := newFuture()
		p.Start(nil, 0, raw(nil), 0, f)
		_, stream, _ := streamed(p, call.Window{Items: 4, Bytes: 100})
		_, _, exchanged, _ := exchange(p, call.Exchange{Kind: 1, More: true})
		go func() {
			b.Write(data)
			b.CloseWrite()
			buf := make([]byte, 4096)
			for {
				if _, err := b.Read(buf); err != nil {
					return
				}
			}
		}()
		p.Serve()
		<-f.done
		<-stream.done
		<-exchanged.done
	})
}
