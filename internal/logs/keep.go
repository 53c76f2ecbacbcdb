package logs

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
)

// Level is the lowest level of the records of a logger of [Keep], which may change while it is used. The zero value leaves the level to the logger.
type Level struct{ at atomic.Pointer[slog.Level] }

// Set changes the level; nil leaves it to the logger.
func (l *Level) Set(at *slog.Level) { l.at.Store(at) }

// Keep gives a logger whose records go to l, and as lines of text into the ring too. Records of the level INFO and above are kept, also if l drops them:
// a node that prints warnings only can still say when a replica became ready. The lines of a record with the attributes app, deployment and replica are
// those of that replica. A level that is set holds for l in place of its own; nil for none.
func Keep(l *slog.Logger, ring *Ring, level *Level) *slog.Logger {
	if level == nil {
		level = new(Level)
	}
	return slog.New(keeper{Handler: l.Handler(), ring: ring, level: level})
}

// Beside is the logger of which [Keep] made l, for lines that are in the ring already. Another logger stays as it is.
func Beside(l *slog.Logger) *slog.Logger {
	if k, ok := l.Handler().(keeper); ok {
		return slog.New(k.Handler)
	}
	return l
}

// keeper is the handler of [Keep].
type keeper struct {
	slog.Handler // all records go on to it
	ring         *Ring
	level        *Level
	attrs        []slog.Attr
	group        string // attributes of a group are in the text alone
}

func (k keeper) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || k.passes(ctx, l)
}

// passes says that records of a level go on. A level that is set counts alone: handlers of slog write records below their own level too.
func (k keeper) passes(ctx context.Context, l slog.Level) bool {
	if at := k.level.at.Load(); at != nil {
		return l >= *at
	}
	return k.Handler.Enabled(ctx, l)
}

func (k keeper) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		k.keep(ctx, r)
	}
	if !k.passes(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

// keep puts the lines of a record into the ring. A value of several lines, such as a traceback, stays readable below the record.
func (k keeper) keep(ctx context.Context, r slog.Record) {
	var from Writer
	short := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	var below [][]byte
	take := func(a slog.Attr) {
		text := a.Value.Resolve().String()
		switch a.Key {
		case "app":
			from.App = text
		case "deployment":
			from.Deployment = text
		case "replica":
			from.Replica = text
		default:
			first, rest, several := bytes.Cut(bytes.TrimRight([]byte(text), "\n"), []byte("\n"))
			if several {
				a = slog.String(a.Key, string(first))
				below = append(below, bytes.Split(rest, []byte("\n"))...)
			}
			short.AddAttrs(a)
		}
	}
	for _, a := range k.attrs {
		take(a)
	}
	r.Attrs(func(a slog.Attr) bool { take(a); return true })
	if from.App == "" { // a name of a deployment alone chooses nothing
		from = Writer{}
	}
	var b bytes.Buffer
	slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr { // the line has its time
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}).Handle(ctx, short) //nolint:errcheck // a buffer takes all
	k.ring.Write(from, r.Time, Clean(nil, bytes.TrimSuffix(b.Bytes(), []byte("\n")), true))
	for _, line := range below {
		k.ring.Write(from, r.Time, Clean([]byte("  "), line, true))
	}
}

func (k keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	if k.group == "" {
		k.attrs = append(slices.Clip(k.attrs), attrs...)
	}
	k.Handler = k.Handler.WithAttrs(attrs)
	return k
}

func (k keeper) WithGroup(name string) slog.Handler {
	k.group = name
	k.Handler = k.Handler.WithGroup(name)
	return k
}
