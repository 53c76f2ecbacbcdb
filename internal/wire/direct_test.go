package wire

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// freeing is a collector that gives back the memory of frames, as the receivers of exchanges do.
type freeing struct{ collector }

func (c *freeing) Frame(b *call.Batch, from call.Source, frame []byte) {
	c.collector.Frame(b, from, frame)
	FreeFrame(frame)
}

// TestLargeParts: large parts arrive whole and in order beside those of other exchanges, in both directions, while the memory of frames is used again.
func TestLargeParts(t *testing.T) {
	t.Parallel()
	const exchanges, parts = 6, 20
	calls := make(chan asked, exchanges)
	ups := make([]freeing, exchanges)
	n := 0
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		in.Keep()
		a := asked{in: in, from: in.Parts(&ups[n]), got: &ups[n].collector}
		n++
		a.from.Credit(b, call.Room)
		calls <- a
		return nil
	}}
	p, _ := linked(t, &server{}, s, httpTerms, httpTerms)
	size := func(i int) int { return []int{100, directLeast, 60 << 10, 128 << 10, 129<<10 - 5, 200 << 10}[i%6] } // the last one is too large for a frame of its own memory
	data := func(exchange, i int) []byte { return bytes.Repeat([]byte{byte(exchange*parts + i)}, size(i)) }
	send := func(exchange int, to interface {
		Part(ctx context.Context, kind call.Codec, data []byte, hold bool) error
	}) {
		for i := range parts {
			if err := to.Part(t.Context(), partBody, data(exchange, i), i%3 == 0); err != nil {
				t.Error(err)
			}
		}
	}
	var wg sync.WaitGroup
	downs := make([]freeing, exchanges)
	futures := make([]*future, exchanges)
	uploaded := make([]chan struct{}, exchanges) // closed when all parts of the request were sent: the end of the exchange ends its upload
	for e := range exchanges {
		begun := make(uplinks, 1)
		k := raw([]byte("head"))
		k.Items, k.Window, k.Exchange = &downs[e], call.Room, &call.Exchange{Kind: 1, More: true, Begun: begun}
		futures[e] = newFuture()
		p.Start(nil, 0, k, 0, futures[e])
		up := <-begun
		uploaded[e] = make(chan struct{})
		wg.Go(func() {
			defer close(uploaded[e])
			if err := up.Wanted(t.Context()); err != nil {
				t.Error(err)
			}
			for i := range parts {
				if size(i) > frameRoom { // an UPLOAD is never announced
					continue
				}
				if err := up.Part(t.Context(), partBody, data(e, i), false); err != nil {
					t.Error(err)
				}
			}
			if err := up.Part(t.Context(), partLast, nil, false); err != nil {
				t.Error(err)
			}
		})
		a := <-calls
		wg.Go(func() {
			send(e, a.in)
			<-uploaded[e]
			a.in.Complete(nil, call.Result{})
		})
	}
	wg.Wait()
	for e := range exchanges {
		if <-futures[e].done; futures[e].r.Err != nil || len(downs[e].items) != parts {
			t.Fatalf("%v, %d parts", futures[e].r.Err, len(downs[e].items))
		}
		for i, got := range downs[e].items {
			if !bytes.Equal(got, data(e, i)) {
				t.Errorf("part %d of exchange %d has %d bytes, or those of another", i, e, len(got))
			}
		}
	}
	p.Close(ErrClosed)
	<-p.Done()
}

// counting is a collector that tells when so many parts have come.
type counting struct {
	collector
	parts int
	all   chan struct{}
}

func (c *counting) Frame(b *call.Batch, from call.Source, frame []byte) {
	c.collector.Frame(b, from, frame)
	if len(c.items) == c.parts {
		close(c.all)
	}
}

// TestPartBehindAWrite: a part that comes during a write of another goroutine is copied, because the writer takes it later; its caller may use its
// memory again.
func TestPartBehindAWrite(t *testing.T) {
	t.Parallel()
	got := &counting{parts: 2, all: make(chan struct{})}
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		in.Parts(got).Credit(b, call.Room)
		return nil
	}}
	p, _ := linked(t, &server{}, s, httpTerms, httpTerms)
	up, _, _, _ := exchange(p, call.Exchange{Kind: 1, More: true})
	if err := up.Wanted(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.conn.small
	for taken := false; !taken; { // as a goroutine does that writes
		c.mu.Lock()
		taken = !c.writing
		c.writing = true
		c.mu.Unlock()
	}
	data := pattern(128 << 10)
	if err := up.Part(t.Context(), partBody, data, false); err != nil { // the caller does not wait for the write
		t.Fatal(err)
	}
	clear(data)
	c.mu.Lock()
	c.writing = false
	c.mu.Unlock()
	if err := up.Part(t.Context(), partLast, nil, false); err != nil {
		t.Fatal(err)
	}
	if <-got.all; !bytes.Equal(got.items[0], pattern(128<<10)) {
		t.Error("the part was written from the memory of its caller, which has changed")
	}
}

// TestPartsWaitTheirTurn: while another exchange sends a large part, the next one waits; the end of its context ends the wait, and the items in front
// of it are kept for the END.
func TestPartsWaitTheirTurn(t *testing.T) {
	t.Parallel()
	s, calls := asker(call.Window{})
	p, q := linked(t, &server{}, s, httpTerms, httpTerms)
	_, c, f, _ := exchange(p, call.Exchange{Kind: 1})
	a := <-calls
	if err := a.in.Part(t.Context(), partHead, []byte("head"), true); err != nil {
		t.Fatal(err)
	}
	q.conn.itemTurn <- struct{}{}
	over, cancel := context.WithCancel(t.Context())
	sent := make(chan error)
	go func() { sent <- a.in.Part(over, partBody, pattern(directLeast), false) }()
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("the part that waited: %v", err)
	}
	<-q.conn.itemTurn
	a.in.Complete(nil, call.Result{})
	if <-f.done; f.r.Err != nil || len(c.items) != 1 || string(c.items[0]) != "head" {
		t.Errorf("%v, %q", f.r.Err, c.items)
	}
	_, _, f, _ = exchange(p, call.Exchange{Kind: 1})
	a = <-calls
	q.Close(ErrClosed)
	<-f.done
	if err := a.in.Part(t.Context(), partBody, pattern(directLeast), false); err == nil {
		t.Error("a part after the end of the connection was sent")
	}
}
