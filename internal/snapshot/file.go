package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/helve-serve/helve/internal/roster"
)

// File keeps a snapshot in the directory of a node up to date. Before [File.Open] it has no directory, and writes nothing. Its methods may
// be called from any goroutine.
type File struct {
	log     *slog.Logger
	take    func(all bool) State
	boot    func() string
	changed chan struct{} // of one: full while the state may have changed

	mu     sync.Mutex // one write at a time; taken before the mutexes of take
	dir    string     // "" before Open
	saved  content    // of the files
	file   *os.File   // of the changes; nil if the next write is of the whole
	base   int        // the length of the whole, and size that of the changes
	size   int
	closed bool // the node has closed in order: no node comes after it
}

// NewFile makes the file of a node. The function take gives the state as it is now, with the applications that have changed since it was called last, or with all.
func NewFile(l *slog.Logger, take func(all bool) State) *File {
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
	return f.saveLocked(f.take(f.file == nil), f.file == nil)
}

// saveLocked writes the changes that lead to a state, or the whole.
func (f *File) saveLocked(now State, whole bool) error {
	changes, err := f.saved.update(now)
	if err == nil && len(changes) == 0 && !whole {
		return nil
	}
	if err == nil && !whole {
		var text []byte
		if text, err = lines(changes...); err == nil && f.size+len(text) <= max(f.base, leastChanges) {
			if _, err = f.file.Write(text); err == nil {
				f.size += len(text)
				err = f.file.Sync()
			}
		} else {
			whole = true
		}
	}
	if err == nil && whole {
		err = f.writeLocked()
	}
	if err != nil { // a change may be in the file in part
		f.log.Error("the node's state was not saved", "dir", f.dir, "error", err)
		f.endLocked()
	}
	return err
}

// leastChanges is the length up to which changes are kept beside a small state.
const leastChanges = 64 << 10

// endLocked ends the file of changes: the next write is of the whole.
func (f *File) endLocked() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}

// writeLocked writes the whole, and begins a file of changes.
func (f *File) writeLocked() error {
	f.endLocked()
	s := struct {
		Snapshot
		Applications []json.RawMessage `json:"applications"`
	}{Snapshot: Snapshot{Version: Version, Boot: f.boot(), LastID: f.saved.lastID, Workers: []roster.Worker{}, Changes: rand.Text()}, Applications: []json.RawMessage{}}
	for _, name := range slices.Sorted(maps.Keys(f.saved.apps)) {
		s.Applications = append(s.Applications, f.saved.apps[name])
	}
	for _, id := range slices.Sorted(maps.Keys(f.saved.workers)) {
		s.Workers = append(s.Workers, f.saved.workers[id])
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	if err := Write(f.dir, b); err != nil {
		return err
	}
	f.base, f.size = len(b), 0
	f.file, err = create(f.dir, s.Changes)
	return err
}

// Retire writes the file for a node that starts later, after this one has closed in order: the user configs and numbers of its applications, and no
// worker. Nothing is written after that.
func (f *File) Retire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == "" || f.closed {
		return
	}
	now := f.take(true)
	now.Workers = nil
	for i := range now.Applications {
		now.Applications[i].Forget()
	}
	f.closed = f.saveLocked(now, true) == nil
}

// Remove deletes the file of a node that closes in order, and lets it write no other. The result is the directory; "" if there is none.
func (f *File) Remove() (dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.dir != "" {
		os.Remove(filepath.Join(f.dir, Name))
		os.Remove(filepath.Join(f.dir, ChangesName))
	}
	f.endLocked()
	return f.dir
}

// Finish writes the file for the last time: the next node reads it.
func (f *File) Finish() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == "" || f.closed {
		return nil
	}
	err := f.saveLocked(f.take(true), true)
	f.closed = true
	f.endLocked()
	return err
}
