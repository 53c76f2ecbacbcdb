package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sockets makes two ends of a connection, of which the first is a socket.
func sockets(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	a, b := pair(t)
	s, ok := newSocket(a).(*socket)
	if !ok {
		t.Fatal("the connection stays in the poller of package net")
	}
	t.Cleanup(func() { s.Close(); b.Close() })
	return s, b
}

// TestSocketWatchesOnlyReads: after the other side has read, there is no event, and after it has written, there is one.
func TestSocketWatchesOnlyReads(t *testing.T) {
	t.Parallel()
	s, other := sockets(t)
	events := func() (n int) {
		t.Helper()
		raw, err := s.in.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { n, err = syscall.EpollWait(int(fd), make([]syscall.EpollEvent, 1), 0) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := s.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if n := events(); n != 0 {
		t.Errorf("%d events after the other side has read", n)
	}
	if _, err := other.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n := events(); n != 1 {
		t.Errorf("%d events after the other side has written", n)
	}
}

// TestSocketCarriesAll: bytes that are written in pieces of every size arrive in order, though each side's kernel buffer is full at times.
func TestSocketCarriesAll(t *testing.T) {
	t.Parallel()
	s, other := sockets(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	write := func(w io.Writer) {
		for rest, n := want, 1; len(rest) > 0; n = n*3 + 1 {
			n = min(n, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	}
	var wg sync.WaitGroup
	for _, d := range []struct {
		from io.Reader
		to   io.Writer
	}{{s, other}, {other, s}} {
		wg.Go(func() { write(d.to) })
		wg.Go(func() {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(d.from, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("not what was written: %v", err)
			}
		})
	}
	wg.Wait()
}

// TestSocketWritesVectors: more buffers than one system call takes, some of them empty, arrive in order, and none is left.
func TestSocketWritesVectors(t *testing.T) {
	t.Parallel()
	s, other := sockets(t)
	var bufs net.Buffers
	var want []byte
	for i := range 3*maxVector + 1 {
		b := bytes.Repeat([]byte{byte(i)}, i%7*1000)
		bufs, want = append(bufs, b), append(want, b...)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("not what was written: %v", err)
		}
	})
	n, err := s.writev(&bufs)
	if err != nil || n != int64(len(want)) || len(bufs) != 0 {
		t.Errorf("%d bytes, %d buffers are left: %v", n, len(bufs), err)
	}
	wg.Wait()
}

// TestSocketTakesWhatHasRoom: a write that must not wait takes a part, then nothing, and goes on when the other side has read.
func TestSocketTakesWhatHasRoom(t *testing.T) {
	t.Parallel()
	s, other := sockets(t)
	taken := 0
	for {
		n, err := s.tryWrite(make([]byte, 32<<10))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		taken += n
	}
	if _, err := io.ReadFull(other, make([]byte, taken)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.tryWrite([]byte("abc")); n != 3 || err != nil {
		t.Errorf("%d bytes were taken after the other side had read: %v", n, err)
	}
}

// TestSocketEnds: the end of each side, and a deadline, ends a read and a write that wait.
func TestSocketEnds(t *testing.T) {
	t.Parallel()
	read := func(s *socket) error { _, err := s.Read(make([]byte, 1)); return err }
	write := func(s *socket) error { _, err := s.Write(make([]byte, 10<<20)); return err }
	for _, c := range []struct {
		name string
		wait func(*socket) error
		end  func(s *socket, other net.Conn)
		want error
	}{
		{"read, closed here", read, func(s *socket, _ net.Conn) { s.Close() }, net.ErrClosed},
		{"read, closed there", read, func(_ *socket, other net.Conn) { other.Close() }, io.EOF},
		{"read, deadline", read, func(s *socket, _ net.Conn) { s.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded}, //nolint:errcheck // the read tells
		{"write, closed here", write, func(s *socket, _ net.Conn) { s.Close() }, net.ErrClosed},
		{"write, closed there", write, func(_ *socket, other net.Conn) { other.Close() }, syscall.EPIPE},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, other := sockets(t)
			done := make(chan error, 1)
			go func() { done <- c.wait(s) }()
			c.end(s, other)
			if err := <-done; !errors.Is(err, c.want) {
				t.Errorf("the error is %v, not %v", err, c.want)
			}
		})
	}
}

// TestSocketClosesItsDescriptor: the other side sees the end when a socket is closed during a read, and twice.
func TestSocketClosesItsDescriptor(t *testing.T) {
	t.Parallel()
	s, other := sockets(t)
	var wg sync.WaitGroup
	wg.Go(func() { s.Read(make([]byte, 1)) }) //nolint:errcheck // it ends with the socket
	wg.Go(func() { s.Close() })
	wg.Go(func() { s.Close() })
	if n, err := other.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the other side has read %d bytes: %v", n, err)
	}
	wg.Wait()
}

// TestSocketDoesNotBlock: a descriptor whose mode was changed elsewhere does not block.
func TestSocketDoesNotBlock(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	defer b.Close()
	raw, err := a.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), false) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSocket(a).(*socket) //nolint:forcetypeassert // as in sockets
	defer s.Close()
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.fd), syscall.F_GETFL, 0)
	if errno != 0 || flags&syscall.O_NONBLOCK == 0 {
		t.Errorf("the flags are %#x, %v", flags, errno)
	}
}
