package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// window is the meta of a call for a stream.
func window(items, bytes uint32) []byte {
	b := append(make([]byte, callLen), "\x06window\x08\x00"...)
	return le.AppendUint32(le.AppendUint32(b, items), bytes)
}

// TestLinkViolations: a violation of the rules of large bodies ends the link, with a GOAWAY that names it, and allocates
// little.
func TestLinkViolations(t *testing.T) {
	t.Parallel()
	body := pattern(2 << 20)
	ann := func(number, total uint64) []byte {
		a := announcement(t, number, number, nil)
		le.PutUint64(a[len(a)-16:], number)
		le.PutUint64(a[len(a)-8:], total)
		return a
	}
	for name, test := range map[string]struct {
		small, bulk []byte
		text        string
	}{
		"too large":              {small: ann(1, 1<<40), text: "a body of 1099511627776 bytes is announced, at most"},
		"overflow":               {small: ann(1, 1<<64-1), text: "bytes is announced, at most"},
		"empty":                  {small: ann(1, 0), text: "a body of 0 bytes"},
		"gap in numbers":         {small: ann(2, 9), text: "body 2 is announced after 0"},
		"number again":           {small: slices.Concat(ann(1, 9), announcement(t, 2, 1, body)), text: "body 1 is announced after 1"},
		"short announcement":     {small: frameOf(Header{Type: TypeCall, Flags: FlagBulk, ID: 1}, make([]byte, 15), nil), text: "malformed announcement"},
		"announcement with body": {small: frameOf(Header{Type: TypeCall, Flags: FlagBulk, ID: 1}, make([]byte, 80), []byte("x")), text: "malformed announcement"},
		"bad call meta":          {small: ann(1, 3), bulk: chunks(1, []byte("abc"), 9), text: "malformed call meta"},
		"call id again":          {small: slices.Concat(announcement(t, 1, 1, body), announcement(t, 1, 2, body)), text: "call id 1 after 1"},
		"large frame":            {small: frameOf(Header{Type: TypeControl, ID: 1}, nil, make([]byte, maxChunk+1)), text: "frame of 262145 bytes, at most 262144"},
		"chunk on small":         {small: chunks(1, []byte("abc"), 9), text: "unknown type 21"},
		"grant of nothing":       {small: frameOf(Header{Type: TypeGrant, ID: 1}, make([]byte, 8), nil), text: "never announced"},
		"short grant":            {small: frameOf(Header{Type: TypeGrant, ID: 1}, make([]byte, 7), nil), text: "malformed grant"},
		"call on bulk":           {bulk: frameOf(Header{Type: TypeCall, ID: 1}, nil, nil), text: "frame of type 16"},
		"chunk with meta":        {small: ann(1, 9), bulk: frameOf(Header{Type: TypeChunk, ID: 1}, []byte("m"), nil), text: "1 bytes of meta"},
		"large chunk":            {small: announcement(t, 1, 1, body), bulk: chunks(1, body[:maxChunk+1], maxChunk+1), text: "262145 of body, on the bulk"},
		"empty chunk":            {small: ann(1, 9), bulk: frameOf(Header{Type: TypeChunk, ID: 1}, nil, nil), text: "empty chunk"},
		"longer than announced":  {small: ann(1, 9), bulk: chunks(1, body[:10], 10), text: "body 1 has 9 bytes"},
		"after its end":          {small: announcement(t, 1, 1, body[:5]), bulk: chunks(1, body[:10], 5), text: "which is complete"},
		"after its abort": {small: ann(1, 9), bulk: slices.Concat(
			frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 1}, nil, nil), chunks(1, body[:1], 1)), text: "which is complete"},
		"abort with body": {small: ann(1, 9), bulk: frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 1}, nil, []byte("x")), text: "abort of body 1"},
		"abort of an end": {small: frameOf(Header{Type: TypeEnd, Flags: FlagBulk, ID: 1}, le.AppendUint64(le.AppendUint64([]byte{0, 0}, 1), 5), nil),
			bulk: frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 1}, nil, nil), text: "a frame of type 18"},
		"over the credit": {small: slices.Concat(announcement(t, 1, 1, body), announcement(t, 2, 2, body)),
			bulk: slices.Concat(chunks(1, body[:1<<20], maxChunk), chunks(2, body[:5*maxChunk], maxChunk)), text: "of which 1048576 may be sent"},
		"items of no stream": {small: frameOf(Header{Type: TypeItems, ID: 1}, nil, itemsOf("a")), text: "items for a call that is no stream"},
		"items beyond":       {small: frameOf(Header{Type: TypeItems, ID: 2}, nil, itemsOf("a", "b", "c")), text: "beyond the window"},
		"large items beyond": {small: frameOf(Header{Type: TypeItems, Flags: FlagBulk, ID: 2}, le.AppendUint64(le.AppendUint64(nil, 1), 2<<20+5), nil),
			bulk: chunks(1, slices.Concat(itemsOf(""), itemsOf(string(body))[:2<<20]), maxChunk), text: "malformed items"},
		"too large items": {small: frameOf(Header{Type: TypeItems, Flags: FlagBulk, ID: 2}, le.AppendUint64(le.AppendUint64(nil, 1), 4<<20), nil), text: "a body of 4194304 bytes is announced"},
		"no window":       {small: frameOf(Header{Type: TypeCall, ID: 1}, window(0, 1), nil), text: "malformed call meta"},
		"half a window":   {small: frameOf(Header{Type: TypeCall, ID: 1}, append(window(1, 1)[:64], "\x06window\x04\x00\x01\x00\x00\x00"...), nil), text: "malformed call meta"},
		"short lease":     {small: frameOf(Header{Type: TypeCall, ID: 1}, append(window(1, 1)[:64], "\x05lease\x01\x00\x01"...), nil), text: "malformed call meta"},
		"name past meta":  {small: frameOf(Header{Type: TypeCall, ID: 1}, append([]byte{6: 1, 63: 0}, 2, 0, 99, 0, 0, 0, 0, 0), nil), text: "malformed call meta"},
		"packed of two":   {small: frameOf(Header{Type: TypeCall, ID: 1}, append([]byte{6: 2, 63: 0}, make([]byte, 16)...), nil), text: "malformed call meta"},
		"many at once": {small: func() (out []byte) {
			for i := range uint64(maxBegun + 1) {
				out = append(out, ann(i+1, 9)...)
			}
			return out
		}(), bulk: func() (out []byte) {
			for i := range uint64(maxBegun + 1) {
				out = append(out, chunks(i+1, []byte("x"), 1)...)
			}
			return out
		}(), text: "over 64 bodies at once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, e := halfLinked(t, &server{}, Terms{Protocol: 2, Bulk: true, MaxIn: 3 << 20, Budget: 3 << 20})
			p.Start(nil, 0, raw(nil), 0, newFuture())
			streamed(p, call.Window{Items: 2, Bytes: 100})
			reader{t, e.small}.expect(TypeCall, 0, 1)
			reader{t, e.small}.expect(TypeCall, 0, 2)
			go e.small.Write(test.small) //nolint:errcheck // the other side closes
			go e.bulk.Write(test.bulk)   //nolint:errcheck // as above
			if err := p.Serve(); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("ended with %v", err)
			}
			r := reader{t, e.small}
			for {
				h, _, body := r.next()
				if h.Type == TypeGrant || h.Type == TypeEnd {
					continue
				}
				var g Goaway
				if err := json.Unmarshal(body, &g); h.Type != TypeGoaway || err != nil || g.Reason != goawayProtocol || !strings.Contains(g.Message, test.text) {
					t.Errorf("%+v, %s", h, body)
				}
				break
			}
		})
	}
}

