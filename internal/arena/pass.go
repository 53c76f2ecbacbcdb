package arena

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Env is the environment variable by which a spawned worker learns of the arena that it inherits.
const Env = "HELVE_ARENA"

// Environ is the environment entry for a child that inherits the memory as the descriptor number fd (the index in
// exec.Cmd.ExtraFiles plus 3).
func (o Offer) Environ(fd int) string {
	return fmt.Sprintf("%s=%d,%d,%d", Env, fd, o.Arena, o.Size)
}

// Inherited opens the arena that value, the variable Env, speaks of; an empty one is no arena, and no error. The
// descriptor will not be inherited any further. It is to be called once.
func Inherited(value string) (*Memory, error) {
	if value == "" {
		return nil, nil
	}
	f := strings.Split(value, ",")
	if len(f) != 3 {
		return nil, fmt.Errorf("arena: %s=%q", Env, value)
	}
	fd, e1 := strconv.ParseUint(f[0], 10, 31)
	id, e2 := strconv.ParseUint(f[1], 10, 64)
	size, e3 := strconv.ParseUint(f[2], 10, 64)
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, fmt.Errorf("arena: %s=%q: %w", Env, value, err)
	}
	syscall.CloseOnExec(int(fd))
	return Open(os.NewFile(uintptr(fd), "helve-arena"), Offer{id, size})
}

// maxFiles is how many descriptors the kernel passes with one message (SCM_MAX_FD).
const maxFiles = 253

// SendFiles sends descriptors with data, at least one byte, over a connection. They stay the caller's.
//
// They come with the first of the bytes and get lost when that is read in any other way than by ReceiveFiles. So this is
// not for a connection on which frames are read already: descriptors go before the first frame, or over a connection of
// their own.
func SendFiles(c *net.UnixConn, data []byte, files ...*os.File) error {
	if len(data) == 0 || len(files) == 0 || len(files) > maxFiles {
		return fmt.Errorf("arena: %d bytes and %d descriptors to send", len(data), len(files))
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
			closeAll(fds[:i])
			return err
		}
	}
	defer closeAll(fds)
	n, _, err := c.WriteMsgUnix(data, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(data) {
		_, err = c.Write(data[n:])
	}
	return err
}

// ReceiveFiles reads once: up to len(data) bytes, and the at most max descriptors that came with them, which are the
// caller's. More than max, or anything else beside the bytes, is an error, and everything that came is closed.
func ReceiveFiles(c *net.UnixConn, data []byte, max int) (n int, files []*os.File, err error) {
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
		err = errors.Join(err, fmt.Errorf("arena: more than %d descriptors came", max))
	}
	if err != nil {
		closeAll(fds)
		return n, nil, err
	}
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return n, files, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd) //nolint:errcheck // nothing was written
	}
}
