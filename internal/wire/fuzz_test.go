package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// FuzzOpening: for any bytes from one side of an opening, the other side ends at once with an error and without a panic,
// and a side without the token is never accepted.
func FuzzOpening(f *testing.F) {
	var token Token
	nonce := hex.EncodeToString(make([]byte, 16))
	frames := func(values ...any) (b []byte) {
		for _, v := range values {
			body, err := json.Marshal(v)
			if err != nil {
				f.Fatal(err)
			}
			b = append(b, frameOf(Header{Type: TypeHello}, nil, body)...)
		}
		return b
	}
	hello := Hello{
		Protocol: localVersions, Kind: "worker", Connection: ConnSmall, Language: "go", Version: "v", ID: "w", Nonce: nonce,
		Features: []string{FeatureBulk}, MaxBody: 1 << 20, Graph: json.RawMessage(`{"app":"a"}`),
		Resume: &Resume{Replicas: []Resumed{{Replica: "D#1", Deployment: "D", Executing: 2, Config: "00", Models: []string{"m"}, Health: true}}},
	}
	proof := frameOf(Header{Type: TypeProof}, nil, proofOf(token, "dialler", make([]byte, 16), make([]byte, 16)))
	f.Add(true, append(frames(hello), proof...))
	f.Add(true, frames(Hello{Protocol: [2]int{3, 9}, Connection: ConnBulk, Nonce: nonce}))
	f.Add(true, proof)
	f.Add(false, frames(Welcome{Protocol: 2, Nonce: nonce, Proof: hex.EncodeToString(make([]byte, 32)), Features: []string{"bulk"}, MaxBody: -1}))
	f.Add(false, frameOf(Header{Type: TypeGoaway}, nil, []byte(`{"message":"no"}`)))
	f.Add(false, appendHeader(nil, Header{Type: TypeHello, Body: openingBody + 1}))
	f.Fuzz(func(t *testing.T, dialler bool, data []byte) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		go func() {
			b.Write(data)
			b.CloseWrite()
			io.Copy(io.Discard, b)
		}()
		var err error
		if dialler {
			_, err = Offer{Version: "v", Features: []string{FeatureBulk}}.Accept(a, func(h Hello) (Token, error) {
				if h.Resume != nil {
					return NewToken(), h.Resume.Check()
				}
				return NewToken(), nil
			})
		} else {
			_, err = Open(a, NewToken(), Hello{Kind: "worker", Features: []string{FeatureBulk}})
		}
		if err == nil {
			t.Error("accepted")
		}
	})
}

// FuzzItems: the items that a stream accepts keep to its window, and a relay sends them on unchanged, in frames that its
// reader takes.
func FuzzItems(f *testing.F) {
	f.Add(uint32(3), uint32(10), uint16(20), itemsOf("a", "", "bcd", "0123456789"))
	f.Add(uint32(3), uint32(10), uint16(9), itemsOf("a", "0123456789"))
	f.Add(uint32(1), uint32(1), uint16(5), []byte{255, 255, 255, 255, 0})
	f.Fuzz(func(t *testing.T, items, size uint32, limit uint16, body []byte) {
		c := &collector{slow: true}
		flow := &inflow{items: c, window: [2]int64{int64(items), int64(size)}}
		if err := flow.frame(nil, body); err != nil {
			if len(c.frames) > 0 {
				t.Fatal("handed over and refused")
			}
			return
		}
		n := 0
		for i, item := range c.items {
			if i >= int(items) || n >= int(size) {
				t.Fatalf("item %d after %d bytes, with a window of %d and %d", i, n, items, size)
			}
			n += len(item)
		}
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		p := NewPeer(NewLink(NewConn(a), Terms{MaxOut: int(limit) + 1}), nil)
		in := &Incoming{peer: p, id: 1, out: newOutflow(p, TypeItems, 1, call.Room)}
		in.relayItems(body)
		var sent []byte
		for rest := p.conn.small.pending; len(rest) > 0; {
			h := parseHeader(rest)
			if int(h.Body) > int(limit)+1 {
				t.Fatalf("a frame of %d bytes where %d are taken", h.Body, int(limit)+1)
			}
			sent, rest = append(sent, rest[headerLen:headerLen+int(h.Body)]...), rest[headerLen+int(h.Body):]
		}
		if len(p.conn.small.parts) == 0 && !bytes.HasPrefix(body, sent) || in.out.failed == nil && len(p.conn.small.parts) == 0 && len(sent) != len(body) {
			t.Fatalf("of %x was sent %x, %v", body, sent, in.out.failed)
		}
	})
}

// FuzzAnswer: an answer to a broadcast that is read is written the same.
func FuzzAnswer(f *testing.F) {
	f.Add(Answer(3, call.Result{Payload: call.Payload{Codec: call.Text, Data: []byte("x")}}).Data)
	f.Add(Answer(1, call.Result{Err: call.NewError(helvetype.ReasonNoMethod, "none")}).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, r, err := ParseAnswer(call.Payload{Codec: call.Raw, Data: data})
		if err != nil {
			return
		}
		j, s, err := ParseAnswer(Answer(i, r))
		if err != nil || i != j || cmp.Diff(r, s) != "" {
			t.Fatalf("%d, %v\n%s", j, err, cmp.Diff(r, s))
		}
	})
}

// FuzzResume: the description of a worker is refused, or has every replica once and can be encoded and decoded again.
func FuzzResume(f *testing.F) {
	f.Add([]byte(`{"replicas":[{"replica":"D#1","deployment":"D","executing":2,"config":"ab","models":["m"],"health":true}]}`))
	f.Add([]byte(`{"replicas":[{"replica":"D#1"},{"replica":"D#1"}]}`))
	f.Add([]byte(`{"replicas":[{"replica":"D#1","executing":-1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Resume
		if json.Unmarshal(b, &r) != nil || r.Check() != nil {
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &again); err != nil || again.Check() != nil || len(r.Replicas) != len(again.Replicas) {
			t.Fatalf("%s: %v, %v", b, err, again.Check())
		}
	})
}
