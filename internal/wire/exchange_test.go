package wire

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

const (
	partHead call.Codec = 32
	partBody call.Codec = 34
)

var httpTerms = Terms{Protocol: 2, Bulk: true, HTTP: true}

// uplinks gets the way for the parts of an exchange.
type uplinks chan call.Uplink

func (u uplinks) Begin(up call.Uplink) { u <- up }

// exchange starts an exchange; the parts of the answer are in c.
func exchange(p *Peer, x call.Exchange) (up call.Uplink, c *collector, f *future, id uint64) {
	begun := make(uplinks, 1)
	x.Begun = begun
	c, f = &collector{}, newFuture()
	k := raw([]byte("head"))
	k.Items, k.Window, k.Exchange = c, call.Room, &x
	id = p.Start(nil, 0, k, 0, f)
	select {
	case up = <-begun:
	default:
	}
	return up, c, f, id
}

func allow(id uint64, items, bytes uint32) []byte {
	return frameOf(Header{Type: TypeAllow, ID: id}, le.AppendUint32(le.AppendUint32(nil, items), bytes), nil)
}

func upload(id uint64, parts ...call.Payload) []byte {
	var body []byte
	for _, p := range parts {
		body = call.AppendItem(body, p)
	}
	return frameOf(Header{Type: TypeUpload, ID: id}, nil, body)
}

func partOf(kind call.Codec, data string) call.Payload {
	return call.Payload{Codec: kind, Data: []byte(data)}
}

// asked is a call on the way to its consumer.
type asked struct {
	in   *Incoming
	from call.Source
	got  *collector
}

// asker is a server whose exchanges ask for parts with this window. They end when they are cancelled.
func asker(w call.Window) (*server, chan asked) {
	calls := make(chan asked, 10)
	return &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		in.Keep()
		c := &collector{slow: true}
		a := asked{in: in, got: c}
		if in.Exchange != nil {
			a.from = in.Parts(c)
			if w.Items > 0 {
				a.from.Credit(b, w)
			}
		}
		calls <- a
		return cancelFunc(func(b *call.Batch, cause error) { in.Complete(b, call.Result{Err: call.FromCause(cause)}) })
	}}, calls
}