// TestManyHeld: the frames that wait behind a body are limited.
func TestManyHeld(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, bulkTerms)
	go func() {
		e.small.Write(announcement(t, 1, 1, pattern(9)))
		credit := bytes.Repeat(frameOf(Header{Type: TypeCredit, ID: 1}, nil, make([]byte, maxChunk)), 10)
		for {
			if _, err := e.small.Write(credit); err != nil {
				return
			}
		}
	}()
	if err := p.Serve(); err == nil || !strings.Contains(err.Error(), "wait for bodies") {
		t.Error(err)
	}
}

// TestGoawayIsNotAnswered: a peer that gets a GOAWAY with the reason protocol closes without an answer.
func TestGoawayIsNotAnswered(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{goaway: func(Goaway) { t.Error("not for the server") }}, bulkTerms)
	write(t, e.small, frameOf(Header{Type: TypeGoaway}, nil, []byte(`{"reason": "protocol", "message": "because"}`)))
	if err := p.Serve(); !errors.Is(err, errRemote) || !strings.Contains(err.Error(), "because") {
		t.Error(err)
	}
	if n, err := e.small.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("an answer")
	}
}

func TestManyControls(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, nil, bulkTerms)
	release := make(chan struct{})
	p.server = &server{control: func(string, json.RawMessage) (any, error) { <-release; return nil, nil }}
	context.AfterFunc(p.ctx, func() { close(release) }) // the connection has ended
	go func() {
		for i := range uint64(maxControls + 1) {
			e.small.Write(frameOf(Header{Type: TypeControl, ID: i + 1}, nil, []byte(`{}`)))
		}
	}()
	if err := p.Serve(); err == nil || !strings.Contains(err.Error(), "over 4096 control requests") {
		t.Error(err)
	}
}
