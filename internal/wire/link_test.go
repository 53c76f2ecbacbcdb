package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

var bulkTerms = Terms{Protocol: 2, Bulk: true}

// ends is a link whose two connections are in the test's hands on the other side.
type ends struct{ small, bulk net.Conn }

// halfLinked is a peer over socket pairs, and the other ends. It is not served yet.
func halfLinked(t testing.TB, s *server, terms Terms) (*Peer, ends) {
	t.Helper()
	a, b := pair(t)
	c, d := pair(t)
	p := NewPeer(NewLink(NewConn(a), terms), s)
	if err := p.Attach(c); err != nil {
		t.Fatal(err)
	}
	return p, ends{b, d}
}

// shrink makes chunks of 4 KiB and 16 KiB of free credit, so that a test of many bodies needs little memory.
func shrink(ps ...*Peer) {
	for _, p := range ps {
		p.conn.chunkSize, p.conn.freeCredit = 4<<10, 16<<10
	}
}

// linked serves two peers with two connections between them.
func linked(t testing.TB, a, b *server, ta, tb Terms) (pa, pb *Peer) {
	t.Helper()
	pa, e := halfLinked(t, a, ta)
	pb = NewPeer(NewLink(NewConn(e.small), tb), b)
	if err := pb.Attach(e.bulk); err != nil {
		t.Fatal(err)
	}
	if ta.MaxIn > 0 && ta.MaxIn < 1<<20 {
		shrink(pa, pb)
	}
	serve(t, pa)
	serve(t, pb)
	return pa, pb
}

func serve(t testing.TB, p *Peer) {
	go p.Serve() //nolint:errcheck // tests look at what they started
	t.Cleanup(func() { p.Close(ErrClosed); <-p.Done() })
}

func pattern(n int) []byte {
	return bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz!"), n/37+1)[:n] // 37 divides no power of two
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	p, q := linked(t, &server{}, &server{}, bulkTerms, bulkTerms)
	echoes(t, p, q)
}

// echoes calls both ways at once, with values around every limit, in one slot and in many.
func echoes(t *testing.T, peers ...*Peer) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range peers {
		route, err := p.Declare(Route{Method: "m"})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 9, maxCopied, maxChunk - 1, maxChunk, maxChunk + 1, 2 * maxChunk, defaultCredit + 1, 3 << 20} {
			for _, c := range []*call.Call{raw(pattern(n)), many(pattern(n))} {
				wg.Go(func() {
					f := newFuture()
					p.Start(nil, route, c, time.Hour, f)
					<-f.done
					if f.r.Err != nil || !bytes.Equal(f.r.Data, pattern(n)) {
						t.Errorf("%d bytes came back as %d, %v", n, len(f.r.Data), f.r.Err)
					}
				})
			}
		}
	}
	wg.Wait()
}

// many is a call whose value lies in slots of every size, small and large ones in turn.
func many(data []byte) *call.Call {
	c := raw(nil)
	c.Slots = nil
	for i := 0; len(data) > 0 || i == 0; i++ {
		n := min(len(data), []int{1, maxCopied, maxCopied + 1, 0, 100_000}[i%5])
		c.Slots = append(c.Slots, slot(i, data[:n]))
		data = data[n:]
	}
	return c
}

func slot(i int, data []byte) call.Slot {
	return call.Slot{Kind: call.Positional, Index: uint16(i), Payload: call.Payload{Codec: call.Raw, Data: data}}
}

// TestSmallOwnersMayChange: a value that is not referenced is copied before Start returns.
func TestSmallOwnersMayChange(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c, d := pair(t)
	p := NewPeer(NewLink(NewConn(a), bulkTerms), &server{})
	q := NewPeer(NewLink(NewConn(b), bulkTerms), &server{})
	serve(t, p)
	serve(t, q)
	data := pattern(20 * maxCopied)
	k := raw(nil)
	k.Slots = nil
	for s := range slices.Chunk(bytes.Clone(data), maxCopied) {
		k.Slots = append(k.Slots, slot(len(k.Slots), s))
	}
	f := newFuture()
	p.Start(nil, 0, k, 0, f)
	for _, s := range k.Slots {
		clear(s.Data)
	}
	if err := errors.Join(p.Attach(c), q.Attach(d)); err != nil { // only now can it be sent
		t.Fatal(err)
	}
	<-f.done
	if !bytes.Equal(f.r.Data, data) {
		t.Error("changed under way")
	}
}