// TestExchange: the parts of a request arrive in order, and those of the answer too; parts that are held go with the next, or the END.
func TestExchange(t *testing.T) {
	t.Parallel()
	s, calls := asker(call.Window{Items: 100, Bytes: 1 << 20})
	p, _ := linked(t, &server{}, s, httpTerms, httpTerms)
	up, c, f, _ := exchange(p, call.Exchange{Kind: 1, More: true})
	ctx := t.Context()
	a := <-calls
	if x := a.in.Exchange; x.Kind != 1 || !x.More || string(a.in.Encoded.Body) != "head" {
		t.Errorf("the call is %+v, %q", x, a.in.Encoded.Body)
	}
	if err := up.Wanted(ctx); err != nil {
		t.Fatal(err)
	}
	big := string(pattern(64 << 10))
	for _, part := range []call.Payload{partOf(partBody, "a"), partOf(partBody, big), partOf(partLast, "")} {
		if err := up.Part(ctx, part.Codec, part.Data, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []call.Payload{partOf(partHead, "head"), partOf(partBody, big), partOf(partBody, "held")} {
		if err := a.in.Part(ctx, part.Codec, part.Data, true); err != nil {
			t.Fatal(err)
		}
	}
	a.in.Complete(nil, call.Result{})
	if <-f.done; f.r.Err != nil {
		t.Fatal(f.r.Err)
	}
	if got := string(bytes.Join(c.items, []byte("|"))); got != "head|"+big+"|held" {
		t.Errorf("the answer has %d parts of %d bytes", len(c.items), len(got))
	}
	if err := up.Part(ctx, partBody, []byte("late"), false); !errors.Is(err, errPartsEnd) {
		t.Errorf("a part after the end: %v", err)
	}
}

// TestUploadWaits: nothing is sent before the first ALLOW nor beyond the window; the end of the call or of the context ends a wait.
func TestUploadWaits(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, httpTerms)
	serve(t, p)
	small := reader{t, e.small}
	up, _, f, _ := exchange(p, call.Exchange{Kind: 1, More: true})
	small.expect(TypeCall, 0, 1)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := up.Wanted(over); !errors.Is(err, context.Canceled) {
		t.Errorf("wanted: %v", err)
	}
	write(t, e.small, allow(1, 1, 10))
	if err := up.Wanted(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := up.Part(t.Context(), partBody, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	small.expect(TypeUpload, 0, 1)
	if err := up.Part(over, partBody, []byte("two"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("without room: %v", err)
	}
	sent := make(chan error)
	go func() { sent <- up.Part(t.Context(), partBody, []byte("three"), false) }()
	write(t, e.small, allow(1, 1, 10))
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, body := small.expect(TypeUpload, 0, 1); !strings.HasSuffix(string(body), "three") {
		t.Errorf("%q", body)
	}
	if err := up.Part(t.Context(), partLast, nil, false); err != nil { // needs no room
		t.Fatal(err)
	}
	small.expect(TypeUpload, 0, 1)
	go func() { sent <- up.Part(t.Context(), partBody, nil, false) }()
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 1}, []byte{0, 0}, nil))
	if err := <-sent; !errors.Is(err, errPartsEnd) {
		t.Errorf("after the END: %v", err)
	}
	<-f.done
	write(t, e.small, allow(1, 1, 1)) // of a call that is gone: nothing happens
	lost, _, g, _ := exchange(p, call.Exchange{Kind: 1, More: true})
	small.expect(TypeCall, 0, 2)
	go func() { sent <- lost.Wanted(t.Context()) }()
	e.small.Close()
	if err := <-sent; !errors.Is(err, errPartsEnd) {
		t.Errorf("after the connection: %v", err)
	}
	<-g.done
}

// TestUploadViolations: parts that the worker has not asked for end the connection. The other side has call 1, which is no exchange, and
// call 2, an exchange with a window of two parts and 10 bytes.
func TestUploadViolations(t *testing.T) {
	t.Parallel()
	body := func(data string) call.Payload { return partOf(partBody, data) }
	last := partOf(partLast, "")
	for name, test := range map[string]struct {
		x    call.Exchange
		w    call.Window
		sent []byte
		text string
	}{
		"a part too many":           {call.Exchange{Kind: 1, More: true}, call.Window{Items: 2, Bytes: 10}, upload(2, body("a"), body("b"), body("c")), "beyond the window"},
		"after all bytes":           {call.Exchange{Kind: 1, More: true}, call.Window{Items: 2, Bytes: 10}, upload(2, body("0123456789"), body("")), "beyond the window"},
		"before it is asked for":    {call.Exchange{Kind: 1, More: true}, call.Window{}, upload(2, body("a")), "beyond the window"},
		"after the last":            {call.Exchange{Kind: 1, More: true}, call.Window{Items: 2, Bytes: 10}, upload(2, last, body("a")), "a call that takes none"},
		"two ends":                  {call.Exchange{Kind: 2}, call.Window{Items: 2, Bytes: 10}, upload(2, partOf(partClose, "\xe9\x03"), partOf(partBroken, "\x00\x00")), "a call that takes none"},
		"of a request without":      {call.Exchange{Kind: 1}, call.Window{Items: 2, Bytes: 10}, upload(2, body("a")), "a call that takes none"},
		"the end of none":           {call.Exchange{Kind: 1}, call.Window{Items: 2, Bytes: 10}, upload(2, last), "a call that takes none"},
		"of an ordinary call":       {call.Exchange{Kind: 1}, call.Window{Items: 2, Bytes: 10}, upload(1, body("a")), "a call that takes none"},
		"malformed":                 {call.Exchange{Kind: 1, More: true}, call.Window{Items: 2, Bytes: 10}, frameOf(Header{Type: TypeUpload, ID: 2}, nil, []byte{1}), "malformed items"},
		"empty":                     {call.Exchange{Kind: 1, More: true}, call.Window{Items: 2, Bytes: 10}, upload(2), "malformed items"},
		"allow of an ordinary":      {call.Exchange{Kind: 1}, call.Window{}, allow(1, 1, 1), "an allow for a call that sends no parts"},
		"short allow":               {call.Exchange{Kind: 1}, call.Window{}, frameOf(Header{Type: TypeAllow, ID: 1}, make([]byte, 7), nil), "malformed credit"},
		"allow beyond all bounds":   {call.Exchange{Kind: 1}, call.Window{}, bytes.Repeat(allow(2, 1<<32-1, 0), 300), "beyond all bounds"},
		"http that is not a stream": {call.Exchange{Kind: 1}, call.Window{}, frameOf(Header{Type: TypeCall, ID: 3}, append(make([]byte, callLen), "\x04http\x02\x00\x01\x00"...), nil), "malformed call meta"},
		"half of http":              {call.Exchange{Kind: 1}, call.Window{}, frameOf(Header{Type: TypeCall, ID: 3}, append(window(1, 1), "\x04http\x01\x00\x01"...), nil), "malformed call meta"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, calls := asker(test.w)
			p, e := halfLinked(t, s, httpTerms)
			one := newFuture()
			p.Start(nil, 0, raw(nil), 0, one)
			_, _, two, _ := exchange(p, call.Exchange{Kind: 1, More: true})
			head := func(x *call.Exchange) []byte {
				c := raw(nil)
				if c.Exchange = x; x != nil {
					c.Items, c.Window = &collector{}, call.Room
				}
				meta, err := appendCall(nil, 0, c, 0, nil)
				if err != nil {
					t.Fatal(err)
				}
				return meta
			}
			go e.small.Write(slices.Concat( //nolint:errcheck // the other side closes
				frameOf(Header{Type: TypeCall, ID: 1}, head(nil), nil), frameOf(Header{Type: TypeCall, ID: 2}, head(&test.x), nil), test.sent))
			if err := p.Serve(); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("ended with %v", err)
			}
			<-one.done
			<-two.done
			<-calls
			if a := <-calls; len(a.got.items) > 0 {
				t.Errorf("%d parts were handed over", len(a.got.items))
			}
		})
	}
}

