package wire

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

var nodeTerms = Terms{Protocol: 2, Bulk: true, Nodes: true}

// told is a [Neighbour] that writes down what it is told.
type told struct {
	mu   sync.Mutex
	said []string
	some chan struct{}
}

func newTold() *told { return &told{some: make(chan struct{}, 10_000)} }

func (n *told) add(format string, args ...any) {
	n.mu.Lock()
	n.said = append(n.said, fmt.Sprintf(format, args...))
	n.mu.Unlock()
	n.some <- struct{}{}
}

func (n *told) Joined(_ *call.Batch, number uint32, m Member) { n.add("joined %d %+v", number, m) }
func (n *told) Gone(_ *call.Batch, number uint32)             { n.add("gone %d", number) }
func (n *told) Load(number uint32, load int)                  { n.add("load %d %d", number, load) }
func (n *told) Models(number uint32, ids []string)            { n.add("models %d %q", number, ids) }
func (n *told) Ended(*call.Batch)                             { n.add("ended") }
func (n *told) Slot(_ *call.Batch, number uint32, id uint64, ttl time.Duration, load int) error {
	n.add("slot %d %d %v %d", number, id, ttl, load)
	return nil
}

// counter is an [Admission] with slots of its own, of which the test takes some.
type counter struct {
	mu    sync.Mutex
	slots int
	taken int
	said  []string
}

func (c *counter) Arrive(slot uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, fmt.Sprint("arrive ", slot))
	if c.taken == c.slots {
		return false
	}
	c.taken++
	return true
}

func (c *counter) note(format string, args ...any) {
	c.mu.Lock()
	c.said = append(c.said, fmt.Sprintf(format, args...))
	c.mu.Unlock()
}

func (c *counter) Want(_ *call.Batch, upto uint64)   { c.note("want %d", upto) }
func (c *counter) Return(_ *call.Batch, slot uint64) { c.note("return %d", slot) }
func (c *counter) Lost(*call.Batch)                  { c.note("lost") }
func (c *counter) Done(*call.Batch)                  { c.set(c.Load() - 1) }

func (c *counter) Load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

func (c *counter) set(taken int) {
	c.mu.Lock()
	c.taken = taken
	c.mu.Unlock()
}

// halfNodes is a peer between nodes with one replica of its own, number 1, and the ends of the other side. It is not served yet.
func halfNodes(t testing.TB, slots int, start Starter) (*Peer, ends, *told, *counter, *Served) {
	t.Helper()
	p, e := halfLinked(t, &server{}, nodeTerms)
	n, c := newTold(), &counter{slots: slots}
	p.Between(n)
	if start == nil {
		start = func(b *call.Batch, in *Incoming) call.Canceler {
			c.Done(b)
			in.Complete(b, call.Result{Payload: call.Payload{Codec: in.Want, Data: in.Encoded.Body}})
			return nil
		}
	}
	s, err := p.AddMember(Member{Replica: "r", App: "a", Deployment: "d", Slots: slots}, func(Granter) Admission { return c }, start)
	if err != nil {
		t.Fatal(err)
	}
	return p, e, n, c, s
}

// arrivalMeta is the meta of a call for replica number 1.
func arrivalMeta(t testing.TB, replica uint32, slot, upto uint64, body []byte) []byte {
	t.Helper()
	c := raw(body)
	c.Info.Request = call.IDFromBytes([16]byte{0x11, 0x22})
	c.Info.Call = 5
	meta := le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, uint64(replica)), slot), upto)
	meta, err := appendCallMeta(meta, 3, c, 1500*time.Microsecond)
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func u32(v uint32) []byte { return le.AppendUint32(nil, v) }
func u64(vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = le.AppendUint64(b, v)
	}
	return b
}

func memberFrame(number uint64, body string) []byte {
	return frameOf(Header{Type: TypeMember, ID: number}, nil, []byte(body))
}

// departure is a [Departure] that tests look at.
type departure struct {
	future
	mu  sync.Mutex
	got []string
}

func newDeparture() *departure { return &departure{future: *newFuture()} }

func (d *departure) note(format string, args ...any) {
	d.mu.Lock()
	d.got = append(d.got, fmt.Sprintf(format, args...))
	d.mu.Unlock()
}
func (d *departure) Accepted(load int) { d.note("accepted %d", load) }
func (d *departure) Load(load int)     { d.note("load %d", load) }
func (d *departure) Rejected(_ *call.Batch, load int, gone bool) {
	d.note("rejected %d %v", load, gone)
	close(d.done)
}

