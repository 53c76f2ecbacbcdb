package wire

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// counted is a connection that counts its writes, and can hold them.
type counted struct {
	*net.UnixConn
	raw    syscall.RawConn
	writes atomic.Int64
	hold   atomic.Pointer[chan struct{}]
}

func newCounted(t testing.TB, nc *net.UnixConn) *counted {
	t.Helper()
	raw, err := nc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return &counted{UnixConn: nc, raw: raw}
}

func (c *counted) count() {
	c.writes.Add(1)
	if h := c.hold.Load(); h != nil {
		<-*h
	}
}

func (c *counted) Write(p []byte) (int, error) {
	c.count()
	return c.UnixConn.Write(p)
}

func (c *counted) SyscallConn() (syscall.RawConn, error) { return rawCounted{c}, nil }

type rawCounted struct{ c *counted }

func (r rawCounted) Control(f func(uintptr)) error   { return r.c.raw.Control(f) }
func (r rawCounted) Read(f func(uintptr) bool) error { return r.c.raw.Read(f) }
func (r rawCounted) Write(f func(uintptr) bool) error {
	r.c.count()
	return r.c.raw.Write(f)
}

// TestOneWritePerCall: a call alone is written before Start returns, in one write, and so is its answer.
func TestOneWritePerCall(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	x, y := newCounted(t, a), newCounted(t, b)
	p, q := newPeer(NewConn(x), &server{}), newPeer(NewConn(y), &server{})
	serve(t, p)
	serve(t, q)
	for i := range int64(100) {
		f := newFuture()
		p.Start(nil, 0, raw([]byte("x")), 0, f)
		if n := x.writes.Load(); n != i+1 {
			t.Fatalf("%d writes after %d calls", n, i+1)
		}
		<-f.done
		if n := y.writes.Load(); n != i+1 {
			t.Fatalf("%d writes of %d answers", n, i+1)
		}
	}
}

// TestWritesJoinBehindOne: frames that are appended during a write, by any goroutine, leave in one write after it.
func TestWritesJoinBehindOne(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	x := newCounted(t, a)
	p := newPeer(NewConn(x), &server{})
	serve(t, p)
	hold := make(chan struct{})
	x.hold.Store(&hold)
	fs := make([]*future, 128)
	for i := range fs {
		fs[i] = newFuture()
	}
	go p.Start(nil, 0, raw([]byte("first")), 0, fs[0])
	for x.writes.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	for _, f := range fs[1:] {
		wg.Go(func() { p.Start(nil, 0, raw([]byte("x")), 0, f) })
	}
	wg.Wait() // Start does not wait for the write
	if n := x.writes.Load(); n != 1 {
		t.Errorf("%d writes at once", n)
	}
	x.hold.Store(nil)
	close(hold)
	serve(t, newPeer(NewConn(b), &server{}))
	for _, f := range fs {
		<-f.done
	}
	if n := x.writes.Load(); n != 2 {
		t.Errorf("%d writes for 128 calls, of which 127 came during the first", n)
	}
}

// TestFewWrites: 128 callers at once need far fewer writes than calls, and so do their answers.
func TestFewWrites(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	x, y := newCounted(t, a), newCounted(t, b)
	p, q := newPeer(NewConn(x), &server{}), newPeer(NewConn(y), &server{})
	serve(t, p)
	serve(t, q)
	const callers, each = 128, 100
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				w := call.NewWaiter()
				p.Start(nil, 0, raw([]byte("x")), 0, w)
				if _, e := w.Wait(t.Context(), cancelFunc(func(*call.Batch, error) {})); e != nil {
					t.Error(e)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls in %d writes, their answers in %d", callers*each, x.writes.Load(), y.writes.Load())
	if n := max(x.writes.Load(), y.writes.Load()); n > callers*each/2 {
		t.Errorf("%d writes of %d frames", n, callers*each)
	}
}
