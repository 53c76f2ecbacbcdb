package logs

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Level is the lowest level of the records of a logger of [Keep], which may change while it is used. The zero value leaves the level to the logger.
type Level struct{ at atomic.Pointer[slog.Level] }

// Set changes the level; nil leaves it to the logger.
func (l *Level) Set(at *slog.Level) { l.at.Store(at) }

// Keep gives a logger whose records go to l, and into the ring too. Records of the level INFO and above are kept, also if l drops them:
// a node that prints warnings only can still say when a replica became ready. A record with the attributes app, deployment and replica is
// one of that replica, and request_id and trace_id are its request. Of a record that comes again and again in a second, with the same writer, level and message, some are left out and
// counted ([Repeats]). A level that is set holds for l in place of its own; nil for none.
func Keep(l *slog.Logger, ring *Ring, level *Level) *slog.Logger {
	if level == nil {
		level = new(Level)
	}
	k := keeper{Handler: l.Handler(), ring: ring, level: level}
	base := k
	k.repeats = NewRepeats(func(rec *Record) { base.again(rec) })
	kept := slog.New(k)
	if owner, ok := l.Handler().(Owner); ok {
		owner.Kept(kept)
	}
	return kept
}

// Owner is a handler that wants the logger that [Keep] makes of its own, to put other records where those of the node go.
type Owner interface{ Kept(l *slog.Logger) }

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
	bound        Bound
	repeats      *Repeats // of the node's own records; nil for no limit
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
	if r.Level >= slog.LevelInfo && !k.keep(ctx, r) {
		return nil
	}
	if !k.passes(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

// again writes a record that says how often another one was left out.
func (k keeper) again(rec *Record) {
	ctx := context.Background()
	r := slog.NewRecord(rec.Time, rec.Level, rec.Text, 0)
	for _, a := range []slog.Attr{slog.String("app", rec.From.App), slog.String("deployment", rec.From.Deployment), slog.String("replica", rec.From.Replica)} {
		if a.Value.String() != "" {
			r.AddAttrs(a)
		}
	}
	rec.clean()
	k.ring.Write(rec)
	if k.passes(ctx, r.Level) {
		k.Handler.Handle(ctx, r) //nolint:errcheck // there is no one to tell
	}
}

// keep puts a record into the ring, and says whether it is written elsewhere too. A value of several lines, such as a traceback, stays readable below the message.
func (k keeper) keep(ctx context.Context, r slog.Record) bool {
	if of := RecordFrom(ctx); of != nil {
		k.ring.Write(of.Cleaned())
		return true
	}
	rec := k.bound.Record(r)
	if k.repeats != nil && !k.repeats.Pass(rec) {
		return false
	}
	if rec.From.App == "" { // a name of a deployment alone chooses nothing
		rec.From = Writer{}
	}
	rec.clean()
	k.ring.Write(rec)
	return true
}

func (k keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	k.bound = k.bound.WithAttrs(attrs)
	k.Handler = k.Handler.WithAttrs(attrs)
	return k
}

func (k keeper) WithGroup(name string) slog.Handler {
	k.bound = k.bound.WithGroup(name)
	k.Handler = k.Handler.WithGroup(name)
	return k
}
