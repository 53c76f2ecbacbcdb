// Package audit keeps the changes that authors have asked a node for: in memory, the newest ones for readers, and in two files of its directory with a line
// of JSON for each. The newer file becomes the older one when it is large, and the older one is gone then: the two have 16 MiB at most. A line is
// written before the author has the answer. For example, a scale of Ranker by the token ci is
//
//	{"at":"2026-05-04T10:15:02Z","author":{"name":"ci","role":"operate","via":"rest"},"operation":"scale","object":"shop/Ranker","detail":"4 replicas"}
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

const (
	newer = "audit.jsonl"
	older = "audit.old.jsonl"

	fileMax = 8 << 20
	// Kept is the number of entries in memory.
	Kept      = 1000
	textMax   = 2 << 10 // bytes of a text of an entry
	lineMax   = 64 << 10
	tailBytes = 1 << 20 // of the files that are read at the start

	// RefusedMax is the number of refusals of one author that are kept in a minute.
	RefusedMax = 20
)

// Log is the audit log of a node. Its methods may be called from any goroutine.
type Log struct {
	dir string // "" for memory alone
	log *slog.Logger

	mu      sync.Mutex
	entries []helvetype.AuditEntry // the oldest first
	file    *os.File               // nil without
	size    int64
	failed  bool // the last write has failed, and the log says so

	minute  time.Time      // of the refusals below
	refused map[string]int // in that minute, by the name of the author
	unkept  int            // refusals without an entry, since the last one that has an entry
}

// Open goes on with the audit log of a directory; "" keeps entries in memory alone. A directory that cannot be written to does not stop the node: log
// has the error.
func Open(dir string, log *slog.Logger) *Log {
	l := &Log{dir: dir, log: log}
	if dir == "" {
		return l
	}
	for _, name := range []string{older, newer} {
		l.read(filepath.Join(dir, name))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(l.openLocked())
	return l
}

// read takes the newest entries of a file. Lines that are no entries are left out: the last one of a node that was killed may be a part of a line.
func (l *Log) read(path string) {
	f, err := os.Open(path)
	if err != nil {
		return // there is none yet
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > tailBytes {
		f.Seek(-tailBytes, io.SeekEnd) //nolint:errcheck // the whole file is read then
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		var e helvetype.AuditEntry
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Operation != "" {
			l.keep(e)
		}
	}
}

// keep adds an entry to those in memory.
func (l *Log) keep(e helvetype.AuditEntry) {
	l.entries = append(l.entries, e)
	if over := len(l.entries) - 2*Kept; over >= 0 { // seldom, so that an entry costs no copy of all
		l.entries = append([]helvetype.AuditEntry(nil), l.entries[len(l.entries)-Kept:]...)
	}
}

func (l *Log) openLocked() (err error) {
	l.file, err = os.OpenFile(filepath.Join(l.dir, newer), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if l.size, err = l.file.Seek(0, io.SeekEnd); err == nil && l.size > 0 { // a line that was not finished ends here
		_, err = l.file.WriteString("\n")
	}
	return err
}

// Add keeps an entry, and writes it. Long texts are cut.
func (l *Log) Add(e helvetype.AuditEntry) {
	for _, text := range []*string{&e.Author.Name, &e.Author.Address, &e.Object, &e.Detail, &e.Error} {
		if len(*text) > textMax {
			*text = (*text)[:textMax] + "..."
		}
	}
	b, err := json.Marshal(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(e)
	if l.dir == "" {
		return
	}
	if err == nil && l.file == nil {
		err = l.openLocked()
	}
	if err == nil {
		_, err = l.file.Write(append(bytes.ReplaceAll(b, []byte("\n"), nil), '\n'))
		l.size += int64(len(b)) + 1
	}
	if err == nil && l.size > fileMax {
		err = l.turnLocked()
	}
	l.noteLocked(err)
}

// Refused keeps the entry of a request that its author may not make, and says whether it has: only the first [RefusedMax] of an author in a minute are kept, so that
// a client that tries tokens does not push the changes of others out. The next entry of a refusal says how many there were between. For example, of a
// thousand requests with wrong tokens in one second twenty have entries, and the first one of the next minute says that 980 have none.
func (l *Log) Refused(e helvetype.AuditEntry) (kept bool) {
	l.mu.Lock()
	if minute := e.At.Truncate(time.Minute); !minute.Equal(l.minute) {
		l.minute, l.refused = minute, map[string]int{}
	}
	l.refused[e.Author.Name]++
	if kept = l.refused[e.Author.Name] <= RefusedMax; !kept {
		l.unkept++
		l.mu.Unlock()
		return false
	}
	if l.unkept > 0 {
		e.Detail, l.unkept = strings.TrimPrefix(fmt.Sprintf("%s; %d refusals before this one have no entry", e.Detail, l.unkept), "; "), 0
	}
	l.mu.Unlock()
	l.Add(e)
	return true
}

// turnLocked begins a new file.
func (l *Log) turnLocked() error {
	err := errors.Join(l.file.Close(), os.Rename(filepath.Join(l.dir, newer), filepath.Join(l.dir, older)))
	l.file = nil
	if err != nil {
		return err
	}
	return l.openLocked()
}

// noteLocked logs the first of several failures, and the end of them.
func (l *Log) noteLocked(err error) {
	switch {
	case err != nil && !l.failed:
		l.log.Error("changes are not written to the audit log", "directory", l.dir, "error", err)
	case err == nil && l.failed:
		l.log.Info("changes are written to the audit log again", "directory", l.dir)
	}
	l.failed = err != nil
}

// Entries are the newest entries, at most as many as the limit, the oldest first.
func (l *Log) Entries(limit int) []helvetype.AuditEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := max(len(l.entries)-min(limit, Kept), 0)
	return append([]helvetype.AuditEntry{}, l.entries[from:]...)
}

// Close closes the file.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
