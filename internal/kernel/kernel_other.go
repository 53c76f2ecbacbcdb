//go:build !linux

package kernel

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
)

// SocketPathMax is the longest path of a unix socket: on macOS and the BSDs sockaddr_un has 104 bytes and ends with a zero byte.
const SocketPathMax = 103

// Workers is the reason why this system runs no worker processes.
func Workers() error {
	return fmt.Errorf("worker processes, and so deployments in Python and Isolation: helve.Process, need Linux, and this is %s: run the deployments in this process, or the program in a Linux container", runtime.GOOS)
}

// Child describes a child process in a process group of its own. No signal ends it with its parent.
func Child(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// StartInGroup does nothing: there are no cgroups.
func StartInGroup(*syscall.SysProcAttr, int) {}

// MemoryFile is an error.
func MemoryFile(string) (*os.File, error) { return nil, unsupported("memfd_create") }

// Fallocate is an error.
func Fallocate(int, uint32, int64, int64) error { return unsupported("fallocate") }

// Limit is an error.
func Limit(int, int, syscall.Rlimit) error { return unsupported("prlimit") }

// Unread is false.
func Unread(*os.File) bool { return false }

// SetSubreaper is false.
func SetSubreaper(bool) bool { return false }

// IsSubreaper is false.
func IsSubreaper() bool { return false }

// SocketPair makes two unix sockets that are connected, and that no child process inherits.
func SocketPair() ([2]int, error) {
	syscall.ForkLock.RLock() // a child that starts between the two steps would inherit them
	defer syscall.ForkLock.RUnlock()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return ends, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(ends[0])
	syscall.CloseOnExec(ends[1])
	return ends, nil
}

// PeerUID is the user of this process: the mode of the socket's directory keeps other users out.
func PeerUID(*net.UnixConn) (int, error) { return os.Getuid(), nil }

// SetPipeSize does nothing.
func SetPipeSize(int, int) {}

// Attribute is false.
func Attribute(string, string) (string, bool) { return "", false }

// NameProcess does nothing here.
func NameProcess(string) {}