// TestRoundRobin: a value that is announced after one of 20 MB is there before it, and the next of its kind too.
func TestRoundRobin(t *testing.T) {
	t.Parallel()
	var got []int
	all := make(chan struct{})
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		got = append(got, len(in.Encoded.Body)) // hand-overs are one at a time
		in.Complete(b, call.Result{})
		if len(got) == 3 {
			close(all)
		}
		return nil
	}}
	a, b := pair(t)
	c, d := pair(t)
	p := NewPeer(NewLink(NewConn(a), bulkTerms), &server{})
	q := NewPeer(NewLink(NewConn(b), bulkTerms), s)
	serve(t, p)
	serve(t, q)
	for _, n := range []int{20 << 20, 1 << 20, 2 << 20} {
		p.Start(nil, 0, raw(make([]byte, n)), 0, newFuture())
	}
	granted := func() bool { // a large body has an unfair start if the other grant is still on its way
		s := &p.conn.send
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.bodies[1].credit == s.bodies[1].total && s.bodies[3].credit == s.bodies[3].total
	}
	until(t, granted)
	if err := errors.Join(p.Attach(c), q.Attach(d)); err != nil {
		t.Fatal(err)
	}
	<-all
	if want := []int{1 << 20, 2 << 20, 20 << 20}; !slices.Equal(got, want) {
		t.Errorf("arrived as %d", got)
	}
}

// TestSmallPasses: small calls are answered while the bulk connection is not read.
func TestSmallPasses(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c, d := pair(t)
	p := NewPeer(NewLink(NewConn(a), bulkTerms), &server{})
	q := NewPeer(NewLink(NewConn(b), bulkTerms), &server{})
	if err := p.Attach(c); err != nil {
		t.Fatal(err)
	}
	serve(t, p)
	serve(t, q)
	large := make([]*future, 200) // more than may be begun at once
	for i := range large {
		large[i] = newFuture()
		p.Start(nil, 0, raw(pattern(300<<10)), 0, large[i])
	}
	for range 100 {
		f := newFuture()
		p.Start(nil, 0, raw([]byte("small")), 0, f)
		<-f.done
		if string(f.r.Data) != "small" {
			t.Fatal(f.r)
		}
	}
	if err := q.Attach(d); err != nil {
		t.Fatal(err)
	}
	for _, f := range large {
		if <-f.done; !bytes.Equal(f.r.Data, pattern(300<<10)) {
			t.Fatal(len(f.r.Data), f.r.Err)
		}
	}
}

// TestBudget: a body that does not fit into the budget waits for others, and every body arrives in the end.
func TestBudget(t *testing.T) {
	t.Parallel()
	tight := Terms{Protocol: 2, Bulk: true, MaxIn: 80 << 10, Budget: 1}
	p, q := linked(t, &server{}, &server{}, tight, tight)
	var wg sync.WaitGroup
	for i := range 100 { // more than may be begun at once, and most over the free credit
		for _, p := range []*Peer{p, q} {
			wg.Go(func() {
				data := pattern(16<<10 + i*600)
				f := newFuture()
				p.Start(nil, 0, raw(data), 0, f)
				if <-f.done; !bytes.Equal(f.r.Data, data) {
					t.Errorf("%d of %d bytes, %v", len(f.r.Data), len(data), f.r.Err)
				}
			})
		}
	}
	wg.Wait()
	for _, p := range []*Peer{p, q} {
		r := &p.conn.recv
		r.mu.Lock()
		if r.reserved != 0 || r.begun != 0 || len(r.incomplete)+len(r.queues)+len(r.waiting)+r.heldBytes+r.metaBytes != 0 {
			t.Errorf("left behind: %d reserved, %d begun, %d open, %d queues, %d waiting", r.reserved, r.begun, len(r.incomplete), len(r.queues), len(r.waiting))
		}
		r.mu.Unlock()
	}
}

