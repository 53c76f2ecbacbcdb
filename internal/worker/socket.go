package worker

import (
	"fmt"
	"io/fs"
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
	mark *os.File // locked
	keep bool     // the directory outlasts the listener
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
	path := filepath.Join(private, socketName)
	if len(path) > maxPath {
		os.Remove(private)
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; set %s to a shorter directory: %s",
			len(path), maxPath, RuntimeDirEnv, path)
	}
	mark, err := makeMark(private, privateMark)
	if err != nil {
		os.RemoveAll(private)
		return nil, fmt.Errorf("the node's private directory %s: %w", private, err)
	}
	l, err := listenUnix(path)
	if err != nil {
		os.RemoveAll(private)
		unlock(mark)
		return nil, err
	}
	return &Listener{UnixListener: l, path: path, mark: mark}, nil
}

// ListenAt is Listen in a directory of the caller's own, which outlasts the listener: see claim. The lock of its mark keeps a
// second node away.
func ListenAt(dir string) (*Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; take a shorter directory: %s",
			len(path), maxPath, path)
	}
	mark, err := claim(dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		os.Remove(path) // of a node that was killed
	}
	l, err := listenUnix(path)
	if err != nil {
		unlock(mark)
		return nil, err
	}
	return &Listener{UnixListener: l, path: path, mark: mark, keep: true}, nil
}

const socketName = "node.sock"

// listenUnix makes the socket. Its mode keeps others away where its directory lets them in.
func listenUnix(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		if err = os.Chmod(path, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the node's socket: %w", err)
	}
	return l, nil
}

// staleAfter keeps a sweep away from a node that is just starting, which has made its directory and not locked it yet.
const staleAfter = time.Minute

// sweep removes what nodes left behind that were killed: private directories of this user that carry the mark, and whose
// lock nobody has. Directories with such a name that carry no mark are not a node's.
func sweep(dir string) {
	if dir == "" {
		dir = os.TempDir()
	}
	found, _ := filepath.Glob(filepath.Join(dir, "helve-*"))
	for _, private := range found {
		st, err := os.Lstat(private)
		if err != nil || !st.IsDir() || time.Since(st.ModTime()) < staleAfter {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
			continue
		}
		if mark, err := openMark(private, privateMark); err == nil {
			os.RemoveAll(private)
			unlock(mark)
		}
	}
}

// Path is the socket's path; its directory is the node's to use.
func (l *Listener) Path() string { return l.path }

// Close ends the listener and removes the directory with everything in it, if Listen made it.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	if !l.keep {
		if rerr := os.RemoveAll(filepath.Dir(l.path)); err == nil {
			err = rerr
		}
	}
	unlock(l.mark)
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
