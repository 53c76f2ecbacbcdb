// Package lines reads what a helper process prints, such as a builder: it passes each line on, and keeps the last ones for the error of the process.
package lines

import (
	"bytes"
	"strings"
	"sync"
)

const (
	// Longest is the largest number of bytes of a line. The rest of a longer one is another line.
	Longest = 4 << 10
	// Kept is the number of last lines.
	Kept = 20
)

// Writer takes the output of a process. Its methods may be called from any goroutine.
type Writer struct {
	to   func(text string)
	mu   sync.Mutex
	part []byte
	last []string
}

// NewWriter gives each line to the function; nil is none.
func NewWriter(to func(text string)) *Writer { return &Writer{to: to} }

// Write never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		w.part, rest = append(w.part, line...), after
		for len(w.part) > Longest {
			w.passLocked(w.part[:Longest])
			w.part = append(w.part[:0], w.part[Longest:]...)
		}
		if ended {
			w.passLocked(w.part)
			w.part = w.part[:0]
		}
	}
	return len(p), nil
}

func (w *Writer) passLocked(line []byte) {
	text := strings.ToValidUTF8(string(line), "?")
	if w.last = append(w.last, text); len(w.last) > Kept {
		w.last = w.last[1:]
	}
	if w.to != nil {
		w.to(text)
	}
}

// End passes on a line that has not ended.
func (w *Writer) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.part) > 0 {
		w.passLocked(w.part)
		w.part = w.part[:0]
	}
}

// Contains says whether one of the last lines has a text.
func (w *Writer) Contains(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.last {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// Said has the last lines of the process, for the end of an error.
func (w *Writer) Said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.last) == 0 {
		return ", without a word"
	}
	return ":\n" + strings.Join(w.last, "\n")
}
