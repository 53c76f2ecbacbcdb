package wire

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// TestAcceptFirst: nothing starts before the kernel has its ACCEPT; a call that is cancelled before, or whose connection ends,
// does not start at all.
func TestAcceptFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe() // takes nothing before it is read
		var mu sync.Mutex
		var started []string
		c := &counter{slots: 9}
		p := NewLinkPeer(NewLink(NewConn(a), Terms{Protocol: 2, Nodes: true}), &server{})
		p.Between(newTold())
		_, err := p.AddMember(Member{Slots: 9}, func(Granter) Admission { return c }, func(_ *call.Batch, in *Incoming) call.Canceler {
			mu.Lock()
			defer mu.Unlock()
			started = append(started, string(in.Encoded.Body))
			return cancelFunc(func(b *call.Batch, cause error) {
				c.Done(b)
				in.Complete(b, call.Result{Err: call.FromCause(cause)})
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		go p.Serve()
		small := reader{t, b}
		small.expect(TypeMember, 0, 1)
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(started, want) {
				t.Errorf("started: %q", started)
			}
		}
		for i, body := range []string{"a", "b", "c", "d"} {
			write(t, b, frameOf(Header{Type: TypeArrival, ID: uint64(i + 1)}, arrivalMeta(t, 1, 0, 0, []byte(body)), []byte(body)))
			check()
		}
		if c.Load() != 4 {
			t.Errorf("%d slots are taken", c.Load())
		}
		write(t, b, frameOf(Header{Type: TypeCancel, ID: 2}, nil, nil))
		check()
		small.expect(TypeAccept, 0, 1) // by itself in the first write
		check("a")
		small.expect(TypeAccept, 0, 2) // the others come together
		small.expect(TypeAccept, 0, 3)
		half := make([]byte, headerLen+1)
		if err := full(b, half); err != nil {
			t.Fatal(err)
		}
		check("a")
		if err := full(b, half[:verdictLen-1]); err != nil {
			t.Fatal(err)
		}
		check("a", "c", "d")
		if _, body := small.expect(TypeEnd, FlagError, 2); !bytes.Contains(body, []byte("cancelled")) {
			t.Errorf("%q", body)
		}
		write(t, b, frameOf(Header{Type: TypeArrival, ID: 5}, arrivalMeta(t, 1, 0, 0, []byte("e")), []byte("e")))
		check("a", "c", "d")
		if err := full(b, half); err != nil { // not all of it
			t.Fatal(err)
		}
		b.Close()
		<-p.Done()
		check("a", "c", "d")
		if c.Load() != 0 {
			t.Errorf("%d slots are taken", c.Load())
		}
	})
}