// TestMaxBody: the limit of the receiver is known to the sender, and the error names both sizes.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	p, _ := linked(t, &server{}, &server{}, Terms{Protocol: 2, Bulk: true, MaxOut: 1 << 20}, Terms{Protocol: 2, Bulk: true, MaxIn: 1 << 20, MaxOut: 1 << 19})
	for _, test := range []struct {
		n    int
		text string
	}{
		{1<<20 + 1, "the arguments are a value of 1048577 bytes, the other side takes at most 1048576 (max_body)"},
		{1 << 20, "the result is a value of 1048576 bytes, the other side takes at most 524288 (max_body)"},
		{1 << 19, ""},
	} {
		f := newFuture()
		p.Start(nil, 0, raw(pattern(test.n)), 0, f)
		<-f.done
		if test.text == "" != (f.r.Err == nil) || f.r.Err != nil && (f.r.Err.Reason != helvetype.ReasonTooLarge || f.r.Err.Message != test.text) {
			t.Errorf("%d: %v", test.n, f.r.Err)
		}
	}
}

// reader reads frames by hand.
type reader struct {
	t  testing.TB
	nc net.Conn
}

func (r reader) next() (h Header, meta, body []byte) {
	r.t.Helper()
	head := make([]byte, headerLen)
	if err := full(r.nc, head); err != nil {
		r.t.Fatal(err)
	}
	h = parseHeader(head)
	rest := make([]byte, int(h.Meta)+int(h.Body))
	if err := full(r.nc, rest); err != nil {
		r.t.Fatal(err)
	}
	return h, rest[:h.Meta], rest[h.Meta:]
}

func full(nc net.Conn, p []byte) error {
	c := chunkReader{nc: nc}
	return c.full(p)
}

func (r reader) expect(t Type, flags uint8, id uint64) (meta, body []byte) {
	r.t.Helper()
	h, meta, body := r.next()
	if h.Type != t || h.Flags != flags || h.ID != id {
		r.t.Fatalf("%+v where type %d, flags %#x, id %d was due: %q", h, t, flags, id, body)
	}
	return meta, body
}

func frameOf(h Header, meta, body []byte) []byte {
	h.Meta, h.Body = uint16(len(meta)), uint32(len(body))
	return slices.Concat(appendHeader(nil, h), meta, body)
}

// announcement is a CALL whose body comes in chunks.
func announcement(t testing.TB, id, number uint64, body []byte) []byte {
	t.Helper()
	meta, err := appendCall(nil, 1, raw(body), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta = le.AppendUint64(le.AppendUint64(meta, number), uint64(len(body)))
	return frameOf(Header{Type: TypeCall, Flags: FlagBulk, ID: id}, meta, nil)
}

func chunks(number uint64, body []byte, size int) []byte {
	var out []byte
	for c := range slices.Chunk(body, size) {
		out = append(out, frameOf(Header{Type: TypeChunk, ID: number}, nil, c)...)
	}
	return out
}

func write(t testing.TB, nc net.Conn, b ...[]byte) {
	t.Helper()
	for _, b := range b {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCancelBeforeSent: a call is taken back while a byte of it is unsent, whether it was begun or not, and its sink is
// told at once. The next one is not disturbed.
func TestCancelBeforeSent(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, bulkTerms)
	serve(t, p)
	small, bulk := reader{t, e.small}, reader{t, e.bulk}
	begun, queued, last := newFuture(), newFuture(), newFuture()
	id := p.Start(nil, 0, raw(pattern(2<<20)), 0, begun)
	small.expect(TypeCall, FlagBulk, 1)
	for range defaultCredit / maxChunk {
		if _, b := bulk.expect(TypeChunk, 0, 1); len(b) != maxChunk {
			t.Fatal(len(b))
		}
	}
	var batch call.Batch // not flushed: it stays in the queue
	id2 := p.Start(&batch, 0, raw(pattern(2<<20)), 0, queued)
	p.Cancel(&batch, id)
	p.Cancel(&batch, id2)
	<-begun.done
	<-queued.done
	for _, f := range []*future{begun, queued} {
		if f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonCancelled || f.r.NotStarted { // NotStarted would route it again
			t.Errorf("%+v", f.r)
		}
	}
	p.Start(&batch, 0, raw(pattern(maxChunk+5)), 0, last)
	batch.End()
	small.expect(TypeCall, FlagBulk, 2)
	small.expect(TypeCall, FlagBulk, 3)
	bulk.expect(TypeChunk, FlagAbort, 1)
	bulk.expect(TypeChunk, FlagAbort, 2)
	bulk.expect(TypeChunk, 0, 3)
	bulk.expect(TypeChunk, 0, 3)
	// Wholly sent: it can only be asked for.
	p.Cancel(nil, 3)
	small.expect(TypeCancel, 0, 3)
	write(t, e.small, frameOf(Header{Type: TypeGrant, ID: 1}, le.AppendUint64(nil, 2<<20), nil)) // was on its way
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 3}, []byte{byte(call.Raw), 0}, []byte("x")))
	if <-last.done; string(last.r.Data) != "x" {
		t.Error(last.r)
	}
}

