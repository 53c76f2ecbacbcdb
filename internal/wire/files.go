package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// maxFiles is how many descriptors the kernel passes with one message (SCM_MAX_FD).
const maxFiles = 253

// sendFiles sends descriptors with data, at least one byte, over a connection. They stay the caller's.
//
// They come with the first of the bytes and get lost when that is read in any other way than by receiveFiles. So this is
// for the opening, not for a connection on which frames are multiplexed.
func sendFiles(c *net.UnixConn, data []byte, files ...*os.File) error {
	if len(data) == 0 || len(files) == 0 || len(files) > maxFiles {
		return fmt.Errorf("%d bytes and %d descriptors to send", len(data), len(files))
	}
	fds := make([]int, len(files))
	for i, f := range files { // duplicates, which nobody closes or changes to blocking mode meanwhile
		raw, err := f.SyscallConn()
		if err == nil {
			cerr := raw.Control(func(fd uintptr) {
				var dup uintptr
				var errno syscall.Errno
				if dup, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0); errno != 0 {
					err = os.NewSyscallError("dup", errno)
				}
				fds[i] = int(dup)
			})
			err = errors.Join(err, cerr)
		}
		if err != nil {
			closeFDs(fds[:i])
			return err
		}
	}
	defer closeFDs(fds)
	n, _, err := c.WriteMsgUnix(data, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(data) {
		_, err = c.Write(data[n:])
	}
	return err
}

// receiveFiles reads once: up to len(data) bytes, and the at most max descriptors that came with them, which are the
// caller's. More than max, or anything else beside the bytes, is an error, and everything that came is closed.
func receiveFiles(c *net.UnixConn, data []byte, max int) (n int, files []*os.File, err error) {
	oob := make([]byte, syscall.CmsgSpace(4*min(max, maxFiles)))
	n, k, flags, _, err := c.ReadMsgUnix(data, oob) // sets close-on-exec
	if err != nil {
		return n, nil, err
	}
	var fds []int
	messages, err := syscall.ParseSocketControlMessage(oob[:k])
	for _, m := range messages {
		more, perr := syscall.ParseUnixRights(&m)
		err = errors.Join(err, perr)
		fds = append(fds, more...)
	}
	if flags&syscall.MSG_CTRUNC != 0 || len(fds) > max { // the space is rounded up: one more may have fitted
		err = errors.Join(err, fmt.Errorf("more than %d descriptors came", max))
	}
	if err != nil {
		closeFDs(fds)
		return n, nil, err
	}
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return n, files, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd) //nolint:errcheck // nothing was written
	}
}

// fileReader reads the opening of a connection, and keeps the one descriptor that may come with it.
type fileReader struct {
	conn *net.UnixConn
	file *os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	n, files, err := receiveFiles(r.conn, p, 1)
	for _, f := range files {
		if r.file != nil {
			f.Close()
			continue
		}
		r.file = f
	}
	return n, err
}
