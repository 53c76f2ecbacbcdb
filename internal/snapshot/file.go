package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// File keeps a snapshot in the directory of a node up to date. Before [File.Open] it has no directory, and writes nothing. Its methods may
// be called from any goroutine.
type File struct {
	log     *slog.Logger
	take    func() Snapshot
	changed chan struct{} // of one: full while the state may have changed

	mu     sync.Mutex // one write at a time; taken before the mutexes of take
	dir    string     // "" before Open
	saved  []byte     // the content of the file
	closed bool       // the node has closed in order: no node comes after it
}

// NewFile makes the file of a node. The function take gives the state as it is now.
func NewFile(l *slog.Logger, take func() Snapshot) *File {
	return &File{log: l, take: take, changed: make(chan struct{}, 1)}
}

// Open keeps the file in a directory from now on, and gives the snapshot that the node before has left there; the zero Snapshot for none.
func (f *File) Open(dir string) Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dir = dir
	before, err := Read(dir)
	if err != nil { // the workers of the node before find no node that knows them, and end
		f.log.Error("the state of the node before is lost", "dir", dir, "error", err)
		return Snapshot{}
	}
	return before
}

// Change notes that the state may have changed: [File.Run] writes it soon. It does not block.
func (f *File) Change() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Run writes the file when the state has changed, until ctx ends.
func (f *File) Run(ctx context.Context) {
	for {
		select {
		case <-f.changed:
		case <-ctx.Done():
			return
		}
		f.Save() //nolint:errcheck // it is in the log
	}
}

// Save writes the file now, if the state has changed since the last time. A failure is logged, and the next Save tries again.
func (f *File) Save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == "" || f.closed {
		return nil
	}
	s := f.take()
	s.Version = Version
	b, err := json.MarshalIndent(s, "", " ")
	if err == nil && bytes.Equal(b, f.saved) {
		return nil
	}
	if err == nil {
		err = Write(f.dir, b)
	}
	if err != nil {
		f.log.Error("the node's state was not saved", "dir", f.dir, "error", err)
		return err
	}
	f.saved = b
	return nil
}

// Remove deletes the file of a node that closes in order, and lets it write no other. The result is the directory; "" if there is none.
func (f *File) Remove() (dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.dir != "" {
		os.Remove(filepath.Join(f.dir, Name))
	}
	return f.dir
}
