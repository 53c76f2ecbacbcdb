package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

func credit(id uint64, items, bytes uint32) []byte {
	return frameOf(Header{Type: TypeCredit, ID: id}, le.AppendUint32(le.AppendUint32(nil, items), bytes), nil)
}

func items(id uint64, of ...string) []byte {
	return frameOf(Header{Type: TypeItems, ID: id}, nil, itemsOf(of...))
}

// TestStreamViolations: a violation of the rules of streams ends the connection with a text that names it. The other
// side has a stream with a window of 2 items and 10 bytes as call 2, and an ordinary call 1; its own calls 1 and 2 are
// the same.
func TestStreamViolations(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sent []byte
		text string
	}{
		"an item too many":        {items(2, "a", "b", "c"), "items beyond the window of a stream"},
		"one by one":              {slices.Concat(items(2, "a"), items(2, "b"), items(2, "c")), "items beyond the window of a stream"},
		"after all bytes":         {items(2, "0123456789", ""), "items beyond the window of a stream"},
		"after more bytes":        {slices.Concat(items(2, "0123456789-and-more"), items(2, "")), "items beyond the window of a stream"},
		"no items":                {items(2), "malformed items"},
		"half a head":             {frameOf(Header{Type: TypeItems, ID: 2}, nil, []byte{0, 0, 0, 0}), "malformed items"},
		"half an item":            {frameOf(Header{Type: TypeItems, ID: 2}, nil, itemsOf("abc")[:7]), "malformed items"},
		"a lie about an item":     {frameOf(Header{Type: TypeItems, ID: 2}, nil, []byte{255, 255, 255, 255, 5, 1}), "malformed items"},
		"items of no stream":      {items(1, "a"), "items for a call that is no stream"},
		"credit of no stream":     {credit(1, 1, 1), "credit for a call that is no stream"},
		"short credit":            {frameOf(Header{Type: TypeCredit, ID: 2}, make([]byte, creditLen-1), nil), "malformed credit"},
		"long credit":             {frameOf(Header{Type: TypeCredit, ID: 2}, make([]byte, creditLen+1), nil), "malformed credit"},
		"credit beyond all items": {bytes.Repeat(credit(2, 1<<32-1, 0), 300), "credit beyond all bounds"},
		"credit beyond all bytes": {bytes.Repeat(credit(2, 0, 1<<32-1), 300_000), "credit beyond all bounds"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
				return cancelFunc(func(b *call.Batch, cause error) { in.Complete(b, call.Result{Err: call.FromCause(cause)}) })
			}}
			p, e := halfLinked(t, s, bulkTerms)
			one := newFuture()
			p.Start(nil, 0, raw(nil), 0, one)
			c, two, _ := streamed(p, call.Window{Items: 2, Bytes: 10})
			c.slow = true
			meta, err := appendCall(nil, 0, raw(nil), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			go e.small.Write(slices.Concat( //nolint:errcheck // the other side closes
				frameOf(Header{Type: TypeCall, ID: 1}, meta, nil), frameOf(Header{Type: TypeCall, ID: 2}, window(2, 10), nil), test.sent))
			if err := p.Serve(); err == nil || err.Error() != test.text {
				t.Errorf("ended with %v", err)
			}
			<-one.done
			if <-two.done; two.r.Err == nil {
				t.Error("the stream ended well")
			}
			if len(c.items) > 2 {
				t.Errorf("%d items were handed over", len(c.items))
			}
		})
	}
}

// TestUnknownStreams: items and credit of calls that are not known, or no longer, are ignored.
func TestUnknownStreams(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, bulkTerms)
	serve(t, p)
	c, f, _ := streamed(p, call.Window{Items: 1, Bytes: 1})
	small := reader{t, e.small}
	small.expect(TypeCall, 0, 1)
	write(t, e.small, items(77, "a", "b"), credit(77, 1, 1), items(1, "x"))
	small.expect(TypeCredit, 0, 1)
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 1}, []byte{0, 0}, nil), items(1, "late", "later"), frameOf(Header{Type: TypeItems, ID: 1}, nil, nil))
	<-f.done
	late := newFuture()
	p.Start(nil, 0, raw(nil), 0, late)
	small.expect(TypeCall, 0, 2)
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 2}, []byte{byte(call.Raw), 0}, []byte("lives")))
	if <-late.done; string(late.r.Data) != "lives" || len(c.items) != 1 || string(c.items[0]) != "x" {
		t.Errorf("%+v, %q", late.r, c.items)
	}
}

