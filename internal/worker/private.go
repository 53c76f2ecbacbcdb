package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

// RuntimeDirEnv names a directory in which a node makes its private directory, in place of the system's temporary
// directory.
const RuntimeDirEnv = "HELVE_RUNTIME_DIR"

// Private is a directory of mode 0700 that a node makes for its sockets and files. Its name begins with "helve-", and its mark is locked as
// long as the node lives. For example, after "kill -9" of a node its directory is still there, and its lock is free: no command finds the
// node, and the next node removes the directory.
type Private struct {
	path string
	mark *os.File
}

// MakePrivate makes the directory under dir, or under $HELVE_RUNTIME_DIR or the system's temporary directory if dir is "".
func MakePrivate(dir string) (*Private, error) {
	if dir == "" {
		dir = os.Getenv(RuntimeDirEnv)
	}
	sweep(dir)
	path, err := os.MkdirTemp(dir, "helve-")
	if err != nil {
		return nil, fmt.Errorf("the node's private directory (set %s or TMPDIR): %w", RuntimeDirEnv, err)
	}
	mark, err := makeMark(path, privateMark)
	if err != nil {
		os.RemoveAll(path)
		return nil, fmt.Errorf("the node's private directory %s: %w", path, err)
	}
	return &Private{path, mark}, nil
}

// Path is the directory.
func (p *Private) Path() string { return p.path }

// Listen makes a socket in the directory, which only processes of this user can connect to.
func (p *Private) Listen(name string) (*Listener, error) {
	path := filepath.Join(p.path, name)
	if len(path) > kernel.SocketPathMax {
		return nil, fmt.Errorf("the path of the node's socket is %d bytes long, at most %d are possible; set %s to a shorter directory: %s",
			len(path), kernel.SocketPathMax, RuntimeDirEnv, path)
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	return &Listener{UnixListener: l, path: path, uid: os.Getuid()}, nil
}

// Write makes a file of mode 0600 in the directory.
func (p *Private) Write(name string, content []byte) error {
	f, err := os.OpenFile(filepath.Join(p.path, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Check gives an error for a directory that is not private any more: other users can get into it, or it belongs to another user.
func (p *Private) Check() error { return CheckPrivate(p.path) }

// CheckPrivate gives an error for a file or directory that is not this user's alone: another user may have put it there.
func CheckPrivate(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() || st.Mode()&os.ModeSymlink != 0 || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the node's directory %s has the mode %04o, and must belong to its user alone (mode 0700)", path, st.Mode().Perm())
	}
	return nil
}

// LinkPrivate makes the link in a state directory that leads programs to a private directory, in place of the link to the node before. The
// directory of a node that was killed is removed.
func LinkPrivate(state, private string) error {
	path := filepath.Join(state, AttachLink)
	if before, err := os.Readlink(path); err == nil {
		RemovePrivate(before)
	}
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	os.Remove(made) // of a node that was killed; usually there is none
	if err := os.Symlink(private, made); err != nil {
		return err
	}
	return os.Rename(made, path)
}

// UnlinkPrivate removes the link, unless it leads to another node by now. state may be "".
func UnlinkPrivate(state, private string) {
	path := filepath.Join(state, AttachLink)
	if to, err := os.Readlink(path); err == nil && state != "" && to == private {
		os.Remove(path)
	}
}

// Close removes the directory with everything in it.
func (p *Private) Close() error {
	err := os.RemoveAll(p.path)
	unlock(p.mark)
	return err
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

// RemovePrivate removes the private directory of a node that was killed. A directory without the mark, and one whose node lives, are left alone.
func RemovePrivate(dir string) {
	st, err := os.Lstat(dir)
	if err != nil || !st.IsDir() {
		return
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return
	}
	if mark, err := openMark(dir, privateMark); err == nil {
		os.RemoveAll(dir)
		unlock(mark)
	}
}
