package shown

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestWritten: a reader that has closed the standard output is no error; a closed connection, and a full disk, are.
func TestWritten(t *testing.T) {
	t.Parallel()
	closed := &fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE}
	for _, c := range []struct {
		err error
		ok  bool
	}{
		{nil, true}, {closed, true}, {fmt.Errorf("the table: %w", closed), true},
		{&fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.ENOSPC}, false},
		{&fs.PathError{Op: "write", Path: "/tmp/fifo", Err: syscall.EPIPE}, false},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, false}, {errors.New("refused"), false},
	} {
		if err := Written(c.err); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}
