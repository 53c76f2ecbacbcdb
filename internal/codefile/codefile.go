// Package codefile keeps the code of applications in files, from which workers read it. A file lives as long as a worker may read it, and that of
// the newest code of an application as long as the application, so that a replica that starts again needs no new file. For example, an application
// that is changed a hundred times has one file in the end.
package codefile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Files are the files of a node. The zero value has none. Its methods may be called from any goroutine.
type Files struct {
	mu     sync.Mutex
	all    map[string]*file  // by path
	newest map[string]string // the path of an application's newest code, by the name of the application
}

// file is one file. users and newest are guarded by Files.mu.
type file struct {
	users  int // starts of workers that may read it
	newest int // applications whose newest code it has
	write  sync.Once
	err    error // of write
}

// Hold has a file in dir with the code of an application, and gives its path and its digest. It stays until release is called, and longer if no newer
// code of the application comes.
func (f *Files) Hold(dir, app string, code []byte) (path, digest string, release func(), err error) {
	sum := sha256.Sum256(code)
	digest = hex.EncodeToString(sum[:])
	path = filepath.Join(dir, digest)
	f.mu.Lock()
	if f.all == nil {
		f.all, f.newest = map[string]*file{}, map[string]string{}
	}
	x := f.all[path]
	if x == nil {
		x = &file{}
		f.all[path] = x
	}
	x.users++
	if before := f.newest[app]; before != path {
		x.newest++
		f.newest[app] = path
		f.forgetLocked(before)
	}
	f.mu.Unlock()
	x.write.Do(func() { x.err = write(dir, path, code) })
	release = sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		x.users--
		f.removeLocked(path, x)
	})
	if x.err != nil {
		f.mu.Lock()
		if f.all[path] == x { // the next start tries again
			delete(f.all, path)
		}
		if f.newest[app] == path {
			delete(f.newest, app)
		}
		f.mu.Unlock()
		return "", "", nil, fmt.Errorf("the application's code cannot be stored: %w", x.err)
	}
	return path, digest, release, nil
}

// Drop is the end of an application.
func (f *Files) Drop(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := f.newest[app]
	delete(f.newest, app)
	f.forgetLocked(path)
}

// Sweep removes the files of a directory that nodes have left which were killed. No process may read them any more: for example, a node sweeps its state
// directory when it has ended all its workers, also those that it took over from a node whose files it does not know.
func Sweep(dir string) {
	entries, _ := os.ReadDir(dir) // without an answer nothing is swept
	for _, e := range entries {
		digest, err := hex.DecodeString(e.Name())
		if e.Type().IsRegular() && (err == nil && len(digest) == sha256.Size || strings.HasPrefix(e.Name(), unfinished)) {
			os.Remove(filepath.Join(dir, e.Name())) //nolint:errcheck // the next sweep tries again
		}
	}
}

// unfinished begins the names of files that are being written.
const unfinished = "code-"

// forgetLocked says that a file has not the newest code of an application any more.
func (f *Files) forgetLocked(path string) {
	if x := f.all[path]; x != nil {
		x.newest--
		f.removeLocked(path, x)
	}
}

// removeLocked removes a file that has neither readers nor the newest code.
func (f *Files) removeLocked(path string, x *file) {
	if x.users == 0 && x.newest == 0 && f.all[path] == x {
		delete(f.all, path)
		os.Remove(path) //nolint:errcheck // the directory may be gone
	}
}

// write makes a file that is there with all its bytes, or not at all.
func write(dir, path string, code []byte) error {
	tmp, err := os.CreateTemp(dir, unfinished)
	if err != nil {
		return err
	}
	_, err = tmp.Write(code)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name()) //nolint:errcheck // the first error counts
	}
	return err
}