// TestLargeArrivals: a call whose arguments come in chunks is decided on before them.
func TestLargeArrivals(t *testing.T) {
	t.Parallel()
	body := pattern(3 << 20)
	announce := func(id, number, slot uint64) []byte {
		meta := append(arrivalMeta(t, 1, slot, 0, body), u64(number, uint64(len(body)))...)
		return frameOf(Header{Type: TypeArrival, Flags: FlagBulk, ID: id}, meta, nil)
	}
	ran := make(chan *Incoming, 9)
	p, e, _, c, _ := halfNodes(t, 2, func(_ *call.Batch, in *Incoming) call.Canceler { ran <- in; return nil })
	serve(t, p)
	small := reader{t, e.small}
	small.expect(TypeMember, 0, 1)
	write(t, e.small, announce(1, 1, 0))
	small.expect(TypeAccept, 0, 1)
	small.expect(TypeGrant, 0, 1)
	write(t, e.small, announce(2, 2, 0))
	small.expect(TypeAccept, 0, 2)
	small.expect(TypeGrant, 0, 2)
	write(t, e.small, announce(3, 3, 8)) // there are no more slots, and its arguments are thrown away if they come
	small.expect(TypeReject, 0, 3)
	small.expect(TypeGrant, 0, 3)
	write(t, e.small, frameOf(Header{Type: TypeCancel, ID: 3}, nil, nil), frameOf(Header{Type: TypeCancel, ID: 1}, nil, nil))
	small.expect(TypeEnd, FlagError, 1) // before its arguments had come
	if c.Load() != 1 {
		t.Errorf("%d slots are taken", c.Load())
	}
	write(t, e.small, announce(4, 4, 0))
	small.expect(TypeAccept, 0, 4)
	small.expect(TypeGrant, 0, 4)
	go e.bulk.Write(slices.Concat(chunks(3, body[:chunkMax], chunkMax), frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 3}, nil, nil),
		chunks(4, body[:chunkMax], chunkMax), frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 4}, nil, nil), // taken back
		chunks(1, body, chunkMax), chunks(2, body, chunkMax)))
	in := <-ran
	if in.id != 2 || !bytes.Equal(in.Encoded.Body, body) || in.Left <= 0 || in.Left >= 1500*time.Microsecond {
		t.Errorf("%d bytes ran, with %v left", len(in.Encoded.Body), in.Left)
	}
	if c.Load() != 1 {
		t.Errorf("%d slots are taken", c.Load())
	}
	write(t, e.small, announce(5, 5, 0))
	small.expect(TypeAccept, 0, 5)
	e.small.Close() // in the middle of the fifth
	e.bulk.Close()
	<-p.Done()
	if c.Load() != 1 {
		t.Errorf("%d slots are taken", c.Load())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(ran) != 0 || len(p.nodes.early) != 0 || len(p.incoming) != 1 {
		t.Errorf("%d more calls ran, %d are waited for, %d are known", len(ran), len(p.nodes.early), len(p.incoming))
	}
}

// TestLargeDepartures: what is rejected need not be sent to its end, and an early verdict says nothing of a start.
func TestLargeDepartures(t *testing.T) {
	t.Parallel()
	p, e, _, _, _ := halfNodes(t, 1, nil)
	serve(t, p)
	small, bulk := reader{t, e.small}, reader{t, e.bulk}
	small.expect(TypeMember, 0, 1)
	first, second, third := newDeparture(), newDeparture(), newDeparture()
	depart := func(d *departure) {
		if _, failed := p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(pattern(2<<20)), 0, d); failed != nil {
			t.Error(failed)
		}
		p.Sent(nil)
		small.expect(TypeArrival, FlagBulk, p.nextCall)
	}
	depart(first)
	for range freeCredit / chunkMax {
		bulk.expect(TypeChunk, 0, 1)
	}
	write(t, e.small, frameOf(Header{Type: TypeReject, ID: 1}, u32(7), nil))
	<-first.done
	bulk.expect(TypeChunk, FlagAbort, 1)
	depart(second)
	for range freeCredit / chunkMax {
		bulk.expect(TypeChunk, 0, 2)
	}
	write(t, e.small, frameOf(Header{Type: TypeAccept, ID: 2}, u32(3), nil))
	depart(third)
	p.Cancel(nil, 3)
	<-third.done
	write(t, e.small, frameOf(Header{Type: TypeReject, ID: 3}, u32(9), nil)) // it is not known any more
	e.small.Close()
	e.bulk.Close()
	<-p.Done()
	<-second.done
	if !slices.Equal(first.got, []string{"rejected 7 false"}) {
		t.Errorf("%q", first.got)
	}
	if !slices.Equal(second.got, []string{"accepted 3"}) || !second.r.NotStarted {
		t.Errorf("%q, %+v", second.got, second.r)
	}
	if len(third.got) != 0 || third.r.Err.Reason != call.Cancelled {
		t.Errorf("%q, %+v", third.got, third.r)
	}
}

