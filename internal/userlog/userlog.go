// Package userlog is the log of a program's own code in Go, as log and slog write it without a word of the program: its records have the replica
// and the request of the context that they are logged with.
//
// For example, slog.InfoContext(ctx, "loaded", "model", m) in a method for the request r-1 is "(Ranker#001 r-1) INFO loaded model=a". slog.Info and
// log.Print have no context: their records have no request, and in a worker the application alone.
package userlog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/output"
	"github.com/helve-serve/helve/internal/worker"
)

// handler is a handler of slog that gives records to a function.
type handler struct {
	put   func(ctx context.Context, r *logs.Record) error
	bound logs.Bound
}

// Report makes the log of this process, a worker, reports to its node. It changes nothing in a program that has set its own log.
func Report(w io.Writer) { install(reportTo(w)) }

func reportTo(w io.Writer) func(ctx context.Context, rec *logs.Record) error {
	return func(_ context.Context, rec *logs.Record) error {
		in := output.Reported{
			Time: float64(rec.Time.UnixMicro()) / 1e6, Level: logs.LevelName(rec.Level), Deployment: rec.From.Deployment, Replica: rec.From.Replica,
			Request: rec.Request, Trace: rec.Trace, Logger: rec.Logger, Text: rec.Text,
		}
		if len(rec.Attrs) > 0 {
			in.Attributes = make(map[string]string, len(rec.Attrs))
		}
		for _, a := range rec.Attrs {
			in.Attributes[a.Key] = a.Value
		}
		line, err := json.Marshal(in)
		for most := lineMax / 2; err == nil && len(line) > lineMax && most > 0; most /= 2 { // escapes may make a text six times as long
			in.Text, in.Attributes = in.Text[:min(len(in.Text), most)]+"...", nil
			line, err = json.Marshal(in)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s %s\n", worker.RecordReport, line)
		return err
	}
}

// lineMax is the number of bytes of a report; the node takes lines of 64 KiB.
const lineMax = 60_000

// To makes the log of this process, a node's, records of the logger of that node. It changes nothing in a program that has set its own log.
func To(l *slog.Logger) { install(to(l)) }

func to(l *slog.Logger) func(ctx context.Context, rec *logs.Record) error {
	return func(ctx context.Context, rec *logs.Record) error {
		ctx = logs.WithRecord(ctx, rec)
		if !l.Handler().Enabled(ctx, rec.Level) {
			return nil
		}
		return l.Handler().Handle(ctx, slog.NewRecord(rec.Time, rec.Level, rec.Text, 0))
	}
}

func install(put func(ctx context.Context, r *logs.Record) error) {
	if fmt.Sprintf("%T", slog.Default().Handler()) != "*slog.defaultHandler" || log.Writer() != io.Writer(os.Stderr) {
		return
	}
	slog.SetDefault(slog.New(handler{put: put}))
}

// Enabled implements slog.Handler.
func (h handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	rec := h.bound.Record(r)
	if ctx != nil {
		describe(ctx, rec)
	}
	return h.put(context.WithoutCancel(orBackground(ctx)), rec)
}

func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// describe notes the replica and the request of a context.
func describe(ctx context.Context, rec *logs.Record) {
	if info := call.InfoFrom(ctx); info != nil && info.Place != nil {
		rec.From = logs.Writer{App: info.App, Deployment: info.Deployment, Replica: info.Replica}
		rec.Request = info.Request.String()
		if trace := info.TraceID(); trace != ([16]byte{}) {
			rec.Trace = hex.EncodeToString(trace[:])
		}
		return
	}
	if s := instance.ScopeFrom(ctx); s != nil {
		rec.From = logs.Writer{App: s.App, Deployment: s.Deployment, Replica: s.Replica}
	}
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.bound = h.bound.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	h.bound = h.bound.WithGroup(name)
	return h
}
