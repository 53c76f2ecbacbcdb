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

// RuntimeDirEnv names a directory in which a node makes its private directory, in place of the system's temporary
// directory.
const RuntimeDirEnv = "HELVE_RUNTIME_DIR"

// maxPath is the longest path in sockaddr_un, which ends with a zero byte.
const maxPath = 107

// Listener is a unix socket in a private directory, to which only processes of this user can connect.
type Listener struct {
	*net.UnixListener
	path string
	mark *os.File // the locked mark of the directory
	keep bool     // the directory outlasts the listener
}

// Listen makes a private directory (mode 0700) and the socket in it. The directory is made under dir, or under
// $HELVE_RUNTIME_DIR or the system's temporary directory if dir is "". Close removes both.
func Listen(dir string) (*Listener, error) { return listenPrivate(dir, socketName) }

func listenPrivate(dir, name string) (*Listener, error) {
	if dir == "" {
		dir = os.Getenv(RuntimeDirEnv)
	}
	sweep(dir)
	private, err := os.MkdirTemp(dir, "helve-")
	if err != nil {
		return nil, fmt.Errorf("the node's private directory (set %s or TMPDIR): %w", RuntimeDirEnv, err)
	}
	path := filepath.Join(private, name)
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

// ListenAt is Listen in a directory of the caller, which outlasts the listener: see claim. A second node in the
// directory is an error, by the lock of the mark.
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
		os.Remove(path) // the socket of a node that was killed
	}
	l, err := listenUnix(path)
	if err != nil {
		unlock(mark)
		return nil, err
	}
	return &Listener{UnixListener: l, path: path, mark: mark, keep: true}, nil
}

const socketName = "node.sock"

// listenUnix makes the socket. Its mode keeps other users out if the directory does not.
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

// staleAfter is the age from which a directory is swept. A younger one may belong to a node that has not locked it
// yet.
const staleAfter = time.Minute

// sweep removes the private directories of killed nodes: directories of this user that carry the mark and that no
// process has locked. A directory of such a name without the mark is not a node's.
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

// Path is the socket's path. The directory around it belongs to the node, which may put files there.
func (l *Listener) Path() string { return l.path }

// Close ends the listener. It removes the directory with everything in it, if Listen made it.
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

// Accept waits for a connection of a process of this user. Connections of other users are closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(c); err == nil && uid == os.Getuid() {
			return c, nil
		}
		c.Close() // a process of another user
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
