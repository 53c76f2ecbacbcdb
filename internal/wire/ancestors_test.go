package wire

import (
	"bytes"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestAbove: the ancestors that a worker sends with a call arrive unchanged, and a relayed call does not carry them on.
func TestAbove(t *testing.T) {
	t.Parallel()
	sent := &call.Info{Frame: 7, Replica: "A#1", Place: &call.Place{Method: "M"}}
	inline := &call.Info{Above: sent, Link: call.Awaited, Replica: "B#1", Place: &call.Place{Method: "N"}}
	for name, test := range map[string]struct {
		above *call.Info
		link  call.Link
		want  *call.Above
	}{
		"none":           {nil, call.Awaited, nil},
		"in a node":      {&call.Info{Replica: "B#1", Place: &call.Place{Method: "N"}}, call.Awaited, nil},
		"a frame":        {sent, call.Awaited, &call.Above{Frame: 7, Link: call.Awaited}},
		"one between":    {inline, call.Loose, &call.Above{Frame: 7, Link: call.Awaited, Hops: []call.Hop{{Link: call.Loose, Replica: "B#1", Method: "N"}}}},
		"a loose parent": {sent, call.Loose, &call.Above{Frame: 7}},
	} {
		c := raw([]byte("abc"))
		plain, err := appendCall(nil, 1, c, time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Info.Above, c.Info.Link = test.above, test.link
		meta, err := appendCall(nil, 1, c, time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got call.Call
		if _, _, err := parseCallMeta(meta, []byte("abc"), &got); err != nil {
			t.Fatal(err)
		}
		if !sameAbove(got.Above, test.want) || test.want != nil && got.Info.Link != test.link {
			t.Errorf("%s: %+v, link %d", name, got.Above, got.Info.Link)
		}
		forwarded, err := appendCall(nil, 1, &got, time.Second, nil)
		if err != nil || !bytes.Equal(forwarded, plain) {
			t.Errorf("%s: a node forwards\n%x, %v, and should\n%x", name, forwarded, err, plain)
		}
	}
	for _, bad := range []string{"", "\x00", "\x00\x00\x01\x00\x00", "\x02\x00\x01\x00\x00\x00", "\x00\x00\x01\x00\x00\x00\x00", "\x00\x03ab", "\x00\x02ab\x05M", "\x00\x01a\x00"} {
		if a, _, ok := parseAbove([]byte(bad)); ok {
			t.Errorf("%x is taken for %+v", bad, a)
		}
	}
	if _, _, ok := parseAbove(append(bytes.Repeat([]byte("\x00\x01a\x00"), 100), "\x00\x00\x01\x00\x00\x00"...)); ok {
		t.Error("a hundred calls above one")
	}
}

func sameAbove(a, b *call.Above) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Frame != b.Frame || a.Link != b.Link || len(a.Hops) != len(b.Hops) {
		return false
	}
	for i := range a.Hops {
		if a.Hops[i] != b.Hops[i] {
			return false
		}
	}
	return true
}

// TestOutgoingByHalfItsID: the half that travels is enough, as long as a call does not last for four thousand million others.
func TestOutgoingByHalfItsID(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	p := newPeer(NewConn(a), &server{})
	f, g := newFuture(), newFuture()
	p.nextCall = 1<<32 - 2
	first := p.Start(nil, 0, raw(nil), 0, f)
	p.Start(nil, 0, raw(nil), 0, newFuture())
	third := p.Start(nil, 0, raw(nil), 0, g)
	if p.Outgoing(uint32(first)) != call.Sink(f) || p.Outgoing(uint32(third)) != call.Sink(g) || p.Outgoing(77) != nil {
		t.Errorf("%v, %v", p.Outgoing(uint32(first)), p.Outgoing(uint32(third)))
	}
}