// TestAnswerEndsWithoutRoom: the part that ends an answer needs no room in the window, on either side, and comes once.
func TestAnswerEndsWithoutRoom(t *testing.T) {
	t.Parallel()
	s, calls := asker(call.Window{})
	p, q := linked(t, &server{}, s, httpTerms, httpTerms)
	begun := make(uplinks, 2)
	k, c, f := raw([]byte("head")), &collector{slow: true}, newFuture()
	k.Items, k.Window, k.Exchange = c, call.Window{Items: 2, Bytes: 100}, &call.Exchange{Kind: kindWebSocket, Begun: begun}
	p.Start(nil, 0, k, 0, f)
	a := <-calls
	for _, kind := range []call.Codec{40, 41, partClose} {
		if err := a.in.Part(t.Context(), kind, []byte("\xe8\x03"), false); err != nil {
			t.Fatal(err)
		}
	}
	a.in.Complete(nil, call.Result{})
	if <-f.done; f.r.Err != nil || len(c.items) != 3 {
		t.Fatalf("%v, %d parts", f.r.Err, len(c.items))
	}
	k.Exchange = &call.Exchange{Kind: kindWebSocket, Begun: begun}
	p.Start(nil, 0, k, 0, newFuture())
	a = <-calls
	for range 4 {
		a.in.Part(t.Context(), partClose, []byte("\xe8\x03"), false) //nolint:errcheck // the other side closes
	}
	<-q.Done()
	if err := q.conn.Err(); err == nil || !strings.Contains(err.Error(), "beyond the window") {
		t.Errorf("four ends: %v", err)
	}
}

// TestTakeover: after a takeover parts may come again, until the next end.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s, calls := asker(call.Window{Items: 100, Bytes: 100})
	p, e := halfLinked(t, s, httpTerms)
	c := raw(nil)
	c.Exchange, c.Items, c.Window = &call.Exchange{Kind: 1}, &collector{}, call.Room
	meta, err := appendCall(nil, 0, c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- p.Serve() }()
	write(t, e.small, frameOf(Header{Type: TypeCall, ID: 1}, meta, nil))
	a := <-calls
	if err := a.in.Part(t.Context(), partTakeover, nil, false); err != nil {
		t.Fatal(err)
	}
	small := reader{t, e.small}
	small.expect(TypeAllow, 0, 1)
	small.expect(TypeItems, 0, 1)
	write(t, e.small, upload(1, partOf(partBody, "raw"), partOf(partLast, "")), upload(1, partOf(partBody, "more")))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "takes none") {
		t.Error(err)
	}
	if len(a.got.items) != 2 || string(a.got.items[0]) != "raw" {
		t.Errorf("%q", a.got.items)
	}
}

// TestExchangeNeedsTheFeature: a worker that does not know exchanges gets none.
func TestExchangeNeedsTheFeature(t *testing.T) {
	t.Parallel()
	p, _ := halfLinked(t, &server{}, bulkTerms)
	if up, _, f, _ := exchange(p, call.Exchange{Kind: 1}); up != nil || f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonInternal || f.r.NotStarted {
		t.Errorf("%v, %+v", up, f.r)
	}
}

// exchangeExamples are the frames of an exchange that docs/wire.md shows.
func exchangeExamples(t testing.TB) map[string][]byte {
	t.Helper()
	const head = "POST\x00http\x001.1\x00/x\x00\x00\x00127.0.0.1\x0050000\x00127.0.0.1\x008000\x00host\x00localhost"
	c := call.Call{Want: call.Raw, Window: call.Room, Items: &collector{}, Exchange: &call.Exchange{Kind: 1, More: true}}
	c.Slots = []call.Slot{slot(0, []byte(head))}
	c.Info = call.Info{Request: call.IDFromBytes([16]byte{0x11, 0x22}), Call: 9}
	meta, err := appendCall(nil, 3, &c, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := call.AppendItem(call.AppendItem(nil, partOf(partHead, "\xc8\x00content-type\x00text/plain")), partOf(partBody, "ok"))
	return map[string][]byte{
		"CALL of an exchange":    frameOf(Header{Type: TypeCall, ID: 1}, meta, []byte(head)),
		"ALLOW":                  frameOf(Header{Type: TypeAllow, ID: 1}, allow(1, 256, 1<<20)[headerLen:], nil),
		"UPLOAD":                 upload(1, partOf(partBody, "hi"), partOf(partLast, "")),
		"the answer of exchange": frameOf(Header{Type: TypeItems, ID: 1}, nil, answer),
	}
}
