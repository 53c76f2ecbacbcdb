package wire

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestManySlowStreams: methods wait while the process that reads their streams does not read, even with large windows.
// The connection lives, and every item arrives when the process reads again.
func TestManySlowStreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ streams, size int }{"small": {3_000, 1 << 10}, "large": {200, 40 << 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sizes := slices.Repeat([]int{test.size}, 4)
			p, e := halfLinked(t, &server{}, bulkTerms)
			q := NewPeer(NewLink(NewConn(e.small), bulkTerms), producer(sizes...))
			if err := q.Attach(e.bulk); err != nil {
				t.Fatal(err)
			}
			shrink(p, q)
			const bound = 512 << 10
			q.conn.small.streamBacklog, q.conn.small.backlog = bound, 4*bound
			serve(t, q)
			cs, fs := make([]*collector, test.streams), make([]*future, test.streams)
			for i := range cs {
				cs[i], fs[i], _ = streamed(p, call.Room)
			}
			waiting := func() int { // the bytes that q has to write
				s := &q.conn.send
				s.mu.Lock()
				defer s.mu.Unlock()
				c := q.conn.small
				c.mu.Lock()
				defer c.mu.Unlock()
				return s.bytes + int(c.appended-c.written.Load())
			}
			// Until the streams are held back and no more bytes go. The kernel may take bytes after the hold has begun, so fewer than
			// bound can wait then: the hold begins at 513 KiB, the socket takes 200 KiB more, and 313 KiB wait.
			for last := -1; ; {
				time.Sleep(100 * time.Millisecond)
				n := waiting()
				if n == last && (q.conn.small.congestion.congested.Load() || q.conn.send.congestion.congested.Load()) {
					break
				}
				last = n
			}
			if n := waiting(); n > 4*bound || q.conn.Err() != nil {
				t.Errorf("%d bytes wait, %v", n, q.conn.Err())
			}
			serve(t, p)
			for i, f := range fs {
				if <-f.done; f.r.Err != nil || len(cs[i].items) != len(sizes) {
					t.Fatalf("stream %d has %d items, %v", i, len(cs[i].items), f.r.Err)
				}
			}
		})
	}
}

// TestManyEndsAtOnce: methods that end at the same moment, none of which sees a congestion, append together about as many bytes as make one, and
// not the pending items of all. The process at the other side does not read.
func TestManyEndsAtOnce(t *testing.T) {
	t.Parallel()
	p, _ := halfLinked(t, &server{}, bulkTerms)
	const methods, size, bound = 2_000, 10 << 10, 512 << 10
	p.conn.small.streamBacklog = bound
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	drained := make(chan *Incoming, methods)
	for id := range uint64(methods) {
		in := &Incoming{peer: p, id: id, out: newOutflow(p, TypeItems, id, call.Room)}
		in.out.pending = call.AppendItem(nil, call.Payload{Codec: call.Raw, Data: pattern(size)})
		go func() {
			in.Drain(ctx)
			drained <- in
		}()
	}
	for !p.conn.small.congestion.congested.Load() && len(drained) < methods { // some send in turn until the socket takes no more
		runtime.Gosched()
	}
	waits := func() int {
		p.conn.small.mu.Lock()
		defer p.conn.small.mu.Unlock()
		return int(p.conn.small.appended - p.conn.small.written.Load())
	}
	before := waits()
	through := len(drained)
	for range through { // they stand between Drain and Complete
		(<-drained).Complete(nil, call.Result{})
	}
	if n := waits(); n > 2*bound+before {
		t.Errorf("%d bytes wait, and %d before the ends", n, before)
	}
	cancel()
	for range methods - through {
		(<-drained).Complete(nil, call.Result{})
	}
	if n := p.conn.ending.Load(); n != 0 {
		t.Errorf("%d bytes still count as about to be sent", n)
	}
}

// TestSlowStreamCancelled: a method that waits for its reader's process is reached by a cancel, and by the end.
func TestSlowStreamCancelled(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10 << 10, 600 << 10} {
		ended := make(chan call.Result, 3)
		s := producer(slices.Repeat([]int{size}, 1000)...)
		p, e := halfLinked(t, s, bulkTerms)
		p.conn.small.streamBacklog = 1 << 20
		inner := s.call
		s.call = func(b *call.Batch, in *Incoming) call.Canceler {
			in.OnEnd = endFunc(func() { ended <- call.Result{} })
			return inner(b, in)
		}
		serve(t, p)
		k := raw(nil)
		k.Items, k.Window = &collector{}, call.Window{Items: 1 << 20, Bytes: 1 << 30}
		meta, err := appendCall(nil, 0, k, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(3) {
			write(t, e.small, frameOf(Header{Type: TypeCall, ID: i + 1}, meta, nil))
		}
		jammed := func() bool {
			return p.conn.small.congestion.congested.Load() || p.conn.send.congestion.congested.Load()
		}
		for !jammed() {
			time.Sleep(time.Millisecond)
		}
		write(t, e.small, frameOf(Header{Type: TypeCancel, ID: 2}, nil, nil))
		<-ended
		e.small.Close()
		<-ended
		<-ended
	}
}

type endFunc func()

func (f endFunc) Ended() { f() }

// TestRelayedToStopped: a relay cannot wait; streams whose reader's process does not read at all end, and the connection
// lives.
func TestRelayedToStopped(t *testing.T) {
	t.Parallel()
	p, _ := halfLinked(t, &server{}, bulkTerms)
	p.conn.small.backlog = 1 << 20
	serve(t, p)
	gone := make(chan error, 1)
	in := &Incoming{peer: p, id: 1, out: newOutflow(p, TypeItems, 1, call.Room), cancel: cancelFunc(func(_ *call.Batch, cause error) { gone <- cause })}
	frame := call.AppendItem(nil, call.Payload{Codec: call.Raw, Data: pattern(20 << 10)})
	for range 200 {
		in.Frame(nil, nil, frame)
	}
	if e, ok := (<-gone).(*call.Error); !ok || e.Reason != helvetype.ReasonBackpressure {
		t.Error(e)
	}
	if p.conn.Err() != nil {
		t.Error(p.conn.Err())
	}
	if n := p.conn.small.appended; n > 3<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}
