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
	boot    func() string
	changed chan struct{} // of one: full while the state may have changed

	mu     sync.Mutex // one write at a time; taken before the mutexes of take
	dir    string     // "" before Open
	saved  []byte     // the content of the file
	closed bool       // the node has closed in order: no node comes after it
}

// NewFile makes the file of a node. The function take gives the state as it is now.
func NewFile(l *slog.Logger, take func() Snapshot) *File {
	return &File{log: l, take: take, boot: bootOfMachine, changed: make(chan struct{}, 1)}
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
	if now := f.boot(); before.Boot != now && before.Boot != "" && len(before.Workers) > 0 {
		f.log.Info("the machine has started anew: the workers of the node before are gone", "workers", len(before.Workers))
		before.Workers = nil // a process of today may have the id and the start time of one of them
	}
	return before
}

// bootOfMachine names this start of the machine; "" if the system does not say.
func bootOfMachine() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
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
	return f.writeLocked(f.take())
}

func (f *File) writeLocked(s Snapshot) error {
	s.Version, s.Boot = Version, f.boot()
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

// Retire writes the file for a node that starts later, after this one has closed in order: the user configs and numbers of its applications, and no
// worker. Nothing is written after that.
func (f *File) Retire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == "" || f.closed {
		return
	}
	s := f.take()
	s.Workers = nil
	for i := range s.Applications {
		s.Applications[i].Forget()
	}
	f.closed = f.writeLocked(s) == nil
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

// Finish writes the file for the last time: the next node reads it.
func (f *File) Finish() error {
	err := f.Save()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return err
}
