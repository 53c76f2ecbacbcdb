package wire

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// collector reads a stream as its user would: it keeps the items, and gives credit for them.
type collector struct {
	items  [][]byte
	from   call.Source
	frames []int // their lengths
	slow   bool  // gives no credit
	relay  *Incoming
}

func (c *collector) Item(context.Context, call.Payload) bool { return false }

func (c *collector) Frame(b *call.Batch, from call.Source, frame []byte) {
	c.frames = append(c.frames, len(frame))
	c.from = from
	if c.relay != nil {
		c.relay.Frame(b, from, frame)
		return
	}
	var w call.Window
	for rest := frame; len(rest) > 0; {
		p, next, ok := call.NextItem(rest)
		if !ok {
			panic("a frame that ends inside an item")
		}
		c.items = append(c.items, bytes.Clone(p.Data))
		rest, w.Items, w.Bytes = next, w.Items+1, w.Bytes+uint32(len(p.Data))
	}
	if !c.slow {
		from.Credit(b, w)
	}
}

// streamed starts a stream, whose items are in c when the future is done.
func streamed(p *Peer, w call.Window) (c *collector, f *future, id uint64) {
	c, f = &collector{}, newFuture()
	k := raw(nil)
	k.Items, k.Window = c, w
	id = p.Start(nil, 0, k, 0, f)
	return c, f, id
}

// producer is a server whose streams have items of these lengths, until the reader stops.
func producer(sizes ...int) *server {
	return &server{call: func(_ *call.Batch, in *Incoming) call.Canceler {
		ctx, cancel := context.WithCancelCause(context.Background())
		go func() {
			for _, n := range sizes {
				if !in.Item(ctx, call.Payload{Codec: call.Raw, Data: pattern(n)}) {
					break
				}
			}
			in.Drain(ctx)
			r := call.Result{}
			if ctx.Err() != nil {
				r.Err = call.FromContext(ctx)
			}
			in.Complete(nil, r)
		}()
		return cancelFunc(func(_ *call.Batch, cause error) { cancel(cause) })
	}}
}

// TestNoItemIsLost: small items before one near the limit do not make a frame over it, and nothing is merged beyond 32 KiB.
func TestNoItemIsLost(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	sizes := []int{10, 31 << 10, limit - call.ItemOverhead, 31 << 10, 31 << 10, 0, limit - call.ItemOverhead, 1}
	for name, terms := range map[string]Terms{"one": {MaxOut: limit}, "two": {Protocol: 2, Bulk: true, MaxOut: limit}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := terms
			in.MaxIn, in.MaxOut = limit, 0
			var p *Peer
			if terms.Bulk {
				p, _ = linked(t, &server{}, producer(sizes...), in, terms)
			} else {
				a, b := pair(t)
				p = NewPeer(NewLink(NewConn(a), in), &server{})
				serve(t, p)
				serve(t, NewPeer(NewLink(NewConn(b), terms), producer(sizes...)))
			}
			c, f, _ := streamed(p, call.Room)
			if <-f.done; f.r.Err != nil {
				t.Fatal(f.r.Err)
			}
			if len(c.items) != len(sizes) {
				t.Fatalf("%d of %d items arrived", len(c.items), len(sizes))
			}
			for i, item := range c.items {
				if !bytes.Equal(item, pattern(sizes[i])) {
					t.Errorf("item %d of %d bytes came as %d", i, sizes[i], len(item))
				}
			}
			for _, n := range c.frames {
				if n > limit || n > itemsFrame && n != limit {
					t.Errorf("a frame of %d bytes", n)
				}
			}
		})
	}
}

// TestItemTooLarge: an item that is too large for the other side ends the stream with an error; the items before it
// arrive.
func TestItemTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	p, _ := linked(t, &server{}, producer(10, limit-call.ItemOverhead+1, 5), Terms{Protocol: 2, Bulk: true, MaxIn: limit}, Terms{Protocol: 2, Bulk: true, MaxOut: limit})
	c, f, _ := streamed(p, call.Room)
	<-f.done
	want := "an item of the stream is a value of 65537 bytes, the other side takes at most 65536 (max_body)"
	if f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonTooLarge || f.r.Err.Message != want {
		t.Errorf("ended with %v", f.r.Err)
	}
	if len(c.items) != 1 || len(c.items[0]) != 10 {
		t.Errorf("%d items", len(c.items))
	}
}

