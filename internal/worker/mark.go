package worker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A node removes and replaces files only in directories that it made or that carry its mark: a file whose content names the
// kind of directory and the version of its format. The file is the directory's lock too: a node holds flock(2) on it as long
// as it lives, so a directory whose lock is free belongs to a node that has ended. For example, the mark of the state
// directory /var/lib/hello is the file /var/lib/hello/helve-node with the content "helve state directory, format 1".
const (
	markName    = "helve-node"
	stateMark   = "helve state directory, format 1\n"
	privateMark = "helve private directory, format 1\n"
)

var (
	errLocked = errors.New("another node uses it")
	errMark   = errors.New("its file " + markName + " is not the mark of a node")
)

// Claim takes a directory for the state of a node as long as the file is open, also in other processes that have inherited it: see claim. The
// error of a directory that a node uses says so.
func Claim(dir string) (*os.File, error) {
	if err := checkSocketPath(filepath.Join(dir, socketName)); err != nil {
		return nil, err
	}
	return claim(dir)
}

// claim takes a directory for the state of a node, and returns its mark, locked. A missing directory is made, with
// mode 0700. An existing one must carry the mark or be empty, must belong to this user, and must not be writable for
// other users. Its mode is never changed, because it may be a directory with another purpose, named by mistake.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok || int(sys.Uid) != os.Geteuid():
		return nil, fmt.Errorf("the directory %s belongs to another user: a node needs one of its own", dir)
	case st.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("other users can write to the directory %s (mode %04o): take another, or chmod go-w it", dir, sys.Mode&0o7777)
	}
	mark, err := openMark(dir, stateMark)
	if errors.Is(err, fs.ErrNotExist) {
		mark, err = makeMark(dir, stateMark)
	}
	if errors.Is(err, errLocked) && kept(dir) {
		if pid, readErr := os.ReadFile(filepath.Join(dir, KeeperPID)); readErr == nil {
			err = fmt.Errorf("%w, with the keeper of pid %s", err, strings.TrimSpace(string(pid)))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the directory %s: %w", dir, err)
	}
	return mark, nil
}

// makeMark marks an empty directory, and locks it.
func makeMark(dir, content string) (*os.File, error) {
	if err := checkEmpty(dir); err != nil { // the directory must be empty before a node's first file is in it
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock(f); err == nil {
		err = writeMark(f, dir, content)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeMark writes the content of a mark that this process has locked. Another node may have written it a moment
// before.
func writeMark(f *os.File, dir, content string) error {
	switch text, err := readMark(f); {
	case err != nil:
		return err
	case text == content:
		return nil
	case text != "":
		return errMark
	}
	if err := checkEmpty(dir); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	return f.Sync()
}

// openMark takes the lock of a directory that carries the mark. The error is fs.ErrNotExist if it carries none, and
// errLocked while another process has the lock.
func openMark(dir, content string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err = lock(f); err == nil {
		var text string
		switch text, err = readMark(f); {
		case err != nil || text == content:
		case text == "": // its node was killed before it had written the mark
			err = writeMark(f, dir, content)
		case strings.HasPrefix(text, content[:strings.LastIndexByte(content, ' ')+1]):
			err = fmt.Errorf("it is of another version of Helve (%q, this one has %q)", strings.TrimSpace(text), strings.TrimSpace(content))
		default:
			err = errMark
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// unlock releases the lock of a mark. To close the file does not: a child that is just being started has the
// descriptor too, until it executes its program.
func unlock(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN) //nolint:errcheck // it is ours
	f.Close()
}

func readMark(f *os.File) (string, error) {
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", errMark
	}
	b := make([]byte, 256)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b[:n]), nil
}

// checkEmpty is an error if a directory has files beside a mark. A new file system has lost+found.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != markName && e.Name() != "lost+found" {
			return fmt.Errorf("it has files that are not a node's (%s): a node takes a directory that is new or empty, or that a node has used before", e.Name())
		}
	}
	return nil
}
