package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Trees are the packed files of a node as directories, one for each digest, from which workers import modules. The directory of a digest is made when it
// is first needed. It is whole, or not there: it is unpacked under another name, and then renamed.
//
// The files are not forced to the disk, so that a deploy of a thousand files does not take seconds. After a crash of the machine some may be empty. So all
// directories of another boot of the machine are removed, and made again from the packed files, which are safe.
type Trees struct {
	dir  string
	open func(digest string) (io.ReadCloser, error)

	mu     sync.Mutex
	made   bool            // dir is there, and of this boot
	making map[string]*one // by digest
}

// one is a directory that is being unpacked. err is read after done is closed.
type one struct {
	done chan struct{}
	err  error
}

// bootFile has the id of the boot in which the directories were made, beside them.
const (
	bootFile  = "boot"
	bootID    = "/proc/sys/kernel/random/boot_id"
	newTree   = "new-"
	youngTree = 10 * time.Minute // a younger directory is not collected: its revision may not be written yet
)

// NewTrees are the directories in dir, which is made when it is needed. open gives the packed file of a digest.
func NewTrees(dir string, open func(digest string) (io.ReadCloser, error)) *Trees {
	return &Trees{dir: dir, open: open, making: map[string]*one{}}
}

// Lazy are the directories of a node, which are made when they are first needed. Its methods may be called from any goroutine.
type Lazy struct {
	mu    sync.Mutex
	trees *Trees
}

// Get is [NewTrees] at the first call.
func (l *Lazy) Get(dir string, open func(digest string) (io.ReadCloser, error)) *Trees {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trees == nil {
		l.trees = NewTrees(dir, open)
	}
	return l.trees
}

// Directory is the directory of a digest.
func (t *Trees) Directory(digest string) (string, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is no digest", digest)
	}
	final := filepath.Join(t.dir, digest)
	t.mu.Lock()
	if err := t.prepareLocked(); err != nil {
		t.mu.Unlock()
		return "", err
	}
	if _, err := os.Stat(final); err == nil {
		t.mu.Unlock()
		return final, nil
	}
	m := t.making[digest]
	if m != nil {
		t.mu.Unlock()
		<-m.done
		return final, m.err
	}
	m = &one{done: make(chan struct{})}
	t.making[digest] = m
	t.mu.Unlock()
	m.err = t.unpack(digest, final)
	t.mu.Lock()
	delete(t.making, digest)
	t.mu.Unlock()
	close(m.done)
	return final, m.err
}

// prepareLocked makes the directory, and empties one of another boot.
func (t *Trees) prepareLocked() error {
	if t.made {
		return nil
	}
	boot, err := os.ReadFile(bootID)
	if err != nil { // a system without the file: its workers, in Python, need Linux anyway
		boot = nil
	}
	mark := filepath.Join(t.dir, bootFile)
	if was, err := os.ReadFile(mark); err == nil && !bytes.Equal(was, boot) {
		if err := os.RemoveAll(t.dir); err != nil {
			return fmt.Errorf("code of another boot of the machine: %w", err)
		}
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(mark, boot, 0o600); err != nil {
		return err
	}
	t.made = true
	return nil
}

func (t *Trees) unpack(digest, final string) error {
	in, err := t.open(digest)
	if err != nil {
		return err
	}
	defer in.Close()
	dir, err := os.MkdirTemp(t.dir, newTree)
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = Unpack(io.TeeReader(in, sum), dir, Default())
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != digest {
		err = errors.New("its content is another")
	}
	if err == nil {
		if err = os.Rename(dir, final); err != nil {
			if _, there := os.Stat(final); there == nil { // of another node in the same directory: for example, of this node's successor
				err = nil
			}
		}
	}
	os.RemoveAll(dir) //nolint:errcheck // it has another name by now, or is collected later
	if err != nil {
		return fmt.Errorf("the code %s cannot be unpacked: %w", digest, err)
	}
	return nil
}

// Collect removes the directories that wanted does not want, that no process uses, and that are not young. A process uses a directory if it has its
// digest in its environment, as Python workers have, those of a node before too.
func (t *Trees) Collect(wanted func(digest string) bool) error {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var errs []error
	var environments []byte
	for _, e := range entries {
		digest := e.Name()
		info, err := e.Info()
		if err != nil || !e.IsDir() || time.Since(info.ModTime()) < youngTree || wanted(digest) {
			continue
		}
		if environments == nil {
			environments = readEnvironments()
		}
		if !strings.HasPrefix(digest, newTree) && bytes.Contains(environments, []byte(digest)) {
			continue
		}
		gone := filepath.Join(t.dir, newTree+"gone-"+digest) // at once, for a start that looks now
		t.mu.Lock()
		err = os.Rename(filepath.Join(t.dir, digest), gone)
		t.mu.Unlock()
		errs = append(errs, err, os.RemoveAll(gone))
	}
	return errors.Join(append(errs, err)...)
}

// readEnvironments are the variables of all processes of this user.
func readEnvironments() []byte {
	all := []byte{0} // not nil
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			all = append(all, b...)
		}
	}
	return all
}

// Packed is a directory or file of a program as it was when the program was deployed.
type Packed struct {
	Path, Digest string
	// Content is the digest of the files without the name of the directory: that of /srv/v1 is the one of /srv/v2 if both have the same files. "" if it is not known.
	Content string
}

// Places unpacks the packed paths of a program, and gives the function from a path to the one in its place. Another path stays as it is. For example, /srv/shop
// is packed as 3f1c...: its place is code/3f1c.../shop.
func (t *Trees) Places(all []Packed) (place func(path string) string, err error) {
	at := map[string]string{}
	for _, p := range all {
		dir, err := t.Directory(p.Digest)
		if err != nil {
			return nil, fmt.Errorf("%s, as it was at the deploy: %w", p.Path, err)
		}
		at[p.Path] = filepath.Join(dir, filepath.Base(p.Path))
	}
	return func(path string) string { return cmp.Or(at[path], path) }, nil
}
