package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestDriverEnds holds that each way in which a driver's connection ends with its process is no error of the node.
func TestDriverEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		left bool
	}{
		{"end of file", io.EOF, true},
		{"reset while the node writes", &net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, true},
		{"reset with bytes unread", fmt.Errorf("driver: %w", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), true},
		{"broken protocol", errors.New("a frame of kind 77"), false},
		{"none", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := hasLeft(row.err); got != row.left {
				t.Errorf("%v: %v", row.err, got)
			}
		})
	}
}