// TestReadToTheEnd: a side that cannot write any more has not read everything, and what the other side has answered counts.
func TestReadToTheEnd(t *testing.T) {
	t.Parallel()
	p, e, _, _, _ := halfNodes(t, 1, nil)
	d := newDeparture()
	p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, d)
	p.Sent(nil)
	small := reader{t, e.small}
	small.next() // the MEMBER and the ARRIVAL
	small.next()
	write(t, e.small, frameOf(Header{Type: TypeAccept, ID: 1}, u32(1), nil),
		frameOf(Header{Type: TypeEnd, ID: 1}, []byte{byte(call.Raw), 0}, []byte("done")))
	e.small.Close()
	late := newDeparture()
	p.Depart(Arrival{Replica: 1}, numbered(p, 1), raw(nil), 0, late)
	p.Sent(nil)
	for p.conn.Err() == nil { // written on another goroutine
		p.conn.Flush()
	}
	go p.Serve()
	<-p.Done()
	<-d.done
	<-late.done
	if string(d.r.Data) != "done" {
		t.Errorf("%+v", d.r)
	}
	if !late.r.NotStarted {
		t.Errorf("%+v", late.r)
	}
	f := newFuture()
	p.Start(nil, 1, raw(nil), 0, f)
	if <-f.done; !f.r.NotStarted {
		t.Errorf("%+v", f.r)
	}
}

var errTest = errors.New("for a test")

// TestWriteFailsAndNothingEnds: the connection of a side that cannot write ends although the other side does not close it.
func TestWriteFailsAndNothingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c := NewConn(&deaf{Conn: a})
		c.Append(Header{Type: TypeReply}, nil)
		c.Flush()
		ended := make(chan error, 1)
		go func() { ended <- c.Read(func(*call.Batch, Header, []byte, []byte) error { return nil }) }()
		ctx, cancel := context.WithTimeout(t.Context(), 2*linger)
		defer cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, errTest) {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Error("it goes on")
		}
		if n, err := b.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("it is open")
		}
	})
}

// deaf is a connection that takes no bytes.
type deaf struct{ net.Conn }

func (*deaf) Write([]byte) (int, error) { return 0, errTest }

// TestArrivalsUnderWay: the arguments of calls that have not ended are bounded in bytes, as those of others are.
func TestArrivalsUnderWay(t *testing.T) {
	t.Parallel()
	started := make(chan *Incoming, 9)
	p, e, _, c, _ := halfNodes(t, 9, func(_ *call.Batch, in *Incoming) call.Canceler { started <- in; return nil })
	p.conn.terms.Calls = 100 << 10
	serve(t, p)
	small := reader{t, e.small}
	small.expect(TypeMember, 0, 1)
	body := pattern(60 << 10)
	arrive := func(id uint64) {
		write(t, e.small, frameOf(Header{Type: TypeArrival, ID: id}, arrivalMeta(t, 1, 0, 0, body), body))
		small.expect(TypeAccept, 0, id)
	}
	arrive(1)
	arrive(2)
	if _, answer := small.expect(TypeEnd, FlagError, 2); !bytes.Contains(answer, []byte("backpressure")) {
		t.Errorf("%q", answer)
	}
	if c.Load() != 1 {
		t.Errorf("%d slots are taken", c.Load())
	}
	in := <-started
	c.Done(nil)
	in.Complete(nil, call.Result{})
	small.expect(TypeEnd, 0, 1)
	arrive(3)
	if in := <-started; in.id != 3 {
		t.Errorf("call %d was started", in.id)
	}
}

// TestDepartsInOnePiece: arguments that lie in parts in this node's memory are sent with the call.
func TestDepartsInOnePiece(t *testing.T) {
	t.Parallel()
	p, e, _, _, _ := halfNodes(t, 1, nil)
	small := reader{t, e.small}
	body := pattern(5000)
	s := call.NewShared(call.Bytes(body))
	c := raw(nil)
	c.Slots[0].Parts = &call.Parts{Main: s}
	p.Depart(Arrival{Replica: 1}, numbered(p, 1), c, 0, newDeparture())
	p.Sent(nil)
	for {
		h, meta, got := small.next()
		if h.Type == TypeMember {
			continue
		}
		if h.Type != TypeArrival || meta[arrivalLen+callLen]&^kindMask != 0 || !bytes.Equal(got, body) {
			t.Errorf("%+v with %d bytes", h, len(got))
		}
		break
	}
	c.Slots[0].Parts.Buffers = []call.Segment{{Data: []byte("more")}}
	if _, failed := p.Depart(Arrival{Replica: 1}, numbered(p, 1), c, 0, newDeparture()); failed == nil || !strings.Contains(failed.Err.Message, "out of band") {
		t.Errorf("%+v", failed)
	}
}