// relaying is a node in the middle: it passes every call on to far.
func relaying(far **Peer) *server {
	return &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		in.Keep()
		k := raw(nil)
		k.Items, k.Window = &collector{relay: in}, in.Window
		id := (*far).Start(b, 0, k, 0, in)
		return cancelFunc(func(b *call.Batch, cause error) {
			in.Complete(b, call.Result{Err: call.FromCause(cause)})
			(*far).Cancel(b, id)
		})
	}}
}

// TestRelayedToSmaller: a stream whose reader takes less than the relay between is sent in smaller frames, as far as its
// items fit, and ends with an error where one does not.
func TestRelayedToSmaller(t *testing.T) {
	t.Parallel()
	const limit = 4 << 10
	small, big := Terms{Protocol: 2, Bulk: true, MaxIn: limit}, Terms{Protocol: 2, Bulk: true, MaxOut: limit}
	for _, sizes := range [][]int{{1000, 2000, 3000, 4000, 10, limit - call.ItemOverhead, 0, 7}, {100, 200, limit, 300}} {
		t.Run(fmt.Sprint(len(sizes)), func(t *testing.T) {
			t.Parallel()
			var far *Peer
			ended := make(chan error, 1)
			s := producer(append(sizes, make([]int, 100_000)...)...)
			if len(sizes) > 4 {
				s = producer(sizes...)
			}
			inner := s.call
			s.call = func(b *call.Batch, in *Incoming) call.Canceler {
				c := inner(b, in)
				return cancelFunc(func(b *call.Batch, cause error) { ended <- cause; c.Cancel(b, cause) })
			}
			far, _ = linked(t, &server{}, s, bulkTerms, bulkTerms)
			p, _ := linked(t, &server{}, relaying(&far), small, big)
			c, f, _ := streamed(p, call.Room)
			<-f.done
			if len(sizes) > 4 {
				if f.r.Err != nil || len(c.items) != len(sizes) {
					t.Errorf("%d items, %v", len(c.items), f.r.Err)
				}
				return
			}
			if f.r.Err == nil || f.r.Err.Reason != helvetype.ReasonTooLarge || len(c.items) > 2 {
				t.Errorf("%d items, %v", len(c.items), f.r.Err)
			}
			<-ended // the far side is told to stop
		})
	}
}

// TestAnswerTooLarge: the sender of an answer to a broadcast gets an error if the answer is too large.
func TestAnswerTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	s := &server{call: func(b *call.Batch, in *Incoming) call.Canceler {
		for i, n := range []int{5, limit, 6} {
			if e := in.Send(b, Answer(i, call.Result{Payload: call.Payload{Codec: call.Raw, Data: pattern(n)}})); e != nil {
				in.Send(b, Answer(i, call.Result{Err: e}))
			}
		}
		in.Complete(b, call.Result{})
		return nil
	}}
	p, _ := linked(t, &server{}, s, Terms{Protocol: 2, Bulk: true, MaxIn: limit}, Terms{Protocol: 2, Bulk: true, MaxOut: limit})
	c, f, _ := streamed(p, call.Room)
	if <-f.done; f.r.Err != nil || len(c.items) != 3 {
		t.Fatalf("%d answers, %v", len(c.items), f.r.Err)
	}
	for i, want := range []int{5, -1, 6} {
		index, r, err := ParseAnswer(call.Payload{Data: c.items[i]})
		if err != nil || index != i || want < 0 != (r.Err != nil) || want >= 0 && len(r.Data) != want {
			t.Errorf("answer %d: index %d, %+v, %v", i, index, r, err)
		}
		if want < 0 && (r.Err.Reason != helvetype.ReasonTooLarge || !strings.Contains(r.Err.Message, "65536 (max_body)")) {
			t.Error(r.Err)
		}
	}
}
