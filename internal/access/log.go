// Package access writes the access log of HTTP: a line per request. It puts lines together without package fmt, which took a twentieth of the processor time of a
// small request, and writes them together, because a call of write for each of them took a twelfth.
package access

import (
	"io"
	"sync"
	"time"
)

// The most that a line waits for others.
const (
	interval = 100 * time.Millisecond // since the lines before were written
	full     = 64 << 10               // bytes of lines that wait
)

// Log writes a line per request when its answer is complete, for example
//
//	2026-05-04T10:15:02.031Z 127.0.0.1:51234 POST / 200 1.3ms 5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55 12 hello Ingress#001
//
// with the fields of [Line] in their order, and "-" for a text that is empty.
//
// Lines are written at once if none were written in the last 100 ms. Otherwise they wait until these are over or 64 KiB have come together. For example, of 50
// requests within 20 ms the first line is written at once, and the other 49 are written together 100 ms later. A process that is killed loses the lines that wait.
type Log struct {
	json bool

	mu     sync.Mutex // never held while lines are written
	lines  []byte     // that wait
	before time.Time  // when lines were taken from here last
	ended  bool
	timer  *time.Timer // set while lines wait, but for the moment before they are written

	writing sync.Mutex // held from the time when lines are taken until they are written, so that they stay in order
	to      io.Writer
	free    []byte // the memory of the lines before
}

// New makes a log, of lines of JSON or of text. Its writer is called by one goroutine at a time, with one or more whole lines, and must not keep them.
func New(to io.Writer, json bool) *Log {
	l := &Log{to: to, json: json}
	l.timer = time.AfterFunc(time.Hour, func() {
		defer func() { recover() }() //nolint:errcheck // the writer is of the program: its panic costs lines, as in a request, and not the process
		l.flush(1)
	})
	l.timer.Stop()
	return l
}

// buffers has the memory in which lines are put together.
var buffers = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool of buffers is not state

// Write writes a line, now or together with those that follow. It waits for the writer if the line is written now, or if 64 KiB wait already: a writer that is slower
// than the requests slows them, and memory stays bounded. It may be called from any goroutine.
func (l *Log) Write(line *Line) {
	b := buffers.Get().(*[]byte)
	if l.json {
		*b = line.appendJSON((*b)[:0])
	} else {
		*b = line.appendText((*b)[:0])
	}
	least := l.add(*b, line.Begun.Add(line.Took))
	buffers.Put(b)
	if least > 0 {
		l.flush(least)
	}
}

// add lets the line of a request wait, which ended at a given time. The result says that the lines must be written now, if there are so many bytes of them; 0 is never.
func (l *Log) add(line []byte, at time.Time) (least int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := len(l.lines) == 0
	l.lines = append(l.lines, line...)
	switch rest := interval - at.Sub(l.before); {
	case l.ended:
		return 1
	case len(l.lines) >= full:
		return full
	case !first: // the one before it has seen to that
		return 0
	case rest > 0:
		l.timer.Reset(min(rest, interval))
		return 0
	}
	return 1
}

// flush writes the lines that wait, if they have so many bytes. For example, three requests fill the 64 KiB while the lines before are written: the first of them writes
// the lines of all, and the others find none or few.
func (l *Log) flush(least int) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if len(l.lines) < least {
		l.mu.Unlock()
		return
	}
	lines := l.lines
	l.lines, l.free, l.before = l.free[:0], nil, time.Now()
	l.timer.Stop()
	l.mu.Unlock()
	l.to.Write(lines) //nolint:errcheck // a log that cannot be written is not the client's trouble
	l.free = lines
}

// End writes the lines that wait, and returns when they are written. A line that comes afterwards is written at once: the process may end at any time.
func (l *Log) End() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.flush(1)
}