// TestCancelBeforeArrival: a call whose arguments have not arrived completely is answered without being run, and the
// rest of its arguments is discarded.
func TestCancelBeforeArrival(t *testing.T) {
	t.Parallel()
	ran := make(chan int, 9)
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		ran <- len(in.Encoded.Body)
		in.Complete(b, call.Result{})
		return nil
	}}
	p, e := halfLinked(t, s, bulkTerms)
	serve(t, p)
	small := reader{t, e.small}
	body := pattern(3 << 20)
	write(t, e.small, announcement(t, 1, 1, body))
	small.expect(TypeGrant, 0, 1)
	write(t, e.bulk, chunks(1, body, maxChunk)[:maxChunk+100])
	write(t, e.small, frameOf(Header{Type: TypeCredit, ID: 1}, nil, nil)) // waits for the call, and goes with it
	write(t, e.small, frameOf(Header{Type: TypeCancel, ID: 1}, nil, nil))
	_, answer := small.expect(TypeEnd, FlagError, 1)
	if !bytes.Contains(answer, []byte("cancelled")) {
		t.Errorf("%q", answer)
	}
	write(t, e.small, frameOf(Header{Type: TypeCancel, ID: 1}, nil, nil)) // again: ignored
	go e.bulk.Write(slices.Concat(chunks(1, body, maxChunk)[maxChunk+100:], chunks(2, body[:7], 3)))
	write(t, e.small, announcement(t, 2, 2, body[:7]))
	if n := <-ran; n != 7 {
		t.Errorf("a call with %d bytes was run", n)
	}
	small.expect(TypeEnd, 0, 2)
}

// TestAbortedByCaller: the receiver forgets the call, and gives its memory to bodies that wait.
func TestAbortedByCaller(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, Terms{Protocol: 2, Bulk: true, MaxIn: 3 << 20, Budget: 1})
	serve(t, p)
	small := reader{t, e.small}
	body := pattern(3 << 20)
	write(t, e.small, announcement(t, 1, 1, body), announcement(t, 2, 2, body))
	small.expect(TypeGrant, 0, 1)
	go e.bulk.Write(slices.Concat(
		chunks(1, body[:2<<20], maxChunk), chunks(2, body[:maxChunk], maxChunk),
		frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 1}, nil, nil)))
	small.expect(TypeGrant, 0, 2)
	go e.bulk.Write(chunks(2, body[maxChunk:], maxChunk))
	small.expect(TypeEnd, FlagBulk, 2)
}

// TestOrder: frames of one call keep their order even if some of their bodies come in chunks; frames of other calls
// pass.
func TestOrder(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c, d := pair(t)
	out, in := NewLink(NewConn(a), bulkTerms), NewLink(NewConn(b), bulkTerms)
	if err := in.Attach(d); err != nil {
		t.Fatal(err)
	}
	want := []string{}
	add := func(h Header, n int) {
		if _, err := out.Append(h, []byte{byte(len(want))}, pattern(n)); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(h.Type, h.ID, len(want), n))
	}
	add(Header{Type: TypeItems, ID: 1}, 10)
	add(Header{Type: TypeItems, ID: 1}, 3<<20)
	add(Header{Type: TypeItems, ID: 1}, 10)
	add(Header{Type: TypeItems, ID: 1}, maxChunk+1) // complete long before the one above
	add(Header{Type: TypeItems, ID: 1}, 10)
	add(Header{Type: TypeEnd, ID: 1}, 0)
	if _, err := out.Append(Header{Type: TypeItems, ID: 2}, []byte{99}, pattern(7)); err != nil {
		t.Fatal(err)
	}
	out.Flush()
	var got []string
	done := make(chan error, 2)
	go func() {
		done <- in.Read(func(_ *call.Batch, h Header, meta, body []byte) error {
			if h.ID == 2 {
				if err := out.Attach(c); err != nil { // only now: the other stream did not wait
					return err
				}
				return nil
			}
			if !bytes.Equal(body, pattern(len(body))) || int(h.Body) != len(body) {
				return fmt.Errorf("%+v is damaged", h)
			}
			got = append(got, fmt.Sprint(h.Type, h.ID, meta[0], len(body)))
			if h.Type == TypeEnd {
				return ErrClosed
			}
			return nil
		})
	}()
	go out.Read(func(*call.Batch, Header, []byte, []byte) error { return nil }) // grants
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("arrived as\n%q, sent as\n%q", got, want)
	}
}

