package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// socket is a unix socket outside of the poller of package net. It saves a call in flight alone two thirds of its wake-ups:
//
//   - Package net asks the kernel for the event "can be written" beside "can be read", for as long as the connection lives. A unix socket
//     has this event each time that the other side has read something. So a node that had just sent a call to a worker was woken when
//     the worker read it, and took the processor from the worker, for nothing. A socket is watched by an epoll descriptor of its own that
//     asks for "can be read" only, and package os polls this descriptor. A second one, for "can be written", is made when a write
//     finds the kernel's buffer full, and asks for one event at a time.
//   - A system call by package syscall tells the scheduler that the thread may block. If the process was idle, this wakes the runtime's
//     monitor thread, with a futex call and two more wake-ups. The descriptor does not block, so small reads and writes are raw
//     system calls. A large one copies for long and stays an ordinary system call, so that a collection does not wait for it.
//
// To stop at a short read, without the next read that fails with EAGAIN, was tried and rejected: the end of the other side would not be
// noticed if it came together with the data, because the kernel reports it once.
//
// Read may be called by one goroutine at a time, and so may Write, writev and tryWrite together. Close may be called by any goroutine, at
// any time; the descriptor is closed when no other method uses it.
type socket struct {
	fd            int
	local, remote net.Addr
	uses          atomic.Int64 // methods that use fd, and 1 until Close

	in  *os.File // an epoll descriptor that can be read when fd can be read
	raw syscall.RawConn

	// The fields below belong to the reader.
	readInto []byte
	readN    int
	readErr  syscall.Errno
	readFunc func(uintptr) bool

	vector []syscall.Iovec // of the writer

	mu     sync.Mutex // guards the fields below
	closed bool
	out    *os.File // an epoll descriptor that can be read when fd can be written; nil before a write has to wait
}

// maxRaw is the number of bytes up to which a read or write is a raw system call.
const maxRaw = 64 << 10

// newSocket takes a unix socket out of the poller of package net. The result is nc itself if that is not possible.
func newSocket(nc net.Conn) net.Conn {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return nc
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nc
	}
	s := &socket{fd: -1, local: nc.LocalAddr(), remote: nc.RemoteAddr()}
	err = raw.Control(func(fd uintptr) {
		if dup, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0); errno == 0 {
			s.fd = int(dup)
		}
	})
	if err != nil || s.fd < 0 {
		return nc
	}
	// A raw system call that waits keeps a processor of the runtime from all other goroutines. Package net has its descriptors not block, but the mode
	// belongs to all descriptors of the same socket: for example, os.File.Fd of another one has changed it.
	err = syscall.SetNonblock(s.fd, true)
	if err == nil {
		s.in, err = watch(s.fd, syscall.EPOLLIN|syscall.EPOLLRDHUP)
	}
	if err == nil {
		s.raw, err = s.in.SyscallConn()
	}
	if err != nil {
		if s.in != nil {
			s.in.Close()
		}
		syscall.Close(s.fd) //nolint:errcheck // nothing was written
		return nc
	}
	s.uses.Store(1)
	s.readFunc = func(uintptr) bool { // one closure for all reads, because each closure is an allocation
		s.readN, s.readErr = s.io(syscall.SYS_READ, unsafe.Pointer(unsafe.SliceData(s.readInto)), len(s.readInto), len(s.readInto))
		return s.readErr != syscall.EAGAIN
	}
	nc.Close() // takes the other descriptor out of the poller of package net
	return s
}

// watch makes an epoll descriptor that can be read while fd has one of the events.
func watch(fd int, events uint32) (*os.File, error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	event := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	if err = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &event); err == nil {
		err = syscall.SetNonblock(poll, true) // package os polls descriptors that do not block
	}
	if err != nil {
		syscall.Close(poll) //nolint:errcheck // nothing was written
		return nil, err
	}
	return os.NewFile(uintptr(poll), "epoll"), nil
}

