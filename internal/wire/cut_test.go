package wire

import (
	"encoding/json"
	"net"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// script is what one side of a link sends while it calls, answers and cancels: every type of frame, values of both kinds.
func script(t testing.TB) (small, bulk []byte) {
	t.Helper()
	body := pattern(50)
	ann := func(id, number uint64) []byte { return announcement(t, id, number, body) }
	meta, err := appendCallMeta(nil, 1, raw([]byte("abc")), 0)
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
	return small, append(bulk, frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 3}, nil, nil)...)
}

// feed lets a peer with calls of its own read what one side wrote before it was killed. It returns when the peer has
// ended; a call that is not completed, or completed twice, ends the test.
func feed(t testing.TB, small, bulk []byte) (called int, results []call.Result) {
	t.Helper()
	s := &server{control: func(string, json.RawMessage) (any, error) { return nil, nil }}
	s.call = func(b *call.Batch, in *Incoming) call.Canceler {
		if called++; called%2 == 0 {
			in.Complete(b, call.Result{Payload: call.Payload{Codec: call.Raw, Data: in.Encoded.Body}})
			return nil
		}
		return cancelFunc(func(b *call.Batch, cause error) { in.Complete(b, call.Result{Err: call.FromCause(cause)}) })
	}
	p, e := halfLinked(t, s, Terms{Protocol: 2, Bulk: true, MaxIn: 1 << 20})
	p.conn.chunk, p.conn.free = 40, 45
	fs := make([]*future, 4)
	for i := range fs {
		fs[i] = newFuture()
		p.Start(nil, 0, raw(pattern(i*30)), 0, fs[i])
	}
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
	return called, results
}

// TestCut kills the other side at every byte of what it sends on either connection.
func TestCut(t *testing.T) {
	t.Parallel()
	small, bulk := script(t)
	called, results := feed(t, small, bulk)
	if called != 2 || string(results[0].Data) != "small" || string(results[1].Data) != string(pattern(50)) || results[2].Err == nil {
		t.Fatalf("uncut: %d calls, %+v", called, results)
	}
	for name, cut := range map[string]struct {
		n    int
		feed func(n int) (int, []call.Result)
	}{
		"small": {len(small), func(n int) (int, []call.Result) { return feed(t, small[:n], bulk) }},
		"bulk":  {len(bulk), func(n int) (int, []call.Result) { return feed(t, small, bulk[:n]) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range cut.n {
				called, results := cut.feed(n)
				for i, r := range results {
					whole := r.Err == nil && (i == 0 && string(r.Data) == "small" || i == 1 && string(r.Data) == string(pattern(50)))
					if !whole && r.Err == nil || called > 2 {
						t.Errorf("cut at %d: call %d ended with %+v", n, i, r)
					}
				}
			}
		})
	}
}

// FuzzLink feeds arbitrary bytes to both connections of a peer: it may end them, and must complete every call once,
// without a panic, and hold no more than what may be sent unasked.
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
