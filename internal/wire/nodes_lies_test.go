package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestNodesRefused: a peer that has not agreed on the feature takes none of the frames.
func TestNodesRefused(t *testing.T) {
	t.Parallel()
	for ty := TypeArrival; ty <= TypeMember+1; ty++ {
		p, e := halfLinked(t, &server{}, bulkTerms)
		write(t, e.small, frameOf(Header{Type: ty, ID: 1, Flags: FlagBulk}, arrivalMeta(t, 1, 0, 0, nil), nil))
		text := fmt.Sprintf("frame of type %d, which nodes send to each other: the feature nodes was not agreed on", ty)
		if ty > TypeMember {
			text = fmt.Sprintf("frame of unknown type %d", ty)
		}
		if err := p.Serve(); err == nil || err.Error() != text {
			t.Errorf("ended with %v", err)
		}
	}
	p, e := halfLinked(t, &server{}, nodeTerms) // agreed on, and nobody is there to be told
	write(t, e.small, memberFrame(1, "{}"))
	if err := p.Serve(); err == nil {
		t.Error("taken")
	}
}

// TestNodesAgreed: both sides must offer it, with version 2.
func TestNodesAgreed(t *testing.T) {
	t.Parallel()
	both := []string{FeatureBulk, FeatureNodes}
	for _, test := range []struct {
		protocol     int
		mine, theirs []string
		want         bool
	}{{2, both, both, true}, {1, both, both, false}, {2, both, []string{FeatureBulk}, false}, {2, nil, both, false}} {
		if got := agreed(test.protocol, test.mine, test.theirs, 0, 0).Nodes; got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// TestNodesLies: what is not so ends the connection, with a GOAWAY that says why.
func TestNodesLies(t *testing.T) {
	t.Parallel()
	meta := arrivalMeta(t, 1, 0, 0, []byte("abc"))
	arrival := func(id uint64, meta []byte) []byte {
		return frameOf(Header{Type: TypeArrival, ID: id}, meta, []byte("abc"))
	}
	verdict := func(ty Type, id uint64) []byte { return frameOf(Header{Type: ty, ID: id}, u32(1), nil) }
	end := func(tail ...byte) []byte {
		return frameOf(Header{Type: TypeEnd, ID: 1}, append([]byte{byte(call.Raw), 0}, tail...), nil)
	}
	long := bytes.Clone(meta)
	long[arrivalLen+68]++ // the slot's length
	member := `{"replica":"x","app":"a","deployment":"d","slots":2}`
	for name, test := range map[string]struct {
		small []byte
		text  string
	}{
		"short arrival":        {arrival(1, meta[:arrivalLen-1]), "malformed meta of a frame between nodes"},
		"shorter call":         {arrival(1, meta[:arrivalLen+callLen-1]), "malformed call meta"},
		"slots past body":      {arrival(1, long), "malformed call meta"},
		"arguments elsewhere":  {frameOf(Header{Type: TypeArrival, ID: 1}, elsewhere(t, inMemory), make([]byte, RefLen)), "arguments in the memory of one node"},
		"arguments kept":       {frameOf(Header{Type: TypeArrival, ID: 1}, elsewhere(t, inKeeping), make([]byte, numberLen)), "arguments in the memory of one node"},
		"arrival at 0":         {arrival(1, arrivalMeta(t, 0, 0, 0, []byte("abc"))), "replica 0 was never announced"},
		"arrival nowhere":      {arrival(1, arrivalMeta(t, 2, 0, 0, []byte("abc"))), "replica 2 was never announced"},
		"arrival id again":     {slices.Concat(arrival(1, meta), arrival(1, meta)), "call id 1 after 1"},
		"short announcement":   {frameOf(Header{Type: TypeArrival, ID: 1, Flags: FlagBulk}, append(meta[:arrivalLen+9:arrivalLen+9], u64(1, 9)...), nil), "malformed meta of a frame between nodes"},
		"announced nowhere":    {frameOf(Header{Type: TypeArrival, ID: 1, Flags: FlagBulk}, append(arrivalMeta(t, 9, 0, 0, nil), u64(1, 9)...), nil), "replica 9 was never announced"},
		"short verdict":        {frameOf(Header{Type: TypeAccept, ID: 1}, make([]byte, 3), nil), "malformed meta"},
		"verdict on a call":    {verdict(TypeReject, 2), "a verdict, type 34, on call 2, which was not waiting"},
		"accepted twice":       {slices.Concat(verdict(TypeAccept, 1), verdict(TypeAccept, 1)), "a verdict, type 33, on call 1, which was not waiting"},
		"rejected after all":   {slices.Concat(verdict(TypeAccept, 1), verdict(TypeReject, 1)), "a verdict, type 34, on call 1"},
		"ended before":         {end(), "the end of a call that was not accepted"},
		"malformed tail":       {slices.Concat(verdict(TypeAccept, 1), end(4, 'l')), "malformed end meta"},
		"short want":           {frameOf(Header{Type: TypeWant, ID: 1}, make([]byte, 7), nil), "malformed meta"},
		"want nowhere":         {frameOf(Header{Type: TypeWant, ID: 1 << 40}, u64(1), nil), "replica 1099511627776 was never announced"},
		"short return":         {frameOf(Header{Type: TypeReturn, ID: 1}, make([]byte, 15), nil), "malformed meta"},
		"return nowhere":       {frameOf(Header{Type: TypeReturn, ID: 7}, u64(1, 1), nil), "replica 7 was never announced"},
		"slot of nobody":       {frameOf(Header{Type: TypeSlot, ID: 1}, make([]byte, slotLen), nil), "type 36 about replica 1, which was never announced"},
		"short slot":           {frameOf(Header{Type: TypeSlot, ID: 1}, make([]byte, slotLen-1), nil), "malformed meta"},
		"load of nobody":       {frameOf(Header{Type: TypeLoad, ID: 1}, u32(1), nil), "type 38 about replica 1"},
		"short load":           {frameOf(Header{Type: TypeLoad, ID: 1}, nil, nil), "malformed meta"},
		"models of nobody":     {frameOf(Header{Type: TypeModels, ID: 1}, nil, []byte("[]")), "type 39 about replica 1"},
		"models not JSON":      {slices.Concat(memberFrame(1, member), frameOf(Header{Type: TypeModels, ID: 1}, nil, []byte("["))), "models: "},
		"many models":          {slices.Concat(memberFrame(1, member), frameOf(Header{Type: TypeModels, ID: 1}, nil, fmt.Appendf(nil, "[%q]", pattern(maxOneMember)))), "models in 32772 bytes"},
		"member 0":             {memberFrame(0, member), "a replica with the number 0"},
		"member beyond":        {memberFrame(1<<32, member), "a replica with the number 4294967296"},
		"member again":         {slices.Concat(memberFrame(3, member), memberFrame(3, member)), "replica 3 is announced after 3"},
		"member after its end": {slices.Concat(frameOf(Header{Type: TypeMember, Flags: FlagGone, ID: 3}, nil, nil), memberFrame(2, member)), "replica 2 is announced after 3"},
		"member not JSON":      {memberFrame(1, "{"), "member: "},
		"member without slots": {memberFrame(1, "{}"), "a replica with 0 slots"},
		"member of debt":       {memberFrame(1, `{"slots":1,"load":-1}`), "of which -1 are taken"},
		"large member":         {memberFrame(1, fmt.Sprintf(`{"slots":1,"replica":%q}`, pattern(maxOneMember))), "a replica described in 32792 bytes"},
		"large members": {func() (out []byte) {
			for i := range uint64(maxMemberBytes>>14 + 1) {
				out = append(out, memberFrame(i+1, fmt.Sprintf(`{"slots":1,"replica":%q}`, pattern(1<<14)))...)
			}
			return out
		}(), "replicas in 167"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, e, _, _, _ := halfNodes(t, 5, nil)
			p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, newDeparture())
			p.Start(nil, 1, raw(nil), 0, newFuture())
			for p.nodes.wanted.Load() { // somebody is about to write, who would not be done with the GOAWAY before the end
				runtime.Gosched()
			}
			p.conn.Flush()
			go e.small.Write(test.small) //nolint:errcheck // the other side closes
			if err := p.Serve(); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("ended with %v", err)
			}
			for r := (reader{t, e.small}); ; {
				h, _, body := r.next()
				if h.Type != TypeGoaway {
					continue
				}
				var g Goaway
				if err := json.Unmarshal(body, &g); err != nil || g.Reason != goawayProtocol || !strings.Contains(g.Message, test.text) {
					t.Errorf("%s", body)
				}
				break
			}
		})
	}
}

