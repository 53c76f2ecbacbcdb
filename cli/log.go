package cli

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/userlog"
)

// textLog is the log of a node for people. Every line begins with its source in parentheses, as the lines of workers do: "(node) time=...
// level=WARN ..." is beside "(Embedder#001) loading". A value of several lines, such as the traceback of a constructor, has its first line
// in the record, and the others follow below it:
//
//	(node) time=... level=ERROR msg="replica failed to start" error="app/D.constructor: no model"
//	(node)   Traceback (most recent call last):
//	(node)     File "model.py", line 6, in __init__
//	(node)   ValueError: no model
//
// A record of the program's own code is as the line of a worker: "(Ranker#001 r-1) INFO loaded model=a".
type textLog struct {
	slog.Handler // writes to out.record
	out          *textOut
}

type textOut struct {
	mu     sync.Mutex
	record bytes.Buffer
	to     io.Writer
}

func newTextLog(to io.Writer, level slog.Level) slog.Handler {
	out := &textOut{to: to}
	return textLog{slog.NewTextHandler(&out.record, &slog.HandlerOptions{Level: level}), out}
}

// Kept implements logs.Owner: what the program's own code logs goes to the log of its node.
func (h textLog) Kept(l *slog.Logger) { userlog.To(l) }

// Enabled implements slog.Handler. Records of the program's own code are shown from INFO on, as those of its workers are.
func (h textLog) Enabled(ctx context.Context, l slog.Level) bool {
	return logs.RecordFrom(ctx) != nil || h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h textLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return textLog{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h textLog) WithGroup(name string) slog.Handler {
	return textLog{h.Handler.WithGroup(name), h.out}
}

// Handle implements slog.Handler.
func (h textLog) Handle(ctx context.Context, r slog.Record) error {
	if of := logs.RecordFrom(ctx); of != nil {
		h.out.mu.Lock()
		defer h.out.mu.Unlock()
		_, err := h.out.to.Write(logs.Lines(cmp.Or(of.From.Replica, of.From.App, "program"), of, ""))
		return err
	}
	short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	var below []string
	r.Attrs(func(a slog.Attr) bool {
		v := a.Value.Resolve()
		if k := v.Kind(); k == slog.KindString || k == slog.KindAny {
			if first, rest, several := strings.Cut(strings.TrimRight(v.String(), "\n"), "\n"); several {
				a = slog.String(a.Key, first)
				below = append(below, rest)
			}
		}
		short.AddAttrs(a)
		return true
	})
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.record.Reset()
	if err := h.Handler.Handle(ctx, short); err != nil {
		return err
	}
	b := append([]byte("(node) "), h.out.record.Bytes()...)
	for _, text := range below {
		for line := range strings.Lines(text) {
			b = append(b, "(node)   "...)
			b = append(logs.Clean(b, []byte(strings.TrimSuffix(line, "\n")), false), '\n')
		}
	}
	_, err := h.out.to.Write(b) // in one piece
	return err
}
