package transport_test

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

var le = binary.LittleEndian

// aFrame is one frame as docs/wire.md has it.
func aFrame(t wire.Type, flags uint8, id uint64, meta, body []byte) []byte {
	b := le.AppendUint32(nil, uint32(len(body)))
	b = le.AppendUint16(b, uint16(len(meta)))
	b = append(b, byte(t), flags)
	return slices.Concat(le.AppendUint64(b, id), meta, body)
}

func words(vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = le.AppendUint64(b, v)
	}
	return b
}

// anArrival is a call at replica 1, with or without a slot, of one text argument; announced under a number if that is not 0.
func anArrival(id, slot, upto, number uint64, body string) []byte {
	meta := append(words(1, slot, upto), make([]byte, 64)...)
	meta[24+6] = 1               // an argument
	meta[24+16], meta[24] = 1, 1 // a request id, route 1
	meta = append(meta, 1, 6, 0, 0)
	meta = le.AppendUint32(meta, uint32(len(body)))
	if number == 0 {
		return aFrame(wire.TypeArrival, 0, id, meta, []byte(body))
	}
	return aFrame(wire.TypeArrival, wire.FlagBulk, id, append(meta, words(number, uint64(len(body)))...), nil)
}

// besieged is a client that calls every replica which it hears of.
type besieged struct {
	*client
	mu sync.Mutex
	js []*journey
}

func (c *besieged) Joined(b *call.Batch, f *transport.Far) {
	c.add(b, f.Member.Replica, f, f)
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 4 {
		if len(c.js) < 20 {
			c.js = append(c.js, c.submit(name(len(c.js)), "", []byte("x")))
		}
	}
}

// between lets a node with a replica and a router read what another one wrote before it was killed. Every call must end once, and
// no slot may be lost.
func between(t *testing.T, small, bulk []byte) {
	c := &besieged{client: newClient(t)}
	s := newSite(t, "r", 2, func(e *execution) {
		if e.in.Items == nil && len(e.body)%2 == 0 { // the others end when their caller has gone
			e.end(nil, nil)
		}
	})
	s.strangers = true
	a, b := socketPair(t)
	d, e := socketPair(t)
	terms := wire.Terms{Protocol: 2, Bulk: true, Nodes: true, MaxIn: 1 << 20}
	p := wire.NewLinkPeer(wire.NewLink(wire.NewConn(a), terms), c)
	transport.NewNeighbour(p, nil, c)
	p.Attach(d)
	if err := s.shared.Share(p); err != nil {
		t.Fatal(err)
	}
	for nc, data := range map[net.Conn][]byte{b: small, e: bulk} {
		go func() {
			defer nc.Close()
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
	s.shared.Forget(p)
	c.mu.Lock()
	js := c.js
	c.mu.Unlock()
	for _, j := range js {
		if len(c.router.Replicas()) > 0 {
			t.Fatal("replicas of a node that has gone")
		}
		j.stop() // what waits
		<-j.done
	}
	until(func() bool { return s.gate.Load() == 0 })
	if c.router.Queued() != 0 {
		t.Errorf("%d calls are queued", c.router.Queued())
	}
}

// FuzzNodes feeds arbitrary bytes to both connections of a node, which has a replica for the other side, and calls what that
// announces.
func FuzzNodes(f *testing.F) {
	member := aFrame(wire.TypeMember, 0, 1, nil, []byte(`{"replica":"x","app":"app","deployment":"d","slots":2}`))
	route := aFrame(wire.TypeRoute, 0, 1, nil, []byte(`{"app":"app","deployment":"d","method":"m"}`))
	load := []byte{2, 0, 0, 0}
	end := func(id uint64) []byte {
		return aFrame(wire.TypeEnd, 0, id, append([]byte{5, 0, 4}, "load\x04\x00\x01\x00\x00\x00"...), []byte("x"))
	}
	slot := func(id uint64) []byte { return aFrame(wire.TypeSlot, 0, 1, append(words(id, 5000), load...), nil) }
	callee := slices.Concat(member,
		aFrame(wire.TypeLoad, 0, 1, load, nil), aFrame(wire.TypeModels, 0, 1, nil, []byte(`["m"]`)),
		aFrame(wire.TypeAccept, 0, 1, load, nil), aFrame(wire.TypeReject, 0, 2, load, nil), end(1), slot(1), slot(2),
		aFrame(wire.TypeAccept, 0, 3, load, nil), end(3), aFrame(wire.TypeMember, wire.FlagGone, 1, nil, nil))
	caller := slices.Concat(route, anArrival(1, 0, 0, 0, "ab"), anArrival(2, 0, 1, 0, "abc"), anArrival(3, 0, 2, 0, "ab"),
		aFrame(wire.TypeWant, 0, 1, words(4), nil), anArrival(4, 1, 4, 0, "ab"), aFrame(wire.TypeReturn, 0, 1, words(2, 0), nil),
		aFrame(wire.TypeCancel, 0, 2, nil, nil), anArrival(5, 0, 0, 1, "abcdefgh"), anArrival(6, 0, 0, 2, "ab"),
		aFrame(wire.TypeCancel, 0, 6, nil, nil))
	chunks := slices.Concat(aFrame(21, 0, 1, nil, []byte("abcd")), aFrame(21, 0, 2, nil, []byte("ab")), aFrame(21, 0, 1, nil, []byte("efgh")))
	f.Add(slices.Concat(callee, caller), chunks)
	f.Add(callee, []byte{})
	f.Add(caller, chunks)
	f.Add(caller, aFrame(21, 1, 1, nil, nil))
	f.Fuzz(func(t *testing.T, small, bulk []byte) { between(t, small, bulk) })
}