// elsewhere is the meta of a call whose argument is not in the frame.
func elsewhere(t testing.TB, where byte) []byte {
	n := RefLen
	if where == inKeeping {
		n = numberLen
	}
	meta := arrivalMeta(t, 1, 0, 0, make([]byte, n))
	meta[arrivalLen+callLen] |= where
	return meta
}

// TestNodesExtensible: longer metas are taken, and what concerns a replica that has gone is ignored, or rejected.
func TestNodesExtensible(t *testing.T) {
	t.Parallel()
	p, e, n, c, s := halfNodes(t, 1, nil)
	serve(t, p)
	small := reader{t, e.small}
	small.expect(TypeMember, 0, 1)
	member := `{"replica":"x","app":"a","deployment":"d","slots":2,"load":1,"more":[]}`
	write(t, e.small,
		memberFrame(1, member), frameOf(Header{Type: TypeLoad, ID: 1}, append(u32(2), 9), nil),
		frameOf(Header{Type: TypeSlot, ID: 1}, append(slices.Concat(u64(7, 5000), u32(1)), 9), nil),
		frameOf(Header{Type: TypeModels, ID: 1}, []byte{9}, []byte(`["m"]`)),
		frameOf(Header{Type: TypeMember, Flags: FlagGone, ID: 1}, nil, nil),
		frameOf(Header{Type: TypeMember, Flags: FlagGone, ID: 1}, nil, nil),
		frameOf(Header{Type: TypeLoad, ID: 1}, u32(2), nil), frameOf(Header{Type: TypeModels, ID: 1}, nil, []byte(`{`)),
		frameOf(Header{Type: TypeSlot, ID: 1}, make([]byte, slotLen), nil),
		frameOf(Header{Type: TypeAccept, ID: 77}, u32(0), nil), frameOf(Header{Type: TypeReject, ID: 77}, u32(0), nil),
		frameOf(Header{Type: TypeWant, ID: 1}, append(u64(3), 9), nil), frameOf(Header{Type: TypeReturn, ID: 1}, append(u64(2, 4), 9), nil),
		memberFrame(9, `{"slots":1}`))
	for range 6 {
		<-n.some
	}
	want := []string{
		"joined 1 {Replica:x App:a Deployment:d Language: Slots:2 Load:1}", "load 1 2", "slot 1 7 5ms 1", `models 1 ["m"]`, "gone 1",
		"joined 9 {Replica: App: Deployment: Language: Slots:1 Load:0}",
	}
	n.mu.Lock()
	if !slices.Equal(n.said, want) {
		t.Errorf("told %q", n.said)
	}
	n.mu.Unlock()
	s.Remove(nil)
	small.expect(TypeMember, FlagGone, 1)
	s.Remove(nil)
	write(t, e.small, frameOf(Header{Type: TypeWant, ID: 1}, u64(9), nil), frameOf(Header{Type: TypeReturn, ID: 1}, u64(9, 9), nil),
		frameOf(Header{Type: TypeArrival, ID: 1}, arrivalMeta(t, 1, 9, 9, []byte("abc")), []byte("abc")))
	small.expect(TypeReject, FlagGone, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := []string{"want 3", "return 2", "want 4", "lost"}; !slices.Equal(c.said, want) {
		t.Errorf("the gate was told %q", c.said)
	}
}