// TestBrokenLink: a call counts as started with the first byte of its last chunk; before, its arguments come back.
func TestBrokenLink(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"small", "bulk"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			p, e := halfLinked(t, &server{}, bulkTerms)
			serve(t, p)
			small, bulk := reader{t, e.small}, reader{t, e.bulk}
			sent, parked, queued := newFuture(), newFuture(), newFuture()
			p.Start(nil, 0, raw(pattern(maxChunk+1)), 0, sent)
			small.expect(TypeCall, FlagBulk, 1)
			bulk.expect(TypeChunk, 0, 1)
			bulk.expect(TypeChunk, 0, 1)
			p.Start(nil, 0, many(pattern(2<<20)), 0, parked)
			small.expect(TypeCall, FlagBulk, 2)
			for range 4 {
				bulk.expect(TypeChunk, 0, 2)
			}
			var batch call.Batch
			p.Start(&batch, 0, raw(pattern(3<<20)), 0, queued)
			if which == "small" {
				e.small.Close()
				e.bulk.Close()
			} else {
				e.bulk.Close()
				e.small.Close()
			}
			<-p.Done()
			<-sent.done
			<-parked.done
			<-queued.done
			if sent.r.NotStarted || sent.r.Err.Reason != helvetype.ReasonReplicaDied {
				t.Errorf("sent: %+v", sent.r)
			}
			for i, f := range []*future{parked, queued} {
				if !f.r.NotStarted || f.r.Unsent == nil || !bytes.Equal(f.r.Unsent.Body, pattern((2+i)<<20)) || len(Slots(*f.r.Unsent)) == 0 {
					t.Errorf("not sent, %d: not started %v, %v", i, f.r.NotStarted, f.r.Err)
				}
			}
			late := newFuture()
			p.Start(nil, 0, raw(pattern(1<<20)), 0, late)
			if <-late.done; !late.r.NotStarted {
				t.Errorf("after the end: %+v", late.r)
			}
		})
	}
}

// TestOneEndsBoth: the end of one connection ends the other, and frames that had arrived on it before count.
func TestOneEndsBoth(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, bulkTerms)
	p.conn.small.linger = time.Hour
	f, large := newFuture(), newFuture()
	p.Start(nil, 0, raw([]byte("x")), 0, f)
	p.Start(nil, 0, raw([]byte("y")), 0, large)
	meta := le.AppendUint64(le.AppendUint64([]byte{byte(call.Raw), 0}, 1), 10)
	write(t, e.small, frameOf(Header{Type: TypeEnd, Flags: FlagBulk, ID: 2}, meta, nil))
	write(t, e.small, frameOf(Header{Type: TypeEnd, ID: 1}, []byte{byte(call.Raw), 0}, []byte("answer")))
	write(t, e.bulk, chunks(1, pattern(10), 4))
	e.bulk.Close()
	e.small.Close()
	if err := p.Serve(); err == nil {
		t.Error("no cause")
	}
	<-f.done
	<-large.done
	if string(f.r.Data) != "answer" || !bytes.Equal(large.r.Data, pattern(10)) {
		t.Errorf("%+v, %+v", f.r, large.r)
	}
}