// TestNodeExamples holds the byte-level examples of the frames between nodes in docs/wire.md.
func TestNodeExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	p, e, _, c, s := halfNodes(t, 5, nil)
	c.set(2)
	serve(t, p)
	small := reader{t, e.small}
	frame := func() []byte {
		t.Helper()
		h, meta, body := small.next()
		return frameOf(h, meta, body)
	}
	show := func(name string, b []byte) {
		t.Helper()
		if dump := hexDump(b); !strings.Contains(string(doc), "```\n"+dump+"```") {
			t.Errorf("docs/wire.md does not show this %s:\n%s", name, dump)
		}
	}
	show("MEMBER", frame())
	k := raw([]byte("hi"))
	k.Want, k.Slots[0].Codec = call.Text, call.Text
	k.Info.Request = call.IDFromBytes([16]byte{0x11, 0x22})
	k.Info.Call = 5
	p.Depart(Arrival{Replica: 1, Slot: 9, Upto: 12}, numbered(p, 3), k, 1500*time.Microsecond, newDeparture())
	p.Sent(nil)
	arrival := frame()
	show("ARRIVAL", arrival)
	write(t, e.small, arrival)
	show("ACCEPT", frame())
	show("END", frame())
	c.set(5)
	le.PutUint64(arrival[8:], 2)
	write(t, e.small, arrival)
	show("REJECT", frame())
	p.Want(1, 12)
	p.Return(1, 9, 11)
	p.Sent(nil)
	show("WANT", frame())
	show("RETURN", frame())
	s.Grant(nil, 9, 50*time.Millisecond)
	show("SLOT", frame())
	c.set(4)
	s.Changed()
	show("LOAD", frame())
	s.SetModels([]string{"m:1"})
	show("MODELS", frame())
	s.Remove(nil)
	show("MEMBER that has gone", frame())
}

// TestVerdictAtTheEnd: what is known of a call when its connection ends.
func TestVerdictAtTheEnd(t *testing.T) {
	t.Parallel()
	accept := frameOf(Header{Type: TypeAccept, ID: 1}, u32(1), nil)
	type ending struct {
		name   string
		sent   bool
		answer []byte
		end    func(p *Peer, e ends)
		known  bool // that it has not started
		reason helvetype.Reason
	}
	hangUp := func(_ *Peer, e ends) { e.small.Close(); e.bulk.Close() }
	for _, test := range []ending{
		{"not sent", false, nil, hangUp, true, call.ReplicaUnavailable},
		{"no verdict", true, nil, hangUp, true, call.ReplicaUnavailable},
		{"half a verdict", true, accept[:19], hangUp, true, call.ReplicaUnavailable},
		{"accepted", true, accept, hangUp, false, call.MayHaveRun},
		{"ended here", true, nil, func(p *Peer, _ ends) { p.Close(errors.New("enough")) }, false, call.MayHaveRun},
		{"protocol", true, nil, func(_ *Peer, e ends) { e.small.Write(make([]byte, 16)) }, false, call.MayHaveRun},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, e, n, _, _ := halfNodes(t, 1, nil)
			d := newDeparture()
			small := reader{t, e.small}
			if test.sent {
				p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, d)
				p.Sent(nil)
				for h, _, _ := small.next(); h.Type != TypeArrival; h, _, _ = small.next() { //nolint:revive // skips the MEMBER
				}
			}
			go p.Serve()
			if !test.sent {
				small.expect(TypeMember, 0, 1)
				p.conn.small.mu.Lock()
				p.conn.small.writing = true // as when others are being written
				p.conn.small.mu.Unlock()
				p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, d)
				p.conn.small.mu.Lock()
				p.conn.small.writing = false
				p.conn.small.mu.Unlock()
			}
			write(t, e.small, test.answer)
			test.end(p, e)
			<-p.Done()
			<-d.done
			if d.r.NotStarted != test.known || d.r.Lost == test.known || d.r.Err.Reason != test.reason || d.r.Unsent != nil {
				t.Errorf("%+v", d.r)
			}
			if _, failed := p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, d); failed == nil || !failed.NotStarted {
				t.Errorf("after the end: %+v", failed)
			}
			if _, err := p.AddMember(Member{Slots: 1}, func(Granter) Admission { return &counter{} }, nil); err == nil {
				t.Error("a replica after the end")
			}
			if n.said[len(n.said)-1] != "ended" {
				t.Errorf("%q", n.said)
			}
		})
	}
}

// numbered is the way of a route that the other side was told by other means.
func numbered(p *Peer, number uint32) *Way { return &Way{peer: p, number: number} }
