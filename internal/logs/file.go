package logs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The limits of files. A worker's logs take at most keepParts times partSize on disk, and pendingMax in memory.
const (
	partSize   = 16 << 20
	keepParts  = 4
	keepEnded  = 16
	pendingMax = 1 << 20
	closeTime  = time.Second // longest time that Close waits for a disk that hangs
)

const stampLayout = "2006-01-02T15:04:05.000Z07:00"

// Dir is a directory of log files. Its methods may be called from any goroutine.
type Dir struct {
	path string
	log  *slog.Logger
	open func(path string) (io.WriteCloser, int64, error) // opens a file to append to, and returns its size; tests replace it

	mu    sync.Mutex
	files map[string]bool // names of the files that are open
}

// OpenDir makes the directory if need be, and checks that files can be made in it. The logger gets one line when
// lines are lost, and one when that is over; it may be nil.
func OpenDir(path string, log *slog.Logger) (*Dir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(path, ".helve-")
	if err != nil {
		return nil, err
	}
	probe.Close()
	os.Remove(probe.Name()) // the file is empty
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Dir{path: path, log: log, open: appendTo, files: map[string]bool{}}, nil
}

func appendTo(path string) (io.WriteCloser, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !isNodeLog(f, st) {
		err = fmt.Errorf("%s: %w", path, errForeign)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

var errForeign = errors.New("the file is there, and is not the log of a worker")

// isNodeLog reports whether a node wrote the file: it is empty, or begins as every line of a log does. The directory may
// be a shared one, like /var/log, with other files whose names look like names of logs.
func isNodeLog(f io.ReaderAt, st os.FileInfo) bool {
	if !st.Mode().IsRegular() {
		return false
	}
	if st.Size() == 0 {
		return true
	}
	b := make([]byte, 128)
	n, _ := f.ReadAt(b, 0)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	fields := strings.SplitN(line, " ", 4) // a disk that was full may have cut the line
	if _, err := time.Parse(stampLayout, fields[0]); err != nil {
		return false
	}
	if len(fields) > 1 && fields[1] != "" && new(slog.Level).UnmarshalText([]byte(fields[1])) != nil {
		return false
	}
	return len(fields) < 4 || slices.Contains([]string{"stdout", "stderr", "log", "helve"}, fields[2])
}

// isNodeLogAt is ours for a path; false if there is no such file.
func isNodeLogAt(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	return err == nil && st.Size() > 0 && isNodeLog(f, st)
}

// File is the log of one worker. Write never waits for the disk, because a goroutine writes to it. Lines that come
// while too much is pending, or that cannot be written, are dropped and counted. Its methods may be called from any
// goroutine.
type File struct {
	dir           *Dir
	path          string
	pendingSignal chan struct{} // capacity 1: there is pending text, or the file is closed
	done          chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	pending []byte
	lines   int // number of lines in pending
	dropped int // lines lost since the last note about lost lines in the file
	closed  bool

	// The fields below belong to the goroutine.
	out     io.WriteCloser
	size    int64
	partial bool // the last line was written in part
	lost    bool // a warning was logged, and nothing has been written since
}

// File opens the log group_name.log, to append, and removes the oldest logs of ended workers of its group. The
// parameter name may not contain _ or -. The file itself is made with its first line. The caller has to close it.
func (d *Dir) File(group, name string) *File {
	path := filepath.Join(d.path, group+"_"+name+".log")
	d.mu.Lock()
	d.files[path] = true
	d.mu.Unlock()
	d.prune(group)
	f := &File{dir: d, path: path, pendingSignal: make(chan struct{}, 1), done: make(chan struct{})}
	go f.write()
	return f
}

// prune removes old logs, so that a deployment that crashes again and again does not fill the directory.
func (d *Dir) prune(group string) {
	entries, _ := os.ReadDir(d.path)
	type ended struct {
		path string
		at   time.Time
	}
	var all []ended
	d.mu.Lock()
	for _, e := range entries {
		name, first := strings.CutPrefix(e.Name(), group+"_")
		name, last := strings.CutSuffix(name, ".log")
		if !first || !last || strings.ContainsAny(name, "_-") {
			continue // a log of another group, whose name begins with this group's name
		}
		path := filepath.Join(d.path, e.Name())
		if st, err := e.Info(); err == nil && !d.files[path] && isNodeLogAt(path) {
			all = append(all, ended{path, st.ModTime()})
		}
	}
	d.mu.Unlock()
	slices.SortFunc(all, func(a, b ended) int { return b.at.Compare(a.at) })
	for _, e := range all[min(len(all), keepEnded):] {
		os.Remove(e.path) //nolint:errcheck // the next file tries again
		for i := 1; i < keepParts; i++ {
			if isNodeLogAt(part(e.path, i)) {
				os.Remove(part(e.path, i)) //nolint:errcheck // the next file tries again
			}
		}
	}
}

func part(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }

// Write adds a line: its time, level, stream and text. It does not keep text, and does not wait for the disk.
func (f *File) Write(at time.Time, level slog.Level, stream string, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.pending)+len(text) > pendingMax {
		f.dropped++
		return
	}
	f.pending = append(at.AppendFormat(f.pending, stampLayout), ' ')
	f.pending = append(f.pending, level.String()...)
	f.pending = append(f.pending, ' ')
	f.pending = append(f.pending, stream...)
	f.pending = append(f.pending, ' ')
	f.pending = append(Clean(f.pending, text, false), '\n')
	f.lines++
	f.wake()
}

func (f *File) wake() {
	select {
	case f.pendingSignal <- struct{}{}:
	default:
	}
}

// Close writes the pending lines and closes the file. It waits for the disk for at most closeTime.
func (f *File) Close() {
	f.mu.Lock()
	f.closed = true
	f.wake()
	f.mu.Unlock()
	late := time.NewTimer(closeTime)
	defer late.Stop()
	select {
	case <-f.done:
	case <-late.C:
	}
	f.dir.mu.Lock()
	delete(f.dir.files, f.path)
	f.dir.mu.Unlock()
}

func (f *File) write() {
	defer close(f.done)
	var buf []byte
	for range f.pendingSignal {
		f.mu.Lock()
		buf, f.pending = f.pending, buf[:0]
		lines, dropped, closed := f.lines, f.dropped, f.closed
		f.lines, f.dropped = 0, 0
		f.mu.Unlock()
		if err := f.writeLines(buf, dropped); err != nil {
			f.mu.Lock()
			f.dropped += dropped + lines
			f.mu.Unlock()
			if !f.lost {
				f.lost = true
				f.dir.log.Warn("log lines are lost", "file", f.path, "error", err)
			}
		}
		if closed {
			break
		}
	}
	if f.out != nil {
		f.out.Close()
	}
}

// writeLines writes lines, and before them a note about dropped lines.
func (f *File) writeLines(lines []byte, dropped int) error {
	if len(lines) == 0 && dropped == 0 {
		return nil
	}
	for f.out == nil || f.size >= partSize {
		if f.out != nil {
			f.out.Close()
			f.out = nil
			if err := f.rotate(); err != nil {
				return err
			}
			f.partial = false // the rest of the line is in the part before
		}
		out, size, err := f.dir.open(f.path)
		if err != nil {
			return err
		}
		f.out, f.size = out, size
	}
	var note string
	if f.partial {
		note = "\n"
	}
	if dropped > 0 {
		note += fmt.Sprintf("%s WARN helve %d lines were dropped here\n", time.Now().Format(stampLayout), dropped)
	}
	for _, b := range [][]byte{[]byte(note), lines} {
		if len(b) == 0 {
			continue
		}
		n, err := f.out.Write(b)
		f.size += int64(n)
		f.partial = n > 0 && b[n-1] != '\n' || n == 0 && f.partial
		if err != nil {
			f.out.Close()
			f.out = nil // opened again for the next line: the file system may have come back under another file
			return err
		}
	}
	if f.lost {
		f.lost = false
		f.dir.log.Info("log lines are written again", "file", f.path, "dropped", dropped)
	}
	return nil
}

func (f *File) rotate() error {
	for i := 1; i < keepParts; i++ {
		if _, err := os.Lstat(part(f.path, i)); err == nil && !isNodeLogAt(part(f.path, i)) {
			return fmt.Errorf("%s: %w", part(f.path, i), errForeign)
		}
	}
	for i := keepParts - 1; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = part(f.path, i-1)
		}
		if err := os.Rename(from, part(f.path, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Name joins parts of names into the name of a file: letters, digits and ._- stay, and of a long part the beginning. For example, "../a b" becomes ".._a_b".
func Name(parts ...string) string {
	const most = 100 // bytes of a part: a name in a directory has at most 255
	short := make([]string, len(parts))
	for i, part := range parts {
		part = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
				return r
			}
			return '_'
		}, part)
		short[i] = part[:min(len(part), most)]
	}
	return strings.Join(short, "_")
}