// TestUnread: a peer that does not read makes calls fail, and not the process grow.
func TestUnread(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20 << 10, maxChunk + 1} {
		p, e := halfLinked(t, &server{}, bulkTerms)
		p.conn.small.backlog = 4 << 20
		data := pattern(size)
		serve(t, p)
		var fs []*future
		for range 1000 {
			f := newFuture()
			fs = append(fs, f)
			p.Start(nil, 0, raw(data), 0, f)
		}
		refused := 0
		for _, f := range fs {
			select {
			case <-f.done:
				refused++
				if f.r.Err.Reason != helvetype.ReasonReplicaUnavailable || f.r.NotStarted {
					t.Errorf("%+v", f.r)
				}
			default:
			}
		}
		if sent := (1000 - refused) * size; sent < 4<<20 || sent > 6<<20 { // and the socket buffers are full
			t.Errorf("%d calls of %d bytes were taken", 1000-refused, size)
		}
		// Answers are not refused, but end a connection that takes none of them.
		in := &Incoming{peer: p, id: 1}
		for i := 0; p.conn.Err() == nil && i < 1000; i++ {
			in.ended = false
			in.Complete(nil, call.Result{Payload: call.Payload{Codec: call.Raw, Data: data[:20<<10]}})
		}
		if !errors.Is(p.conn.Err(), errBacklog) {
			t.Errorf("still open: %v", p.conn.Err())
		}
		e.small.Close()
	}
}