// TestWindow: a method sends as many items and bytes as it may, and one beyond the bytes, and goes on with credit.
func TestWindow(t *testing.T) {
	t.Parallel()
	s := producer(1, 1, 1, 30, 1, 1)
	s.control = func(string, json.RawMessage) (any, error) { return nil, nil }
	p, e := halfLinked(t, s, bulkTerms)
	serve(t, p)
	small := reader{t, e.small}
	count := func(n int) {
		t.Helper()
		for n > 0 {
			_, body := small.expect(TypeItems, 0, 1)
			for len(body) > 0 {
				_, rest, ok := call.NextItem(body)
				if n--; !ok || n < 0 {
					t.Fatal("too many")
				}
				body = rest
			}
		}
	}
	asked := uint64(0)
	quiet := func() { // no item comes before the reply
		t.Helper()
		asked++
		write(t, e.small, frameOf(Header{Type: TypeControl, ID: asked}, nil, []byte(`{}`)))
		small.expect(TypeReply, 0, asked)
	}
	write(t, e.small, frameOf(Header{Type: TypeCall, ID: 1}, window(2, 10), nil))
	count(2)
	quiet()
	write(t, e.small, credit(1, 4, 0)) // items, and 8 bytes are left: 1, then 30 beyond
	count(2)
	quiet()
	write(t, e.small, credit(1, 0, 23)) // the bytes are at 0 again: nothing
	quiet()
	write(t, e.small, credit(1, 0, 1))
	count(1)
	quiet()
	write(t, e.small, credit(1, 0, 1))
	count(1)
	small.expect(TypeEnd, 0, 1)
}

// TestRelayedCredit: a relay passes items and credit on as they are.
func TestRelayedCredit(t *testing.T) {
	t.Parallel()
	var far *Peer
	far, source := halfLinked(t, &server{}, bulkTerms)
	serve(t, far)
	p, e := halfLinked(t, relaying(&far), bulkTerms)
	serve(t, p)
	write(t, e.small, frameOf(Header{Type: TypeCall, ID: 1}, window(5, 50), nil))
	from, to := reader{t, source.small}, reader{t, e.small}
	meta, _ := from.expect(TypeCall, 0, 1)
	if !bytes.HasSuffix(meta, window(5, 50)[64:]) {
		t.Errorf("the window came as %x", meta)
	}
	write(t, source.small, items(1, "a", "b"))
	if _, body := to.expect(TypeItems, 0, 1); !bytes.Equal(body, itemsOf("a", "b")) {
		t.Errorf("%q", body)
	}
	write(t, e.small, credit(1, 7, 100))
	if meta, _ := from.expect(TypeCredit, 0, 1); le.Uint32(meta) != 7 || le.Uint32(meta[4:]) != 100 {
		t.Errorf("%x", meta)
	}
	// The relay widens what it takes, too: 10 more fit, 11 do not.
	write(t, source.small, items(1, strings.Split("0123456789", "")...))
	to.expect(TypeItems, 0, 1)
	write(t, source.small, items(1, "x"))
	<-far.Done()
	if _, body := to.expect(TypeEnd, FlagError, 1); !strings.Contains(string(body), string(helvetype.ReasonReplicaDied)) {
		t.Errorf("%q", body)
	}
}

// TestStreamCancelled: items that are under way after a cancel are dropped, and the end still comes.
func TestStreamCancelled(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	s := &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for in.Item(ctx, call.Payload{Codec: call.Raw, Data: []byte("x")}) {
			}
			in.Complete(nil, call.Result{Err: call.FromContext(ctx)})
			close(ended)
		}()
		return cancelFunc(func(*call.Batch, error) { cancel() })
	}}
	p, _ := linked(t, &server{}, s, bulkTerms, bulkTerms)
	for _, slow := range []bool{false, true} { // it waits for credit, or runs
		c, f := &collector{slow: slow}, newFuture()
		k := raw(nil)
		k.Items, k.Window = c, call.Room
		id := p.Start(nil, 0, k, 0, f)
		p.Cancel(nil, id)
		if <-f.done; f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonCancelled {
			t.Error(f.r)
		}
		<-ended
		ended = make(chan struct{})
	}
}
