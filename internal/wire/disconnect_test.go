package wire

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// script returns the bytes that one side of a link sends while it calls, answers and cancels: every type of frame, with
// values of both kinds.
func script(t testing.TB) (small, bulk []byte) {
	t.Helper()
	body := pattern(50)
	ann := func(id, number uint64) []byte { return announcement(t, id, number, body) }
	meta, err := appendCall(nil, 1, raw([]byte("abc")), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := func(number, n uint64) []byte {
		return le.AppendUint64(le.AppendUint64([]byte{byte(call.Raw), 0}, number), n)
	}
	for _, f := range [][]byte{
		frameOf(Header{Type: TypeRoute, ID: 1}, nil, []byte(`{"method":"m"}`)),
		frameOf(Header{Type: TypeCall, ID: 1}, meta, []byte("abc")),
		ann(2, 1),
		frameOf(Header{Type: TypeEnd, ID: 1}, []byte{byte(call.Raw), 0}, []byte("small")),
		frameOf(Header{Type: TypeEnd, Flags: FlagBulk, ID: 2}, end(2, 50), nil),
		frameOf(Header{Type: TypeControl, ID: 1}, nil, []byte(`{"op":"x"}`)),
		ann(3, 3),
		frameOf(Header{Type: TypeCancel, ID: 3}, nil, nil),
		frameOf(Header{Type: TypeReply, ID: 1}, nil, []byte(`{}`)),
		frameOf(Header{Type: TypeGrant, ID: 1}, make([]byte, 8), nil),
		frameOf(Header{Type: TypeCall, ID: 4}, special(t, call.Call{Window: call.Room}), []byte("abxyz")),
		frameOf(Header{Type: TypeCredit, ID: 4}, []byte{1, 0, 0, 0, 9, 0, 0, 0}, nil),
		frameOf(Header{Type: TypeCall, ID: 5}, special(t, call.Call{Window: call.Room, Mode: call.Broadcast}), []byte("abxyz")),
		frameOf(Header{Type: TypeCall, ID: 6}, special(t, call.Call{Mode: call.Reserve}), []byte("abxyz")),
		frameOf(Header{Type: TypeCall, ID: 7}, special(t, call.Call{Lease: 9}), []byte("abxyz")),
		frameOf(Header{Type: TypeItems, ID: 5}, nil, itemsOf("one", "")),
		frameOf(Header{Type: TypeItems, ID: 5}, nil, itemsOf("three")),
		frameOf(Header{Type: TypeItems, Flags: FlagBulk, ID: 5}, le.AppendUint64(le.AppendUint64(nil, 4), 47), nil),
		frameOf(Header{Type: TypeEnd, ID: 5}, []byte{byte(call.None), 0}, nil),
		frameOf(Header{Type: TypeGoaway}, nil, []byte(`{}`)),
	} {
		small = append(small, f...)
	}
	one, two := chunks(1, body, 16), chunks(2, body, 16)
	const frame = headerLen + 16
	for i := range 3 { // in turns
		bulk = append(bulk, one[i*frame:(i+1)*frame]...)
		bulk = append(bulk, two[i*frame:(i+1)*frame]...)
	}
	bulk = append(append(bulk, one[3*frame:]...), two[3*frame:]...)
	bulk = append(bulk, chunks(3, body[:16], 16)...)
	bulk = append(bulk, frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 3}, nil, nil)...)
	return small, append(bulk, chunks(4, itemsOf(string(pattern(42))), 30)...)
}

