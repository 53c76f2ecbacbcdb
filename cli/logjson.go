package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/userlog"
)

// The values of the flag --log-format.
const (
	formatAuto = "auto"
	formatText = "text"
	formatJSON = "json"
)

// formatOf is the format of a log that goes to a file: auto is text on a terminal, and else JSON, for the program that collects the lines.
func formatOf(format string, to *os.File) string {
	if format != formatAuto {
		return format
	}
	if s, err := to.Stat(); err == nil && s.Mode()&os.ModeCharDevice != 0 {
		return formatText
	}
	return formatJSON
}

// jsonOut writes records as lines of JSON, in the shape of helvetype.LogLine: the records of the node, and the lines that its workers log and print.
type jsonOut struct {
	mu sync.Mutex
	to io.Writer
}

// Record implements logs.RecordWriter. The record is safe on a terminal.
func (o *jsonOut) Record(rec *logs.Record) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(rec.Line()) != nil { // a text cannot fail
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to.Write(b.Bytes()) //nolint:errcheck // there is no other place for it
}

// Write implements io.Writer: each line is a record of its own.
func (o *jsonOut) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		o.Record(logs.Record{Time: time.Now(), Level: slog.LevelInfo, Text: string(bytes.TrimRight(line, "\r\n"))}.Cleaned())
	}
	return len(b), nil
}

// jsonLog is the log of a node for programs. It has the levels of [textLog].
type jsonLog struct {
	out   *jsonOut
	level slog.Level
	bound logs.Bound
}

// Kept implements logs.Owner.
func (h jsonLog) Kept(l *slog.Logger) { userlog.To(l) }

// Enabled implements slog.Handler.
func (h jsonLog) Enabled(ctx context.Context, l slog.Level) bool {
	return logs.RecordFrom(ctx) != nil || l >= h.level
}

// WithAttrs implements slog.Handler.
func (h jsonLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.bound = h.bound.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h jsonLog) WithGroup(name string) slog.Handler {
	h.bound = h.bound.WithGroup(name)
	return h
}

// Handle implements slog.Handler.
func (h jsonLog) Handle(ctx context.Context, r slog.Record) error {
	rec := logs.RecordFrom(ctx)
	if rec == nil {
		rec = h.bound.Record(r)
	}
	h.out.Record(rec.Cleaned())
	return nil
}
