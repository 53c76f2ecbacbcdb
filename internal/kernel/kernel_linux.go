package kernel

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// SocketPathMax is the longest path of a unix socket: sockaddr_un has 108 bytes and ends with a zero byte.
const SocketPathMax = 107

// Workers is the reason why this system runs no worker processes; nil if it runs them.
func Workers() error { return nil }

// Child describes a child process in a process group of its own, which gets the signal death when the thread that started it ends; 0 for none.
func Child(death syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
}

// StartInGroup has a child start in the cgroup whose directory is open as fd.
func StartInGroup(child *syscall.SysProcAttr, fd int) { child.UseCgroupFD, child.CgroupFD = true, fd }

// MemoryFile makes a file in memory that has no path. Seals can be added to it. The name is shown in /proc.
func MemoryFile(name string) (*os.File, error) {
	const closeOnExec, allowSealing = 1, 2
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return nil, err
	}
	fd, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(p)), closeOnExec|allowSealing, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("memfd_create", errno)
	}
	return os.NewFile(fd, name), nil
}

// Fallocate is fallocate(2).
func Fallocate(fd int, mode uint32, offset, length int64) error {
	return syscall.Fallocate(fd, mode, offset, length)
}

// Limit sets a resource limit of another process.
func Limit(pid, resource int, limit syscall.Rlimit) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(resource), uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("prlimit: %w", errno)
	}
	return nil
}

// SetSubreaper makes this process the parent of the orphans among its descendants, or ends that. It returns false if the kernel refuses.
func SetSubreaper(on bool) bool {
	const setChildSubreaper = 36
	value := uintptr(0)
	if on {
		value = 1
	}
	_, _, errno := syscall.Syscall(syscall.SYS_PRCTL, setChildSubreaper, value, 0)
	return errno == 0
}

// IsSubreaper is whether this process is the parent of the orphans among its descendants.
func IsSubreaper() bool {
	const getChildSubreaper = 37
	var on int32
	_, _, errno := syscall.Syscall(syscall.SYS_PRCTL, getChildSubreaper, uintptr(unsafe.Pointer(&on)), 0)
	return errno == 0 && on != 0
}

// SocketPair makes two unix sockets that are connected, and that no child process inherits.
func SocketPair() ([2]int, error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	return ends, os.NewSyscallError("socketpair", err)
}

// PeerUID is the user of the process at the other end of a unix socket.
func PeerUID(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var cred *syscall.Ucred
		if cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	if cerr != nil {
		return 0, cerr
	}
	return uid, err
}

// SetPipeSize sets how many bytes a pipe holds. A pipe whose size cannot be set keeps its own.
func SetPipeSize(fd, size int) {
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETPIPE_SZ, uintptr(size)) //nolint:errcheck // see above
}

// Unread says whether a pipe has bytes that its reader has not read yet; false for a nil file.
func Unread(pipe *os.File) bool {
	if pipe == nil {
		return false
	}
	c, err := pipe.SyscallConn()
	if err != nil {
		return false
	}
	var n int32
	err = c.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))) //nolint:errcheck // n is 0 then
	})
	return err == nil && n > 0
}

// Attribute is the value of an extended attribute of a file; false if the file does not have it, or if it is longer than eight bytes.
func Attribute(path, name string) (string, bool) {
	var v [8]byte
	n, err := syscall.Getxattr(path, name, v[:])
	if err != nil {
		return "", false
	}
	return string(v[:n]), true
}

// NameProcess sets the name that ps and pgrep show for this process, at most 15 bytes of it. A process that was executed by the path /proc/self/exe is
// named exe without it. A kernel without /proc keeps the former name.
func NameProcess(name string) {
	os.WriteFile("/proc/self/comm", []byte(name), 0) //nolint:errcheck // it is for people alone
}