// io makes a read or write of size bytes. p and n are the arguments of the system call: a buffer and its length, or a vector and its length.
func (s *socket) io(trap uintptr, p unsafe.Pointer, n, size int) (int, syscall.Errno) {
	if trap != syscall.SYS_READ {
		raceWrite()
	}
	for {
		var done uintptr
		var errno syscall.Errno
		if size <= maxRaw {
			done, _, errno = syscall.RawSyscall(trap, uintptr(s.fd), uintptr(p), uintptr(n))
		} else {
			done, _, errno = syscall.Syscall(trap, uintptr(s.fd), uintptr(p), uintptr(n))
		}
		switch errno {
		case 0:
			if trap == syscall.SYS_READ {
				raceRead()
			}
			return int(done), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// use returns true if fd is open, and keeps it open until release.
func (s *socket) use() bool {
	for {
		n := s.uses.Load()
		if n == 0 {
			return false
		}
		if s.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *socket) release() {
	if s.uses.Add(-1) == 0 {
		syscall.Close(s.fd) //nolint:errcheck // a write has reported its error
	}
}

// Read reads the bytes that have come, and waits for the first if there are none.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !s.use() {
		return 0, net.ErrClosed
	}
	defer s.release()
	s.readInto = p
	err := s.raw.Read(s.readFunc)
	s.readInto = nil
	switch {
	case err != nil:
		return 0, ended(err)
	case s.readErr != 0:
		return 0, os.NewSyscallError("read", s.readErr)
	case s.readN == 0:
		return 0, io.EOF
	}
	return s.readN, nil
}

// tryWrite writes the bytes that the kernel takes at once. It does not wait: n is 0 if the kernel has no room.
func (s *socket) tryWrite(p []byte) (n int, err error) {
	if !s.use() {
		return 0, net.ErrClosed
	}
	defer s.release()
	n, errno := s.io(syscall.SYS_WRITE, unsafe.Pointer(unsafe.SliceData(p)), len(p), len(p))
	if errno != 0 && errno != syscall.EAGAIN {
		return n, os.NewSyscallError("write", errno)
	}
	return n, nil
}

// Write writes all of p, and waits while the kernel takes nothing.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.writev(&net.Buffers{p})
	return int(n), err
}

// maxVector is the number of buffers that are written by one system call.
const maxVector = 64

// writev writes all of bufs, which it consumes, and waits while the kernel takes nothing.
func (s *socket) writev(bufs *net.Buffers) (written int64, err error) {
	if !s.use() {
		return 0, net.ErrClosed
	}
	defer s.release()
	for {
		s.vector = s.vector[:0]
		size := 0
		for _, b := range *bufs {
			if len(s.vector) == maxVector {
				break
			}
			if len(b) > 0 {
				v := syscall.Iovec{Base: unsafe.SliceData(b)}
				v.SetLen(len(b))
				s.vector = append(s.vector, v)
				size += len(b)
			}
		}
		if size == 0 {
			*bufs = (*bufs)[len(*bufs):]
			return written, nil
		}
		n, errno := s.io(syscall.SYS_WRITEV, unsafe.Pointer(unsafe.SliceData(s.vector)), len(s.vector), size)
		clear(s.vector)
		written += int64(n)
		consume(bufs, n)
		switch errno {
		case 0:
		case syscall.EAGAIN:
			if err := s.awaitRoom(); err != nil {
				return written, err
			}
		default:
			return written, os.NewSyscallError("write", errno)
		}
	}
}

// consume removes the first n bytes.
func consume(bufs *net.Buffers, n int) {
	for len(*bufs) > 0 {
		first := len((*bufs)[0])
		if first > n {
			(*bufs)[0] = (*bufs)[0][n:]
			return
		}
		n -= first
		(*bufs)[0] = nil
		*bufs = (*bufs)[1:]
	}
}

// awaitRoom returns when fd can be written, or is closed. Its epoll descriptor reports one event and is silent then (EPOLLONESHOT), so that it wakes
// no goroutine while all writes find room.
func (s *socket) awaitRoom() error {
	out, err := s.roomFile()
	if err != nil {
		return err
	}
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(poll uintptr) bool {
		event := syscall.EpollEvent{Events: syscall.EPOLLOUT | syscall.EPOLLONESHOT, Fd: int32(s.fd)}
		if failed = syscall.EpollCtl(int(poll), syscall.EPOLL_CTL_MOD, s.fd, &event); failed != nil {
			return true
		}
		var ready [1]syscall.EpollEvent
		n, err := syscall.EpollWait(int(poll), ready[:], 0) // takes the event, if there is one
		if err == syscall.EINTR {                           //nolint:errorlint // raw errno
			n, err = 1, nil // the next write shows whether there is room
		}
		failed = err
		return n > 0 || failed != nil
	})
	if err == nil {
		err = failed
	}
	return ended(err)
}

// ended returns the error of package net for a socket that was closed during a method: the descriptor that has noticed it is one of package os.
func ended(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

func (s *socket) roomFile() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.out == nil {
		out, err := watch(s.fd, 0)
		if err != nil {
			return nil, err
		}
		s.out = out
	}
	return s.out, nil
}

// Close ends the connection. Methods that wait return an error.
func (s *socket) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	s.in.Close()
	if s.out != nil {
		s.out.Close()
	}
	s.mu.Unlock()
	s.release()
	return nil
}

// LocalAddr is the address of this side.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the address of the other side.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline sets the deadline of reads. Writes have none.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline sets the time after which Read fails if it has to wait.
func (s *socket) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) }

// SetWriteDeadline is not possible.
func (s *socket) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
