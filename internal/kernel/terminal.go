package kernel

import (
	"os"
	"syscall"
	"unsafe"
)

// TerminalWidth is the number of columns of the terminal that a file is; 0 for a file that is none.
func TerminalWidth(f *os.File) int {
	var size struct{ rows, columns, x, y uint16 }
	_, _, err := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if err != 0 {
		return 0
	}
	return int(size.columns)
}