// TestFlood: many callers with values of every size, calls that are cancelled at any time, both ways.
func TestFlood(t *testing.T) {
	t.Parallel()
	terms := Terms{Protocol: 2, Bulk: true, MaxIn: 64 << 10, Budget: 1}
	p, q := linked(t, &server{}, &server{}, terms, terms)
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			peer := p
			if g%2 == 1 {
				peer = q
			}
			for i := range 40 {
				data := pattern([]int{10, 48 << 10, 640, 5 << 10}[(g+i)%4])
				f := newFuture()
				id := peer.Start(nil, 0, raw(data), 0, f)
				if i%3 == 0 {
					peer.Cancel(nil, id)
				}
				<-f.done
				cancelled := i%3 == 0 && f.r.Err != nil && f.r.Err.Reason == helvetype.ReasonCancelled
				if !cancelled && !bytes.Equal(f.r.Data, data) {
					t.Errorf("%d bytes came back as %d, %v", len(data), len(f.r.Data), f.r.Err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ left, want uint64 }{{0, 0}, {5000, 2000}, {3000, 1}, {10, 1}} {
		meta := make([]byte, callLen)
		le.PutUint64(meta[8:], test.left)
		if subtractTime(meta, 3*time.Millisecond); le.Uint64(meta[8:]) != test.want {
			t.Errorf("%d became %d", test.left, le.Uint64(meta[8:]))
		}
	}
}

// TestVersions: every pair of versions that have one in common talks, with two connections where both speak 2.
func TestVersions(t *testing.T) {
	t.Parallel()
	token := NewToken()
	check := func(Hello) (Token, error) { return token, nil }
	for _, test := range []struct {
		dialler, node versions
		features      []string
		bulk          bool
		text          string
	}{
		{versions{1, 1}, versions{1, 1}, nil, false, ""},
		{versions{1, 1}, versions{1, 2}, nil, false, ""},
		{versions{1, 2}, versions{1, 1}, nil, false, ""},
		{versions{1, 2}, versions{1, 2}, nil, true, ""},
		{versions{1, 2}, versions{1, 2}, []string{"other"}, false, ""},
		{versions{2, 3}, versions{1, 2}, nil, true, ""},
		{versions{3, 4}, versions{1, 2}, nil, false, "the worker speaks protocol 3 to 4, this node speaks protocol 1 to 2: use builds of one version"},
		{versions{1, 1}, versions{2, 3}, nil, false, "the worker speaks protocol 1, this node speaks protocol 2 to 3: use builds of one version"},
	} {
		t.Run(fmt.Sprint(test.dialler, test.node, test.features), func(t *testing.T) {
			t.Parallel()
			offer := Offer{Version: "v", Features: []string{FeatureBulk}, MaxBody: 10 << 20}
			hello := Hello{Kind: "worker", ID: "me", Features: []string{FeatureBulk}, MaxBody: 11 << 20}
			if test.features != nil {
				hello.Features = test.features
			}
			opened := func(hello Hello) (x, y net.Conn, h Hello, w Welcome) {
				a, b := pair(t)
				type accepted struct {
					h   Hello
					err error
				}
				result := make(chan accepted, 1)
				go func() {
					h, err := offer.accept(a, test.node, check)
					result <- accepted{h, err}
				}()
				w, err := open(b, token, hello, test.dialler)
				r := <-result
				if test.text != "" {
					if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Message != test.text || r.err == nil {
						t.Errorf("%v, %v", err, r.err)
					}
					return nil, nil, h, w
				}
				if err := errors.Join(err, r.err); err != nil {
					t.Fatal(err)
				}
				return a, b, r.h, w
			}
			a, b, h, w := opened(hello)
			if test.text != "" {
				return
			}
			if h.Terms.Bulk != test.bulk || w.Terms.Bulk != test.bulk || h.Terms.Protocol != w.Protocol {
				t.Fatalf("%+v, %+v", h.Terms, w.Terms)
			}
			if w.Protocol == 2 && (h.Terms.MaxOut != 11<<20 || w.Terms.MaxOut != 10<<20 || h.Terms.MaxIn != 10<<20 || w.Terms.MaxIn != 11<<20) {
				t.Errorf("%+v, %+v", h.Terms, w.Terms)
			}
			p, q := NewPeer(NewLink(NewConn(a), h.Terms), &server{}), NewPeer(NewLink(NewConn(b), w.Terms), &server{})
			serve(t, p)
			serve(t, q)
			if test.bulk {
				hello.Connection = ConnBulk
				c, d, _, _ := opened(hello)
				if err := errors.Join(p.Attach(c), q.Attach(d)); err != nil {
					t.Fatal(err)
				}
			}
			echoes(t, p, q)
			x, _ := pair(t)
			if p.Attach(x) == nil {
				t.Error("a connection too many")
			}
		})
	}
	t.Run("dialler refuses", func(t *testing.T) { // a node that chooses a feature that was not offered
		t.Parallel()
		a, b := pair(t)
		go func() {
			readOpening(a, TypeHello, nil)
			WriteFrame(a, TypeHello, 0, []byte(`{"protocol": 7}`))
		}()
		_, err := Open(b, token, Hello{Kind: "worker"})
		if err == nil || err.Error() != "the node wants protocol 7, this worker speaks protocol 1 to 2: use builds of one version" {
			t.Error(err)
		}
	})
}

// TestPipe: connections without a descriptor, whose writes wait for the reader.
func TestPipe(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	c, d := net.Pipe()
	p, q := NewPeer(NewLink(NewConn(a), bulkTerms), &server{}), NewPeer(NewLink(NewConn(b), bulkTerms), &server{})
	if err := errors.Join(p.Attach(c), q.Attach(d)); err != nil {
		t.Fatal(err)
	}
	serve(t, p)
	serve(t, q)
	echoes(t, p, q)
}

// TestBulkExamples holds the byte-level examples of the second connection in docs/wire.md.
func TestBulkExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	p, e := halfLinked(t, &server{}, bulkTerms)
	serve(t, p)
	c := &call.Call{Want: call.Text}
	c.Info.Request = call.IDFromBytes([16]byte{0x11, 0x22})
	c.Info.Call = 5
	c.SetOne(call.Slot{Kind: call.Positional, Payload: call.Payload{Codec: call.Text, Data: pattern(300_000)}})
	p.nextCall = 1
	p.Start(nil, 3, c, 1500*time.Microsecond, newFuture())
	frame := make([]byte, headerLen+callLen+8+announceLen)
	first, last := make([]byte, headerLen+maxChunk), make([]byte, headerLen+300_000-maxChunk)
	if err := errors.Join(full(e.small, frame), full(e.bulk, first), full(e.bulk, last)); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"CALL": frame, "first CHUNK": first[:headerLen], "last CHUNK": last[:headerLen],
		"GRANT": frameOf(Header{Type: TypeGrant, ID: 2}, le.AppendUint64(nil, 3_000_000), nil),
		"abort": frameOf(Header{Type: TypeChunk, Flags: FlagAbort, ID: 3}, nil, nil),
	} {
		if dump := hexDump(b); !strings.Contains(string(doc), "```\n"+dump+"```") {
			t.Errorf("docs/wire.md does not show this %s:\n%s", name, dump)
		}
	}
}
