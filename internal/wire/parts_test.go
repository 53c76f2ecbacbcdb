package wire

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestUnsentParts: what was put into the memory of a process that has ended is not given back as arguments.
func TestUnsentParts(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	p := NewLinkPeer(NewLink(NewConn(a), Terms{Protocol: 2, Segments: true}), &server{})
	p.Share(newShelf())
	var batch call.Batch // not flushed
	f := newPart()
	p.Start(&batch, 1, raw(pattern(SharedLeast)), 0, f)
	b.Close()
	go p.Serve() //nolint:errcheck // it ends at once
	<-f.done
	if !f.r.NotStarted || f.r.Unsent != nil {
		t.Errorf("not started %v, unsent %+v", f.r.NotStarted, f.r.Unsent)
	}
}

// TestRefusedCallHasNoParts: a call that is not taken gives back what its arguments refer to.
func TestRefusedCallHasNoParts(t *testing.T) {
	t.Parallel()
	memory := newShelf()
	x, y := pair(t)
	ins := make(chan *Incoming, 2)
	terms := Terms{Protocol: 2, Segments: true, MaxIn: 1 << 10}
	p := NewLinkPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true}), &server{})
	q := NewLinkPeer(NewLink(NewConn(y), terms), &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		ins <- in
		return nil
	}})
	q.conn.terms.Calls = 100
	p.Share(memory)
	q.Share(memory)
	serve(t, p)
	serve(t, q)
	first, refused := newPart(), newPart()
	p.Start(nil, 0, raw(nil), 0, first)
	p.Start(nil, 0, raw(pattern(SharedLeast)), 0, refused)
	if <-refused.done; refused.r.Err == nil || refused.r.Err.Reason != call.Backpressure {
		t.Fatalf("%+v", refused.r)
	}
	if n := memory.settled(); n != 0 {
		t.Errorf("%d references are left", n)
	}
	(<-ins).Complete(nil, call.Result{})
	<-first.done
}

// keepingServer is a node: it keeps results, and asks nobody else to.
type keepingServer struct {
	server
	*shelf
}

// TestNobodyKeepsForANode: a worker that answers as if it kept the result is gone, before anybody waits for it to send that.
func TestNobodyKeepsForANode(t *testing.T) {
	t.Parallel()
	x, y := pair(t)
	p := NewLinkPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true}), &keepingServer{shelf: newShelf()})
	ended := make(chan error, 1)
	go func() { ended <- p.Serve() }()
	f := newFuture() // which wants its result in one piece
	p.Start(nil, 1, raw(nil), 0, f)
	meta := append([]byte{byte(call.Raw), 0, 9}, "reference\x10\x00"...)
	meta = le.AppendUint64(le.AppendUint64(meta, 1), 100)
	write(t, y, frameOf(Header{Type: TypeEnd, ID: 1, Flags: FlagReference}, meta, nil))
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "keeps") {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader waits for its own connection")
	}
	if <-f.done; f.r.Err == nil {
		t.Errorf("%+v", f.r)
	}
}

// TestResolveIsBounded: how many arguments come of numbers is looked at while they come.
func TestResolveIsBounded(t *testing.T) {
	t.Parallel()
	p := call.Payload{Codec: call.Cloudpickle, Parts: &call.Parts{Buffers: make([]call.Segment, 10_000)}}
	var c call.Call
	table := bytes.Repeat([]byte{1 | inKeeping, 2, 0, 0, numberLen, 0, 0, 0}, 1000)
	c.Encoded = call.Encoded{Slots: 1000, Table: table, Body: make([]byte, 1000*numberLen), Held: true}
	looked := 0
	e := Resolve(&c.Encoded, func(uint64) (call.Payload, *call.Error) {
		looked++
		return p, nil
	})
	if e == nil || e.Reason != call.TooLarge || looked > 10 {
		t.Errorf("%v, after %d of 1000", e, looked)
	}
}

// reads counts how often a view is read.
type reads struct {
	call.Bytes
	n *int
}

func (r reads) Read(f func(b []byte) error) error {
	*r.n++
	return r.Bytes.Read(f)
}

// lostView is of what is not there any more.
type lostView struct{ call.Bytes }

func (lostView) Read(func(b []byte) error) error { return call.NewError(call.Lost, "it is gone") }

// TestPartsOfACallThatFails: what is too large is not copied before that is seen, and what is lost is an error of that kind.
func TestPartsOfACallThatFails(t *testing.T) {
	t.Parallel()
	x, _ := pair(t)
	p := NewLinkPeer(NewLink(NewConn(x), Terms{Protocol: 2, Segments: true, MaxOut: 1 << 20}), &server{})
	n := 0
	c := raw(nil)
	s := call.NewShared(reads{call.Bytes(pattern(300_000)), &n})
	c.Slots = nil
	for range 1000 {
		c.Slots = append(c.Slots, call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Raw, Parts: &call.Parts{Main: s}}})
	}
	f := newPart()
	p.Start(nil, 0, c, 0, f)
	if <-f.done; f.r.Err == nil || f.r.Err.Reason != call.TooLarge || !strings.Contains(f.r.Err.Message, "at most 1048576") || n > 4 {
		t.Errorf("%+v, read %d times", f.r.Err, n)
	}
	c.Slots = c.Slots[:1]
	c.Slots[0].Parts = &call.Parts{Main: call.NewShared(lostView{})}
	f = newPart()
	p.Start(nil, 0, c, 0, f)
	if <-f.done; f.r.Err == nil || f.r.Err.Reason != call.Lost {
		t.Errorf("%+v", f.r.Err)
	}
	in := &Incoming{peer: p, id: 1}
	in.Complete(nil, call.Result{Payload: c.Slots[0].Payload})
}
