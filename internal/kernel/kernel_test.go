package kernel

import (
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestMemoryFile(t *testing.T) {
	t.Parallel()
	f, err := MemoryFile("kernel-test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Fallocate(int(f.Fd()), 0, 0, 4096); err != nil {
		t.Error(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 4096 {
		t.Errorf("%v, %v", st, err)
	}
	if path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil || !strings.Contains(path, "kernel-test") {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := MemoryFile("a\x00b"); err == nil {
		t.Error("a name with a zero byte was taken")
	}
}

// TestSocketPair: the two are connected, belong to this user, and no child process inherits them.
func TestSocketPair(t *testing.T) {
	t.Parallel()
	ends, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range ends {
		const closeOnExec = 1
		if flags, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); e != 0 || flags&closeOnExec == 0 {
			t.Errorf("end %d is inherited: %v", i, e)
		}
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c.(*net.UnixConn)
	}
	if _, err := conns[0].Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := conns[1].Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if uid, err := PeerUID(conns[0]); err != nil || uid != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &l); err != nil {
		t.Fatal(err)
	}
	if err := Limit(os.Getpid(), syscall.RLIMIT_CORE, l); err != nil {
		t.Error(err)
	}
	if err := Limit(os.Getpid(), -1, l); err == nil || !strings.Contains(err.Error(), "prlimit") {
		t.Errorf("a resource that does not exist: %v", err)
	}
}

func TestAttribute(t *testing.T) {
	t.Parallel()
	if v, ok := Attribute(t.TempDir(), "user.helve-none"); ok {
		t.Errorf("%q", v)
	}
}

// TestNameProcess: ps shows the first 15 bytes of the name.
func TestNameProcess(t *testing.T) {
	t.Parallel()
	shown := func() string {
		b, err := os.ReadFile("/proc/self/comm")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	defer NameProcess(shown())
	if NameProcess("a-long-name-of-a-process"); shown() != "a-long-name-of-" {
		t.Errorf("the name is %q", shown())
	}
}
