package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// RuntimeDirEnv overrides where a node makes its private directory.
const RuntimeDirEnv = "HELVE_RUNTIME_DIR"

// maxPath is what fits into sockaddr_un with its final zero byte.
const maxPath = 107

// Listener is a unix socket in a private directory: only this user's processes get in.
type Listener struct {
	*net.UnixListener
	path string
	lock *os.File // of a directory that is not ours to remove
}

// Listen makes the directory (mode 0700) under dir, or under $HELVE_RUNTIME_DIR or the system's temporary directory, and
// the socket in it. Close removes both.
func Listen(dir string) (*Listener, error) {
	if dir == "" {
		dir = os.Getenv(RuntimeDirEnv)
	}
	sweep(dir)
	private, err := os.MkdirTemp(dir, "helve-")
	if err != nil {
		return nil, fmt.Errorf("the node's private directory (set %s or TMPDIR): %w", RuntimeDirEnv, err)
	}
	path := filepath.Join(private, "node.sock")
	if len(path) > maxPath {
		os.Remove(private)
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; set %s to a shorter directory: %s",
			len(path), maxPath, RuntimeDirEnv, path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		os.Remove(private)
		return nil, fmt.Errorf("the node's socket: %w", err)
	}
	return &Listener{l, path, nil}, nil
}

// ListenAt is Listen in a directory of the caller's own, made if need be (mode 0700), which outlasts the listener. A lock in
// it keeps a second node away.
func ListenAt(dir string) (*Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "node.sock")
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; take a shorter directory: %s",
			len(path), maxPath, path)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another node uses the directory %s: %w", dir, err)
	}
	os.Remove(path) // of a node that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("the node's socket: %w", err)
	}
	return &Listener{l, path, lock}, nil
}

const lockName = "node.lock"

// staleAfter keeps sweep away from a node that is just starting, whose socket refuses too.
const staleAfter = time.Minute

// sweep removes what nodes left behind that were killed: directories of this user whose socket nobody serves.
func sweep(dir string) {
	if dir == "" {
		dir = os.TempDir()
	}
	found, _ := filepath.Glob(filepath.Join(dir, "helve-*", "node.sock"))
	for _, path := range found {
		private := filepath.Dir(path)
		st, err := os.Stat(private)
		if err != nil || time.Since(st.ModTime()) < staleAfter {
			continue
		}
		if _, err := os.Lstat(filepath.Join(private, lockName)); err == nil { // ListenAt's
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Getuid() {
			continue
		}
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close() //nolint:errcheck // somebody serves it, which was the question
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.RemoveAll(private)
		}
	}
}

// Path is the socket's path; its directory is the node's to use.
func (l *Listener) Path() string { return l.path }

// Close ends the listener and removes the directory with everything in it, if Listen made it.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	if l.lock != nil {
		// Not by closing alone: a child that is just being started has the descriptor too, until it executes its program.
		syscall.Flock(int(l.lock.Fd()), syscall.LOCK_UN) //nolint:errcheck // it is ours
		l.lock.Close()
		return err
	}
	if rerr := os.RemoveAll(filepath.Dir(l.path)); err == nil {
		err = rerr
	}
	return err
}

// Accept waits for a process of this user. Others are turned away.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(c); err == nil && uid == os.Getuid() {
			return c, nil
		}
		c.Close() //nolint:errcheck // somebody else's
	}
}

func peerUID(c *net.UnixConn) (uid int, err error) {
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
