// Package history keeps the events of a node in two files of its state directory, so that the next node has them too: the transitions of each object,
// and the ids go on. A file has a line of JSON for each event. The newer file becomes the older one when it is large, and the older one is gone
// then.
//
// Events are for people. They are written soon and not synced: a machine that loses its power may lose the newest.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/helve-serve/helve/helvetype"
)

// The names of the files, and their bounds.
const (
	newer = "events.jsonl"
	older = "events.old.jsonl"

	fileMax    = 4 << 20  // bytes of a file
	lineMax    = 64 << 10 // bytes of an event, which are some 12 KiB at most
	waitingMax = 4096     // events that wait for the disk; more are left out
)

// File is the history of a node. Its methods may be called from any goroutine.
type File struct {
	dir  string
	log  *slog.Logger
	kick chan struct{} // of one
	over chan struct{} // closed when nothing is written any more

	mu      sync.Mutex
	waiting []helvetype.Event
	closed  bool

	// Only the goroutine of run uses these.
	file   *os.File
	size   int64
	failed bool // the last write has failed, and the log says so
}

// Open goes on with the history in a directory, and gives the events of the nodes before, the oldest first. Lines that are no events are left
// out: the last one of a node that was killed may be a part of a line.
func Open(dir string, log *slog.Logger) (*File, []helvetype.Event, error) {
	var events []helvetype.Event
	for _, name := range []string{older, newer} {
		some, err := read(filepath.Join(dir, name))
		if err != nil {
			return nil, nil, err
		}
		events = append(events, some...)
	}
	f := &File{dir: dir, log: log, kick: make(chan struct{}, 1), over: make(chan struct{})}
	if err := f.open(); err != nil {
		return nil, nil, err
	}
	go f.run()
	return f, rising(events), nil
}

// read gives the events of a file. A file that is not there has no event.
func read(path string) (events []helvetype.Event, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, lineMax)
	for {
		line, long, err := lines.ReadLine()
		if err != nil {
			return events, nil //nolint:nilerr // the end, or as much as the disk gives
		}
		var e helvetype.Event
		if !long && json.Unmarshal(line, &e) == nil && e.ID != 0 {
			events = append(events, e)
		}
		for long && err == nil {
			_, long, err = lines.ReadLine()
		}
	}
}

// rising leaves out events whose id is not above those before: ids begin anew where files were lost.
func rising(events []helvetype.Event) []helvetype.Event {
	var last uint64
	kept := events[:0]
	for _, e := range events {
		if e.ID > last {
			kept, last = append(kept, e), e.ID
		}
	}
	return kept
}

func (f *File) open() (err error) {
	f.file, err = os.OpenFile(filepath.Join(f.dir, newer), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.size, err = f.file.Seek(0, 2)
	if err == nil && f.size > 0 { // a line that was not finished ends here
		_, err = f.file.Write([]byte("\n"))
		f.size++
	}
	return err
}

// Add writes an event soon. It does not block.
func (f *File) Add(e helvetype.Event) {
	f.mu.Lock()
	if !f.closed && len(f.waiting) < waitingMax {
		f.waiting = append(f.waiting, e)
	}
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// Close writes the events that wait, and closes the file.
func (f *File) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
	<-f.over
}

func (f *File) run() {
	defer close(f.over)
	for range f.kick {
		f.mu.Lock()
		waiting, closed := f.waiting, f.closed
		f.waiting = nil
		f.mu.Unlock()
		f.note(f.write(waiting))
		if closed {
			f.file.Close()
			return
		}
	}
}

// write appends events. A write that fails leaves no part of a line.
func (f *File) write(events []helvetype.Event) error {
	var lines []byte
	for _, e := range events {
		if b, err := json.Marshal(e); err == nil && len(b) < lineMax {
			lines = append(append(lines, b...), '\n')
		}
	}
	if f.size+int64(len(lines)) > fileMax && f.size > 0 {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	n, err := f.file.Write(lines)
	if err != nil {
		f.file.Truncate(f.size) //nolint:errcheck // the reader leaves a part of a line out
		f.file.Seek(f.size, 0)  //nolint:errcheck // as above
		return err
	}
	f.size += int64(n)
	return nil
}

func (f *File) rotate() error {
	f.file.Close()
	err := os.Rename(filepath.Join(f.dir, newer), filepath.Join(f.dir, older))
	return errors.Join(err, f.open())
}

// note logs the first failure of several.
func (f *File) note(err error) {
	if err != nil && !f.failed {
		f.log.Error("events are not kept for the next node", "dir", f.dir, "error", err)
	}
	f.failed = err != nil
}
