package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// maxFiles is the number of descriptors that the kernel passes with one message (SCM_MAX_FD).
const maxFiles = 253

// sendFiles sends descriptors together with data of at least one byte. The files still belong to the caller.
//
// The descriptors come with the first byte of data, and are lost if this byte is read by anything but receiveFiles. So
// sendFiles is for the opening, and not for a connection on which frames are multiplexed.
func sendFiles(c *net.UnixConn, data []byte, files ...*os.File) error {
	if len(data) == 0 || len(files) == 0 || len(files) > maxFiles {
		return fmt.Errorf("%d bytes and %d descriptors to send", len(data), len(files))
	}
	fds := make([]int, len(files))
	for i, f := range files { // duplicates, because another goroutine could close the file or change its mode meanwhile
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

// receiveFiles reads up to len(data) bytes, and at most max descriptors that come with them. The files belong to the
// caller. If more descriptors come, or any other control message, it closes all of them and returns an error.
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
	if flags&syscall.MSG_CTRUNC != 0 || len(fds) > max { // the buffer is rounded up, so that one more may have fitted
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
		syscall.Close(fd) //nolint:errcheck // the descriptor was not written to
	}
}

// fileReader reads the frames of an opening, and stores the one descriptor that may come with them.
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