// special returns the meta of a call like c, with a named slot between two others and every key that a tail may have.
func special(t testing.TB, c call.Call) []byte {
	t.Helper()
	c.Slots = []call.Slot{slot(0, []byte("ab")), {Kind: call.Named, Name: "größe", Payload: call.Payload{Codec: call.Text, Data: []byte("xyz")}}, slot(7, nil)}
	c.Info.Request = call.IDFrom("my id")
	c.Info.Affinity, c.Info.Sampled = &call.Affinity{Model: "m", Session: "s"}, true
	if c.Window.Items > 0 {
		c.Items = &collector{}
	}
	meta, err := appendCall(nil, 1, &c, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func itemsOf(items ...string) (out []byte) {
	for _, i := range items {
		out = call.AppendItem(out, call.Payload{Codec: call.Raw, Data: []byte(i)})
	}
	return out
}

// feed lets a peer with calls of its own read bytes of a side that was killed afterwards. It returns when the peer has
// ended. A call that is not completed, or completed twice, fails the test.
func feed(t testing.TB, small, bulk []byte) (called int, results []call.Result, items [][]byte) {
	t.Helper()
	s := &server{control: func(string, json.RawMessage) (any, error) { return nil, nil }}
	s.call = func(b *call.Batch, in *Incoming) call.Canceler {
		called++
		if in.Items != nil {
			in.Send(b, call.Payload{Codec: call.Raw, Data: pattern(50)})
			in.Complete(b, call.Result{})
			return nil
		}
		if called%2 == 0 {
			in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
			return nil
		}
		return cancelFunc(func(b *call.Batch, cause error) { in.Complete(b, call.Result{Err: call.FromCause(cause)}) })
	}
	p, e := halfLinked(t, s, Terms{Protocol: 2, Bulk: true, MaxIn: 1 << 20})
	p.conn.chunkSize, p.conn.freeCredit = 40, 45
	p.conn.small.linger = time.Hour // both connections end by themselves, and the second one as late as its writer
	var fs []*future
	for i := range 4 {
		fs = append(fs, newFuture())
		p.Start(nil, 0, raw(pattern(i*30)), 0, fs[i])
	}
	stream, f, _ := streamed(p, call.Window{Items: 5, Bytes: 60})
	fs = append(fs, f)
	for nc, data := range map[net.Conn][]byte{e.small: small, e.bulk: bulk} {
		go func() {
			nc.Write(data)
			nc.(*net.UnixConn).CloseWrite()
			buf := make([]byte, 4096)
			for {
				if _, err := nc.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	p.Serve()
	for _, f := range fs {
		<-f.done
		results = append(results, f.r)
	}
	e.small.Close()
	e.bulk.Close()
	return called, results, stream.items
}

// TestCut kills the other side after every byte that it sends, on either connection.
func TestCut(t *testing.T) {
	t.Parallel()
	small, bulk := script(t)
	called, results, items := feed(t, small, bulk)
	if called != 6 || len(items) != 4 || results[4].Err != nil || string(results[0].Data) != "small" || string(results[1].Data) != string(pattern(50)) || results[2].Err == nil {
		t.Fatalf("uncut: %d calls, %d items, %+v", called, len(items), results)
	}
	for name, cut := range map[string]struct {
		n    int
		feed func(n int) (int, []call.Result, [][]byte)
	}{
		"small": {len(small), func(n int) (int, []call.Result, [][]byte) { return feed(t, small[:n], bulk) }},
		"bulk":  {len(bulk), func(n int) (int, []call.Result, [][]byte) { return feed(t, small, bulk[:n]) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range cut.n {
				called, results, items := cut.feed(n)
				for i, item := range items { // items that came are complete and in order
					if string(item) != []string{"one", "", "three", string(pattern(42))}[i] {
						t.Errorf("cut at %d: item %d is %q", n, i, item)
					}
				}
				for i, r := range results {
					whole := r.Err == nil && (i == 4 && len(items) == 4 || i == 0 && string(r.Data) == "small" || i == 1 && string(r.Data) == string(pattern(50)))
					if !whole && r.Err == nil || called > 6 {
						t.Errorf("cut at %d: call %d ended with %+v", n, i, r)
					}
				}
			}
		})
	}
}

// FuzzLink feeds arbitrary bytes to both connections of a peer. They may end the peer, but it must complete every call
// once, without a panic, and hold no more bytes than may be sent without a grant.
func FuzzLink(f *testing.F) {
	small, bulk := script(f)
	f.Add(small, bulk)
	f.Add(small[:len(small)/2], bulk)
	f.Add(small, bulk[16:])
	f.Add(announcement(f, 1, 1, pattern(9)), append(chunks(1, pattern(8), 3), chunks(1, pattern(2), 2)...))
	f.Add([]byte{}, frameOf(Header{Type: TypeChunk, ID: 1 << 63}, nil, []byte("x")))
	f.Fuzz(func(t *testing.T, small, bulk []byte) {
		feed(t, small, bulk)
	})
}
